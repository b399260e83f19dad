use std::path::PathBuf;

use sulcus_onnx::OnnxError;

use crate::checkpoint::CheckpointError;
use crate::plans::PlansError;
use crate::task_error::TaskError;

/// Why a model of nnU-Net cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file cannot be read.
    #[error("cannot read a file of the nnU-Net model: {source}: {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The folder or archive does not hold exactly one model.
    #[error("cannot import this as a model of nnU-Net: {reason}: {}", path.display())]
    Layout {
        /// What it lacks.
        reason: String,
        /// The folder or archive.
        path: PathBuf,
    },
    /// `plans.json` or `dataset.json` cannot be used.
    #[error("cannot import the nnU-Net model: {source}: {}", path.display())]
    Plans {
        /// The cause.
        source: PlansError,
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint cannot be used.
    #[error("cannot import the nnU-Net model: {source}: {}", path.display())]
    Checkpoint {
        /// The cause.
        source: CheckpointError,
        /// The checkpoint.
        path: PathBuf,
    },
    /// A task of TotalSegmentator cannot be imported.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The model file cannot be made.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
}
