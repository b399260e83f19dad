//! Finds the DICOM files of a folder and groups them by series.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::dataset::Dataset;
use super::error::{DicomError, DicomErrorKind};
use super::file::DicomFile;
use super::instance::{self, DIRECTORY_STORAGE, Frame, PixelLayout};
use super::mosaic::Mosaic;
use super::patient::Patient;
use super::pixel_data::PixelData;
use super::tags;
use super::transfer_syntax::TransferSyntax;

const ACTION: &str = "read the DICOM folder";
/// The maximum depth of nested folders. Archives export three levels: patient, study, series.
const MAX_DEPTH: usize = 12;
/// The number of bytes from which [`DicomFile::open`] recognises a DICOM file.
const START_BYTES: u64 = 140;
/// The series identifier of files without one.
pub(crate) const NO_UID: &str = "none";

/// A series, as [`list_series`] describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SeriesSummary {
    /// SeriesInstanceUID, or `none`.
    pub uid: String,
    /// Modality, such as MR or CT; empty when the files do not state it.
    pub modality: String,
    /// The number of slices: the frames of all files, or the tiles of mosaics; 0 when there are no images.
    pub slices: usize,
    /// The number of rows of the first slice.
    pub rows: usize,
    /// The number of columns of the first slice.
    pub columns: usize,
    /// The number of files.
    pub files: usize,
    /// SeriesDescription. It is free text that may name the patient, so front ends show it only on request, or on the
    /// screen of the person who opened the files.
    #[serde(skip)]
    pub description: Option<String>,
}

/// The DICOM content of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeriesList {
    /// The series, the largest one first. Series of localizers come after all others.
    pub series: Vec<SeriesSummary>,
    /// The number of ignored files: those that are not DICOM, and indexes of other files (DICOMDIR).
    pub other_files: usize,
}

/// The header of one DICOM file.
pub(crate) struct InstanceHeader {
    pub(crate) location: FileLocation,
    pub(crate) series: Option<String>,
    pub(crate) study: Option<String>,
    pub(crate) modality: String,
    pub(crate) description: Option<String>,
    pub(crate) sop_class: String,
    pub(crate) sop_instance: String,
    pub(crate) frame_of_reference: Option<String>,
    pub(crate) localizer: bool,
    pub(crate) inverted: bool,
    pub(crate) size: [usize; 2],
    pub(crate) patient: Patient,
    /// The pixel layout and the frames, or the reason why they cannot be used.
    pub(crate) slices: Result<Slices, DicomError>,
}

/// The slices in a file: its frames, or the tiles of a mosaic.
pub(crate) struct Slices {
    pub(crate) layout: PixelLayout,
    pub(crate) frames: Vec<Frame>,
    pub(crate) mosaic: Option<Mosaic>,
}

impl Slices {
    fn read(set: &Dataset<'_>, syntax: TransferSyntax) -> Result<Self, DicomError> {
        let layout = PixelLayout::read(set)?;
        let mosaic = Mosaic::find(set, &layout)?;
        PixelData::find(set, layout, syntax)?;
        let mut frames = instance::frames(set, layout.frames)?;
        if let (Some(mosaic), Some(picture)) = (mosaic, frames.first()) {
            frames = mosaic.frames(picture)?;
        }
        Ok(Self { layout, frames, mosaic })
    }

    /// The rows and columns of a slice.
    pub(crate) fn size(&self) -> [usize; 2] {
        self.mosaic.map_or([self.layout.rows, self.layout.columns], |mosaic| [mosaic.rows, mosaic.columns])
    }
}

impl InstanceHeader {
    fn is_image(&self) -> bool {
        self.size.iter().all(|n| *n > 0) && !instance::is_segmentation_class(&self.sop_class)
    }

    fn frames(&self) -> usize {
        self.slices.as_ref().map_or(1, |s| s.frames.len())
    }
}

/// The files to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InputFiles<'a> {
    /// A folder with its subfolders, or one file.
    At(&'a Path),
    /// Files in memory. Errors name them by number, from 1.
    InMemory(&'a [&'a [u8]]),
}

