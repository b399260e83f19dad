//! Reads a series with integer voxels where that is possible without loss.

#[cfg(feature = "fs")]
use std::path::Path;

use sulcus_dicom::{PixelType, Rescale, SeriesReader, SliceEncoding};

use super::{locate, read, series_metadata, voxel_type};
use crate::error::IoError;
use crate::stored::StoredVolume;
use crate::voxels::{VoxelType, reserve};

/// Reads a series as `read_series` does, with integer voxels if possible. Values that are integers
/// after slope and intercept are stored as such. Other values are stored with the slope and intercept that all slices share.
/// If the slices have different fractional scales, the volume is float32. The second value contains decisions of the reader
/// that a user should know.
///
/// # Errors
/// As [`SeriesReader::open`].
#[cfg(feature = "fs")]
pub fn read_series_stored(
    folder: &Path,
    uid: Option<&str>,
) -> Result<(StoredVolume<'static>, Vec<String>), IoError> {
    stored(SeriesReader::open(folder, uid)?)
}

/// Reads a series from the bytes of its files, in any order, with integer voxels if that is possible without loss.
///
/// # Errors
/// As [`read_series_bytes`](super::read_series_bytes).
pub fn read_series_stored_bytes(
    files: &[&[u8]],
    uid: Option<&str>,
) -> Result<(StoredVolume<'static>, Vec<String>), IoError> {
    stored(SeriesReader::from_bytes(files, uid)?)
}

fn stored(reader: SeriesReader<'_>) -> Result<(StoredVolume<'static>, Vec<String>), IoError> {
    if let Some(scaling) = Scaling::of(&reader)
        && let Some(volume) = read_integers(&reader, scaling)?
    {
        return Ok((volume, reader.notes().to_vec()));
    }
    let read = read(&reader)?;
    let values: Vec<u8> = read.scan.image.data().iter().flat_map(|v| v.to_le_bytes()).collect();
    let metadata = series_metadata(reader.into_series(), VoxelType::Float32);
    Ok((StoredVolume::new(metadata, values)?, read.notes))
}

/// The effect of slope and intercept on integer pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    /// All real values are integers.
    Integer {
        /// Slope, intercept and voxel type, if all slices share them.
        shared: Option<(f64, f64, VoxelType)>,
    },
    /// All slices share a fractional scale.
    Shared { slope: f64, intercept: f64, voxel_type: VoxelType },
}

impl Scaling {
    /// `None` if the volume cannot be stored as integers.
    fn of(reader: &SeriesReader<'_>) -> Option<Self> {
        let slices: Vec<SliceEncoding> = reader.slices().collect();
        if slices.iter().any(|slice| matches!(slice.pixel_type, PixelType::Float32 | PixelType::Float64)) {
            return None;
        }
        let first = slices.first()?;
        let (slope, intercept, voxel_type) = (first.slope, first.intercept, voxel_type(first.pixel_type));
        let shared = Some((slope, intercept, voxel_type)).filter(|_| slices.iter().all(|slice| slice == first));
        if slices.iter().all(|slice| slice.slope.fract() == 0.0 && slice.intercept.fract() == 0.0) {
            return Some(Self::Integer { shared });
        }
        shared.map(|(slope, intercept, voxel_type)| Self::Shared { slope, intercept, voxel_type })
    }
}

/// The volume with integer voxels; `None` if signed 32-bit integers cannot represent them.
fn read_integers(reader: &SeriesReader<'_>, scaling: Scaling) -> Result<Option<StoredVolume<'static>>, IoError> {
    let mut values: Vec<i32> =
        reserve(reader.series().geometry().voxels()).map_err(|kind| locate(reader, kind))?;
    let mut fits = true;
    let rescale = match scaling {
        Scaling::Integer { .. } => Rescale::Apply,
        Scaling::Shared { .. } => Rescale::Ignore,
    };
    reader.for_each_slice(rescale, &mut |slice| {
        fits &= slice.iter().all(|v| (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(v));
        // The casts saturate; `fits` is then false.
        values.extend(slice.iter().map(|v| *v as i32));
    })?;
    if !fits {
        return Ok(None);
    }
    let volume = |voxel_type, values: &[i32]| {
        let bytes: Vec<u8> = match voxel_type {
            VoxelType::Uint8 | VoxelType::Int8 => values.iter().map(|v| *v as u8).collect(),
            VoxelType::Uint16 | VoxelType::Int16 => {
                values.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect()
            }
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        StoredVolume::new(series_metadata(reader.series().clone(), voxel_type), bytes)
    };
    match scaling {
        Scaling::Shared { slope, intercept, voxel_type } => {
            volume(voxel_type, &values)?.scaled(slope, intercept).map(Some)
        }
        Scaling::Integer { shared } => {
            let min = values.iter().copied().min().unwrap_or_default();
            let max = values.iter().copied().max().unwrap_or_default();
            let smallest = smallest_type(min, max, shared.map(|(.., voxel_type)| voxel_type));
            match shared {
                // Storing slope and intercept takes less space than a wider type.
                Some((slope, intercept, voxel_type)) if smallest.bytes() > voxel_type.bytes() => {
                    // The values are integers below 2^53, so the inverse is exact.
                    values.iter_mut().for_each(|v| *v = ((f64::from(*v) - intercept) / slope) as i32);
                    volume(voxel_type, &values)?.scaled(slope, intercept).map(Some)
                }
                _ => volume(smallest, &values).map(Some),
            }
        }
    }
}

/// The type for integers from `min` to `max`: the type in the file if it represents them, so that a series without scale
/// keeps its type; otherwise the smallest that does.
fn smallest_type(min: i32, max: i32, own: Option<VoxelType>) -> VoxelType {
    let holds = |voxel_type: &VoxelType| match voxel_type {
        VoxelType::Uint8 => min >= 0 && max <= i32::from(u8::MAX),
        VoxelType::Int8 => min >= i32::from(i8::MIN) && max <= i32::from(i8::MAX),
        VoxelType::Uint16 => min >= 0 && max <= i32::from(u16::MAX),
        VoxelType::Int16 => min >= i32::from(i16::MIN) && max <= i32::from(i16::MAX),
        VoxelType::Uint32 => min >= 0,
        _ => true,
    };
    let wider = [VoxelType::Int16, VoxelType::Uint16, VoxelType::Int32];
    own.into_iter().chain(wider).find(|voxel_type| holds(voxel_type)).unwrap_or(VoxelType::Int32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_of_the_file_is_kept_if_it_represents_the_values() {
        assert_eq!(smallest_type(0, 4000, Some(VoxelType::Uint16)), VoxelType::Uint16);
        assert_eq!(smallest_type(-1024, 3071, Some(VoxelType::Uint16)), VoxelType::Int16);
        assert_eq!(smallest_type(0, 40_000, Some(VoxelType::Int16)), VoxelType::Uint16);
        assert_eq!(smallest_type(-1, 40_000, None), VoxelType::Int32);
    }
}
