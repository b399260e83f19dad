use std::path::PathBuf;

use sulcus_io::IoError;
use sulcus_onnx::OnnxError;
use sulcus_pipeline::{PipelineError, Precision};

use crate::{Device, Engine};

/// Why a model could not be loaded or a scan not be segmented.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The builder was given no model.
    #[error("no model was given: name at least one `.onnx` file")]
    NoModel,
    /// A model file that cannot be read from the disk.
    #[error("could not read the model file: {source}: {}", path.display())]
    ReadModel {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is not one of our models.
    #[error("{model} cannot be used: {source}")]
    Model {
        /// Which one, for people: `model 2 of 3`, or its path.
        model: String,
        /// What is wrong with it.
        source: Box<OnnxError>,
    },
    /// An engine that does not take a model's graph.
    #[error("the {engine} engine does not take this model's graph: {message}")]
    Graph {
        /// Which engine.
        engine: Engine,
        /// What it said.
        message: String,
    },
    /// An engine that this build leaves out.
    #[error(
        "this build has no {engine} engine: build sulcus-runtime with its feature `{engine}`, or use engine `auto`"
    )]
    EngineNotBuilt {
        /// Which one.
        engine: Engine,
    },
    /// A model that the embedded engine does not run.
    #[error(
        "the embedded engine (tract) does not run {precision} models, ONNX Runtime does: {model}\nhint: use the engine `auto` or `ort`; `sulcus runtime install` fetches ONNX Runtime where there is none, and a model in fp32 runs on either engine"
    )]
    NeedsOnnxRuntime {
        /// The numbers that it computes in.
        precision: Precision,
        /// Which one, for people: its path, or `model 2 of 3`.
        model: String,
    },
    /// ONNX Runtime was asked for and is nowhere.
    #[error(
        "the engine `ort` needs the ONNX Runtime library, which was not found in {looked} place(s)\nhint: `sulcus runtime install` fetches it, `--ort-lib` names one, `sulcus doctor` lists the places"
    )]
    LibraryNotFound {
        /// How many places were looked at.
        looked: usize,
    },
    /// A library that was named and cannot be used.
    #[error("the ONNX Runtime library named by {origin} cannot be used: {reason}: {}", path.display())]
    Library {
        /// Who named it.
        origin: String,
        /// Why not.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// A process holds one ONNX Runtime, and it was another one.
    #[error("ONNX Runtime can be loaded once in a process; {origin} names another library than the one in use, {}: {}", loaded.display(), path.display())]
    OtherLibraryLoaded {
        /// Who named the other one.
        origin: String,
        /// The one in use.
        loaded: PathBuf,
        /// The other one.
        path: PathBuf,
    },
    /// A device that was named and cannot be had.
    #[error("the device `{device}` cannot be used: {reason}")]
    Device {
        /// Which one.
        device: Device,
        /// Why not, and what to do.
        reason: String,
    },
    /// Half precision that a device or a model does not have.
    #[error("half precision cannot be had on `{device}`: {reason}: {model}")]
    Arithmetic {
        /// Where it was asked for.
        device: Device,
        /// Why not.
        reason: String,
        /// Which model, for people.
        model: String,
    },
    /// A folder that cannot be made.
    #[error("could not make the cache folder: {source}: {}", path.display())]
    CacheFolder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Models that cannot be averaged.
    #[error(
        "the models cannot be averaged: they differ in their {field}: {expected} in {first}, {found} in {other}"
    )]
    Ensemble {
        /// What differs.
        field: &'static str,
        /// The first model, for people: its path, or `model 1 of 3`.
        first: String,
        /// What it has.
        expected: String,
        /// The one that differs.
        other: String,
        /// What that one has.
        found: String,
    },
    /// A model that did not pass its check when it was exported, and was not allowed.
    #[error(
        "this model did not pass its check when it was exported, so its masks may be wrong: {reason}: {model}"
    )]
    Unchecked {
        /// What failed.
        reason: String,
        /// Which model, for people: its path, or `model 2 of 3`.
        model: String,
    },
    /// A mask that would be written over its scan.
    #[error("the mask would overwrite the scan itself; name another file: {}", path.display())]
    WouldOverwrite {
        /// The file.
        path: PathBuf,
    },
    /// A model without a golden case was asked to replay it.
    #[error("model {model} carries no golden case, so nothing can be replayed")]
    NoGoldenCase {
        /// Which one, from 1 on.
        model: usize,
    },
    /// A scan that could not be prepared, predicted or restored.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A scan that could not be read or a mask that could not be written.
    #[error(transparent)]
    Io(#[from] IoError),
}
