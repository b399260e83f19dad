use burn::module::Module;
use burn::optim::GradientsParams;
use burn::store::ModuleRecord;
use burn::tensor::{Device, Tensor, TensorData};
use sulcus_kernels::StepSize;
use sulcus_model::NetworkSpec;

use super::Objective;
use crate::sampler::Batch;
use crate::{Descent, Precision, Targets, TrainError, UNet};

/// A network on one device.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) network: UNet,
    pub(super) optimiser: Descent,
    /// With autodiff.
    pub(super) device: Device,
}

/// What a step computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Computing {
    /// What is lowered.
    pub objective: Objective,
    /// What convolutions compute in.
    pub precision: Precision,
}

impl Replica {
    /// A copy that shares nothing with this one. (Clones of Burn's modules share running statistics.)
    pub(super) fn copy_to(&self, spec: &NetworkSpec, device: &Device) -> Result<Self, TrainError> {
        let failed =
            |e: String| TrainError::Tensor(format!("the network cannot be copied to another device: {e}"));
        let device = device.clone().autodiff();
        let bytes = self.network.valid().into_record().into_bytes().map_err(|e| failed(e.to_string()))?;
        let record = ModuleRecord::from_bytes(bytes).map_err(|e| failed(e.to_string()))?;
        let (inputs, outputs) = (self.network.input_channels(), self.network.output_channels());
        let network = UNet::new(spec, inputs, outputs, 0, &device)?;
        let network = network.try_load_record(record).map_err(|e| failed(e.to_string()))?;
        Ok(Self { network, optimiser: self.optimiser.clone(), device })
    }

    /// The loss of a batch and, if it is a number, the gradients of `scale` times the loss.
    pub(super) fn slopes(
        &self,
        computing: Computing,
        batch: Batch,
        scale: f64,
    ) -> Result<(f64, Option<GradientsParams>), TrainError> {
        let [n, _, d, h, w] = batch.shape;
        let image = Tensor::<5>::from_data(TensorData::new(batch.image, batch.shape), &self.device);
        let targets = Targets::new(batch.classes, [n, d, h, w])?.in_regions(batch.regions);
        let image = computing.precision.round(image);
        let loss = computing.objective.loss(&self.network, image, &targets)?;
        let value = loss.clone().try_into_scalar::<f64>().map_err(|e| TrainError::Tensor(format!("{e:?}")))?;
        if !value.is_finite() {
            return Ok((value, None));
        }
        let loss = if scale == 1.0 { loss } else { loss * scale };
        Ok((value, Some(GradientsParams::from_grads(loss.backward(), &self.network))))
    }

    /// After a step.
    pub(super) fn moved(mut self, gradients: GradientsParams, size: StepSize) -> Self {
        self.network = self.optimiser.apply(self.network, gradients, size);
        self
    }
}
