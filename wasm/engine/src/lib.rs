//! Predicts in the browser: the runtime with the native engine as a WebAssembly module of its own, which a worker loads on demand.
//! What happens to a scan is the same code as in the command line.

mod bindings;
mod model;

pub use bindings::{Mask, Model};
pub use model::{LoadedModel, PredictedMask};
