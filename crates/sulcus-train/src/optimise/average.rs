use std::vec::IntoIter;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::UNet;

/// A running mean over the weights of a training, whose later steps count more (Polyak & Juditsky 1992; exponential as in
/// Tarvainen & Valpola 2017): what one batch pulled aside, the next pulls back.
///
/// Running statistics of batch normalisation are averaged along: those of the weights themselves are older by one mean
/// of batches, and would not be those of the averaged weights.
#[derive(Debug)]
pub struct WeightAverage {
    decay: f64,
    /// Without autodiff, and nobody else's.
    network: UNet,
}

impl WeightAverage {
    /// Starts at a network's weights. With a `decay` of 0.99 the mean reaches back over about 100 steps.
    pub fn new(network: &UNet, decay: f64) -> Self {
        // Running statistics are shared by clones, but not by this.
        Self { decay, network: network.valid() }
    }

    /// The network with the mean weights.
    pub fn network(&self) -> &UNet {
        &self.network
    }

    /// Takes in the weights after `steps` steps, this one included.
    pub fn follow(self, network: &UNet, steps: usize) -> Self {
        let mut weights = Weights(Vec::new());
        network.valid().visit(&mut weights);
        let kept = kept(self.decay, steps);
        let mut blend = Blend { weights: weights.0.into_iter(), kept };
        Self { decay: self.decay, network: self.network.map(&mut blend) }
    }
}

/// What of the mean is kept at a step. Less at the beginning, so that the first weights, which are random, are soon
/// forgotten.
fn kept(decay: f64, steps: usize) -> f64 {
    let steps = steps as f64;
    decay.min((1.0 + steps) / (10.0 + steps))
}

/// All values in the order in which a network is walked through.
struct Weights(Vec<Tensor<1>>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let tensor = parameter.val();
        let values: usize = tensor.dims().iter().product();
        self.0.push(tensor.reshape([values]));
    }
}

struct Blend {
    weights: IntoIter<Tensor<1>>,
    kept: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, mean, mapper) = parameter.consume();
        let mean = match self.weights.next() {
            Some(weight) => {
                let shape = mean.dims();
                mean * self.kept + weight.reshape(shape) * (1.0 - self.kept)
            }
            None => mean,
        };
        Param::from_mapped_value(id, mean, mapper)
    }
}
