use sulcus_engine::EngineOptions;
use sulcus_pipeline::{Predictor, PredictorError, Tensor};

use super::graph::all_threads;
use crate::{Engine, Error, ErrorKind};

/// A model in the engine of this project, which runs the graphs that Sulcus exports on its own kernels, on the processor.
///
/// Calls from several threads run at the same time; each has its own workspace.
#[derive(Debug)]
pub struct NativePredictor {
    engine: sulcus_engine::Engine,
}

impl NativePredictor {
    /// Loads a graph from the bytes of its file. `threads` defaults to all that the process may use.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] if the graph has something that the engine does not know, which the message names.
    pub fn new(model: &[u8], threads: Option<usize>) -> Result<Self, Error> {
        let options = EngineOptions::default().with_threads(threads.unwrap_or_else(all_threads));
        let engine = sulcus_engine::Engine::new(model, &options)
            .map_err(|e| ErrorKind::Graph { engine: Engine::Native, message: crate::with_causes(&e) })?;
        Ok(Self { engine })
    }
}

impl Predictor for NativePredictor {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let failed = |message: String| PredictorError { engine: "native", message };
        let shape = self.engine.output_shape(input.shape()).map_err(|error| failed(crate::with_causes(&error)))?;
        let mut logits = vec![0.0; shape.iter().product()];
        let ran = self.engine.run(input.shape(), input.data(), &mut logits);
        ran.map_err(|error| failed(crate::with_causes(&error)))?;
        Tensor::new(shape, logits).map_err(|e| failed(e.to_string()))
    }

    fn workspace_bytes(&self, input: &[usize]) -> Option<u64> {
        self.engine.workspace_bytes(input).ok()
    }
}
