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
mod session_pool;
mod tile_queue;
#[cfg(feature = "tract")]
mod tract;

use std::fmt;
use std::str::FromStr;

use sulcus_model::ModelSpec;

use crate::SharedPredictor;

#[cfg(feature = "ort")]
pub use self::ort::{OrtOptions, OrtPredictor};
#[cfg(feature = "ort")]
pub use self::ort_device::check_device;
#[cfg(feature = "ort")]
pub use self::ort_library::{OnnxRuntime, find_onnx_runtime};
#[cfg(feature = "ort")]
pub use self::ort_measure::OrtMeasurements;
pub(crate) use self::session_pool::{PooledPredictor, SessionPool};
pub(crate) use self::tile_queue::with_tile_queue;
#[cfg(feature = "tract")]
pub use self::tract::TractPredictor;

/// Name of the graph's input, `[N, C, (D,) H, W]`.
const INPUT: &str = "image";
/// Name of the graph's output, `[N, K, (D,) H, W]`.
const OUTPUT: &str = "logits";

/// The software that runs a network.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Engine {
    /// ONNX Runtime where it is found, the embedded engine otherwise.
    #[default]
    Auto,
    /// ONNX Runtime, loaded at run time.
    Ort,
    /// The embedded pure-Rust engine.
    Tract,
    /// An engine of the caller's, by its name: see [`EngineFactory`].
    Custom(&'static str),
}

/// An unknown engine name.
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
    /// `auto`, `ort`, `tract`, or the name of a custom engine.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ort => "ort",
            Self::Tract => "tract",
            Self::Custom(name) => name,
        }
    }
}

/// Loads models into an engine of the caller's, given to [`SegmenterBuilder::custom_engine`](crate::SegmenterBuilder::custom_engine).
///
/// ```
/// use sulcus_runtime::model::ModelSpec;
/// use sulcus_runtime::pipeline::{Predictor, PredictorError, Tensor};
/// use sulcus_runtime::{EngineFactory, SegmentOptions, Segmenter, SharedPredictor};
///
/// /// Finds background everywhere.
/// struct Background;
///
/// impl Predictor for Background {
///     fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
///         let mut shape = input.shape().to_vec();
///         shape[1] = 3;
///         let values = vec![0.0; shape.iter().product()];
///         Tensor::new(shape, values).map_err(|e| PredictorError { engine: "background", message: e.to_string() })
///     }
/// }
///
/// struct Factory;
///
/// impl EngineFactory for Factory {
///     fn name(&self) -> &'static str {
///         "background"
///     }
///
///     fn load(
///         &self,
///         _model: &[u8],
///         _spec: &ModelSpec,
///     ) -> Result<Box<dyn SharedPredictor>, Box<dyn std::error::Error + Send + Sync>> {
///         Ok(Box::new(Background))
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = Segmenter::builder().model_bytes(sulcus_runtime::SELF_TEST_MODEL);
/// let segmenter = builder.custom_engine(std::sync::Arc::new(Factory)).build()?;
/// assert_eq!(segmenter.engine().name(), "background");
/// # Ok(())
/// # }
/// ```
pub trait EngineFactory: Send + Sync {
    /// The engine's name, as reports show it.
    fn name(&self) -> &'static str;

    /// Loads a model.
    ///
    /// # Errors
    /// When the engine cannot run the model.
    fn load(
        &self,
        model: &[u8],
        spec: &ModelSpec,
    ) -> Result<Box<dyn SharedPredictor>, Box<dyn std::error::Error + Send + Sync>>;
}

/// The default number of threads of an engine: all that the process may use.
#[cfg(any(feature = "ort", not(target_family = "wasm")))]
pub(crate) fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
