//! DICOM series and segmentations as volumes. [`sulcus_dicom`] reads and encodes the files; this module converts between its
//! types and those of all formats.

mod stored;

use std::path::Path;

use sulcus_dicom::{DicomError, DicomErrorKind, PixelType, Rescale, Series, SeriesReader};
#[cfg(feature = "fs")]
use sulcus_dicom::{SegmentationOptions, encode_segmentation};
use sulcus_volume::{LabelMap, LabelTable};

#[cfg(feature = "fs")]
pub use stored::read_series_stored;
pub use stored::read_series_stored_bytes;

use crate::error::{IoError, IoErrorKind};
#[cfg(feature = "fs")]
use crate::fs::write_atomically;
use crate::metadata::{FormatMetadata, VolumeFormat, VolumeMetadata};
use crate::scan::{Scan, ScanBuilder};
use crate::system_error::io_error_kind;
use crate::voxels::{VoxelType, reserve};

/// A DICOM series as an image.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SeriesScan {
    /// The image, after slope and intercept: x along the rows, y down the columns, z along the slice normal. Its metadata
    /// contain the series.
    pub scan: Scan,
    /// Decisions of the reader that a user should know: which of several series was chosen, which files were ignored.
    pub notes: Vec<String>,
}

/// Reads a series from a folder and its subfolders: the one with this SeriesInstanceUID, or the largest that is not a
/// localizer. `folder` may also be one file with several frames.
///
/// # Errors
/// As [`SeriesReader::open`]; also when the pixels cannot be decoded or exceed single precision.
#[cfg(feature = "fs")]
pub fn read_series(folder: &Path, uid: Option<&str>) -> Result<SeriesScan, IoError> {
    read(&SeriesReader::open(folder, uid)?)
}

/// Reads a series from the bytes of its files, in any order, as they come from an archive or a network.
///
/// # Errors
/// As [`SeriesReader::from_bytes`]; also when the pixels exceed single precision. The error names a file by its number, from 1.
pub fn read_series_bytes(files: &[&[u8]], uid: Option<&str>) -> Result<SeriesScan, IoError> {
    read(&SeriesReader::from_bytes(files, uid)?)
}

/// Reads the metadata of a series, to write masks on its grid. The pixels are not decoded.
///
/// # Errors
/// As [`SeriesReader::open`].
#[cfg(feature = "fs")]
pub fn read_series_metadata(folder: &Path, uid: Option<&str>) -> Result<VolumeMetadata, IoError> {
    let reader = SeriesReader::open(folder, uid)?;
    let voxel_type = stored_type(&reader);
    Ok(series_metadata(reader.into_series(), voxel_type))
}

/// Writes a mask of a series as DICOM SEG. The file has a temporary name until it is complete.
///
/// # Errors
/// As [`encode_segmentation`]; also when the file cannot be written.
#[cfg(feature = "fs")]
pub fn write_segmentation(
    path: &Path,
    labels: &LabelMap,
    series: &Series,
    table: &LabelTable,
    options: &SegmentationOptions,
) -> Result<(), IoError> {
    let bytes = encode_segmentation(labels, series, table, options).map_err(|e| IoError::from(e).at(path))?;
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Reads a DICOM SEG file as a label map; its metadata contain the names.
#[cfg(feature = "fs")]
pub(crate) fn read_segmentation(path: &Path) -> Result<(LabelMap, VolumeMetadata), IoError> {
    let (labels, table) = sulcus_dicom::read_segmentation(path)?;
    Ok(described(labels, table))
}

/// Reads the bytes of a DICOM SEG file as a label map; its metadata contain the names.
///
/// # Errors
/// As [`sulcus_dicom::read_segmentation_bytes`].
pub fn read_segmentation_bytes(bytes: &[u8]) -> Result<(LabelMap, VolumeMetadata), IoError> {
    let (labels, table) = sulcus_dicom::read_segmentation_bytes(bytes)?;
    Ok(described(labels, table))
}

fn described(labels: LabelMap, table: LabelTable) -> (LabelMap, VolumeMetadata) {
    let metadata = VolumeMetadata::new(VolumeFormat::Dicom, *labels.geometry(), VoxelType::Uint16);
    (labels, metadata.with_names(table))
}

/// Whether the path is a DICOM file or a folder that contains one.
#[cfg(feature = "fs")]
pub(crate) fn is_dicom(path: &Path) -> bool {
    if path.is_dir() { sulcus_dicom::holds_dicom(path) } else { sulcus_dicom::is_dicom_file(path) }
}

/// Whether the name is that of a DICOM file.
#[cfg(feature = "fs")]
pub(crate) fn is_dicom_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm"))
}

