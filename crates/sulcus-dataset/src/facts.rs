use std::collections::BTreeMap;

use sulcus_model::CropRule;
use sulcus_volume::{Label, Orientation, Reorientation, Spacing};

use crate::measures::CaseMeasures;

/// What a survey measured of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseFacts {
    /// The case's name.
    pub name: String,
    /// Voxels along the axes of the file.
    pub shape: [usize; 3],
    /// Voxel size along the axes of the file.
    pub spacing: Spacing,
    /// The orientation of the file's axes.
    pub orientation: Orientation,
    /// Number of image channels.
    pub channels: usize,
    /// Minimum and maximum intensity over all channels.
    pub intensity: [f32; 2],
    /// Voxels per label, without the background.
    pub label_voxels: BTreeMap<Label, usize>,
    /// SHA-256 of the image and mask files, hexadecimal.
    pub sha256: String,
    /// Intensities and margins, from which a training is planned.
    pub measures: CaseMeasures,
}

impl CaseFacts {
    /// Shape and spacing along the axes of `orientation`.
    pub fn oriented(&self, orientation: Orientation) -> ([usize; 3], [f64; 3]) {
        let turn = Reorientation::between(self.orientation, orientation);
        (turn.shape(self.shape), turn.permute(self.spacing.mm()))
    }

    /// As [`CaseFacts::oriented`], of the part of the scan that this crop rule keeps.
    pub fn cropped_and_oriented(&self, crop: CropRule, orientation: Orientation) -> ([usize; 3], [f64; 3]) {
        let (shape, spacing) = self.oriented(orientation);
        match crop {
            CropRule::Whole => (shape, spacing),
            CropRule::Nonzero => {
                (Reorientation::between(self.orientation, orientation).shape(self.measures.crop_shape), spacing)
            }
        }
    }

    /// Volume of a label in millilitres; `None` if the case does not have it.
    pub fn volume_ml(&self, value: Label) -> Option<f64> {
        let voxels = *self.label_voxels.get(&value)? as f64;
        Some(voxels * self.spacing.mm().iter().product::<f64>() / 1000.0)
    }
}
