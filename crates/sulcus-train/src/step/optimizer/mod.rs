//! The optimizer: SGD, Adam and AdamW, gradient clipping, and the average of the weights.

mod average;
pub(crate) mod clip;
mod processor;
mod record;
mod update_rule;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use sulcus_kernels::StepSize;
use sulcus_plan::Optimizer;

use crate::error::TrainError;
use crate::network::UNet;
pub use average::WeightAverage;
use clip::{factor, norm};
use update_rule::{Moments, UpdateRule};

/// An optimizer with its state: the moments of each parameter.
///
/// The arithmetic is PyTorch's: Adam's ε is 1e-8 (Burn's is 1e-5), weight decay of AdamW is decoupled and multiplied by the
/// learning rate, SGD's momentum has no dampening. On the processor each weight is read and written once per step; on other
/// devices the step is composed of Burn's operations.
#[derive(Debug, Clone)]
pub struct OptimizerState {
    choice: Optimizer,
    /// By the ids of the network's parameters.
    moments: BTreeMap<u64, Moments>,
}

impl OptimizerState {
    /// An optimizer before its first step.
    pub fn new(choice: Optimizer) -> Self {
        Self { choice, moments: BTreeMap::new() }
    }

    /// Makes one step. A gradient whose norm over all weights exceeds `max_norm` is scaled down to it (Pascanu et al. 2013).
    ///
    /// Weights are updated in place if no clone of the network shares them.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(
        &mut self,
        network: UNet,
        gradients: GradientsParams,
        learning_rate: f64,
        max_norm: Option<f64>,
    ) -> Result<UNet, TrainError> {
        let gradient_factor = match max_norm {
            Some(max_norm) => factor(norm(&gradients, &network)?, max_norm),
            None => 1.0,
        };
        Ok(self.apply(network, gradients, StepSize { learning_rate, gradient_factor }))
    }

    /// Makes one step with a known learning rate and gradient factor.
    pub(crate) fn apply(&mut self, network: UNet, gradients: GradientsParams, size: StepSize) -> UNet {
        network.map(&mut ParameterUpdater { rule: UpdateRule::of(self.choice), state: self, gradients, size })
    }
}

/// Updates each parameter of a network.
struct ParameterUpdater<'a> {
    rule: UpdateRule,
    state: &'a mut OptimizerState,
    gradients: GradientsParams,
    size: StepSize,
}

impl ModuleMapper for ParameterUpdater<'_> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = parameter.consume();
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let (tracked, strategy) = (tensor.is_require_grad(), tensor.gradient_checkpointing_strategy());
        let shape = tensor.dims();
        let values: usize = shape.iter().product();
        let weight = tensor.inner().reshape([values]);
        let moments = self.state.moments.remove(&id.val());
        let (weight, moments) = self.rule.step(self.size, weight, gradient.reshape([values]), moments);
        self.state.moments.insert(id.val(), moments);
        // Restore the tensor's autodiff properties.
        let mut updated = Tensor::from_inner(weight.reshape(shape));
        if let Some(strategy) = strategy {
            updated = updated.with_gradient_checkpointing_strategy(strategy);
        }
        Param::from_mapped_value(id, updated.set_require_grad(tracked), mapper)
    }
}

#[cfg(test)]
mod tests;
