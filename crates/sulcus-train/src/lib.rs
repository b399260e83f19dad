//! Trains U-Nets on scans with masks, and exports them.
//!
//! [`Dataset`] reads a folder and checks it, [`TrainConfig`] says how to train, [`train`] does it and leaves a
//! [`Run`] behind. Volumes are prepared by the code that inference uses, in `sulcus-pipeline`, so a network never
//! meets scans that were treated differently from those it learnt on.

mod augment;
mod cache;
mod checkpoint;
mod checks;
mod compare;
mod config;
mod cross_validation;
mod curves;
mod dataset;
mod description;
mod device;
mod device_list;
mod error;
mod export;
mod folders;
mod golden_choice;
mod history;
mod init;
mod layout;
mod learner;
mod loader;
mod loss;
mod manifest;
mod network;
mod optimise;
mod outliers;
mod parallel;
mod plan;
mod precision;
mod preflight;
mod regions;
mod run;
mod run_data;
mod sampler;
mod samples;
mod score;
mod setup;
mod split;
mod summary;
mod survey;
mod trainer;

pub use augment::{Augmentation, Chance, Flips, MirrorAxes};
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointParts};
pub use config::{Optimiser, Schedule, SpacingChoice, TrainConfig};
pub use cross_validation::{CrossManifest, CrossScores, CrossValidation, FoldRecord, FoldResult};
pub use dataset::{Case, Dataset};
pub use device::{DeviceChoice, DeviceError};
pub use device_list::{DeviceList, Placement};
pub use error::{DatasetError, PreflightError, TrainError};
pub use export::{ExportError, export_onnx};
pub use history::{EpochRecord, read_history};
pub use init::{InitError, InitRecord, InitReport, InitSource, OtherShape, initialise};
pub use layout::Layout;
pub use learner::{Computing, Exchange, Learner, Objective, Overflow, Stepped};
pub use loss::{DiceScope, Loss, Targets};
pub use manifest::{DatasetRecord, Manifest, RunProgress, Status};
pub use network::{NetworkChoice, NetworkError, NetworkPredictor, NetworkRule, UNet, preset, preset_names};
pub use optimise::{Descent, WeightAverage};
pub use outliers::{MOST_ROBUST_SDS, Outlier};
pub use plan::{
    CaseMeasures, ChannelIntensities, DeviceKind, Fingerprint, ForegroundSample, Intensities, LabelVolumes, Plan,
    PlanFile, RegionVolumes,
};
pub use precision::{LossScaler, Precision, PrecisionError};
pub use preflight::Preflight;
pub use run::{Run, Weights};
pub use run_data::{HeldOutScan, RunData};
pub use sampler::{Batch, Sampler, Sampling, TrainingCase};
pub use setup::{Changes, plan, resume, train, train_by_plan};
pub use split::{Folds, Split, SplitChoice};
pub use summary::{CaseSummary, ChannelSummary, DatasetSummary, Percentiles};
pub use survey::{CaseFacts, Problem, Range, Survey};
pub use trainer::{Event, Outcome, TrainObserver};
