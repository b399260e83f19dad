//! The engines: each turns the bytes of a model into a [`Predictor`](sulcus_pipeline::Predictor).

mod choice;
mod custom;
mod graph;
#[cfg(feature = "native")]
mod native;
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

pub use self::choice::{Engine, UnknownEngine};
pub use self::custom::{EngineFactory, SharedPredictor};
#[cfg(feature = "ort")]
pub(crate) use self::graph::all_threads;
#[cfg(feature = "native")]
pub use self::native::NativePredictor;
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
