use crate::{PipelineError, PredictorError};

/// A row-major block of numbers with a shape.
///
/// # Shapes
/// Network input is `[N, C, (D,) H, W]`, network output `[N, K, (D,) H, W]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    /// Values with a shape.
    ///
    /// # Errors
    /// If their number is not the product of the shape.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self, PipelineError> {
        let expected = shape.iter().try_fold(1_usize, |n, edge| n.checked_mul(*edge));
        if expected != Some(data.len()) {
            return Err(PipelineError::TensorLength { shape, found: data.len() });
        }
        Ok(Self { shape, data })
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, last axis fastest.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The shape and the values.
    pub fn into_parts(self) -> (Vec<usize>, Vec<f32>) {
        (self.shape, self.data)
    }
}

/// A network that can be evaluated: the trainer's own, or an exported file in any engine.
pub trait Predictor {
    /// Evaluates the network up to softmax or sigmoid.
    ///
    /// # Shapes
    /// Input `[N, C, (D,) H, W]`, output `[N, K, (D,) H, W]`; spatial axes are divisible by the padding multiple.
    ///
    /// # Errors
    /// When the engine fails.
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError>;

    /// The best number of inputs for one call; at least 1. Processors gain nothing from more than one.
    fn batch(&self) -> usize {
        1
    }

    /// The memory for the intermediate values of a call, in bytes, if the engine knows it.
    ///
    /// # Shapes
    /// `input` is `[N, C, (D,) H, W]`.
    fn workspace_bytes(&self, input: &[usize]) -> Option<u64> {
        let _ = input;
        None
    }

    /// Frees what the engine keeps in memory for later calls besides the weights, if it can.
    fn release(&self) {}

    /// Evaluates several inputs of one shape, in order.
    ///
    /// # Shapes
    /// As [`Predictor::logits`], each with N = 1.
    ///
    /// # Errors
    /// When the engine fails for any of the inputs.
    fn logits_batch(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, PredictorError> {
        inputs.into_iter().map(|input| self.logits(input)).collect()
    }
}

impl<P: Predictor + ?Sized> Predictor for &P {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        (**self).logits(input)
    }

    fn batch(&self) -> usize {
        (**self).batch()
    }

    fn workspace_bytes(&self, input: &[usize]) -> Option<u64> {
        (**self).workspace_bytes(input)
    }

    fn release(&self) {
        (**self).release();
    }

    fn logits_batch(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, PredictorError> {
        (**self).logits_batch(inputs)
    }
}

impl<P: Predictor + ?Sized> Predictor for Box<P> {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        (**self).logits(input)
    }

    fn batch(&self) -> usize {
        (**self).batch()
    }

    fn workspace_bytes(&self, input: &[usize]) -> Option<u64> {
        (**self).workspace_bytes(input)
    }

    fn release(&self) {
        (**self).release();
    }

    fn logits_batch(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, PredictorError> {
        (**self).logits_batch(inputs)
    }
}
