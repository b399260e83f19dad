use sulcus_model::SpecError;
use sulcus_volume::VolumeError;

use crate::{Resampling, ScanWarning};

/// Why a scan could not be preprocessed, predicted or postprocessed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// A model specification that cannot be used.
    #[error(transparent)]
    Spec(Box<SpecError>),
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
         replace them before prediction or training, because their meaning is unknown"
    )]
    NonFinite {
        /// Number of such voxels.
        count: usize,
    },
    /// A scan on which the model is unreliable.
    #[error("the scan is not plausible: {}", reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Implausible {
        /// What is wrong with it.
        reasons: Vec<ScanWarning>,
    },
    /// The number of values is not the product of the shape.
    #[error("a tensor of shape {shape:?} cannot have {found} values")]
    TensorLength {
        /// The shape.
        shape: Vec<usize>,
        /// Number of values.
        found: usize,
    },
    /// A network's output has another shape than the specification says.
    #[error(
        "the network returned shape {found:?}, expected {expected:?}: the file's graph and its specification differ"
    )]
    AnswerShape {
        /// The shape according to the specification.
        expected: Vec<usize>,
        /// The shape that the network returned.
        found: Vec<usize>,
    },
    /// A network's output contains NaN or infinity.
    #[error("the network returned NaN or infinity: its weights or its input are invalid")]
    AnswerNotFinite,
    /// Logits that half precision cannot express.
    #[error(
        "the logits exceed the range of half precision, in which nnU-Net computes; predict without `exact`, in single precision"
    )]
    HalfPrecisionRange,
    /// A model that cannot be computed as nnU-Net computes.
    #[error(
        "`{model}` was not imported from nnU-Net, so there is no nnU-Net computation to repeat; predict without `exact`"
    )]
    NotFromNnunet {
        /// Name of the model.
        model: String,
    },
    /// nnU-Net's own numerics in a program that was built without them.
    #[error("this program was built without nnU-Net's own numerics (feature `exact` of sulcus-pipeline)")]
    WithoutExact,
    /// A model whose previous network has not segmented the scan, or a mask for a model that needs none.
    #[error("{}", match needs {
        Some(name) => format!("`{model}` needs the mask of its previous network `{name}`, and there is none"),
        None => format!("there is a mask of a previous network, but `{model}` has none"),
    })]
    PreviousMask {
        /// Name of the model.
        model: String,
        /// Name of its previous network.
        needs: Option<String>,
    },
    /// Models that cannot be averaged.
    #[error("these models cannot be averaged: {0}")]
    Ensemble(String),
    /// Plane-by-plane prediction of a scan that was cropped during preprocessing.
    #[error(
        "a scan that was cropped during preprocessing cannot be predicted plane by plane: crop it with `Crop` first"
    )]
    CroppedStream,
    /// A label value that the table does not have.
    #[error("the mask has label value(s) {found:?}, which are not in the label table {known:?}")]
    UnknownLabels {
        /// Values in the mask.
        found: Vec<u16>,
        /// Values in the table.
        known: Vec<u16>,
    },
    /// An allocation failed.
    #[error("the prediction needs {values} values of 4 bytes at once, more than this machine can allocate")]
    Memory {
        /// Values.
        values: usize,
    },
    /// A memory limit that a prediction cannot keep.
    #[error(
        "the memory limit of {:.0} MB is too small for this scan: with this model it needs at least {:.0} MB{}",
        *limit as f64 / 1e6, (*required as f64 / 1e6).ceil(), memory_advice(resampling.as_deref())
    )]
    MemoryLimit {
        /// The limit, in bytes.
        limit: u64,
        /// The memory for the smallest chunks, in bytes.
        required: u64,
        /// The resampling that takes most of it; `None` if no model makes more voxels of the scan than it has.
        resampling: Option<Box<Resampling>>,
    },
    /// A scan that is larger than any, before or after it is resampled to the network's voxel size.
    #[error("{}", too_large(*shape, resampling.as_deref(), *max_edge))]
    GridTooLarge {
        /// Voxels along x, y, z in the model's orientation.
        shape: [usize; 3],
        /// The resampling that makes them; `None` if the scan has them itself.
        resampling: Option<Box<Resampling>>,
        /// The longest edge that can be processed.
        max_edge: usize,
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

fn memory_advice(resampling: Option<&Resampling>) -> String {
    match resampling {
        None => "; raise the limit, or give a smaller scan".into(),
        Some(resampling) => format!(
            ", because {resampling}; if the voxel size in the scan's header is wrong, correct it, otherwise raise the limit, or give a \
             smaller scan"
        ),
    }
}

fn too_large(shape: [usize; 3], resampling: Option<&Resampling>, max_edge: usize) -> String {
    match resampling {
        None => format!(
            "the scan has {} voxels, more than {max_edge} along an axis; the shape in its header is probably wrong: get the file again",
            shape.map(|n| n.to_string()).join(" × ")
        ),
        Some(resampling) => format!(
            "{resampling}, more than can be processed ({max_edge} along an axis, 2^40 in all); the voxel size in the scan's header is \
             probably wrong: correct it"
        ),
    }
}

impl From<SpecError> for PipelineError {
    fn from(error: SpecError) -> Self {
        Self::Spec(Box::new(error))
    }
}

impl PipelineError {
    /// Whether the cause is the scan: another scan could be segmented with the same models and settings. Memory is not part of
    /// this, as a larger limit helps too.
    pub fn is_about_scan(&self) -> bool {
        match self {
            Self::Channels { .. }
            | Self::NonFinite { .. }
            | Self::Implausible { .. }
            | Self::GridTooLarge { .. }
            | Self::Volume(_) => true,
            Self::Spec(_)
            | Self::TensorLength { .. }
            | Self::AnswerShape { .. }
            | Self::AnswerNotFinite
            | Self::HalfPrecisionRange
            | Self::NotFromNnunet { .. }
            | Self::WithoutExact
            | Self::Ensemble(_)
            | Self::PreviousMask { .. }
            | Self::CroppedStream
            | Self::UnknownLabels { .. }
            | Self::Memory { .. }
            | Self::MemoryLimit { .. }
            | Self::Cancelled
            | Self::Predictor(_) => false,
        }
    }

    /// Why the scan is not plausible; empty for other errors.
    pub fn scan_warnings(&self) -> &[ScanWarning] {
        match self {
            Self::Implausible { reasons } => reasons,
            _ => &[],
        }
    }

    pub(crate) fn no_model() -> Self {
        Self::Ensemble("there is no model".into())
    }
}

/// An engine that failed to run a network.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the {engine} engine could not run the network: {message}")]
pub struct PredictorError {
    /// The engine.
    pub engine: &'static str,
    /// Its message.
    pub message: String,
}
