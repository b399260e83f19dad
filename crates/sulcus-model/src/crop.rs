use serde::{Deserialize, Serialize};

/// What of a scan a model looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropRule {
    /// All of it.
    #[default]
    Whole,
    /// The bounding box of the voxels that are not 0 in every channel (nnU-Net's crop; Isensee et al. 2021). What lies
    /// outside is background.
    Nonzero,
}

impl CropRule {
    /// Whether the scan is not cropped.
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}
