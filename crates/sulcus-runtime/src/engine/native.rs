use sulcus_engine::{Arithmetic, EngineOptions};
use sulcus_pipeline::{Predictor, PredictorError, Tensor};

use super::graph::{INPUT, OUTPUT, all_threads};
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
        Self::with_arithmetic(model, threads, Arithmetic::Single)
    }

    /// Loads a graph that is computed in bfloat16, with sums in single precision.
    ///
    /// # Errors
    /// As [`Self::new`], and if the processor lacks the instructions (AVX512-BF16).
    pub fn bf16(model: &[u8], threads: Option<usize>) -> Result<Self, Error> {
        Self::with_arithmetic(model, threads, Arithmetic::Bfloat16)
    }

    fn with_arithmetic(model: &[u8], threads: Option<usize>, arithmetic: Arithmetic) -> Result<Self, Error> {
        let threads = threads.unwrap_or_else(all_threads);
        let options = EngineOptions::default().with_threads(threads).with_arithmetic(arithmetic);
        let engine = sulcus_engine::Engine::new(model, &options)
            .map_err(|e| ErrorKind::Graph { engine: Engine::Native, message: crate::with_causes(&e) })?;
        for (what, found, expected) in
            [("input", engine.input_name(), INPUT), ("output", engine.output_name(), OUTPUT)]
        {
            if found != expected {
                let message = format!("its {what} is named `{found}`, expected `{expected}`");
                return Err(ErrorKind::Graph { engine: Engine::Native, message }.into());
            }
        }
        Ok(Self { engine })
    }
}

impl Predictor for NativePredictor {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let failed = |message: String| PredictorError { engine: "native", message };
        let shape = self.engine.output_shape(input.shape()).map_err(|error| failed(crate::with_causes(&error)))?;
        let count = shape.iter().product();
        let mut logits = Vec::new();
        logits.try_reserve_exact(count).map_err(|_| failed(format!("{count} logits do not fit in the memory")))?;
        logits.resize(count, 0.0);
        let ran = self.engine.run(input.shape(), input.data(), &mut logits);
        ran.map_err(|error| failed(crate::with_causes(&error)))?;
        Tensor::new(shape, logits).map_err(|e| failed(e.to_string()))
    }

    fn workspace_bytes(&self, input: &[usize]) -> Option<u64> {
        self.engine.workspace_bytes(input).ok()
    }

    fn release(&self) {
        self.engine.release();
    }
}
