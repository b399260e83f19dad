use sulcus_volume::Geometry;

use super::crop::Crop;
use super::grid_transform::GridTransform;

/// Maps logits from the preprocessed grid back to the scan's own grid. [`preprocess`](crate::preprocess) creates it;
/// [`stream`](InverseTransform::stream) and [`finish`](InverseTransform::finish) apply it.
#[derive(Debug)]
pub struct InverseTransform {
    /// The grid that was preprocessed: that of the scan, or of the box to which the scan was cropped.
    pub(crate) geometry: Geometry,
    pub(crate) transform: GridTransform,
    /// The position of `geometry` in the scan, if the scan was cropped.
    pub(crate) crop: Option<Crop>,
}

impl InverseTransform {
    pub(super) fn new(geometry: Geometry, transform: GridTransform) -> Self {
        Self { geometry, transform, crop: None }
    }

    pub(super) fn with_crop(self, crop: Crop) -> Self {
        Self { crop: Some(crop), ..self }
    }
}
