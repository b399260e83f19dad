use std::path::{Path, PathBuf};

/// Selects one of the weights that a run keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Weights {
    /// The weights with the highest mean Dice on the validation cases; the last weights without validation.
    #[default]
    Best,
    /// The weights of the last step, or their average if weights are averaged.
    Last,
}

impl Weights {
    /// The checkpoint's file in a run's folder.
    pub(crate) fn file(self, folder: &Path) -> PathBuf {
        folder.join("checkpoints").join(match self {
            Self::Best => "best.ckpt",
            Self::Last => "last.ckpt",
        })
    }
}