fn read(reader: &SeriesReader<'_>) -> Result<SeriesScan, IoError> {
    let locate = |kind: IoErrorKind| locate(reader, kind);
    let mut builder = ScanBuilder::new(reserve(reader.series().geometry().voxels()).map_err(locate)?);
    reader.for_each_slice(Rescale::Apply, &mut |values| builder.add(values))?;
    let metadata = series_metadata(reader.series().clone(), stored_type(reader));
    let scan = builder.finish(metadata).map_err(locate)?;
    Ok(SeriesScan { scan, notes: reader.notes().to_vec() })
}

fn series_metadata(series: Series, voxel_type: VoxelType) -> VolumeMetadata {
    let metadata = VolumeMetadata::new(VolumeFormat::Dicom, *series.geometry(), voxel_type);
    metadata.with_format_metadata(FormatMetadata::Dicom(Box::new(series)))
}

/// The voxel type of the first slice.
fn stored_type(reader: &SeriesReader<'_>) -> VoxelType {
    reader.slices().next().map_or(VoxelType::Float32, |slice| voxel_type(slice.pixel_type))
}

fn voxel_type(pixel_type: PixelType) -> VoxelType {
    match pixel_type {
        PixelType::Uint8 => VoxelType::Uint8,
        PixelType::Int8 => VoxelType::Int8,
        PixelType::Uint16 => VoxelType::Uint16,
        PixelType::Int16 => VoxelType::Int16,
        PixelType::Uint32 => VoxelType::Uint32,
        PixelType::Int32 => VoxelType::Int32,
        PixelType::Float32 => VoxelType::Float32,
        // The remaining type, and any that is added later, fits into double precision.
        _ => VoxelType::Float64,
    }
}

/// Adds the path of the series to an error.
fn locate(reader: &SeriesReader<'_>, kind: IoErrorKind) -> IoError {
    match reader.path() {
        Some(path) => IoError::in_file(path, kind),
        None => kind.into(),
    }
}

impl From<DicomError> for IoError {
    fn from(mut error: DicomError) -> Self {
        let path = error.take_path();
        let file = path.as_deref().unwrap_or(Path::new(""));
        let kind = match (error.kind(), error.io_error(), error.volume_error(), error.bytes()) {
            (DicomErrorKind::Io, Some(cause), ..) => {
                // io::Error cannot be cloned, so its kind and its text are copied.
                let copy = cause.raw_os_error().map_or_else(
                    || std::io::Error::new(cause.kind(), cause.to_string()),
                    std::io::Error::from_raw_os_error,
                );
                io_error_kind(error.action(), file, copy)
            }
            (DicomErrorKind::Geometry, _, Some(cause), _) => {
                IoErrorKind::Volume { action: error.action(), cause: Box::new(cause.clone()) }
            }
            (DicomErrorKind::OutOfMemory, .., Some(bytes)) => {
                IoErrorKind::Memory { action: error.action(), bytes }
            }
            _ => IoErrorKind::Dicom(Box::new(error)),
        };
        match path {
            Some(path) => Self::in_file(&path, kind),
            None => kind.into(),
        }
    }
}
