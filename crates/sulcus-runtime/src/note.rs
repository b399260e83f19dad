use std::fmt;

use crate::{Device, Engine};

/// Information for the user about the automatic choice of engine and device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// ONNX Runtime was not found, so the built-in engine runs.
    OnnxRuntimeNotFound {
        /// The number of places that were searched.
        searched: usize,
    },
    /// The native engine, which is the fastest on the processor, does not run the models.
    NativeRefused {
        /// What it does not run.
        reason: String,
        /// The engine that runs them.
        engine: Engine,
    },
    /// No CUDA device can be used, so the processor computes.
    NoCuda,
    /// A device was found but cannot run the models, so the processor computes.
    DeviceFailed {
        /// The device.
        device: Device,
        /// The reason.
        reason: String,
    },
    /// The cache folder of the caller is not used.
    CacheUnused {
        /// The engine, which stores nothing on this device.
        engine: Engine,
        /// The device.
        device: Device,
    },
    /// A model that failed its check when it was exported is used because the caller allowed it.
    Unchecked {
        /// What failed.
        reason: String,
        /// Its path, or `model 2 of 3`.
        model: String,
    },
    /// The models of an ensemble have different postprocessing; only the common steps are applied.
    PostprocessingDiffers {
        /// The number of common steps.
        common_steps: usize,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnnxRuntimeNotFound { searched } => write!(
                f,
                "ONNX Runtime was not found in {searched} place(s): running on the built-in engine (tract), which is slower"
            ),
            Self::NativeRefused { reason, engine } => {
                write!(f, "running on the engine {engine}: the native engine cannot run the model: {reason}")
            }
            Self::NoCuda => f.write_str("running on the processor: no CUDA device can be used"),
            Self::DeviceFailed { device, reason } => {
                write!(f, "running on the processor: {device} cannot be used: {reason}")
            }
            Self::CacheUnused { engine, device } => {
                write!(
                    f,
                    "nothing is kept in the cache folder: the engine {engine} stores nothing on the device {device}"
                )
            }
            Self::Unchecked { reason, model } => {
                write!(f, "this model did not pass its check, so its masks may be wrong: {reason}: {model}")
            }
            Self::PostprocessingDiffers { common_steps: 0 } => {
                f.write_str("the models have different postprocessing, so none is applied")
            }
            Self::PostprocessingDiffers { common_steps } => write!(
                f,
                "the models have different postprocessing: only the {common_steps} step(s) that all have in common are applied"
            ),
        }
    }
}
