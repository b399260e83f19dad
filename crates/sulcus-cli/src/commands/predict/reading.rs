//! Reads the files of a case and combines its channels.

use std::path::{Path, PathBuf};

use sulcus_io::{IoError, Scan, VolumeMetadata};
use sulcus_volume::{Geometry, Image};

use crate::error::CaseError;
use crate::input::scans;

/// What the headers of a case announce.
#[derive(Default, Clone, Copy)]
pub(super) struct Announced {
    /// Memory to read the case, in bytes: its voxels as they are stored and as numbers.
    pub(super) read_bytes: u64,
    /// The grid of the first file.
    pub(super) geometry: Option<Geometry>,
}

/// Reads the headers of a case, of a DICOM folder those of this series. Files that cannot be read announce nothing.
pub(super) fn announced(paths: &[PathBuf], series: Option<&str>) -> Announced {
    let mut all = Announced::default();
    for path in paths {
        let (Ok(source), Ok(file)) = (scans::read_metadata(path, series), std::fs::metadata(path)) else {
            continue;
        };
        let values = (source.geometry().voxels() as u64).saturating_mul(source.image_channels() as u64);
        // Several files are stacked.
        let stacked = if paths.len() > 1 { values.saturating_mul(size_of::<f32>() as u64) } else { 0 };
        let of_file = source.memory_bytes().saturating_add(stacked).saturating_add(file.len());
        all.read_bytes = all.read_bytes.saturating_add(of_file);
        all.geometry.get_or_insert(*source.geometry());
    }
    all
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
            found if image.geometry().is_picture() => Err(CaseError::new(format_args!(
                "the model expects {expected} channel(s), the picture has {found} (grey pictures have 1, colour pictures 3); save it \
                 in the colours that the model was trained on: {}",
                paths.first().map(|p| p.display().to_string()).unwrap_or_default()
            ))),
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
