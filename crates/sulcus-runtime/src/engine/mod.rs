//! The engines: each turns the bytes of a model into a [`Predictor`](sulcus_pipeline::Predictor).

#[cfg(feature = "ort")]
mod ort;
#[cfg(feature = "ort")]
mod ort_bound;
#[cfg(feature = "ort")]
mod ort_device;
#[cfg(feature = "ort")]
mod ort_kept;
#[cfg(feature = "ort")]
mod ort_library;
#[cfg(feature = "ort")]
mod ort_measure;
#[cfg(feature = "tract")]
mod tract;
mod workers;

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "ort")]
pub use self::ort::{OrtOptions, OrtPredictor};
#[cfg(feature = "ort")]
pub use self::ort_device::check_device;
#[cfg(feature = "ort")]
pub use self::ort_library::{OnnxRuntime, find_onnx_runtime};
#[cfg(feature = "ort")]
pub use self::ort_measure::OrtMeasurements;
#[cfg(feature = "tract")]
pub use self::tract::TractPredictor;
pub(crate) use self::workers::{tiles_in_flight, with_tile_queue};

/// Name of the graph's input, `[N, C, (D,) H, W]`.
const INPUT: &str = "image";
/// Name of the graph's output, `[N, K, (D,) H, W]`.
const OUTPUT: &str = "logits";

/// What runs a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Engine {
    /// ONNX Runtime where it is found, the embedded engine otherwise.
    #[default]
    Auto,
    /// ONNX Runtime, loaded at run time.
    Ort,
    /// The embedded pure-Rust engine.
    Tract,
}

/// An engine name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an engine: expected auto, ort or tract")]
pub struct UnknownEngine(String);

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "ort" => Ok(Self::Ort),
            "tract" => Ok(Self::Tract),
            other => Err(UnknownEngine(other.to_owned())),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Engine {
    /// `auto`, `ort` or `tract`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ort => "ort",
            Self::Tract => "tract",
        }
    }
}

/// The threads an engine gets when the caller names no number: all that the process may use.
#[cfg(any(feature = "ort", not(target_family = "wasm")))]
pub(crate) fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