impl<'a> InputFiles<'a> {
    /// Adds the path to an error that concerns all files.
    pub(crate) fn locate(self, error: DicomError) -> DicomError {
        match self {
            Self::At(path) => error.at(path),
            Self::InMemory(_) => error,
        }
    }

    pub(crate) fn read(self, location: &FileLocation) -> Result<Cow<'a, [u8]>, DicomError> {
        match (self, location) {
            (Self::InMemory(files), FileLocation::Number(n)) => {
                Ok(files.get(*n).copied().unwrap_or_default().into())
            }
            (_, FileLocation::Path(path)) => read_file(path).map(Cow::Owned),
            (Self::At(_), FileLocation::Number(_)) => Ok(Cow::Borrowed(&[])),
        }
    }
}

/// Which of the input files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileLocation {
    Path(PathBuf),
    /// From 0.
    Number(usize),
}

impl FileLocation {
    /// Adds the name of the file to an error.
    pub(crate) fn locate(&self, error: DicomError) -> DicomError {
        match self {
            Self::Path(path) => error.at(path),
            Self::Number(n) => error.at(Path::new(&format!("file {}", n + 1))),
        }
    }
}

/// The headers of all DICOM files, by SeriesInstanceUID.
pub(crate) struct SeriesIndex {
    pub(crate) series: BTreeMap<String, Vec<InstanceHeader>>,
    pub(crate) other_files: usize,
}

/// Whether the content of the file is DICOM.
pub fn is_dicom_file(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START_BYTES).read_to_end(&mut start));
    read.is_ok() && DicomFile::open(&start).is_some()
}

/// Whether the file is a DICOM segmentation.
pub fn is_segmentation(path: &Path) -> bool {
    let open = || {
        let bytes = Some(path).filter(|p| p.is_file() && is_dicom_file(p)).map(read_file)?.ok()?;
        read_entry(FileLocation::Path(path.to_path_buf()), &bytes).ok().flatten()
    };
    open().is_some_and(|entry| instance::is_segmentation_class(&entry.sop_class))
}

/// Whether the bytes of a file are a DICOM segmentation.
pub fn is_segmentation_bytes(bytes: &[u8]) -> bool {
    let entry = read_entry(FileLocation::Number(0), bytes).ok().flatten();
    entry.is_some_and(|entry| instance::is_segmentation_class(&entry.sop_class))
}

/// Whether the folder or one of its subfolders contains a DICOM file. Only the first 256 files are examined.
pub fn holds_dicom(folder: &Path) -> bool {
    const MAX_FILES: usize = 256;
    let mut files = Vec::new();
    // A folder that cannot be listed contains nothing that could be read.
    let _ = walk(folder, &mut files, 0, MAX_FILES);
    files.iter().take(MAX_FILES).any(|path| is_dicom_file(path))
}

/// Refuses a file whose name is that of a slice but whose content is not, such as the result of an interrupted copy.
/// Without the error the volume would be shorter, and a missing slice at the end of a series leaves no gap to detect.
fn refuse_lost_slice(path: &Path) -> Result<(), DicomError> {
    let is_empty = path.metadata().is_ok_and(|file| file.is_file() && file.len() == 0);
    let named = match path.extension().and_then(|e| e.to_str()) {
        Some(end) => {
            ["dcm", "dicom", "ima"].iter().any(|known| end.eq_ignore_ascii_case(known))
                || (is_empty && end.bytes().all(|b| b.is_ascii_digit()))
        }
        None => is_empty,
    };
    let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    if !named || is_hidden {
        return Ok(());
    }
    let found = if is_empty { "an empty file" } else { "a file that is not DICOM" };
    let error = DicomError::new(
        DicomErrorKind::Damaged,
        "a slice, as the file name announces",
        found,
        "copy the series again, or move the file out of the folder if it does not belong to a series",
    );
    Err(error.at(path))
}

