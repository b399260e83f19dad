//! A series in whole numbers, where its values are such: programs that copy values need not make fractions of them.

use std::path::Path;

use super::folder::Files;
use super::instance::{Frame, PixelKind};
use super::series::{Applied, Plan};
use crate::error::IoError;
use crate::info::VolumeFormat;
use crate::source::{Origin, Source};
use crate::stored::StoredVolume;
use crate::voxels::{self, VoxelType};

/// Reads a series as [`read_series`](super::read_series) does, in whole numbers where it can be: values that are whole
/// after slope and intercept as such, others as stored with the slope and intercept that all slices share. What is left,
/// fractions that each slice scales in its own way, is float32. The second value is what the reader decided, for people.
///
/// # Errors
/// As [`read_series`](super::read_series).
pub fn read_series_stored(
    folder: &Path,
    uid: Option<&str>,
) -> Result<(StoredVolume<'static>, Vec<String>), IoError> {
    let files = Files::At(folder);
    let plan = Plan::new(files, uid)?;
    if let Some(scale) = Scaling::of(&plan)
        && let Some(volume) = whole(files, &plan, scale)?
    {
        return Ok((volume, plan.notes));
    }
    let scan = plan.read(files)?;
    let values: Vec<u8> = scan.image.data().iter().flat_map(|v| v.to_le_bytes()).collect();
    let source = series_source(scan.series, VoxelType::Float32);
    Ok((StoredVolume::new(source, values)?, scan.notes))
}

fn series_source(series: super::Series, voxel_type: VoxelType) -> Source {
    Source::new(VolumeFormat::Dicom, series.geometry, voxel_type).with_origin(Origin::Dicom(Box::new(series)))
}

/// What slope and intercept do to whole pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    /// Whole numbers come out, whatever each slice's are.
    Whole {
        /// Slope and intercept, where all slices have these and the pixels are of this type.
        shared: Option<(f64, f64, VoxelType)>,
    },
    /// The same fractions everywhere.
    Shared { slope: f64, intercept: f64, voxel_type: VoxelType },
}

impl Scaling {
    /// `None` where there is nothing whole to be kept.
    fn of(plan: &Plan) -> Option<Self> {
        let slices: Vec<(&Frame, PixelKind)> = plan.frames().collect();
        if slices.iter().any(|(_, kind)| !matches!(kind, PixelKind::Integer { .. })) {
            return None;
        }
        let (first, kind) = slices.first()?;
        let (slope, intercept, voxel_type) = (first.slope, first.intercept, kind.voxel_type());
        let alike = slices.iter().all(|(frame, other)| {
            frame.slope == slope && frame.intercept == intercept && other.voxel_type() == voxel_type
        });
        let shared = Some((slope, intercept, voxel_type)).filter(|_| alike);
        if slices.iter().all(|(frame, _)| frame.slope.fract() == 0.0 && frame.intercept.fract() == 0.0) {
            return Some(Self::Whole { shared });
        }
        shared.map(|(slope, intercept, voxel_type)| Self::Shared { slope, intercept, voxel_type })
    }
}

/// The volume in whole numbers, or `None` where they need more than 32 bits with a sign.
fn whole(files: Files<'_>, plan: &Plan, scaling: Scaling) -> Result<Option<StoredVolume<'static>>, IoError> {
    let mut values: Vec<i32> =
        voxels::reserve(plan.series.geometry.voxels()).map_err(|problem| files.refuse(problem))?;
    let mut fits = true;
    let applied = match scaling {
        Scaling::Whole { .. } => Applied::Scaled,
        Scaling::Shared { .. } => Applied::Stored,
    };
    plan.each_slice(files, applied, &mut |slice| {
        fits &= slice.iter().all(|v| (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(v));
        // Casts from floats saturate; then `fits` says so.
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
        StoredVolume::new(series_source(plan.series.clone(), voxel_type), bytes)
    };
    match scaling {
        Scaling::Shared { slope, intercept, voxel_type } => {
            volume(voxel_type, &values)?.scaled(slope, intercept).map(Some)
        }
        Scaling::Whole { shared } => {
            let least = values.iter().copied().min().unwrap_or_default();
            let most = values.iter().copied().max().unwrap_or_default();
            let narrow = narrowest(least, most, shared.map(|(.., voxel_type)| voxel_type));
            match shared {
                // Wider numbers than the file's are not worth what slope and intercept say in a line.
                Some((slope, intercept, voxel_type)) if narrow.bytes() > voxel_type.bytes() => {
                    // Whole numbers below 2^53: the way back is exact.
                    values.iter_mut().for_each(|v| *v = ((f64::from(*v) - intercept) / slope) as i32);
                    volume(voxel_type, &values)?.scaled(slope, intercept).map(Some)
                }
                _ => volume(narrow, &values).map(Some),
            }
        }
    }
}

/// The type for whole values from `least` to `most`: the file's own where it holds them, so that a scan without slope
/// keeps its type, else the first that does.
fn narrowest(least: i32, most: i32, own: Option<VoxelType>) -> VoxelType {
    let holds = |voxel_type: &VoxelType| match voxel_type {
        VoxelType::Uint8 => least >= 0 && most <= i32::from(u8::MAX),
        VoxelType::Int8 => least >= i32::from(i8::MIN) && most <= i32::from(i8::MAX),
        VoxelType::Uint16 => least >= 0 && most <= i32::from(u16::MAX),
        VoxelType::Int16 => least >= i32::from(i16::MIN) && most <= i32::from(i16::MAX),
        VoxelType::Uint32 => least >= 0,
        _ => true,
    };
    let wider = [VoxelType::Int16, VoxelType::Uint16, VoxelType::Int32];
    own.into_iter().chain(wider).find(|voxel_type| holds(voxel_type)).unwrap_or(VoxelType::Int32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_own_type_stays_where_it_holds_the_values() {
        assert_eq!(narrowest(0, 4000, Some(VoxelType::Uint16)), VoxelType::Uint16);
        assert_eq!(narrowest(-1024, 3071, Some(VoxelType::Uint16)), VoxelType::Int16);
        assert_eq!(narrowest(0, 40_000, Some(VoxelType::Int16)), VoxelType::Uint16);
        assert_eq!(narrowest(-1, 40_000, None), VoxelType::Int32);
    }
}
