use serde::Serialize;
use sulcus_volume::{GridUnit, Orientation, OrientationSource};

use crate::metadata::{VolumeFormat, VolumeMetadata};
use crate::voxels::Statistics;

/// A description of a volume. Its JSON form is part of the contract of the command line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "volume")]
#[non_exhaustive]
pub struct VolumeInfo {
    /// The file format; `None` for a volume that was not read from a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<VolumeFormat>,
    /// The shape in the file: x, y, z, and further axes if the file has them.
    pub shape: Vec<usize>,
    /// NumPy's name of the stored type.
    pub dtype: &'static str,
    /// The distance between neighbouring voxels along x, y and z, in millimetres; `None` for a picture that does not state the size
    /// of its pixels. A single picture has no depth: its third size is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spacing_mm: Option<[f64; 3]>,
    /// The orientation code, as nibabel's `aff2axcodes`.
    pub orientation: Orientation,
    /// The 4×4 transform from voxel indices to RAS+ millimetres.
    pub ras_from_voxel: [[f64; 4]; 4],
    /// The smallest finite value, after slope and intercept; `None` when no value is finite.
    pub min: Option<f64>,
    /// The largest finite value.
    pub max: Option<f64>,
    /// The mean of the finite values, in double precision.
    pub mean: Option<f64>,
    /// The number of values that are NaN or infinite; the statistics exclude them.
    pub non_finite: usize,
    /// Set to [`OrientationSource::None`] only when the file does not state the position in the patient: left and right
    /// are then a guess. [`OrientationSource::Picture`] for a picture, which has no position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orientation_source: Option<OrientationSource>,
    /// The angle between the slice normal and the nearest axis of the patient, in degrees. Set only above 30: slices that
    /// oblique are neither axial, coronal nor sagittal, and the orientation code describes them poorly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slice_obliquity_degrees: Option<f64>,
}

/// The angle above which the obliquity of slices is reported.
const MAX_UNREPORTED_DEGREES: f64 = 30.0;

impl VolumeInfo {
    pub(crate) fn new(metadata: &VolumeMetadata, statistics: &Statistics) -> Self {
        let geometry = metadata.geometry();
        let source = geometry.source();
        let without_position = matches!(source, OrientationSource::None | OrientationSource::Picture);
        let obliquity = (geometry.slice_obliquity_degrees() * 100.0).round() / 100.0;
        let finite = |v: f64| v.is_finite().then_some(v);
        Self {
            format: metadata.format(),
            shape: metadata.file_shape().to_vec(),
            dtype: metadata.voxel_type().name(),
            spacing_mm: (geometry.unit() != GridUnit::Pixel).then(|| geometry.spacing().mm()),
            orientation: geometry.orientation(),
            ras_from_voxel: geometry.ras_from_voxel().matrix(),
            min: finite(statistics.min),
            max: finite(statistics.max),
            mean: finite(statistics.sum / statistics.finite as f64),
            non_finite: statistics.non_finite,
            orientation_source: without_position.then_some(source),
            slice_obliquity_degrees: Some(obliquity).filter(|degrees| *degrees > MAX_UNREPORTED_DEGREES),
        }
    }
}
