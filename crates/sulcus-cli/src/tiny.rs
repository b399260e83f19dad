//! A tiny model inside the binary, to check engines without a model file.

use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, Error as RuntimeError, Segmenter};

/// Trained briefly on the bundled scans and exported like any other model, with a golden case.
pub(crate) const MODEL: &[u8] = include_bytes!("../assets/tiny.onnx");

/// Loads the tiny model.
///
/// # Errors
/// When the engine, the device or the library is not available.
pub(crate) fn segmenter(engine: Engine, device: Device, library: OrtLibrary) -> Result<Segmenter, RuntimeError> {
    Segmenter::builder().model_bytes(MODEL).engine(engine).device(device).ort_library(library).build()
}
