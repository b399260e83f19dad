use sulcus_volume::VolumeError;

use crate::PredictorError;

/// Why a scan could not be prepared, predicted, restored or scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A model's specification that cannot be used.
    #[error("this model cannot be used: {0}")]
    Spec(String),
    /// The scan has other channels than the model.
    #[error("the model expects {expected} channel(s) ({names}), the image has {found}")]
    Channels {
        /// Channels of the model.
        expected: usize,
        /// Their names.
        names: String,
        /// Channels of the image.
        found: usize,
    },
    /// Voxels that are NaN or infinite.
    #[error(
        "the image has {count} voxel(s) that are not finite numbers (NaN or infinity); \
         replace them before prediction or training, their meaning is unknown"
    )]
    NonFinite {
        /// How many.
        count: usize,
    },
    /// A number of values that is not the shape's.
    #[error("a tensor of shape {shape:?} cannot hold {found} values")]
    TensorLength {
        /// The shape.
        shape: Vec<usize>,
        /// Values given.
        found: usize,
    },
    /// A network's answer of another shape than expected.
    #[error(
        "the network answered with shape {found:?}, expected {expected:?}: the file's graph and its specification differ"
    )]
    AnswerShape {
        /// By the specification.
        expected: Vec<usize>,
        /// By the network.
        found: Vec<usize>,
    },
    /// A network whose answer is not a number.
    #[error("the network answered with NaN or infinity: its weights or its input are broken")]
    AnswerNotFinite,
    /// Models that cannot be averaged.
    #[error("these models cannot be averaged: {0}")]
    Ensemble(String),
    /// A label value that the table does not have.
    #[error("the mask has label value(s) {found:?}, which are not in the label table {known:?}")]
    UnknownLabels {
        /// Values in the mask.
        found: Vec<u16>,
        /// Values in the table.
        known: Vec<u16>,
    },
    /// More memory than there is.
    #[error("the prediction needs {values} values of 4 bytes at once, more than this machine can give")]
    Memory {
        /// Values.
        values: usize,
    },
    /// A limit that a prediction cannot keep.
    #[error(
        "the memory limit of {:.0} MB is too small for this scan: with this model it needs at least {:.0} MB; raise the \
         limit, or give a smaller scan",
        *limit as f64 / 1e6, (*least as f64 / 1e6).ceil()
    )]
    MemoryLimit {
        /// What may be used, in bytes.
        limit: u64,
        /// What is needed when as little as possible is held at a time, in bytes.
        least: u64,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
    /// A grid that cannot be used.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// An engine that failed.
    #[error(transparent)]
    Predictor(#[from] PredictorError),
}

impl PipelineError {
    pub(crate) fn no_model() -> Self {
        Self::Ensemble("there is no model".into())
    }
}
