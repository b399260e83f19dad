//! Reads volumes from bytes.

use std::borrow::Cow;

use sulcus_volume::{Geometry, Image, LabelMap};

use crate::error::IoError;
use crate::format::{self, VoxelFile, nifti};
use crate::info::VolumeInfo;
use crate::metadata::VolumeMetadata;
use crate::scan::Scan;
use crate::stored::StoredVolume;

/// Reads an image from the bytes of a file. The format is detected from the content.
///
/// # Errors
/// When the bytes have no known format, are inconsistent or incomplete, or the values are not single numbers.
#[cfg(feature = "statistics")]
pub fn read_scan_bytes(bytes: &[u8]) -> Result<Scan, IoError> {
    Ok(format::parse(bytes)?.read_scan(VoxelFile::Same, bytes.into())?)
}

/// The memory that [`read_scan_bytes`] needs besides the bytes of a NIfTI file, according to its header: the inflated data,
/// and the voxels in single precision. Programs that accept files from unknown senders can check it before they read.
///
/// # Errors
/// When the bytes are not a NIfTI file in one piece, or its header is invalid.
pub fn nifti_memory_bytes(bytes: &[u8]) -> Result<u64, IoError> {
    Ok(nifti::memory_bytes(bytes)?)
}

/// The grid of a NIfTI file, from its header alone. Nothing else is inflated.
///
/// # Errors
/// As [`nifti_memory_bytes`].
pub fn nifti_geometry(bytes: &[u8]) -> Result<Geometry, IoError> {
    Ok(nifti::geometry(bytes)?)
}

/// The grid of a NIfTI file or a picture, and the memory that [`read_scan_bytes`] needs besides its bytes: both according to its
/// header alone. Programs that accept files from unknown senders can check them before they read.
///
/// # Errors
/// When the bytes are neither a picture nor a NIfTI file in one piece, the header is invalid, or the file is too short for it.
#[cfg(feature = "pictures")]
pub fn announced(bytes: &[u8]) -> Result<(Geometry, u64), IoError> {
    if !format::is_picture(bytes) {
        return Ok((nifti::geometry(bytes)?, nifti::memory_bytes(bytes)?));
    }
    let header = format::parse(bytes)?;
    header.check_length(VoxelFile::Same, bytes.len() as u64)?;
    let metadata = header.metadata()?;
    Ok((*metadata.geometry(), metadata.memory_bytes()))
}

/// Encodes a label map of one slice as a PNG whose indices are the labels, with a palette of their colours and with their names; with
/// a label above 255 as grey values of 16 bits.
///
/// # Errors
/// When the labels lie on another grid than `like`, or on several slices.
#[cfg(feature = "pictures")]
pub fn encode_labels_png(
    labels: &LabelMap,
    like: &VolumeMetadata,
    table: &sulcus_volume::LabelTable,
) -> Result<Vec<u8>, IoError> {
    Ok(format::encode_png(&format::VolumeToEncode::Labels { labels, metadata: like, table })?)
}

/// Encodes a label map as a TIFF whose pages are its slices and whose values are the labels. A TIFF has neither their colours nor their
/// names.
///
/// # Errors
/// When the labels lie on another grid than `like`.
#[cfg(feature = "pictures")]
pub fn encode_labels_tiff(labels: &LabelMap, like: &VolumeMetadata) -> Result<Vec<u8>, IoError> {
    let table = &sulcus_volume::LabelTable::default();
    Ok(format::encode_tiff(&format::VolumeToEncode::Labels { labels, metadata: like, table })?)
}

/// The bytes of a NIfTI file up to its last voxel, inflated if the file is gzipped.
///
/// # Errors
/// As [`nifti_memory_bytes`]; also when the file is shorter than its header announces.
pub fn nifti_content(bytes: &[u8]) -> Result<Cow<'_, [u8]>, IoError> {
    Ok(nifti::content(bytes)?)
}

/// Reads an image without statistics, which saves a pass over the voxels. Values beyond single precision become infinite.
///
/// # Errors
/// As [`read_scan_bytes`].
pub fn read_image_bytes_without_statistics(bytes: &[u8]) -> Result<(Image, VolumeMetadata), IoError> {
    Ok(format::read(bytes.into())?.image_without_statistics()?)
}

/// Reads an image from the bytes of a `.hdr` and an `.img` file, each uncompressed or gzipped.
///
/// # Errors
/// As [`read_scan_bytes`].
#[cfg(feature = "statistics")]
pub fn read_scan_pair_bytes(header: &[u8], voxels: &[u8]) -> Result<Scan, IoError> {
    Ok(nifti::read_pair(header, voxels.into())?.scan()?)
}

/// Reads a label map from the bytes of a file. [`VolumeMetadata::label_table`] contains the label names of the file.
///
/// # Errors
/// As [`read_scan_bytes`]; also when there are channels, or a value is not an integer from 0 to 65535.
pub fn read_labels_bytes(bytes: &[u8]) -> Result<(LabelMap, VolumeMetadata), IoError> {
    Ok(format::read(bytes.into())?.labels()?)
}

/// Reads a label map from the bytes of a `.hdr` and an `.img` file.
///
/// # Errors
/// As [`read_labels_bytes`].
pub fn read_labels_pair_bytes(header: &[u8], voxels: &[u8]) -> Result<(LabelMap, VolumeMetadata), IoError> {
    Ok(nifti::read_pair(header, voxels.into())?.labels()?)
}

/// Reads a volume in its own type from the bytes of a file.
///
/// # Errors
/// When the bytes have no known format, are inconsistent or incomplete, or the values are not single numbers.
pub fn read_stored_bytes(bytes: &[u8]) -> Result<StoredVolume<'_>, IoError> {
    Ok(format::read(bytes.into())?)
}

/// Reads a volume in its own type from the bytes of a header file and of the file with its voxels.
///
/// # Errors
/// As [`read_stored_bytes`].
pub fn read_stored_pair_bytes<'a>(header: &[u8], voxels: &'a [u8]) -> Result<StoredVolume<'a>, IoError> {
    let mut parsed = format::parse(header)?;
    parsed.read_header_file(header)?;
    Ok(parsed.read(VoxelFile::Separate, voxels.into())?)
}

/// Describes the volume in the bytes of a file.
///
/// # Errors
/// As [`read_scan_bytes`].
pub fn read_info_bytes(bytes: &[u8]) -> Result<VolumeInfo, IoError> {
    Ok(format::read(bytes.into())?.info())
}
