//! Reads one series as a volume.

use std::collections::BTreeSet;
use std::path::Path;

use sulcus_volume::Geometry;

use super::error::{DicomError, DicomErrorKind};
use super::file::DicomFile;
use super::instance::{Frame, PixelLayout, PixelType, is_segmentation_class};
use super::patient::Patient;
use super::pixel_data::PixelData;
use super::series_index::{InputFiles, InstanceHeader, SeriesIndex, Slices, segmentation_as_series};
use super::slice_stack::{FrameIndex, SEVERAL_SCANS, SliceStack, stack_slices};

/// The identity and geometry of a series, which a segmentation of it must contain.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub(crate) geometry: Geometry,
    pub(crate) uid: String,
    pub(crate) study: Option<String>,
    pub(crate) modality: String,
    pub(crate) frame_of_reference: Option<String>,
    pub(crate) orientation: [f64; 6],
    /// The distance between rows, then between columns.
    pub(crate) pixel_spacing: [f64; 2],
    pub(crate) slices: Vec<SliceReference>,
    pub(crate) patient: Patient,
}

/// The identity of one slice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SliceReference {
    pub(crate) sop_class: String,
    pub(crate) sop_instance: String,
    /// The frame number within the file, from 1, if the file has several.
    pub(crate) frame: Option<u32>,
    pub(crate) position: [f64; 3],
}

impl Series {
    /// The grid of the volume: x along the rows, y down the columns, z along the slice normal.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// SeriesInstanceUID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Modality, such as MR or CT; empty when the files do not state it.
    pub fn modality(&self) -> &str {
        &self.modality
    }
}

/// How the pixels of one slice are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SliceEncoding {
    /// The type of a stored pixel.
    pub pixel_type: PixelType,
    /// The factor from stored values to real values (RescaleSlope).
    pub slope: f64,
    /// The offset from stored values to real values (RescaleIntercept).
    pub intercept: f64,
}

/// Whether to apply slope and intercept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescale {
    /// Return real values: slope · stored + intercept.
    Apply,
    /// Return stored values.
    Ignore,
}

/// A series whose headers have been read and form one regular grid. The pixels are read by
/// [`for_each_slice`](Self::for_each_slice).
pub struct SeriesReader<'a> {
    files: InputFiles<'a>,
    entries: Vec<InstanceHeader>,
    /// The slices from the lowest to the highest.
    order: Vec<FrameIndex>,
    series: Series,
    notes: Vec<String>,
}

impl<'a> SeriesReader<'a> {
    /// Opens a series in a folder or its subfolders: the one with this SeriesInstanceUID, or the largest that is not
    /// a localizer. `folder` may also be one file with several frames.
    ///
    /// # Errors
    /// When there is no such series, or its files do not form one regular grid of grey values: slices that are missing,
    /// duplicate, shifted, or of different sizes or orientations; several volumes in one series; damaged pixels, or
    /// pixels in an unsupported encoding.
    pub fn open(folder: &'a Path, uid: Option<&str>) -> Result<Self, DicomError> {
        Self::new(InputFiles::At(folder), uid)
    }

