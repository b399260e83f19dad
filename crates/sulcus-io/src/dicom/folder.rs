//! The DICOM files of a folder, by series.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::dataset::Dataset;
use super::error::{DicomFault, DicomProblem};
use super::file::DicomFile;
use super::instance::{self, DIRECTORY_STORAGE, Frame, PixelLayout, SEGMENTATION_STORAGE};
use super::patient::Patient;
use super::pixels::FramePixels;
use super::tags;
use crate::atomic::system;
use crate::error::{IoError, Problem};

const ACTION: &str = "read the DICOM folder";
/// Folders in folders, as archives export them: patient, study, series.
const MAX_DEPTH: usize = 12;
/// What [`DicomFile::open`] needs to see that a file is DICOM.
const START_BYTES: u64 = 140;
/// Stands for the identifier of files that have none.
pub(crate) const NO_UID: &str = "none";

/// A series of a folder, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct SeriesSummary {
    /// SeriesInstanceUID, or `none`.
    pub uid: String,
    /// Modality, such as MR or CT; empty where the files don't say.
    pub modality: String,
    /// Slices: frames of all files; 0 where there are no pictures.
    pub slices: usize,
    /// Rows and columns of the first slice.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Files.
    pub files: usize,
    /// SeriesDescription. People write what they like into it, so it is shown only when asked for.
    #[serde(skip)]
    pub description: Option<String>,
}

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeriesList {
    /// The largest one first.
    pub series: Vec<SeriesSummary>,
    /// Files that are no DICOM, or only an index of the others (DICOMDIR); they are left out.
    pub other_files: usize,
}

/// A DICOM file as far as its header goes.
pub(crate) struct Entry {
    pub(crate) place: Place,
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
    pub(crate) thickness_mm: Option<f64>,
    pub(crate) patient: Patient,
    /// Its pixels and frames, or what is wrong with them.
    pub(crate) slices: Result<Slices, DicomProblem>,
}

pub(crate) struct Slices {
    pub(crate) layout: PixelLayout,
    pub(crate) frames: Vec<Frame>,
}

impl Entry {
    fn is_picture(&self) -> bool {
        self.size.iter().all(|n| *n > 0) && self.sop_class != SEGMENTATION_STORAGE
    }

    fn frames(&self) -> usize {
        self.slices.as_ref().map_or(1, |s| s.frames.len())
    }
}

/// Where a series' files are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Files<'a> {
    /// In a folder and the folders in it, or one file.
    At(&'a Path),
    /// In memory; errors name them by number from 1.
    InMemory(&'a [&'a [u8]]),
}

impl<'a> Files<'a> {
    /// Wraps what is wrong with them all.
    pub(crate) fn refuse(self, problem: Problem) -> IoError {
        match self {
            Self::At(path) => IoError::in_file(path, problem),
            Self::InMemory(_) => problem.into(),
        }
    }

    pub(crate) fn read(self, place: &Place) -> Result<Cow<'a, [u8]>, IoError> {
        match (self, place) {
            (Self::InMemory(files), Place::Number(n)) => Ok(files.get(*n).copied().unwrap_or_default().into()),
            (_, Place::Path(path)) => read_file(path).map(Cow::Owned),
            (Self::At(_), Place::Number(_)) => Ok(Cow::Borrowed(&[])),
        }
    }
}

/// One of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Path(PathBuf),
    /// From 0.
    Number(usize),
}

impl Place {
    /// Wraps what is wrong with the file.
    pub(crate) fn refuse(&self, problem: DicomProblem) -> IoError {
        match self {
            Self::Path(path) => IoError::in_file(path, problem.into()),
            Self::Number(n) => IoError::in_file(Path::new(&format!("file {}", n + 1)), problem.into()),
        }
    }
}

/// All DICOM files of a folder and the folders in it.
pub(crate) struct Folder {
    pub(crate) series: BTreeMap<String, Vec<Entry>>,
    pub(crate) other_files: usize,
}

/// Whether the file is DICOM, by its content.
pub fn is_dicom_file(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START_BYTES).read_to_end(&mut start));
    read.is_ok() && DicomFile::open(&start).is_some()
}

