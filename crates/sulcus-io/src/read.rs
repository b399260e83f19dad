use std::borrow::Cow;

use sulcus_volume::{Image, LabelMap};

use crate::error::{IoError, Problem};
use crate::info::VolumeInfo;
use crate::source::Source;
use crate::stored::StoredVolume;
use crate::{gzip, nifti};

/// An image, with what its file says of itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Scan {
    /// The voxels, a channel for each index of the fourth axis. NaN and infinite voxels are kept; `info` counts them.
    pub image: Image,
    /// Grid, type, names and header, to write results on the same grid.
    pub source: Source,
    /// Type, shape and statistics.
    pub info: VolumeInfo,
}

/// Reads an image from the bytes of a file, such as `.nii` or `.nii.gz`; which it is, its content says.
///
/// # Errors
/// When the bytes are no volume's file, contradict themselves, end early, or hold values that are no single numbers.
pub fn read_scan_bytes(bytes: &[u8]) -> Result<Scan, IoError> {
    Ok(scan(bytes.into())?)
}

/// As [`open`], and then as an image.
pub(crate) fn scan(bytes: Cow<'_, [u8]>) -> Result<Scan, Problem> {
    if gzip::is_gzip(&bytes) { nifti::read_scan(&bytes) } else { open(bytes)?.scan() }
}

/// The memory that [`read_scan_bytes`] takes beside the bytes of a NIfTI file in one piece, as its header announces it:
/// what is inflated of it, and its voxels as numbers. For programs that take files from anyone and must know before.
///
/// # Errors
/// When the bytes are no such file, or its header contradicts itself.
#[cfg(not(target_family = "wasm"))]
pub fn nifti_memory_bytes(bytes: &[u8]) -> Result<u64, IoError> {
    Ok(nifti::memory_bytes(bytes)?)
}

/// The grid of a NIfTI file, from its header alone. Nothing else is inflated.
///
/// # Errors
/// As [`nifti_memory_bytes`].
#[cfg(not(target_family = "wasm"))]
pub fn nifti_geometry(bytes: &[u8]) -> Result<sulcus_volume::Geometry, IoError> {
    Ok(*nifti::header_of_single(bytes)?.into_source().geometry())
}

/// Reads an image and measures nothing, which spares a pass over the voxels; values beyond single precision become
/// infinite.
///
/// # Errors
/// As [`read_scan_bytes`].
pub fn read_image_unmeasured_bytes(bytes: &[u8]) -> Result<(Image, Source), IoError> {
    Ok(open(bytes.into())?.unmeasured_image()?)
}

/// Reads an image from the bytes of a `.hdr` and an `.img` file, each as it is or gzipped.
///
/// # Errors
/// As [`read_scan_bytes`].
pub fn read_scan_pair_bytes(header: &[u8], voxels: &[u8]) -> Result<Scan, IoError> {
    Ok(nifti::read_pair(header, voxels.into())?.scan()?)
}

/// Reads a label map from the bytes of a file. Names that it carries are in [`Source::label_table`].
///
/// # Errors
/// As [`read_scan_bytes`]; also when there are channels, or a value is no whole number from 0 to 65535.
pub fn read_labels_bytes(bytes: &[u8]) -> Result<(LabelMap, Source), IoError> {
    Ok(open(bytes.into())?.labels()?)
}

/// Reads a label map from the bytes of a `.hdr` and an `.img` file.
///
/// # Errors
/// As [`read_labels_bytes`].
pub fn read_labels_pair_bytes(header: &[u8], voxels: &[u8]) -> Result<(LabelMap, Source), IoError> {
    Ok(nifti::read_pair(header, voxels.into())?.labels()?)
}

/// Describes the volume in the bytes of a file.
///
/// # Errors
/// As [`read_scan_bytes`].
pub fn read_info_bytes(bytes: &[u8]) -> Result<VolumeInfo, IoError> {
    Ok(open(bytes.into())?.info())
}

/// A volume that is whole in one file, whose format its content says.
pub(crate) fn open(bytes: Cow<'_, [u8]>) -> Result<StoredVolume<'_>, Problem> {
    #[cfg(not(target_family = "wasm"))]
    if crate::headed::starts(&bytes) {
        return crate::headed::read_single(bytes);
    }
    nifti::read_single(bytes)
}