    /// Opens a series from the bytes of its files, in any order, as they come from an archive or a network.
    ///
    /// # Errors
    /// As [`SeriesReader::open`]. The error names a file by its number, from 1.
    pub fn from_bytes(files: &'a [&'a [u8]], uid: Option<&str>) -> Result<Self, DicomError> {
        Self::new(InputFiles::InMemory(files), uid)
    }

    fn new(files: InputFiles<'a>, uid: Option<&str>) -> Result<Self, DicomError> {
        let locate = |error: DicomError| files.locate(error);
        let index = SeriesIndex::read(files)?;
        let other_files = index.other_files;
        let (uid, entries, series_count) = index.choose(uid).map_err(locate)?;
        let slices = checked_slices(&entries)?;
        let single = entries.len() == 1 && slices.iter().all(|s| s.frames.len() == 1);
        if single && matches!(files, InputFiles::At(path) if path.is_file()) {
            return Err(locate(single_slice()));
        }
        check_identity(&entries).map_err(locate)?;
        let shape = same_size(&slices).map_err(locate)?;
        check_localizers(&entries).map_err(locate)?;
        let frames: Vec<(FrameIndex, &Frame)> = slices
            .iter()
            .enumerate()
            .flat_map(|(file, s)| {
                s.frames.iter().enumerate().map(move |(frame, f)| (FrameIndex { file, frame }, f))
            })
            .collect();
        let thickness = frames.first().and_then(|(_, frame)| frame.thickness_mm);
        let stack = stack_slices(&frames, shape, thickness).map_err(locate)?;
        let notes = notes(&entries, &slices, &stack, series_count, other_files);
        let series = describe(uid, &entries, &slices, &stack);
        Ok(Self { files, order: stack.order, series, notes, entries })
    }

    /// The identity and geometry of the series.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// The identity and geometry of the series, without its files.
    pub fn into_series(self) -> Series {
        self.series
    }

    /// Decisions of the reader that a user should know: which of several series was chosen, which files were ignored.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The folder or file; `None` for files in memory.
    pub fn path(&self) -> Option<&Path> {
        match self.files {
            InputFiles::At(path) => Some(path),
            InputFiles::InMemory(_) => None,
        }
    }

    /// The encoding of each slice, in the order of the grid.
    pub fn slices(&self) -> impl Iterator<Item = SliceEncoding> {
        self.order.iter().filter_map(|index| {
            let slices = self.entries.get(index.file)?.slices.as_ref().ok()?;
            let Frame { slope, intercept, .. } = *slices.frames.get(index.frame)?;
            Some(SliceEncoding { pixel_type: slices.layout.format.pixel_type(), slope, intercept })
        })
    }

    /// Reads the pixels of one slice after the other, in the order of the grid.
    ///
    /// # Shapes
    /// Each slice is `[y, x]` row-major.
    ///
    /// # Errors
    /// When the pixels of a slice cannot be decoded, or its file has changed since it was opened.
    pub fn for_each_slice(&self, rescale: Rescale, f: &mut dyn FnMut(&[f64])) -> Result<(), DicomError> {
        for run in self.order.chunk_by(|a, b| a.file == b.file) {
            let Some(entry) = run.first().and_then(|index| self.entries.get(index.file)) else { continue };
            read_slices(self.files, entry, run, rescale, f)?;
        }
        Ok(())
    }

    /// Reads the pixels of one slice, counted from 0 in the order of the grid; `None` after the last.
    ///
    /// # Shapes
    /// `[y, x]` row-major.
    ///
    /// # Errors
    /// As [`SeriesReader::for_each_slice`].
    pub fn slice(&self, number: usize, rescale: Rescale) -> Result<Option<Vec<f64>>, DicomError> {
        let Some(index) = self.order.get(number) else { return Ok(None) };
        let Some(entry) = self.entries.get(index.file) else { return Ok(None) };
        let mut values = Vec::new();
        let one = std::slice::from_ref(index);
        read_slices(self.files, entry, one, rescale, &mut |slice| values = slice.to_vec())?;
        Ok(Some(values))
    }
}

/// The slices of every file, or the error of the first file without usable ones.
fn checked_slices(entries: &[InstanceHeader]) -> Result<Vec<&Slices>, DicomError> {
    if let Some(segmentation) = entries.iter().find(|e| is_segmentation_class(&e.sop_class)) {
        return Err(segmentation.location.locate(segmentation_as_series()));
    }
    let locate = |entry: &InstanceHeader, error: &DicomError| entry.location.locate(error.clone());
    entries.iter().map(|entry| entry.slices.as_ref().map_err(|error| locate(entry, error))).collect()
}

