use burn::module::Module;
use burn::tensor::{Device, Tensor as BurnTensor, TensorData};
use sulcus_pipeline::{Predictor, PredictorError, Tensor};

use super::UNet;

/// The trainer's own network behind the [`Predictor`] that inference uses too: for validation while training, and as
/// one side of the parity check of an exported file.
#[derive(Debug)]
pub struct NetworkPredictor {
    network: UNet,
    device: Device,
    multiple: [usize; 2],
}

impl NetworkPredictor {
    /// Takes a copy of the network as it stands, out of training mode: batch normalisation uses its running
    /// statistics, no gradients are kept. `device` is where the network lives.
    pub fn new(network: &UNet, device: &Device) -> Self {
        Self { network: network.valid(), device: device.clone().without_autodiff(), multiple: network.multiple() }
    }
}

impl Predictor for NetworkPredictor {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let fail = |message: String| PredictorError { engine: "Burn", message };
        let (shape, values) = input.into_parts();
        let [n, c, h, w] = <[usize; 4]>::try_from(shape.as_slice())
            .map_err(|_| fail(format!("it expects an input [N, C, H, W], found {shape:?}")))?;
        let [by_h, by_w] = self.multiple;
        let channels = self.network.input_channels();
        if n == 0 || c != channels || h == 0 || w == 0 || h % by_h != 0 || w % by_w != 0 {
            return Err(fail(format!(
                "it expects {channels} channel(s) of a height divisible by {by_h} and a width divisible by {by_w}, \
                 found {shape:?}"
            )));
        }
        let input = BurnTensor::<4>::from_data(TensorData::new(values, shape), &self.device);
        let output = self.network.forward(input);
        let shape = output.dims().to_vec();
        let values =
            output.try_into_vec_as::<f32>().map_err(|e| fail(format!("its answer could not be read: {e:?}")))?;
        Tensor::new(shape, values).map_err(|e| fail(e.to_string()))
    }
}
