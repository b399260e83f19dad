use burn::module::Module;
use burn::tensor::{Device, Tensor as BurnTensor, TensorData};
use sulcus_model::Dimensions;
use sulcus_pipeline::{Predictor, PredictorError, Tensor};

use super::UNet;

/// A network as a [`Predictor`], the interface of all inference engines: for validation during the training, and to compare
/// an exported file with the trainer.
#[derive(Debug)]
pub struct NetworkPredictor {
    network: UNet,
    device: Device,
    multiple: [usize; 3],
}

impl NetworkPredictor {
    /// Copies the network in evaluation mode: batch normalisation uses its running statistics, no gradients are computed, and everything
    /// is in single precision.
    /// `device` is the device of the network.
    pub fn new(network: &UNet, device: &Device) -> Self {
        Self {
            network: network.valid().with_bf16(None),
            device: device.clone().without_autodiff(),
            multiple: network.multiple(),
        }
    }

    fn expected(&self) -> String {
        let channels = self.network.input_channels();
        let [d, h, w] = self.multiple;
        match self.network.dimensions() {
            Dimensions::Two => {
                format!("[N, {channels}, H, W] with H divisible by {h} and W by {w}")
            }
            Dimensions::Three => {
                format!("[N, {channels}, D, H, W] with D divisible by {d}, H by {h} and W by {w}")
            }
        }
    }
}

impl Predictor for NetworkPredictor {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let fail = |message: String| PredictorError { engine: "Burn", message };
        let (shape, values) = input.into_parts();
        let block = match (self.network.dimensions(), shape.as_slice()) {
            (Dimensions::Two, &[n, c, h, w]) => Some([n, c, 1, h, w]),
            (Dimensions::Three, &[n, c, d, h, w]) => Some([n, c, d, h, w]),
            _ => None,
        };
        let fits = |[n, c, axes @ ..]: &[usize; 5]| {
            *n > 0
                && *c == self.network.input_channels()
                && axes.iter().zip(self.multiple).all(|(length, by)| *length > 0 && length % by == 0)
        };
        let block = block
            .filter(fits)
            .ok_or_else(|| fail(format!("it expects an input {}, found {shape:?}", self.expected())))?;
        let input = BurnTensor::<5>::from_data(TensorData::new(values, block), &self.device);
        let output = self.network.forward(input);
        let [n, k, d, h, w] = output.dims();
        let shape = match self.network.dimensions() {
            Dimensions::Two => vec![n, k, h, w],
            Dimensions::Three => vec![n, k, d, h, w],
        };
        let values =
            output.try_into_vec_as::<f32>().map_err(|e| fail(format!("its output could not be read: {e:?}")))?;
        Tensor::new(shape, values).map_err(|e| fail(e.to_string()))
    }
}