/// Checks that all files belong to one patient, one study, one frame of reference and one kind of image. Equal series
/// identifiers do not guarantee this: software that removes or rewrites identifiers may join the series of several patients.
/// Files without an attribute are not compared.
fn check_identity(entries: &[InstanceHeader]) -> Result<(), DicomError> {
    let count = |value: &dyn Fn(&InstanceHeader) -> Option<String>| {
        entries.iter().filter_map(value).collect::<BTreeSet<String>>().len()
    };
    let present = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let patient =
        |e: &InstanceHeader, index: usize| e.patient.name_and_id().get(index).and_then(|text| present(text));
    // Spellings of a name may differ within a series, so names are compared only in the absence of identifiers.
    let patients = match count(&|e| patient(e, 1)) {
        0 => count(&|e| patient(e, 0)),
        ids => ids,
    };
    let checks = [
        (DicomErrorKind::MixedPatients, "patient (PatientID or PatientName)", patients),
        (DicomErrorKind::MixedStudies, "study (StudyInstanceUID)", count(&|e| e.study.clone())),
        (
            DicomErrorKind::MixedFramesOfReference,
            "frame of reference (FrameOfReferenceUID)",
            count(&|e| e.frame_of_reference.clone()),
        ),
        (DicomErrorKind::MixedModalities, "modality (Modality)", count(&|e| present(&e.modality))),
        (DicomErrorKind::MixedModalities, "kind of image (SOPClassUID)", count(&|e| present(&e.sop_class))),
    ];
    let Some((kind, what, found)) = checks.into_iter().find(|(.., count)| *count > 1) else { return Ok(()) };
    Err(DicomError::new(kind, format!("files with one {what}"), found.to_string(), SEVERAL_SCANS))
}

fn single_slice() -> DicomError {
    DicomError::new(
        DicomErrorKind::NoImages,
        "a folder with all slices of a series, or a file with several frames",
        "a file with one slice",
        "give the folder that contains the files of the series",
    )
}

/// The columns and rows of all slices.
fn same_size(slices: &[&Slices]) -> Result<[usize; 2], DicomError> {
    let mut sizes: Vec<([usize; 2], usize)> = Vec::new();
    for s in slices {
        let [rows, columns] = s.size();
        let size = [columns, rows];
        match sizes.iter_mut().find(|(known, _)| *known == size) {
            Some((_, n)) => *n += s.frames.len(),
            None => sizes.push((size, s.frames.len())),
        }
    }
    if let [(size, _)] = sizes.as_slice() {
        return Ok(*size);
    }
    let list: Vec<String> = sizes.iter().take(4).map(|([c, r], n)| format!("{n} of {r} × {c}")).collect();
    Err(DicomError::new(
        DicomErrorKind::MixedSizes,
        "slices of one size (Rows × Columns)",
        list.join(", "),
        SEVERAL_SCANS,
    ))
}

fn check_localizers(entries: &[InstanceHeader]) -> Result<(), DicomError> {
    let localizers = entries.iter().filter(|e| e.localizer).count();
    if localizers == 0 || localizers == entries.len() {
        return Ok(());
    }
    Err(DicomError::new(
        DicomErrorKind::Localizers,
        "the slices of one scan",
        format!("{localizers} localizer image(s) (ImageType LOCALIZER) among {} files", entries.len()),
        "move the localizers out of the folder",
    ))
}

fn notes(
    entries: &[InstanceHeader],
    slices: &[&Slices],
    stack: &SliceStack,
    series_count: usize,
    other_files: usize,
) -> Vec<String> {
    let mut out = Vec::new();
    let [x, y, z] = stack.geometry.shape();
    if series_count > 1 {
        out.push(format!(
            "{series_count} DICOM series found; this one has {z} {} of {y} × {x} (without a selection the largest that is not a \
             localizer is read)",
            if z == 1 { "slice" } else { "slices" }
        ));
    }
    if slices.iter().any(|s| s.mosaic.is_some()) {
        out.push("the slices are the tiles of a Siemens mosaic".into());
    }
    if other_files > 0 {
        out.push(format!("{other_files} file(s) that are not DICOM images were ignored"));
    }
    if entries.iter().any(|e| e.inverted) {
        out.push("the pixels are meant for inverted display (MONOCHROME1); their values are unchanged".into());
    }
    if stack.thickness_unknown {
        out.push("the thickness of the only slice is unknown; 1 mm is assumed".into());
    }
    out
}

