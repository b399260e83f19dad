use sulcus_volume::Geometry;

use super::crop::Crop;
use super::grid_transform::GridTransform;

/// Leads from the preprocessed array back to the scan's own grid. [`preprocess`](crate::preprocess) makes it;
/// [`stream`](InverseTransform::stream) and [`finish`](InverseTransform::finish) apply it to logits.
#[derive(Debug)]
pub struct InverseTransform {
    /// The grid that was preprocessed: the scan's, or the box that was cut out of it.
    pub(crate) geometry: Geometry,
    pub(crate) transform: GridTransform,
    /// Where `geometry` lies in the scan, if the scan was cropped.
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
