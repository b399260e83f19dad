//! One series of a folder as an image.

use std::path::Path;

use sulcus_volume::{Geometry, Image};

use super::error::{DicomFault, DicomProblem};
use super::file::DicomFile;
use super::folder::{Entry, Files, Folder, Slices};
use super::instance::{Frame, PixelKind, PixelLayout, SEGMENTATION_STORAGE};
use super::patient::Patient;
use super::pixels::FramePixels;
use super::stack::{FrameIndex, Stack, stack};
use crate::error::{IoError, Problem};
use crate::info::{Statistics, VolumeFormat, VolumeInfo};
use crate::read::Scan;
use crate::source::{Origin, Source};
use crate::voxels::{self, BLOCK, VoxelType};

/// A DICOM series as an image.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DicomScan {
    /// The voxels after slope and intercept; x along the rows, y down the columns, z along the slices' normal.
    pub image: Image,
    /// The series it was read from, to write results on it.
    pub series: Series,
    /// Type, shape and statistics.
    pub info: VolumeInfo,
    /// What the reader decided, for people: which of several series, files left out.
    pub notes: Vec<String>,
    dtype: VoxelType,
}

impl From<DicomScan> for Scan {
    fn from(scan: DicomScan) -> Self {
        let source = Source::new(VolumeFormat::Dicom, scan.series.geometry, scan.dtype);
        let source = source.with_origin(Origin::Dicom(Box::new(scan.series)));
        Self { image: scan.image, source, info: scan.info }
    }
}

/// Where a series lies and what its slices are called: what a segmentation of it must say.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub(crate) geometry: Geometry,
    pub(crate) uid: String,
    pub(crate) study: Option<String>,
    pub(crate) modality: String,
    pub(crate) frame_of_reference: Option<String>,
    pub(crate) orientation: [f64; 6],
    /// Distance of rows, then of columns.
    pub(crate) pixel_spacing: [f64; 2],
    pub(crate) slices: Vec<SourceSlice>,
    pub(crate) patient: Patient,
}

/// One slice of a series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceSlice {
    pub(crate) sop_class: String,
    pub(crate) sop_instance: String,
    /// Which frame of its file, from 1, where there are several.
    pub(crate) frame: Option<u32>,
    pub(crate) position: [f64; 3],
}

impl Series {
    /// The grid.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// SeriesInstanceUID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Modality, such as MR or CT; empty where the files don't say.
    pub fn modality(&self) -> &str {
        &self.modality
    }
}

/// Reads a series from a folder, folders below it included: the one with this SeriesInstanceUID, or the largest. A
/// single file with several frames is read as well.
///
/// # Errors
/// When there is no such series, or its files don't make up one even grid of grey values: slices missing, doubled,
/// shifted, of different sizes or directions, several volumes in one series, pixels damaged or encoded in a way that
/// is not read.
pub fn read_series(folder: &Path, uid: Option<&str>) -> Result<DicomScan, IoError> {
    read(Files::At(folder), uid)
}

/// Reads a series from the bytes of its files, in any order, as they come from an archive or a network.
///
/// # Errors
/// As [`read_series`]. A file is named by its number from 1.
pub fn read_series_bytes(files: &[&[u8]], uid: Option<&str>) -> Result<DicomScan, IoError> {
    read(Files::InMemory(files), uid)
}

fn read(files: Files<'_>, uid: Option<&str>) -> Result<DicomScan, IoError> {
    Plan::new(files, uid)?.read(files)
}

/// Reads what [`Series`] holds, from the headers alone.
///
/// # Errors
/// As [`read_series`], but for pixels that can't be decoded.
pub fn read_series_header(folder: &Path, uid: Option<&str>) -> Result<Series, IoError> {
    Ok(Plan::new(Files::At(folder), uid)?.series)
}

/// The same as the source of a volume, to write masks on its grid.
///
/// # Errors
/// As [`read_series_header`].
pub fn read_series_source(folder: &Path, uid: Option<&str>) -> Result<Source, IoError> {
    let Plan { entries, order, series, .. } = Plan::new(Files::At(folder), uid)?;
    let source = Source::new(VolumeFormat::Dicom, series.geometry, stored_type(&entries, &order));
    Ok(source.with_origin(Origin::Dicom(Box::new(series))))
}

fn stored_type(entries: &[Entry], order: &[FrameIndex]) -> VoxelType {
    let first = order.first().and_then(|index| entries.get(index.file));
    let kind = first.and_then(|e| e.slices.as_ref().ok()).map(|s| s.layout.kind);
    kind.map_or(VoxelType::Float32, PixelKind::voxel_type)
}

/// A series whose headers were read and fit together.
pub(super) struct Plan {
    entries: Vec<Entry>,
    /// The slices from the lowest to the highest.
    order: Vec<FrameIndex>,
    pub(super) series: Series,
    pub(super) notes: Vec<String>,
}

