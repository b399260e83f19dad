use serde::Serialize;
use sulcus_volume::{Orientation, OrientationSource};

use crate::source::Source;
use crate::voxels::BLOCK;

/// The format of a volume's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum VolumeFormat {
    /// NIfTI-1, in one file or two.
    #[serde(rename = "nifti-1")]
    Nifti1,
    /// NIfTI-2, in one file or two.
    #[serde(rename = "nifti-2")]
    Nifti2,
    /// A DICOM series: a folder of slices, or one file of many frames.
    #[serde(rename = "dicom")]
    Dicom,
    /// NRRD, header and voxels in one file or two.
    #[serde(rename = "nrrd")]
    Nrrd,
    /// MetaImage, header and voxels in one file or two.
    #[serde(rename = "metaimage")]
    MetaImage,
}

/// What `sulcus info` says of a volume; its JSON is part of the command line's contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "volume")]
#[non_exhaustive]
pub struct VolumeInfo {
    /// The file's format; none for a volume that came from no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<VolumeFormat>,
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
    /// Describes a volume from its header and the statistics of its voxels.
    pub(crate) fn new(source: &Source, statistics: &Statistics) -> Self {
        let geometry = source.geometry();
        let unknown = geometry.source() == OrientationSource::None;
        let finite = |v: f64| v.is_finite().then_some(v);
        Self {
            format: source.format(),
            shape: source.file_shape().to_vec(),
            dtype: source.voxel_type().name(),
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
pub(crate) struct Statistics {
    min: f64,
    max: f64,
    sum: f64,
    finite: usize,
    non_finite: usize,
}

impl Statistics {
    pub(crate) const NOTHING: Self =
        Self { min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0, finite: 0, non_finite: 0 };

    /// Adds a block of at most [`BLOCK`] values. Sums of short blocks, added up, keep the rounding error small.
    pub(crate) fn add(&mut self, values: &[f64]) {
        if values.iter().fold(true, |all, v| all & v.is_finite()) {
            self.add_finite(values);
            return;
        }
        let mut kept = [0.0; BLOCK];
        let mut n = 0;
        for (slot, v) in kept.iter_mut().zip(values.iter().filter(|v| v.is_finite())) {
            *slot = *v;
            n += 1;
        }
        self.add_finite(kept.get(..n).unwrap_or_default());
        self.non_finite += values.len() - n;
    }

    /// Adds so many whole numbers by what they come to.
    pub(crate) fn add_whole(&mut self, min: f64, max: f64, sum: f64, count: usize) {
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        self.sum += sum;
        self.finite += count;
    }

    fn add_finite(&mut self, values: &[f64]) {
        // Side by side, as a processor can; more would not fit into its registers.
        const LANES: usize = 4;
        let (mut min, mut max, mut sum) = ([self.min; LANES], [self.max; LANES], [0.0; LANES]);
        let (groups, rest) = values.as_chunks::<LANES>();
        for group in groups {
            for (lane, &v) in group.iter().enumerate() {
                min[lane] = if v < min[lane] { v } else { min[lane] };
                max[lane] = if v > max[lane] { v } else { max[lane] };
                sum[lane] += v;
            }
        }
        for (lane, &v) in rest.iter().enumerate() {
            min[lane] = v.min(min[lane]);
            max[lane] = v.max(max[lane]);
            sum[lane] += v;
        }
        self.min = min.into_iter().fold(self.min, f64::min);
        self.max = max.into_iter().fold(self.max, f64::max);
        self.sum += sum.iter().sum::<f64>();
        self.finite += values.len();
    }
}
