use std::path::PathBuf;

use sulcus_onnx::OnnxError;

use crate::run::checkpoint_error::CheckpointError;

/// Why a training cannot start from pretrained weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The file has an unknown format.
    #[error(
        "training cannot start from this file: expected a model (.onnx), a checkpoint (.ckpt), a run's folder, or \
         PyTorch weights (.pt, .pth, .safetensors): {path}", path = path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// The folder holds no run.
    #[error("training cannot start from this folder: it contains no training run: {path}", path = path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("the weights to start from cannot be read: {source}: {path}", path = path.display())]
    Read {
        /// The cause.
        source: std::io::Error,
        /// The file.
        path: PathBuf,
    },
    /// The model file is invalid.
    #[error("the weights to start from cannot be read: {source}: {path}", path = path.display())]
    Model {
        /// The cause.
        source: Box<OnnxError>,
        /// The file.
        path: PathBuf,
    },
    /// The checkpoint is invalid.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file is damaged.
    #[error("the weights to start from cannot be read; as a {what} it is broken or cut short: {reason}: {path}", path = path.display())]
    Broken {
        /// The format in which it was read.
        what: &'static str,
        /// What is wrong.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// Weights are not finite.
    #[error(
        "training cannot start from these weights: `{tensor}` holds {value}, so their training had diverged: {path}",
        path = path.display()
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// NaN or an infinity.
        value: f32,
        /// The file.
        path: PathBuf,
    },
    /// The weights belong to a different network.
    #[error(
        "training cannot start from these weights: no convolution of the network has a counterpart with the same name and shape. {example}: {path}",
        path = path.display()
    )]
    NothingFits {
        /// One tensor of the file and one of the network.
        example: String,
        /// The file.
        path: PathBuf,
    },
}
