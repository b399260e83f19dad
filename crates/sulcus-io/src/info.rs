use serde::Serialize;
use sulcus_volume::{Orientation, OrientationSource};

use crate::header::NiftiHeader;
use crate::voxels::{Scale, Stored, VoxelType, with_stored};

/// The format of a volume's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum VolumeFormat {
    /// NIfTI-1, in one file or two.
    #[serde(rename = "nifti-1")]
    Nifti1,
}

/// What `sulcus info` says of a volume; its JSON is part of the command line's contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "volume")]
#[non_exhaustive]
pub struct VolumeInfo {
    /// The file's format.
    pub format: VolumeFormat,
    /// Axis lengths in file order: x, y, z, and the fourth where the file has one.
    pub shape: Vec<usize>,
    /// NumPy's name of the stored type.
    pub dtype: &'static str,
    /// Distance of neighbouring voxels along x, y and z, in millimetres.
    pub spacing_mm: [f64; 3],
    /// nibabel's `aff2axcodes`.
    pub orientation: Orientation,
    /// The 4×4 map from voxel indices to RAS+ millimetres.
    pub ras_from_voxel: [[f64; 4]; 4],
    /// The smallest finite value, after slope and intercept; none when no value is finite.
    pub min: Option<f64>,
    /// The largest finite value.
    pub max: Option<f64>,
    /// The mean of the finite values, in double precision.
    pub mean: Option<f64>,
    /// How many values are NaN or infinite; they are left out of the statistics.
    pub non_finite: usize,
    /// Only set, to [`OrientationSource::None`], when the file doesn't say how the volume lies in the patient: left
    /// and right are then a guess.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orientation_source: Option<OrientationSource>,
}

impl VolumeInfo {
    /// Describes a volume from its header and stored voxels.
    pub(crate) fn new(header: &NiftiHeader, voxels: &[u8]) -> Self {
        let geometry = header.geometry();
        let statistics = Statistics::of(voxels, header.voxel_type(), header.is_big_endian(), header.scale());
        let unknown = geometry.source() == OrientationSource::None;
        let finite = |v: f64| v.is_finite().then_some(v);
        Self {
            format: VolumeFormat::Nifti1,
            shape: header.file_shape(),
            dtype: header.voxel_type().name(),
            spacing_mm: geometry.spacing().mm(),
            orientation: geometry.orientation(),
            ras_from_voxel: geometry.ras_from_voxel().matrix(),
            min: finite(statistics.min),
            max: finite(statistics.max),
            mean: finite(statistics.sum / statistics.finite as f64),
            non_finite: statistics.non_finite,
            orientation_source: unknown.then_some(OrientationSource::None),
        }
    }
}

/// Over the finite values, after slope and intercept.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Statistics {
    min: f64,
    max: f64,
    sum: f64,
    finite: usize,
    non_finite: usize,
}

impl Statistics {
    const NOTHING: Self = Self { min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0, finite: 0, non_finite: 0 };

    fn of(bytes: &[u8], voxel_type: VoxelType, big: bool, scale: Option<Scale>) -> Self {
        fn run<T: Stored, const BIG: bool>(bytes: &[u8], scale: Option<Scale>) -> Statistics {
            // Sums of short blocks, added up, keep the rounding error small.
            const BLOCK_BYTES: usize = 1 << 13;
            bytes.chunks(BLOCK_BYTES).fold(Statistics::NOTHING, |all, block| {
                let values = T::values::<BIG>(block).map(T::to_f64);
                all.and(match scale {
                    None => Statistics::of_block(values),
                    Some(scale) => Statistics::of_block(values.map(|v| scale.apply(v))),
                })
            })
        }
        with_stored!(voxel_type, big, run(bytes, scale))
    }

    fn of_block(values: impl Iterator<Item = f64>) -> Self {
        values.fold(Self::NOTHING, |all, v| {
            let finite = v.is_finite();
            Self {
                min: if finite && v < all.min { v } else { all.min },
                max: if finite && v > all.max { v } else { all.max },
                sum: all.sum + if finite { v } else { 0.0 },
                finite: all.finite + usize::from(finite),
                non_finite: all.non_finite + usize::from(!finite),
            }
        })
    }

    fn and(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            sum: self.sum + other.sum,
            finite: self.finite + other.finite,
            non_finite: self.non_finite + other.non_finite,
        }
    }
}