/// Whether the file is a DICOM segmentation.
pub fn is_segmentation(path: &Path) -> bool {
    let open = || {
        let bytes = Some(path).filter(|p| p.is_file() && is_dicom_file(p)).map(read_file)?.ok()?;
        read_entry(Place::Path(path.to_path_buf()), &bytes).ok().flatten()
    };
    open().is_some_and(|entry| entry.sop_class == SEGMENTATION_STORAGE)
}

/// Whether a DICOM file lies in the folder or in a folder below it. Looks at the first files only.
pub fn holds_dicom(folder: &Path) -> bool {
    const MOST: usize = 256;
    let mut files = Vec::new();
    // What can't be listed holds nothing that could be read.
    let _ = walk(folder, &mut files, 0, MOST);
    files.iter().take(MOST).any(|path| is_dicom_file(path))
}

/// A file that was a slice by its name and holds none, as of a copy that broke off: without it the volume would be
/// shorter, and at the end of a series nothing else would tell.
fn refuse_lost_slice(path: &Path) -> Result<(), IoError> {
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
    let found = if is_empty { "an empty file" } else { "a file without DICOM's mark" };
    let problem = DicomProblem::new(
        DicomFault::Damaged,
        "a slice, as the name says",
        found,
        "copy the series again, or take the file out of the folder if it belongs to none",
    );
    Err(IoError::in_file(path, problem.into()))
}

