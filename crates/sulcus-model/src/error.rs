use sulcus_volume::VolumeError;

/// A model specification that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A part is missing or unknown, or parts contradict each other.
    #[error("this model cannot be used: {0}")]
    Invalid(String),
    /// A pack where one model is needed.
    #[error("this file is a pack, several networks with a recipe; only a model with one network can be used here")]
    Pack,
    /// Its golden case has an invalid voxel grid.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}
