use std::path::PathBuf;

use sulcus_dataset::{DatasetError, Finding};
use sulcus_pipeline::{PipelineError, Resampling};
use sulcus_plan::PlanError;

use crate::export::onnx::ExportError;
use crate::network::NetworkError;
use crate::run::checkpoint_error::CheckpointError;
use crate::run::init::InitError;
use crate::step::device::DeviceError;
use crate::step::precision::PrecisionError;

/// Why an observer refuses a model before the first step.
pub type PreflightError = Box<dyn std::error::Error + Send + Sync>;

/// Why a training failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The data set cannot be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The configuration or the plan cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A setting does not fit the data, the devices or the run.
    #[error("cannot train with this configuration: {0}")]
    Config(String),
    /// A case cannot be read.
    #[error("case {0}")]
    Case(#[source] Finding),
    /// A case needs more memory than the training may use.
    #[error(
        "case {case} needs about {:.0} MB of memory {stage}, but the limit is {:.0} MB{}; the {} in its header may be wrong",
        (*required as f64 / 1e6).ceil(), *limit as f64 / 1e6,
        resampling.as_ref().map(|resampling| format!(": {resampling}")).unwrap_or_default(),
        if resampling.is_some() { "voxel size" } else { "shape" }
    )]
    CaseMemory {
        /// The case's name.
        case: String,
        /// What needs the memory.
        stage: CaseStage,
        /// The estimate, in bytes.
        required: u64,
        /// What may be used, in bytes.
        limit: u64,
        /// The resampling that takes most of it; `None` if there is none, or it makes no more voxels.
        resampling: Option<Box<Resampling>>,
    },
    /// A case would be larger than any when it is resampled.
    #[error("case {case}")]
    CaseGrid {
        /// The case's name.
        case: String,
        /// How large it would be.
        source: Box<PipelineError>,
    },
    /// A stage that training shares with prediction failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The network cannot be built.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A device does not train in the precision.
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The pretrained weights cannot be used.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The network cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The model could not be used after the training.
    #[error("the pre-flight check failed before the first step, so no training time was spent")]
    Preflight {
        /// What failed.
        source: PreflightError,
    },
    /// A file of the run cannot be written or read.
    #[error("{what}: {file}", file = file.display())]
    File {
        /// What was attempted, and why it failed.
        what: String,
        /// The file.
        file: PathBuf,
    },
    /// The folder is not a run.
    #[error("this folder is not a training run: it has no run.json: {folder}", folder = folder.display())]
    NotARun {
        /// The folder.
        folder: PathBuf,
    },
    /// A run would be overwritten.
    #[error("this folder already holds a run: {folder}", folder = folder.display())]
    RunExists {
        /// The folder.
        folder: PathBuf,
    },
    /// The data changed since the run began.
    #[error("the run cannot be resumed: {cases:?} changed since it began: {folder}", folder = folder.display())]
    DataChanged {
        /// Names of the cases that changed or are missing.
        cases: Vec<String>,
        /// The run.
        folder: PathBuf,
    },
    /// The data set of a run is missing, or is another one.
    #[error("the run's data set cannot be used: {what}: {folder}", folder = folder.display())]
    RunData {
        /// What is wrong.
        what: String,
        /// The folder in which it was expected.
        folder: PathBuf,
    },
    /// A fold of a cross-validation is not finished.
    #[error("fold {fold} is not finished: {folder}", folder = folder.display())]
    FoldNotFinished {
        /// The fold, from 0.
        fold: usize,
        /// The fold's run.
        folder: PathBuf,
    },
    /// The folder is not a cross-validation.
    #[error("this folder holds no cross-validation: it lacks this file: {file}", file = file.display())]
    NotACrossValidation {
        /// The missing file.
        file: PathBuf,
    },
    /// The loss is not finite.
    #[error(
        "the loss became {loss} in epoch {epoch}, step {step}: the weights have diverged. Lower the learning rate \
         ({learning_rate:e} at this step). The checkpoints of the epoch before are kept: {folder}",
        folder = folder.display()
    )]
    Diverged {
        /// NaN or an infinity.
        loss: f64,
        /// The epoch, from 1.
        epoch: usize,
        /// The step in the epoch, from 1.
        step: usize,
        /// The learning rate of the step.
        learning_rate: f64,
        /// The run.
        folder: PathBuf,
    },
    /// Gradients overflowed half precision.
    #[error(
        "gradients overflowed half precision in epoch {epoch}, step {step}, even without a scaled loss; train in bf16 or \
         fp32. The checkpoints of the epoch before are kept: {folder}",
        folder = folder.display()
    )]
    Overflow {
        /// The epoch, from 1.
        epoch: usize,
        /// The step in the epoch, from 1.
        step: usize,
        /// The run.
        folder: PathBuf,
    },
    /// No patch can be drawn from a case.
    #[error("no patch could be drawn from case {case}: {what}")]
    Sample {
        /// The case's name.
        case: String,
        /// What is wrong with it.
        what: String,
    },
    /// A worker thread panicked or could not be started.
    #[error("a thread that draws training patches failed: {0}")]
    Worker(std::io::Error),
    /// Devices cannot average their gradients.
    #[error(
        "the devices could not average their gradients: {0}; several CUDA devices need NVIDIA's NCCL library (libnccl) \
         beside the driver, a single device needs none"
    )]
    Exchange(String),
    /// A device failed.
    #[error("the device could not be read: {0}")]
    Tensor(String),
}

/// What needs the memory of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaseStage {
    /// Reading image and mask.
    Read,
    /// Bringing them onto the network's grid.
    Prepare,
}

impl std::fmt::Display for CaseStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "to be read",
            Self::Prepare => "to be resampled to the network's voxel size",
        })
    }
}

impl From<sulcus_model::SpecError> for TrainError {
    fn from(error: sulcus_model::SpecError) -> Self {
        Self::Pipeline(error.into())
    }
}

impl From<sulcus_volume::VolumeError> for TrainError {
    fn from(error: sulcus_volume::VolumeError) -> Self {
        Self::Pipeline(error.into())
    }
}