impl SeriesIndex {
    /// Reads the header of every file.
    pub(crate) fn read(files: InputFiles<'_>) -> Result<Self, DicomError> {
        let mut out = Self { series: BTreeMap::new(), other_files: 0 };
        match files {
            InputFiles::InMemory(contents) => {
                for (n, bytes) in contents.iter().enumerate() {
                    out.add(read_entry(FileLocation::Number(n), bytes)?);
                }
            }
            InputFiles::At(path) => {
                let mut paths = Vec::new();
                if path.is_dir() {
                    walk(path, &mut paths, 0, usize::MAX).map_err(|(at, e)| DicomError::io(ACTION, &at, e))?;
                } else {
                    paths.push(path.to_path_buf());
                }
                for path in paths {
                    // Avoids reading large files that are not DICOM.
                    let entry = if is_dicom_file(&path) {
                        let bytes = read_file(&path)?;
                        read_entry(FileLocation::Path(path), &bytes)?
                    } else {
                        refuse_lost_slice(&path)?;
                        None
                    };
                    out.add(entry);
                }
            }
        }
        Ok(out)
    }

    fn add(&mut self, entry: Option<InstanceHeader>) {
        let Some(entry) = entry else {
            self.other_files += 1;
            return;
        };
        let uid = entry.series.clone().unwrap_or_else(|| NO_UID.to_owned());
        self.series.entry(uid).or_default().push(entry);
    }

    pub(crate) fn summaries(&self) -> Vec<SeriesSummary> {
        let summary =
            |(uid, entries): (&String, &Vec<InstanceHeader>)| (is_localizer(entries), summary(uid, entries));
        let mut out: Vec<(bool, SeriesSummary)> = self.series.iter().map(summary).collect();
        // The sort is stable: series of equal size stay sorted by their identifier.
        out.sort_by_key(|(localizer, s)| (*localizer, std::cmp::Reverse(s.slices * s.rows * s.columns)));
        out.into_iter().map(|(_, summary)| summary).collect()
    }

    fn list(&self) -> SeriesList {
        SeriesList { series: self.summaries(), other_files: self.other_files }
    }

    /// Takes the requested series, or the first of [`Self::summaries`]; returns its UID, its files, and the number of series with images.
    pub(crate) fn choose(mut self, uid: Option<&str>) -> Result<(String, Vec<InstanceHeader>, usize), DicomError> {
        let summaries = self.summaries();
        let with_images = summaries.iter().filter(|s| s.slices > 0).count();
        let wanted = match uid {
            Some(uid) => Some(uid.to_owned()),
            None => summaries.iter().find(|s| s.slices > 0).map(|s| s.uid.clone()),
        };
        if let Some((uid, entries)) = wanted.and_then(|uid| self.series.remove_entry(&uid)) {
            return Ok((uid, entries, with_images));
        }
        let files: usize = summaries.iter().map(|s| s.files).sum();
        Err(match uid {
            Some(_) => DicomError::new(
                DicomErrorKind::SeriesNotFound,
                "a series with the requested UID",
                format!("{} other series", summaries.len()),
                "list the series of the folder and choose one of them",
            ),
            None if self.series.values().flatten().any(|e| instance::is_segmentation_class(&e.sop_class)) => {
                segmentation_as_series()
            }
            None => DicomError::new(
                DicomErrorKind::NoImages,
                "DICOM images",
                format!("{files} DICOM file(s) without an image and {} other file(s)", self.other_files),
                "give the folder that contains the files of the series",
            ),
        })
    }
}

/// The error for a segmentation in place of a series.
pub(crate) fn segmentation_as_series() -> DicomError {
    DicomError::new(
        DicomErrorKind::NoImages,
        "a series of images",
        "a segmentation (DICOM SEG)",
        "give it where a mask is expected, and here the series that it was made from",
    )
}

/// Whether all images are localizers, which are often larger than the scan that was planned on them.
fn is_localizer(entries: &[InstanceHeader]) -> bool {
    let mut images = entries.iter().filter(|e| e.is_image()).peekable();
    images.peek().is_some() && images.all(|e| e.localizer)
}