impl Folder {
    /// Reads every file's header.
    pub(crate) fn scan(files: Files<'_>) -> Result<Self, IoError> {
        let mut out = Self { series: BTreeMap::new(), other_files: 0 };
        match files {
            Files::InMemory(contents) => {
                for (n, bytes) in contents.iter().enumerate() {
                    out.add(read_entry(Place::Number(n), bytes)?);
                }
            }
            Files::At(path) => {
                let mut paths = Vec::new();
                if path.is_dir() {
                    walk(path, &mut paths, 0, usize::MAX)
                        .map_err(|(at, e)| IoError::in_file(&at, system(ACTION, &at, e)))?;
                } else {
                    paths.push(path.to_path_buf());
                }
                for path in paths {
                    // Most of a large file that is no DICOM need not be read.
                    let entry = if is_dicom_file(&path) {
                        let bytes = read_file(&path)?;
                        read_entry(Place::Path(path), &bytes)?
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

    fn add(&mut self, entry: Option<Entry>) {
        let Some(entry) = entry else {
            self.other_files += 1;
            return;
        };
        let uid = entry.series.clone().unwrap_or_else(|| NO_UID.to_owned());
        self.series.entry(uid).or_default().push(entry);
    }

    pub(crate) fn summaries(&self) -> Vec<SeriesSummary> {
        let mut out: Vec<SeriesSummary> = self.series.iter().map(|(uid, entries)| summary(uid, entries)).collect();
        // Stable, so that equally large ones stay sorted by their identifier.
        out.sort_by_key(|s| std::cmp::Reverse(s.slices * s.rows * s.columns));
        out
    }

    /// Takes the series out: the one named, or the largest. The second value is how many there are with pictures.
    pub(crate) fn choose(mut self, uid: Option<&str>) -> Result<(String, Vec<Entry>, usize), Problem> {
        let summaries = self.summaries();
        let pictures = summaries.iter().filter(|s| s.slices > 0).count();
        let wanted = match uid {
            Some(uid) => Some(uid.to_owned()),
            None => summaries.iter().find(|s| s.slices > 0).map(|s| s.uid.clone()),
        };
        if let Some((uid, entries)) = wanted.and_then(|uid| self.series.remove_entry(&uid)) {
            return Ok((uid, entries, pictures));
        }
        let files: usize = summaries.iter().map(|s| s.files).sum();
        Err(match uid {
            Some(_) => DicomProblem::new(
                DicomFault::NoSuchSeries,
                "the series that was asked for by its UID",
                format!("{} other series", summaries.len()),
                "list the folder's series and take one of them",
            ),
            None => DicomProblem::new(
                DicomFault::NoImages,
                "DICOM images",
                format!("{files} DICOM file(s) without an image and {} other file(s)", self.other_files),
                "give the folder that the files of the series lie in",
            ),
        }
        .into())
    }
}

fn summary(uid: &str, entries: &[Entry]) -> SeriesSummary {
    let first = entries.iter().find(|e| e.is_picture());
    let [rows, columns] = first.map_or([0; 2], |e| e.size);
    SeriesSummary {
        uid: uid.to_owned(),
        modality: entries.first().map(|e| e.modality.clone()).unwrap_or_default(),
        slices: entries.iter().filter(|e| e.is_picture()).map(Entry::frames).sum(),
        rows,
        columns,
        files: entries.len(),
        description: entries.iter().find_map(|e| e.description.clone()),
    }
}

/// Lists the series of a folder, those in folders below it included.
///
/// # Errors
/// When the folder or a file in it can't be read.
pub fn list_series(folder: &Path) -> Result<SeriesList, IoError> {
    let scanned = Folder::scan(Files::At(folder))?;
    Ok(SeriesList { series: scanned.summaries(), other_files: scanned.other_files })
}

/// Collects files, sorted by name so that equal folders give equal answers. Links to folders are not followed: they
/// may lead in circles.
fn walk(
    folder: &Path,
    files: &mut Vec<PathBuf>,
    depth: usize,
    most: usize,
) -> Result<(), (PathBuf, std::io::Error)> {
    let failed = |error| (folder.to_path_buf(), error);
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(failed)?.collect();
    let mut entries = entries.map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if files.len() >= most {
            return Ok(());
        }
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            if depth < MAX_DEPTH {
                walk(&entry.path(), files, depth + 1, most)?;
            }
        } else if kind.is_file() || entry.path().is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Reads a file whole.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, IoError> {
    fs::read(path).map_err(|e| IoError::in_file(path, system("read the DICOM file", path, e)))
}

fn read_entry(place: Place, bytes: &[u8]) -> Result<Option<Entry>, IoError> {
    let Some(file) = DicomFile::open(bytes) else { return Ok(None) };
    let file = file.map_err(|problem| place.refuse(problem))?;
    let (set, damage) = file.elements();
    let sop_class = set.text(tags::SOP_CLASS).unwrap_or_default();
    if sop_class == DIRECTORY_STORAGE {
        return Ok(None);
    }
    let series = set.text(tags::SERIES_UID);
    if let (None, Some(problem)) = (&series, &damage) {
        // Whose slice it is can't be told, so any series of the folder may lack it.
        return Err(place.refuse(problem.clone()));
    }
    let slices = match (&damage, &file.syntax) {
        (Some(problem), _) | (None, Err(problem)) => Err(problem.clone()),
        (None, Ok(syntax)) => PixelLayout::read(&set).and_then(|layout| {
            FramePixels::find(&set, layout, *syntax)?;
            Ok(Slices { layout, frames: instance::frames(&set, layout.frames)? })
        }),
    };
    Ok(Some(entry(place, &set, series, sop_class, slices)))
}

fn entry(
    place: Place,
    set: &Dataset<'_>,
    series: Option<String>,
    sop_class: String,
    slices: Result<Slices, DicomProblem>,
) -> Entry {
    let size = |tag| set.short(tag).map_or(0, usize::from);
    let positive = |tag| match set.decimals::<1>(tag) {
        Ok(Some([mm])) if mm > 0.0 => Some(mm),
        _ => None,
    };
    let image_type = set.text(tags::IMAGE_TYPE).unwrap_or_default();
    Entry {
        place,
        series,
        study: set.text(tags::STUDY_UID),
        modality: set.text(tags::MODALITY).unwrap_or_default(),
        description: set.text(tags::SERIES_DESCRIPTION),
        sop_class,
        sop_instance: set.text(tags::SOP_INSTANCE).unwrap_or_default(),
        frame_of_reference: set.text(tags::FRAME_OF_REFERENCE),
        localizer: image_type.split('\\').any(|value| value.trim() == "LOCALIZER"),
        inverted: set.text(tags::PHOTOMETRIC).as_deref() == Some("MONOCHROME1"),
        size: [size(tags::ROWS), size(tags::COLUMNS)],
        thickness_mm: positive(tags::SPACING_BETWEEN_SLICES).or(positive(tags::SLICE_THICKNESS)),
        patient: Patient::read(set),
        slices,
    }
}
