use ort::session::Session;
use ort::session::builder::{AutoDevicePolicy, GraphOptimizationLevel};
use ort::value::TensorRef;
use sulcus_pipeline::{PredictorError, Tensor};

use super::graph::{INPUT, all_threads};
use super::ort_device::plain;
use super::ort_library::OnnxRuntime;
use crate::{Engine, Error, ErrorKind};

/// A graph in ONNX Runtime, on the processor, whose outputs are single numbers: measurements of a network on its input.
#[derive(Debug)]
pub struct OrtMeasurements {
    session: Session,
}

impl OrtMeasurements {
    /// Loads a graph from the bytes of its file.
    ///
    /// # Errors
    /// [`ErrorKind::Graph`] when ONNX Runtime refuses it.
    pub fn new(runtime: &OnnxRuntime, model: &[u8]) -> Result<Self, Error> {
        let refused = |message: &str| ErrorKind::Graph { engine: Engine::Ort, message: plain(message).to_owned() };
        let builder = Session::builder(runtime.environment()).map_err(|e| refused(e.message()))?;
        let builder = builder.with_auto_device(AutoDevicePolicy::PreferCPU).map_err(|e| refused(e.message()))?;
        let builder =
            builder.with_optimization_level(GraphOptimizationLevel::All).map_err(|e| refused(e.message()))?;
        let builder = builder.with_intra_threads(all_threads()).map_err(|e| refused(e.message()))?;
        let mut builder = builder.with_intra_op_spinning(false).map_err(|e| refused(e.message()))?;
        let session = builder.commit_from_memory(model).map_err(|e| refused(e.message()))?;
        Ok(Self { session })
    }

    /// The numbers for one input, each with the name of its output.
    ///
    /// # Shapes
    /// The input is `[N, C, (D,) H, W]`.
    ///
    /// # Errors
    /// If ONNX Runtime fails, or an output is not a single number.
    pub fn measure(&mut self, input: &Tensor) -> Result<Vec<(String, f32)>, PredictorError> {
        let failed = |message: &str| PredictorError { engine: "ort", message: plain(message).to_owned() };
        let image = TensorRef::from_array_view((input.shape(), input.data())).map_err(|e| failed(e.message()))?;
        let outputs = self.session.run(ort::inputs![INPUT => image]).map_err(|e| failed(e.message()))?;
        let number = |(name, value): (&str, ort::value::ValueRef<'_>)| {
            let (_, values) = value.try_extract_tensor::<f32>().map_err(|e| failed(e.message()))?;
            match values {
                [one] => Ok((name.to_owned(), *one)),
                several => Err(failed(&format!("`{name}` has {} numbers instead of one", several.len()))),
            }
        };
        outputs.iter().map(number).collect()
    }
}