fn summary(uid: &str, entries: &[InstanceHeader]) -> SeriesSummary {
    let first = entries.iter().find(|e| e.is_image());
    let [rows, columns] = first.map_or([0; 2], |e| e.size);
    SeriesSummary {
        uid: uid.to_owned(),
        modality: entries.first().map(|e| e.modality.clone()).unwrap_or_default(),
        slices: entries.iter().filter(|e| e.is_image()).map(InstanceHeader::frames).sum(),
        rows,
        columns,
        files: entries.len(),
        description: entries.iter().find_map(|e| e.description.clone()),
    }
}

/// Lists the series of a folder and its subfolders.
///
/// # Errors
/// When the folder or a file in it cannot be read.
pub fn list_series(folder: &Path) -> Result<SeriesList, DicomError> {
    SeriesIndex::read(InputFiles::At(folder)).map(|index| index.list())
}

/// Lists the series of files in memory.
///
/// # Errors
/// When a file is damaged so that its series is unknown. The error names it by its number, from 1.
pub fn list_series_bytes(files: &[&[u8]]) -> Result<SeriesList, DicomError> {
    SeriesIndex::read(InputFiles::InMemory(files)).map(|index| index.list())
}

/// Collects files, sorted by name so that the result is reproducible. Links to folders are not followed, because they
/// may form a cycle.
fn walk(
    folder: &Path,
    files: &mut Vec<PathBuf>,
    depth: usize,
    max_files: usize,
) -> Result<(), (PathBuf, std::io::Error)> {
    let failed = |error| (folder.to_path_buf(), error);
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(failed)?.collect();
    let mut entries = entries.map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if files.len() >= max_files {
            return Ok(());
        }
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            if depth < MAX_DEPTH {
                walk(&entry.path(), files, depth + 1, max_files)?;
            }
        } else if kind.is_file() || entry.path().is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Reads the whole file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, DicomError> {
    fs::read(path).map_err(|e| DicomError::io("read the DICOM file", path, e))
}

fn read_entry(location: FileLocation, bytes: &[u8]) -> Result<Option<InstanceHeader>, DicomError> {
    let Some(file) = DicomFile::open(bytes) else { return Ok(None) };
    let file = file.map_err(|error| location.locate(error))?;
    let (set, damage) = file.elements();
    let sop_class = set.text(tags::SOP_CLASS).unwrap_or_default();
    if sop_class == DIRECTORY_STORAGE {
        return Ok(None);
    }
    let series = set.text(tags::SERIES_UID);
    if let (None, Some(error)) = (&series, &damage) {
        // The series of the slice is unknown, so any series of the folder may be incomplete.
        return Err(location.locate(error.clone()));
    }
    let slices = match (&damage, &file.syntax) {
        (Some(error), _) | (None, Err(error)) => Err(error.clone()),
        (None, Ok(syntax)) => Slices::read(&set, *syntax),
    };
    Ok(Some(entry(location, &set, series, sop_class, slices)))
}

fn entry(
    location: FileLocation,
    set: &Dataset<'_>,
    series: Option<String>,
    sop_class: String,
    slices: Result<Slices, DicomError>,
) -> InstanceHeader {
    let stored = |tag| set.short(tag).map_or(0, usize::from);
    let size = slices.as_ref().map_or_else(|_| [stored(tags::ROWS), stored(tags::COLUMNS)], Slices::size);
    InstanceHeader {
        location,
        series,
        study: set.text(tags::STUDY_UID),
        modality: set.text(tags::MODALITY).unwrap_or_default(),
        description: set.text(tags::SERIES_DESCRIPTION),
        sop_class,
        sop_instance: set.text(tags::SOP_INSTANCE).unwrap_or_default(),
        frame_of_reference: set.text(tags::FRAME_OF_REFERENCE),
        localizer: set.has_value(tags::IMAGE_TYPE, "LOCALIZER"),
        inverted: set.text(tags::PHOTOMETRIC).as_deref() == Some("MONOCHROME1"),
        size,
        patient: Patient::read(set),
        slices,
    }
}
