use std::path::PathBuf;

use sulcus_io::IoError;
use sulcus_model::{Precision, SpecError};
use sulcus_onnx::OnnxError;
use sulcus_pipeline::{PipelineError, ScanWarning};
use sulcus_volume::VolumeError;

use crate::{Device, Engine};

/// Why a model could not be loaded or a scan not be segmented.
///
/// Its text is one sentence without its causes, which [`source`](std::error::Error::source) returns; [`with_causes`]
/// joins them.
#[derive(Debug)]
pub struct Error(Box<ErrorKind>);

impl Error {
    /// What went wrong, as data.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// What went wrong, as data.
    pub fn into_kind(self) -> ErrorKind {
        *self.0
    }

    /// Why the scan is not plausible; empty for other errors.
    pub fn scan_warnings(&self) -> &[ScanWarning] {
        match self.kind() {
            ErrorKind::Pipeline(error) => error.scan_warnings(),
            _ => &[],
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl<K: Into<ErrorKind>> From<K> for Error {
    fn from(kind: K) -> Self {
        Self(Box::new(kind.into()))
    }
}

/// An error and its causes in one line. A cause whose text is already part of the line is not repeated.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The kinds of [`Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The builder was given no model.
    #[error("no model was given: name at least one `.onnx` file")]
    NoModel,
    /// A model file that cannot be read.
    #[error("could not read the model file {}", path.display())]
    ReadModel {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file that is not a model of this kit.
    #[error("{model} cannot be used")]
    Model {
        /// Its path, or `model 2 of 3`.
        model: String,
        /// The reason.
        source: Box<OnnxError>,
    },
    /// An engine that does not support a model's graph.
    #[error("the {engine} engine does not support this model's graph: {message}")]
    Graph {
        /// The engine.
        engine: Engine,
        /// Its message.
        message: String,
    },
    /// An engine that this build does not contain.
    #[error(
        "this build has no {engine} engine: build sulcus-runtime with its feature `{engine}`, or use engine `auto`"
    )]
    EngineNotBuilt {
        /// The engine.
        engine: Engine,
    },
    /// A model that the built-in engine cannot run.
    #[error(
        "the built-in engine (tract) does not support {precision} models, the native engine and ONNX Runtime do: {model}"
    )]
    NeedsOnnxRuntime {
        /// The model's precision.
        precision: Precision,
        /// Its path, or `model 2 of 3`.
        model: String,
    },
    /// ONNX Runtime was requested and was not found.
    #[error("the engine `ort` needs the ONNX Runtime library, which was not found in {looked} place(s)")]
    LibraryNotFound {
        /// The number of places that were searched.
        looked: usize,
    },
    /// A named library that cannot be used.
    #[error("the ONNX Runtime library named by {origin} cannot be used: {reason}: {}", path.display())]
    Library {
        /// The option or variable that names it.
        origin: String,
        /// The reason.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// A process can load only one ONNX Runtime, and has already loaded another one.
    #[error("a process can load only one ONNX Runtime; {origin} names another library than the one in use, {}: {}", loaded.display(), path.display())]
    OtherLibraryLoaded {
        /// The option or variable that names the other library.
        origin: String,
        /// The library in use.
        loaded: PathBuf,
        /// The other library.
        path: PathBuf,
    },
    /// A named device that cannot be used.
    #[error("the device `{device}` cannot be used: {reason}")]
    Device {
        /// The device.
        device: Device,
        /// The reason.
        reason: String,
    },
    /// A precision that a device cannot compute a model in.
    #[error("`{device}` cannot compute in {precision}: {reason}: {model}")]
    Precision {
        /// The requested precision.
        precision: Precision,
        /// The device.
        device: Device,
        /// The reason.
        reason: String,
        /// Its path, or `model 2 of 3`.
        model: String,
    },
    /// A cache folder that cannot be created.
    #[error("could not create the cache folder {}", path.display())]
    CacheFolder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Models that cannot be averaged.
    #[error(
        "the models cannot be averaged: they differ in their {field}: {expected} in {first}, {found} in {other}"
    )]
    Ensemble {
        /// The property that differs.
        field: &'static str,
        /// The first model: its path, or `model 1 of 3`.
        first: String,
        /// Its value.
        expected: String,
        /// The model that differs.
        other: String,
        /// Its value.
        found: String,
    },
    /// A pack among several models.
    #[error("a pack has a recipe of its own, so it cannot be averaged with other models: {pack}")]
    PackInEnsemble {
        /// Its path, or `model 2 of 3`.
        pack: String,
    },
    /// Probabilities of a pack that has none.
    #[error(
        "the mask of `{pack}` is put together from masks on another grid, so there are no probabilities; ask for the mask alone"
    )]
    PackProbabilities {
        /// Name of the pack.
        pack: String,
    },
    /// A model that failed its check when it was exported, and was not explicitly allowed.
    #[error(
        "this model did not pass its check when it was exported, so its masks may be wrong: {reason}: {model}"
    )]
    Unchecked {
        /// What failed.
        reason: String,
        /// Its path, or `model 2 of 3`.
        model: String,
    },
    /// A mask that would overwrite its scan.
    #[error("the mask would overwrite the scan itself; name another file: {}", path.display())]
    WouldOverwrite {
        /// The file.
        path: PathBuf,
    },
    /// A model without a golden case.
    #[error("model {model} contains no golden case, so nothing can be replayed")]
    NoGoldenCase {
        /// The number of the model, from 1.
        model: usize,
    },
    /// A scan that could not be preprocessed, predicted or postprocessed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A scan that could not be read or a mask that could not be written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A custom engine that could not load a model.
    #[error("the engine {engine} could not load {model}")]
    CustomEngine {
        /// The engine's name.
        engine: &'static str,
        /// Its path, or `model 2 of 3`.
        model: String,
        /// The engine's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<VolumeError> for ErrorKind {
    fn from(error: VolumeError) -> Self {
        Self::Pipeline(error.into())
    }
}

impl From<SpecError> for ErrorKind {
    fn from(error: SpecError) -> Self {
        Self::Pipeline(error.into())
    }
}
