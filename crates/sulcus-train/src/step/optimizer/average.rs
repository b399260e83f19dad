use std::vec::IntoIter;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::network::UNet;

/// An exponential moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017), which reduces the
/// influence of single batches.
///
/// The running statistics of batch normalisation are averaged too, because those of the last step do not belong to the
/// averaged weights.
#[derive(Debug)]
pub struct WeightAverage {
    decay: f64,
    /// Without autodiff, and not shared.
    network: UNet,
}

impl WeightAverage {
    /// Starts with a network's weights. A `decay` of 0.99 averages over about 100 steps.
    pub fn new(network: &UNet, decay: f64) -> Self {
        // Unlike a clone, this does not share running statistics.
        Self { decay, network: network.valid() }
    }

    /// The network with the averaged weights.
    pub fn network(&self) -> &UNet {
        &self.network
    }

    /// Adds the weights after `steps` steps.
    pub fn update(self, network: &UNet, steps: usize) -> Self {
        let mut weights = Weights(Vec::new());
        network.valid().visit(&mut weights);
        let decay = effective_decay(self.decay, steps);
        let mut update = AverageUpdate { weights: weights.0.into_iter(), decay };
        Self { decay: self.decay, network: self.network.map(&mut update) }
    }
}

/// The decay of a step. It is smaller at the beginning, so that the random initial weights have little influence.
fn effective_decay(decay: f64, steps: usize) -> f64 {
    let steps = steps as f64;
    decay.min((1.0 + steps) / (10.0 + steps))
}

/// All weights of a network, in the order of its parameters.
struct Weights(Vec<Tensor<1>>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let tensor = parameter.val();
        let values: usize = tensor.dims().iter().product();
        self.0.push(tensor.reshape([values]));
    }
}

struct AverageUpdate {
    weights: IntoIter<Tensor<1>>,
    decay: f64,
}

impl ModuleMapper for AverageUpdate {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, mean, mapper) = parameter.consume();
        let mean = match self.weights.next() {
            Some(weight) => {
                let shape = mean.dims();
                mean * self.decay + weight.reshape(shape) * (1.0 - self.decay)
            }
            None => mean,
        };
        Param::from_mapped_value(id, mean, mapper)
    }
}