impl Plan {
    /// The slices in their order, each with what its pixels are.
    pub(super) fn frames(&self) -> impl Iterator<Item = (&Frame, PixelKind)> {
        self.order.iter().filter_map(|index| {
            let slices = self.entries.get(index.file)?.slices.as_ref().ok()?;
            Some((slices.frames.get(index.frame)?, slices.layout.kind))
        })
    }

    /// Hands on the values of one slice after the other.
    pub(super) fn each_slice(
        &self,
        files: Files<'_>,
        scaling: Applied,
        add: &mut dyn FnMut(&[f64]),
    ) -> Result<(), IoError> {
        for run in self.order.chunk_by(|a, b| a.file == b.file) {
            let Some(entry) = run.first().and_then(|index| self.entries.get(index.file)) else { continue };
            read_slices(files, entry, run, scaling, add)?;
        }
        Ok(())
    }

    /// The series as an image.
    pub(super) fn read(self, files: Files<'_>) -> Result<DicomScan, IoError> {
        let at_folder = |problem| files.refuse(problem);
        let mut data = voxels::reserve(self.series.geometry.voxels()).map_err(at_folder)?;
        let mut statistics = Statistics::NOTHING;
        self.each_slice(files, Applied::Scaled, &mut |values| {
            values.chunks(BLOCK).for_each(|block| statistics.add(block));
            data.extend(values.iter().map(|v| *v as f32));
        })?;
        let Self { entries, order, series, notes } = self;
        let dtype = stored_type(&entries, &order);
        let info = VolumeInfo::new(&Source::new(VolumeFormat::Dicom, series.geometry, dtype), &statistics);
        if let (Some(min), Some(max)) = (info.min, info.max)
            && (min < f64::from(f32::MIN) || max > f64::from(f32::MAX))
        {
            return Err(at_folder(Problem::Range { min, max }));
        }
        let image = Image::new(series.geometry, 1, data).map_err(|e| at_folder(e.into()))?;
        Ok(DicomScan { image, series, info, notes, dtype })
    }

    pub(super) fn new(files: Files<'_>, uid: Option<&str>) -> Result<Self, IoError> {
        let at_folder = |problem| files.refuse(problem);
        let scanned = Folder::scan(files)?;
        let other_files = scanned.other_files;
        let (uid, entries, pictures) = scanned.choose(uid).map_err(at_folder)?;
        let slices = checked(&entries)?;
        let single = entries.len() == 1 && slices.iter().all(|s| s.frames.len() == 1);
        if single && matches!(files, Files::At(path) if path.is_file()) {
            return Err(at_folder(one_slice().into()));
        }
        let shape = same_size(&slices).map_err(|p| at_folder(p.into()))?;
        check_localizers(&entries).map_err(|p| at_folder(p.into()))?;
        let frames: Vec<(FrameIndex, &Frame)> = slices
            .iter()
            .enumerate()
            .flat_map(|(file, s)| {
                s.frames.iter().enumerate().map(move |(frame, f)| (FrameIndex { file, frame }, f))
            })
            .collect();
        let thickness = entries.first().and_then(|e| e.thickness_mm);
        let stacked = stack(&frames, shape, thickness).map_err(at_folder)?;
        let notes = notes(&entries, &stacked, pictures, other_files);
        let series = describe(uid, &entries, &slices, &stacked);
        Ok(Self { order: stacked.order, series, notes, entries })
    }
}

/// Every file's slices, or what is wrong with the first that has none.
fn checked(entries: &[Entry]) -> Result<Vec<&Slices>, IoError> {
    let of = |entry: &Entry| entry.place.refuse(entry_problem(entry));
    if let Some(segmentation) = entries.iter().find(|e| e.sop_class == SEGMENTATION_STORAGE) {
        return Err(of(segmentation));
    }
    entries.iter().map(|entry| entry.slices.as_ref().map_err(|_| of(entry))).collect()
}

fn entry_problem(entry: &Entry) -> DicomProblem {
    match &entry.slices {
        _ if entry.sop_class == SEGMENTATION_STORAGE => DicomProblem::new(
            DicomFault::NoImages,
            "a series of images",
            "a segmentation (DICOM SEG)",
            "give it where a mask belongs, and here the series that it was made from",
        ),
        Err(problem) => problem.clone(),
        Ok(_) => one_slice(),
    }
}

fn one_slice() -> DicomProblem {
    DicomProblem::new(
        DicomFault::NoImages,
        "a folder with all slices of a series, or a file with several frames",
        "a file with one slice",
        "give the folder that the files of the series lie in",
    )
}

