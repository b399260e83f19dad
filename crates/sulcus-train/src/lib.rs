//! Trains U-Nets on data sets of scans with masks, and exports them as ONNX files.
//!
//! [`train()`] takes a data set ([`sulcus_dataset::Dataset`]) and a configuration ([`sulcus_plan::TrainConfig`]), and writes a
//! [`Run`]: a folder with checkpoints, the history and the scores. [`resume`] continues an interrupted run and gives the
//! same weights as an uninterrupted one. [`export_onnx`] writes a trained network as one file. Volumes are prepared by the
//! code that inference uses, in `sulcus-pipeline`, so that training and prediction treat scans alike.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use sulcus_dataset::{Dataset, SplitChoice};
//! use sulcus_plan::{DeviceChoice, TrainConfig};
//! use sulcus_train::{NetworkPredictor, Run, Weights, export_onnx, find_device, train};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dataset = Dataset::open("Task04_Hippocampus")?;
//! let config = TrainConfig::from_preset("auto")?.with(|config| config.time_budget_secs = Some(600.0));
//! // `()` ignores all events; an observer of your own can show progress and stop the training.
//! train(&dataset, &SplitChoice::default(), &config, Path::new("run"), &mut ())?;
//!
//! let run = Run::open("run")?;
//! let (device, _) = find_device(DeviceChoice::Cpu)?;
//! let network = run.load_network(Weights::Best, &device)?;
//! let spec = run.model_spec(Weights::Best, &NetworkPredictor::new(&network, &device))?;
//! std::fs::write("model.onnx", export_onnx(&network, &spec)?)?;
//! # Ok(())
//! # }
//! ```
//!
//! The modules follow the data: `sampling` draws patches from prepared cases, `network` computes logits, `step` computes the
//! loss and updates the weights, `run` repeats steps and keeps the files, `export` writes the model.

mod error;
mod export;
mod network;
mod run;
mod sampling;
mod step;

pub use error::{CaseStage, PreflightError, TrainError};
pub use export::calibration::{HeldOutScan, RunData};
pub use export::onnx::{ExportError, export_onnx};
pub use export::weights::{NetworkWeights, network_weights};
pub use network::{
    GpuForms, InputGradientForm, LayerForm, NetworkError, NetworkPredictor, UNet, gpu_convolution,
    gpu_transposed_convolution,
};
pub use run::begin::{plan, train, train_by_plan};
pub use run::checkpoint::{Checkpoint, CheckpointParts};
pub use run::checkpoint_error::CheckpointError;
pub use run::cross_validation::CrossValidation;
pub use run::cross_validation_manifest::{CrossManifest, CrossScores, FoldRecord, FoldResult};
pub use run::golden_case::{golden_case, golden_case_in_turn};
pub use run::history::{EpochRecord, read_history};
pub use run::init::{InitError, InitRecord, InitReport, InitSource, OtherShape, initialise};
pub use run::manifest::{DatasetRecord, Manifest, RunProgress, Status};
pub use run::observer::{Event, TrainObserver, TrainOutcome};
pub use run::preflight::Preflight;
pub use run::resume::{ResumeOptions, resume};
pub use run::run_folder::Run;
pub use run::weights::Weights;
pub use sampling::sampler::{Batch, Sampler, SamplingConfig};
pub use sampling::training_case::TrainingCase;
pub use step::device::{DeviceError, device_kind, find_device};
pub use step::exchange::Exchange;
pub use step::learner::{Learner, Overflow, StepConfig, StepOutput};
pub use step::loss::segmentation_loss;
pub use step::loss_scaler::LossScaler;
pub use step::objective::Objective;
pub use step::optimizer::{OptimizerState, WeightAverage};
pub use step::placement::Placement;
pub use step::precision::{PrecisionError, check_precision, supported_precisions};
pub use step::targets::Targets;
