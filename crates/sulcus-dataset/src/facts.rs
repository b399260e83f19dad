use std::collections::BTreeMap;

use sulcus_model::{CropRule, GridAxes};
use sulcus_volume::{GridUnit, Label, Orientation, Reorientation, Spacing};

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
    /// The unit of the voxel size.
    pub unit: GridUnit,
    /// Whether the image is a picture.
    pub picture: bool,
    /// Whether the image is a colour picture of 8 bits: red, green and blue.
    pub rgb: bool,
    /// The orientation of the file's axes.
    pub orientation: Orientation,
    /// The orientation closest to that of the acquisition.
    pub acquired: Orientation,
    /// The largest angle between an axis of the file and the nearest patient axis.
    pub obliquity_degrees: f64,
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
    /// The same facts in pixels: without the size of the voxels.
    pub fn in_pixels(&self) -> Self {
        let spacing = Spacing::new([1.0; 3]).unwrap_or(self.spacing);
        Self { spacing, unit: GridUnit::Pixel, ..self.clone() }
    }

    /// Shape and spacing along these axes.
    pub fn oriented(&self, axes: impl Into<GridAxes>) -> ([usize; 3], [f64; 3]) {
        let reorientation = self.reorientation(axes.into());
        (reorientation.shape(self.shape), reorientation.permute(self.spacing.mm()))
    }

    fn reorientation(&self, axes: GridAxes) -> Reorientation {
        Reorientation::between(self.orientation, axes.orientation(self.orientation, self.acquired))
    }

    /// As [`CaseFacts::oriented`], of the part of the scan that this crop rule keeps.
    pub fn cropped_and_oriented(&self, crop: CropRule, axes: impl Into<GridAxes>) -> ([usize; 3], [f64; 3]) {
        let axes = axes.into();
        let (shape, spacing) = self.oriented(axes);
        match crop {
            CropRule::Whole => (shape, spacing),
            CropRule::Nonzero => (self.reorientation(axes).shape(self.measures.crop_shape), spacing),
        }
    }

    /// Volume of a label in millilitres; `None` if the case does not have it, or is a picture, whose pixels have no volume.
    pub fn volume_ml(&self, value: Label) -> Option<f64> {
        let voxels = *self.label_voxels.get(&value)? as f64;
        (self.unit == GridUnit::Millimetre).then(|| voxels * self.spacing.mm().iter().product::<f64>() / 1000.0)
    }
}
