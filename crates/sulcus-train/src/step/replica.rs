use burn::module::Module;
use burn::optim::GradientsParams;
use burn::store::ModuleRecord;
use burn::tensor::{Device, Tensor, TensorData};
use sulcus_kernels::StepSize;
use sulcus_model::{NetworkSpec, Precision};

use super::objective::Objective;
use super::optimizer::OptimizerState;
use super::precision::{bf16_on, float};
use super::targets::Targets;
use crate::error::TrainError;
use crate::network::UNet;
use crate::sampling::sampler::Batch;

/// A network with its optimizer, on one device.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) network: UNet,
    pub(super) optimizer: OptimizerState,
    /// The device, with autodiff.
    pub(super) device: Device,
}

/// The loss and the precision of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepConfig {
    /// The loss.
    pub objective: Objective,
    /// The precision of convolutions.
    pub precision: Precision,
}

/// Reads a loss, `[1]`, which waits for the device.
pub(super) fn read(loss: Tensor<1>) -> Result<f64, TrainError> {
    loss.try_into_scalar::<f64>().map_err(|e| TrainError::Tensor(format!("{e:?}")))
}

impl Replica {
    /// A network that computes in a precision.
    pub(super) fn new(network: UNet, optimizer: OptimizerState, device: Device, precision: Precision) -> Self {
        let network = network.with_bf16(bf16_on(&device, precision));
        Self { network, optimizer, device }
    }

    /// A deep copy on another device. (Clones of Burn's modules share running statistics.)
    pub(super) fn copy_to(
        &self,
        spec: &NetworkSpec,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, TrainError> {
        let failed =
            |e: String| TrainError::Tensor(format!("the network cannot be copied to another device: {e}"));
        let device = device.clone().autodiff();
        let bytes = self.network.valid().into_record().into_bytes().map_err(|e| failed(e.to_string()))?;
        let record = ModuleRecord::from_bytes(bytes).map_err(|e| failed(e.to_string()))?;
        let (inputs, outputs) = (self.network.input_channels(), self.network.output_channels());
        let network = UNet::new(spec, inputs, outputs, 0, &device)?;
        let network = network.try_load_record(record).map_err(|e| failed(e.to_string()))?;
        Ok(Self::new(network, self.optimizer.clone(), device, precision))
    }

    /// The loss of a batch, `[1]`, and the gradients of `scale` times the loss. Nothing is read back from the device.
    pub(super) fn loss_and_gradients(
        &self,
        config: StepConfig,
        batch: Batch,
        scale: f64,
    ) -> Result<(Tensor<1>, GradientsParams), TrainError> {
        let [n, _, d, h, w] = batch.shape;
        let image = Tensor::<5>::from_data(TensorData::new(batch.image, batch.shape), &self.device);
        let targets = Targets::new(batch.classes, [n, d, h, w])?.with_regions(batch.regions);
        // The network computes in the type of its input. The processor has its own convolutions in bfloat16.
        let image = match bf16_on(&self.device, config.precision) {
            Some(_) => image,
            None => image.cast(float(config.precision)?),
        };
        let loss = config.objective.loss(&self.network, image, &targets)?;
        let value = loss.clone().inner();
        let loss = if scale == 1.0 { loss } else { loss * scale };
        Ok((value, GradientsParams::from_grads(loss.backward(), &self.network)))
    }

    /// Updates the weights.
    pub(super) fn apply_gradients(mut self, gradients: GradientsParams, size: StepSize) -> Self {
        self.network = self.optimizer.apply(self.network, gradients, size);
        self
    }
}
