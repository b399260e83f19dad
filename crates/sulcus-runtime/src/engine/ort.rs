use std::sync::{Mutex, PoisonError};

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;
use sulcus_pipeline::{Predictor, PredictorError, Tensor};

use super::ort_device::{plain, register};
use super::{Engine, INPUT, OUTPUT, OnnxRuntime, all_threads};
use crate::{Device, RuntimeError};

/// A model in ONNX Runtime. Calls from several threads take turns.
#[derive(Debug)]
pub struct OrtPredictor {
    session: Mutex<Session>,
}

impl OrtPredictor {
    /// Loads a graph from the bytes of its file.
    ///
    /// `threads` works on one operation; `None` means all that the process may use. [`Device::Auto`] is the
    /// processor here: choosing is the [`Segmenter`](crate::Segmenter)'s.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when the device cannot be had, [`RuntimeError::Graph`] when ONNX Runtime refuses
    /// the graph or its input and output are not ours.
    pub fn new(
        runtime: &OnnxRuntime,
        model: &[u8],
        device: Device,
        threads: Option<usize>,
    ) -> Result<Self, RuntimeError> {
        let refused_option = |e: ort::Error<SessionBuilder>| refused(plain(e.message()));
        let builder = Session::builder(runtime.environment()).map_err(|e| refused(plain(e.message())))?;
        let builder = register(builder, runtime, device)?;
        let builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(refused_option)?;
        let builder = builder.with_intra_threads(threads.unwrap_or_else(all_threads)).map_err(refused_option)?;
        // A spinning thread takes a core from whoever else needs it, the window's own code first.
        let mut builder = builder.with_intra_op_spinning(false).map_err(refused_option)?;
        let session = builder.commit_from_memory(model).map_err(|e| match device {
            Device::Auto | Device::Cpu => refused(plain(e.message())),
            _ => RuntimeError::Device {
                device,
                reason: format!("the model cannot run on it: {}", plain(e.message())),
            },
        })?;
        for (kind, names, expected) in [
            ("input", session.inputs().iter().map(|i| i.name()).collect::<Vec<_>>(), INPUT),
            ("output", session.outputs().iter().map(|o| o.name()).collect(), OUTPUT),
        ] {
            if names != [expected] {
                return Err(refused(&format!("expected the {kind} `{expected}` alone, found {names:?}")));
            }
        }
        Ok(Self { session: Mutex::new(session) })
    }
}

fn refused(message: &str) -> RuntimeError {
    RuntimeError::Graph { engine: Engine::Ort, message: message.to_owned() }
}

fn failed(message: impl Into<String>) -> PredictorError {
    PredictorError { engine: "ort", message: message.into() }
}

impl Predictor for OrtPredictor {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        // A view: ONNX Runtime reads our memory.
        let image =
            TensorRef::from_array_view((input.shape(), input.data())).map_err(|e| failed(plain(e.message())))?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(ort::inputs![INPUT => image]).map_err(|e| failed(plain(e.message())))?;
        let logits = outputs.get(OUTPUT).ok_or_else(|| failed(format!("it gave no `{OUTPUT}`")))?;
        let (shape, values) = logits.try_extract_tensor::<f32>().map_err(|e| failed(plain(e.message())))?;
        let shape = shape.iter().map(|edge| usize::try_from(*edge)).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| failed("it gave a negative shape"))?;
        Tensor::new(shape, values.to_vec()).map_err(|e| failed(e.to_string()))
    }
}
