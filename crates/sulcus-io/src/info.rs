use serde::Serialize;
use sulcus_volume::{Orientation, OrientationSource};

use crate::header::NiftiHeader;
use crate::voxels::{EXACT_VALUES, Scale, Stored, VoxelType, with_stored};

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
            // Sums of short blocks, added up, keep the rounding error small. A multiple of every type's size.
            let block_bytes = EXACT_VALUES / 2 * size_of::<T>();
            bytes.chunks(block_bytes).fold(Statistics::NOTHING, |all, block| {
                let values = T::values::<BIG>(block);
                all.and(match T::measure(values.clone()) {
                    Some(exact) => Statistics::of_whole_numbers(exact, values.len(), scale),
                    None => Statistics::of_block(values.map(T::to_f64), scale),
                })
            })
        }
        with_stored!(voxel_type, big, run(bytes, scale))
    }

    /// From the smallest, the largest and the sum of `n` whole numbers. Scaling is monotonic, rounding included, so the
    /// extremes stay the extremes.
    fn of_whole_numbers([min, max, sum]: [f64; 3], n: usize, scale: Option<Scale>) -> Self {
        let Some(scale) = scale else { return Self { min, max, sum, finite: n, non_finite: 0 } };
        let (a, b) = (scale.apply(min), scale.apply(max));
        let sum = scale.slope * sum + scale.intercept * n as f64;
        Self { min: a.min(b), max: a.max(b), sum, finite: n, non_finite: 0 }
    }

    /// Value by value, in lanes that the processor adds side by side.
    fn of_block(values: impl ExactSizeIterator<Item = f64>, scale: Option<Scale>) -> Self {
        const LANES: usize = 8;
        let Scale { slope, intercept } = scale.unwrap_or(Scale { slope: 1.0, intercept: 0.0 });
        let mut block = [f64::NAN; EXACT_VALUES / 2];
        let n = values.len();
        block
            .iter_mut()
            .zip(values)
            .for_each(|(slot, v)| *slot = if scale.is_some() { v * slope + intercept } else { v });
        let (mut min, mut max) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        let (mut sum, mut finite) = ([0.0; LANES], [0_u64; LANES]);
        // The slots beyond the last value are NaN, which is skipped like any other.
        let (groups, _) = block.as_chunks::<LANES>();
        for group in groups.iter().take(n.div_ceil(LANES)) {
            for (lane, &v) in group.iter().enumerate() {
                let ok = v.abs() < f64::INFINITY;
                min[lane] = if ok & (v < min[lane]) { v } else { min[lane] };
                max[lane] = if ok & (v > max[lane]) { v } else { max[lane] };
                sum[lane] += if ok { v } else { 0.0 };
                finite[lane] += u64::from(ok);
            }
        }
        let finite = finite.iter().sum::<u64>() as usize;
        Self {
            min: min.into_iter().fold(f64::INFINITY, f64::min),
            max: max.into_iter().fold(f64::NEG_INFINITY, f64::max),
            sum: sum.iter().sum(),
            finite,
            non_finite: n - finite,
        }
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
