//! A tiny model inside the binary: enough to see whether an engine computes what it should.

use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, Error as RuntimeError, Segmenter};

/// Trained on the bundled scans for a moment and exported like any other; it carries a golden case.
pub(crate) const MODEL: &[u8] = include_bytes!("../assets/tiny.onnx");

/// Loads it.
pub(crate) fn segmenter(engine: Engine, device: Device, library: OrtLibrary) -> Result<Segmenter, RuntimeError> {
    Segmenter::builder().model_bytes(MODEL).engine(engine).device(device).ort_library(library).build()
}
