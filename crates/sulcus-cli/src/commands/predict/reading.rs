//! Reads the files of a case and combines its channels.

use std::path::{Path, PathBuf};

use sulcus_io::{IoError, Scan, VolumeMetadata, read_metadata};
use sulcus_volume::Image;

use crate::error::CaseError;

/// Memory to read a case, in bytes: its voxels as they are stored and as numbers. Files that cannot be read take none.
pub(super) fn bytes_to_read(paths: &[PathBuf]) -> u64 {
    let of_file = |path: &PathBuf| -> Option<u64> {
        let source = read_metadata(path).ok()?;
        let values = source.geometry().voxels().checked_mul(source.channels())? as u64;
        let stored = source.voxel_type().bytes() as u64;
        let stacked = if paths.len() > 1 { 2 } else { 1 };
        let file = std::fs::metadata(path).ok()?.len();
        Some(values * (stored + stacked * size_of::<f32>() as u64) + file)
    };
    paths.iter().filter_map(of_file).sum()
}

/// Reads the files of a case, either one file per channel or one file with all channels, and the metadata of the first file.
///
/// # Errors
/// When a file cannot be read, the channels have different grids, or their number is not `expected`.
pub(super) fn read_channels(
    paths: &[PathBuf],
    expected: usize,
    read: &mut dyn FnMut(&Path) -> Result<Scan, IoError>,
) -> Result<(Image, VolumeMetadata), CaseError> {
    let mut first: Option<(Image, VolumeMetadata)> = None;
    let mut stacked = Vec::new();
    for path in paths {
        let read = read(path).map_err(|error| CaseError::caused_by(&error))?;
        match &first {
            None => first = Some((read.image, read.metadata)),
            Some((image, _)) => {
                let (one, other) = (image.geometry(), read.image.geometry());
                one.check_same_grid(other).map_err(|error| {
                    CaseError::new(format_args!("the channels of this case do not belong together: {error}"))
                        .at(path)
                })?;
                if stacked.is_empty() {
                    stacked.extend_from_slice(image.data());
                }
                stacked.extend_from_slice(read.image.data());
            }
        }
    }
    let (image, source) = first.ok_or_else(|| CaseError::new("the case has no file"))?;
    if stacked.is_empty() {
        return match image.channels() {
            found if found == expected => Ok((image, source)),
            found => Err(CaseError::new(format_args!(
                "the model expects {expected} channel(s), found {found}; give a 4-D file with the channels along its fourth \
                 axis, or one file per channel named CASE_0000, CASE_0001, …: {}",
                paths.first().map(|p| p.display().to_string()).unwrap_or_default()
            ))),
        };
    }
    let channels = stacked.len() / image.geometry().voxels();
    let image = Image::new(*image.geometry(), channels, stacked).map_err(|error| CaseError::caused_by(&error))?;
    Ok((image, source))
}
