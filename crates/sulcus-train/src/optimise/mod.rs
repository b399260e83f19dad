//! How weights are moved.

mod average;
mod clip;
mod processor;
mod record;
mod rule;

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use sulcus_kernels::StepSize;

use crate::{Optimiser, TrainError, UNet};
pub use average::WeightAverage;
pub(crate) use clip::{factor, norm, weights_are_finite};
use rule::{Moments, Rule};

/// Moves a network's weights along their gradients, and remembers the moments that this takes.
///
/// The arithmetic is PyTorch's: Adam's ε is 1e-8 (Burn's is 1e-5), weight decay of AdamW is decoupled and goes with the
/// learning rate, SGD's momentum has no dampening. On the processor each weight is read and written once a step; on other
/// devices the same is composed of Burn's operations.
#[derive(Debug, Clone)]
pub struct Descent {
    choice: Optimiser,
    /// By the identities of the network's parameters.
    moments: BTreeMap<u64, Moments>,
}

impl Descent {
    /// An optimiser that has made no step yet.
    pub fn new(choice: Optimiser) -> Self {
        Self { choice, moments: BTreeMap::new() }
    }

    /// Makes one step. With a `limit`, gradients whose norm over all weights together is greater are scaled down to it
    /// (Pascanu et al. 2013).
    ///
    /// Weights that nobody else holds are moved in place: a clone of the network costs a copy of them.
    ///
    /// # Errors
    /// When the device can't be read.
    pub fn step(
        &mut self,
        network: UNet,
        gradients: GradientsParams,
        learning_rate: f64,
        limit: Option<f64>,
    ) -> Result<UNet, TrainError> {
        let gradient_factor = match limit {
            Some(limit) => factor(norm(&gradients, &network)?, limit),
            None => 1.0,
        };
        Ok(self.apply(network, gradients, StepSize { learning_rate, gradient_factor }))
    }

    /// Makes one step of a size that is known.
    pub(crate) fn apply(&mut self, network: UNet, gradients: GradientsParams, size: StepSize) -> UNet {
        network.map(&mut Walk { rule: Rule::of(self.choice), descent: self, gradients, size })
    }
}

/// Visits each parameter of a network once.
struct Walk<'a> {
    rule: Rule,
    descent: &'a mut Descent,
    gradients: GradientsParams,
    size: StepSize,
}

impl ModuleMapper for Walk<'_> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = parameter.consume();
        let Some(gradient) = self.gradients.remove::<D>(id) else {
            return Param::from_mapped_value(id, tensor, mapper);
        };
        let (tracked, strategy) = (tensor.is_require_grad(), tensor.gradient_checkpointing_strategy());
        let shape = tensor.dims();
        let values: usize = shape.iter().product();
        let weight = tensor.inner().reshape([values]);
        let moments = self.descent.moments.remove(&id.val());
        let (weight, moments) = self.rule.step(self.size, weight, gradient.reshape([values]), moments);
        self.descent.moments.insert(id.val(), moments);
        // What the tensor was to Burn, besides its values.
        let mut moved = Tensor::from_inner(weight.reshape(shape));
        if let Some(strategy) = strategy {
            moved = moved.with_gradient_checkpointing_strategy(strategy);
        }
        Param::from_mapped_value(id, moved.set_require_grad(tracked), mapper)
    }
}

#[cfg(test)]
mod tests;
