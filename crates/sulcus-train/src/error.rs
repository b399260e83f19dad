use std::path::PathBuf;

use sulcus_pipeline::PipelineError;

use crate::{CheckpointError, DeviceError, InitError, NetworkError, PrecisionError, Problem};

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A folder of none of the known forms.
    #[error(
        "this folder is no data set: expected `dataset.json` (Medical Segmentation Decathlon or nnU-Net) or \
         the folders `images` and `labels`: {root}", root = root.display()
    )]
    NotADataset {
        /// The folder.
        root: PathBuf,
    },
    /// A data set without cases.
    #[error("this data set has no case with an image and a mask: {root}", root = root.display())]
    Empty {
        /// The folder.
        root: PathBuf,
    },
    /// A description that cannot be used.
    #[error("this data set's description cannot be used: {what}: {file}", file = file.display())]
    Description {
        /// What is wrong.
        what: String,
        /// The file.
        file: PathBuf,
    },
    /// A folder that cannot be listed.
    #[error("a folder of the data set cannot be listed: {source}: {folder}", folder = folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Cases that cannot be trained on, all of them.
    #[error("the data set has {} problem(s):{}", .0.len(), list(.0))]
    Problems(Vec<Problem>),
    /// Splits that cannot be used.
    #[error("the cases cannot be split: {what}: {file}", file = file.display())]
    Split {
        /// What is wrong.
        what: String,
        /// The file of splits, or the data set.
        file: PathBuf,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("\n  {p}")).collect()
}

/// Why a training came to no end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A data set that cannot be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A setting that makes no sense.
    #[error("cannot train with this configuration: {0}")]
    Config(String),
    /// A plan whose parts don't fit each other or the data.
    #[error("the plan cannot be used: {0}")]
    Plan(String),
    /// A case that could be read before and cannot any more.
    #[error("case {0}")]
    Case(Problem),
    /// A stage that training shares with prediction.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A network that cannot be built.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A device that cannot be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A precision that the device can't train in.
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    /// A checkpoint that cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Trained weights that cannot be started from.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A file of the run that cannot be written or read.
    #[error("{what}: {file}", file = file.display())]
    File {
        /// What was being done and what came of it.
        what: String,
        /// The file.
        file: PathBuf,
    },
    /// A folder that is no run.
    #[error("this folder is no run of `sulcus train`: it has no run.json: {folder}", folder = folder.display())]
    NotARun {
        /// The folder.
        folder: PathBuf,
    },
    /// A run that would be overwritten.
    #[error(
        "this folder already holds a run; `--resume` continues it, another `-o` starts a new one: {folder}",
        folder = folder.display()
    )]
    RunExists {
        /// The folder.
        folder: PathBuf,
    },
    /// Data that is not what a run was begun with.
    #[error(
        "the run cannot be resumed: {cases:?} changed since it began; start a new run with another `-o`: {folder}",
        folder = folder.display()
    )]
    DataChanged {
        /// Names of the cases that changed or are gone.
        cases: Vec<String>,
        /// The run.
        folder: PathBuf,
    },
    /// A run whose data set is needed and is not there, or is another one.
    #[error(
        "the run's data set cannot be used: {what}: {folder}\nhint: `--data DIR` names the folder where the data set lies now, as it was when the run was trained",
        folder = folder.display()
    )]
    RunData {
        /// What is wrong.
        what: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A loss that is no number.
    #[error(
        "the loss became {loss} in epoch {epoch}, step {step}: the weights have diverged. Lower the learning rate \
         ({learning_rate:e} at this step). The checkpoints of the epoch before are kept: {folder}",
        folder = folder.display()
    )]
    Diverged {
        /// NaN or an infinity.
        loss: f64,
        /// In which epoch, from 1.
        epoch: usize,
        /// In which step of it, from 1.
        step: usize,
        /// The learning rate there.
        learning_rate: f64,
        /// The run.
        folder: PathBuf,
    },
    /// Gradients that half precision cannot hold.
    #[error(
        "gradients overflowed half precision in epoch {epoch}, step {step}, even without a scaled loss; train with \
         --precision bf16 or fp32. The checkpoints of the epoch before are kept: {folder}",
        folder = folder.display()
    )]
    Overflow {
        /// In which epoch, from 1.
        epoch: usize,
        /// In which step of it, from 1.
        step: usize,
        /// The run.
        folder: PathBuf,
    },
    /// A case that no patch can be drawn from.
    #[error("no patch could be drawn from case {case}: {what}")]
    Sample {
        /// Its name.
        case: String,
        /// What is wrong with it.
        what: String,
    },
    /// A loader thread that died or could not be started.
    #[error("a thread that draws training patches failed: {0}")]
    Worker(std::io::Error),
    /// Devices that can't average what they have.
    #[error(
        "the devices could not average their gradients: {0}; several CUDA devices need NVIDIA's NCCL library (libnccl) \
         beside the driver, a single device needs none"
    )]
    Exchange(String),
    /// A device that gave no answer.
    #[error("the device could not be read: {0}")]
    Tensor(String),
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