/// Columns and rows that all slices have.
fn same_size(slices: &[&Slices]) -> Result<[usize; 2], DicomProblem> {
    let mut sizes: Vec<([usize; 2], usize)> = Vec::new();
    for s in slices {
        let size = [s.layout.columns, s.layout.rows];
        match sizes.iter_mut().find(|(known, _)| *known == size) {
            Some((_, n)) => *n += s.frames.len(),
            None => sizes.push((size, s.frames.len())),
        }
    }
    if let [(size, _)] = sizes.as_slice() {
        return Ok(*size);
    }
    let list: Vec<String> = sizes.iter().take(4).map(|([c, r], n)| format!("{n} of {r} × {c}")).collect();
    Err(DicomProblem::new(
        DicomFault::MixedSizes,
        "slices of one size (Rows × Columns)",
        list.join(", "),
        "these are several scans in one series: put the files of each into a folder of its own",
    ))
}

fn check_localizers(entries: &[Entry]) -> Result<(), DicomProblem> {
    let localizers = entries.iter().filter(|e| e.localizer).count();
    if localizers == 0 || localizers == entries.len() {
        return Ok(());
    }
    Err(DicomProblem::new(
        DicomFault::Localizers,
        "the slices of one scan",
        format!("{localizers} overview picture(s) (ImageType LOCALIZER) among {} files", entries.len()),
        "move the overview pictures out of the folder",
    ))
}

fn notes(entries: &[Entry], stacked: &Stack, pictures: usize, other_files: usize) -> Vec<String> {
    let mut out = Vec::new();
    let [x, y, z] = stacked.geometry.shape();
    if pictures > 1 {
        out.push(format!(
            "{pictures} DICOM series found; this is the one with {z} slices of {y} × {x}, the largest unless another one was asked for"
        ));
    }
    if other_files > 0 {
        out.push(format!("{other_files} file(s) that are no DICOM images were left out"));
    }
    if entries.iter().any(|e| e.inverted) {
        out.push(
            "the pixels are meant to be shown inverted (MONOCHROME1); their values are kept as they are".into(),
        );
    }
    if stacked.thickness_unknown {
        out.push("nothing says how thick the only slice is; 1 mm is assumed".into());
    }
    out
}

fn describe(uid: String, entries: &[Entry], slices: &[&Slices], stacked: &Stack) -> Series {
    let source = |index: &FrameIndex| {
        let (entry, slices) = (entries.get(index.file)?, slices.get(index.file)?);
        let many = slices.frames.len() > 1;
        Some(SourceSlice {
            sop_class: entry.sop_class.clone(),
            sop_instance: entry.sop_instance.clone(),
            frame: many.then(|| u32::try_from(index.frame + 1).unwrap_or(u32::MAX)),
            position: slices.frames.get(index.frame)?.position,
        })
    };
    let first = entries.first();
    let frame = slices.first().and_then(|s| s.frames.first());
    // Files that name several frames of reference name none that a result could lie in.
    let mut references = entries.iter().map(|e| e.frame_of_reference.as_ref());
    let reference = references.next().flatten().filter(|r| references.all(|other| other == Some(*r)));
    Series {
        geometry: stacked.geometry,
        uid,
        study: first.and_then(|e| e.study.clone()),
        modality: first.map(|e| e.modality.clone()).unwrap_or_default(),
        frame_of_reference: reference.cloned(),
        orientation: frame.map_or([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], |f| f.orientation),
        pixel_spacing: frame.map_or([1.0; 2], |f| f.spacing),
        slices: stacked.order.iter().filter_map(source).collect(),
        patient: first.map(|e| e.patient.clone()).unwrap_or_default(),
    }
}

/// What becomes of slope and intercept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// Values are what they mean.
    Scaled,
    /// Values are as they are stored.
    Stored,
}

/// Reads the slices of one file in the order asked for.
fn read_slices(
    files: Files<'_>,
    entry: &Entry,
    run: &[FrameIndex],
    applied: Applied,
    add: &mut dyn FnMut(&[f64]),
) -> Result<(), IoError> {
    let refuse = |problem: DicomProblem| entry.place.refuse(problem);
    let slices = entry.slices.as_ref().map_err(|p| refuse(p.clone()))?;
    let bytes = files.read(&entry.place)?;
    let file = match DicomFile::open(&bytes) {
        Some(file) => file.map_err(refuse)?,
        None => return Err(refuse(changed())),
    };
    let (set, damage) = file.elements();
    let syntax = file.syntax.clone().map_err(refuse)?;
    if damage.is_some() || PixelLayout::read(&set).map_err(refuse)? != slices.layout {
        return Err(refuse(changed()));
    }
    let pixels = FramePixels::find(&set, slices.layout, syntax).map_err(refuse)?;
    for index in run {
        let frame = slices.frames.get(index.frame).ok_or_else(|| refuse(changed()))?;
        let scale = match applied {
            Applied::Scaled => (frame.slope, frame.intercept),
            Applied::Stored => (1.0, 0.0),
        };
        add(&pixels.values(index.frame, scale).map_err(refuse)?);
    }
    Ok(())
}

fn changed() -> DicomProblem {
    DicomProblem::new(
        DicomFault::Damaged,
        "the file as it was a moment ago",
        "another one",
        "wait until whatever writes the folder is done, then try again",
    )
}