fn describe(uid: String, entries: &[InstanceHeader], slices: &[&Slices], stack: &SliceStack) -> Series {
    let reference = |index: &FrameIndex| {
        let (entry, slices) = (entries.get(index.file)?, slices.get(index.file)?);
        // The tiles of a mosaic have no numbers.
        let many = slices.frames.len() > 1 && slices.mosaic.is_none();
        Some(SliceReference {
            sop_class: entry.sop_class.clone(),
            sop_instance: entry.sop_instance.clone(),
            frame: many.then(|| u32::try_from(index.frame + 1).unwrap_or(u32::MAX)),
            position: slices.frames.get(index.frame)?.position,
        })
    };
    let first = entries.first();
    let frame = slices.first().and_then(|s| s.frames.first());
    // A result cannot lie in several frames of reference.
    let mut frames_of_reference = entries.iter().map(|e| e.frame_of_reference.as_ref());
    let frame_of_reference =
        frames_of_reference.next().flatten().filter(|r| frames_of_reference.all(|other| other == Some(*r)));
    Series {
        geometry: stack.geometry,
        uid,
        study: first.and_then(|e| e.study.clone()),
        modality: first.map(|e| e.modality.clone()).unwrap_or_default(),
        frame_of_reference: frame_of_reference.cloned(),
        orientation: frame.map_or([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], |f| f.orientation),
        pixel_spacing: frame.map_or([1.0; 2], |f| f.spacing),
        slices: stack.order.iter().filter_map(reference).collect(),
        patient: first.map(|e| e.patient.clone()).unwrap_or_default(),
    }
}

/// Reads the slices of one file in the order of `run`.
fn read_slices(
    files: InputFiles<'_>,
    entry: &InstanceHeader,
    run: &[FrameIndex],
    rescale: Rescale,
    f: &mut dyn FnMut(&[f64]),
) -> Result<(), DicomError> {
    let locate = |error: DicomError| entry.location.locate(error);
    let slices = entry.slices.as_ref().map_err(|e| locate(e.clone()))?;
    let bytes = files.read(&entry.location)?;
    let file = match DicomFile::open(&bytes) {
        Some(file) => file.map_err(locate)?,
        None => return Err(locate(changed())),
    };
    let (set, damage) = file.elements();
    let syntax = file.syntax.clone().map_err(locate)?;
    if damage.is_some() || PixelLayout::read(&set).map_err(locate)? != slices.layout {
        return Err(locate(changed()));
    }
    let pixels = PixelData::find(&set, slices.layout, syntax).map_err(locate)?;
    let values = |number: usize| {
        let frame = slices.frames.get(number).ok_or_else(changed)?;
        let scale = match rescale {
            Rescale::Apply => (frame.slope, frame.intercept),
            Rescale::Ignore => (1.0, 0.0),
        };
        pixels.values(number, scale)
    };
    let Some(mosaic) = &slices.mosaic else {
        return run.iter().try_for_each(|index| values(index.frame).map(|slice| f(&slice)).map_err(locate));
    };
    let picture = values(0).map_err(locate)?;
    mosaic.check_unused_tiles(&picture).map_err(locate)?;
    run.iter().for_each(|index| f(&mosaic.slice(&picture, index.frame)));
    Ok(())
}

fn changed() -> DicomError {
    DicomError::new(
        DicomErrorKind::Damaged,
        "an unchanged file",
        "a file that has changed since it was opened",
        "wait until no program writes to the folder, then try again",
    )
}
