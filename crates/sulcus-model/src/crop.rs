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
    Nonzero,
}

impl CropRule {
    /// Whether the scan is not cropped.
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}
