use std::path::PathBuf;

use sulcus_onnx::OnnxError;

use crate::{CheckpointError, DeviceError};

/// Why a training can't start from trained weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// A file of another kind.
    #[error(
        "training cannot start from this file: expected a model (.onnx), a checkpoint (.ckpt), a run's folder, or \
         PyTorch weights (.pt, .pth, .safetensors): {path}", path = path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// A folder without a run.
    #[error("training cannot start from this folder: it holds no run of `sulcus train`: {path}", path = path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// A file that can't be opened or read.
    #[error("the weights to start from cannot be read: {source}: {path}", path = path.display())]
    Read {
        /// Why.
        source: std::io::Error,
        /// The file.
        path: PathBuf,
    },
    /// A model file that can't be used.
    #[error("the weights to start from cannot be read: {source}: {path}", path = path.display())]
    Model {
        /// Why.
        source: Box<OnnxError>,
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint that can't be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A machine without the device that checkpoints are read on.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Another file that can't be used.
    #[error("the weights to start from cannot be read; as a {what} it is broken or cut short: {reason}: {path}", path = path.display())]
    Broken {
        /// What it was read as.
        what: &'static str,
        /// What is wrong.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// Weights that are no numbers.
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
    /// Weights of quite another network.
    #[error(
        "training cannot start from these weights: no convolution of the network has its like among them. {example}: {path}",
        path = path.display()
    )]
    NothingFits {
        /// A tensor of each.
        example: String,
        /// The file.
        path: PathBuf,
    },
}
