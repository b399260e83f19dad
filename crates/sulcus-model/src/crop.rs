use serde::{Deserialize, Serialize};

/// The part of a scan that a model sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropRule {
    /// The whole scan.
    #[default]
    Whole,
    /// The bounding box of the voxels that are not 0 in every channel (nnU-Net's crop; Isensee et al. 2021). Voxels
    /// outside the box are background.
    ///
    /// As in nnU-Net, no other value counts as empty, not even the constant padding of many CT data sets. That value depends on
    /// scanner and converter (-1024, -2000, -3024), so a box from the value of the training data would cut other scans
    /// differently or not at all. Without the crop such scans take more time, but get the same normalisation, because that of
    /// CT has fixed numbers.
    Nonzero,
}

impl CropRule {
    /// Whether the scan is not cropped.
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}
