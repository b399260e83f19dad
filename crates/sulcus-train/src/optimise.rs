//! How weights are moved.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::Tensor;

use crate::{Optimiser, TrainError, UNet};

/// The optimiser that a configuration asks for, without moments.
pub(crate) fn fresh(choice: Optimiser) -> ModuleOptimizer {
    match choice {
        Optimiser::Sgd { momentum, nesterov, weight_decay } => {
            let momentum =
                MomentumConfig::new().with_momentum(momentum).with_dampening(0.0).with_nesterov(nesterov);
            SgdConfig::new()
                .with_momentum(Some(momentum))
                .with_weight_decay(Some(WeightDecayConfig::new(weight_decay)))
                .init()
        }
        Optimiser::Adam => AdamConfig::new().init(),
        Optimiser::AdamW { weight_decay } => AdamWConfig::new().with_weight_decay(weight_decay).init(),
    }
}

/// Scales the gradients down where their norm over all weights together is greater than `limit` (Pascanu et al. 2013).
/// Burn's own clipping looks at each tensor alone.
pub(crate) fn clip(gradients: GradientsParams, network: &UNet, limit: f64) -> Result<GradientsParams, TrainError> {
    let mut norm = Norm { gradients: &gradients, squares: Vec::new() };
    network.visit(&mut norm);
    if norm.squares.is_empty() {
        return Ok(gradients);
    }
    let squares = Tensor::cat(norm.squares, 0).sum();
    let norm = squares.try_into_scalar::<f64>().map_err(|e| TrainError::Tensor(format!("{e:?}")))?.sqrt();
    // A norm that is no number shows in the next loss, which ends the training.
    if norm.is_nan() || norm <= limit {
        return Ok(gradients);
    }
    let mut scale = Scale { gradients, factor: limit / norm };
    network.visit(&mut scale);
    Ok(scale.gradients)
}

struct Norm<'a> {
    gradients: &'a GradientsParams,
    squares: Vec<Tensor<1>>,
}

impl ModuleVisitor for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            self.squares.push((gradient.clone() * gradient).sum());
        }
    }
}

struct Scale {
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(parameter.id) {
            self.gradients.register::<D>(parameter.id, gradient * self.factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use sulcus_pipeline::Output;

    use super::*;
    use crate::{DiceScope, Loss, Targets, preset};

    fn norm_of(gradients: &GradientsParams, network: &UNet) -> f64 {
        let mut norm = Norm { gradients, squares: Vec::new() };
        network.visit(&mut norm);
        Tensor::cat(norm.squares, 0).sum().into_scalar::<f64>().sqrt()
    }

    #[test]
    fn gradients_are_clipped_by_their_norm_over_all_weights() {
        let device = Device::flex().autodiff();
        let network = UNet::new(&preset("unet2d-lite").unwrap(), 1, 2, 1, &device).unwrap();
        let image: Vec<f32> = (0..16 * 16).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let gradients = || {
            let image = Tensor::<5>::from_data(TensorData::new(image.clone(), [1, 1, 1, 16, 16]), &device);
            let targets =
                Targets::new((0..16 * 16).map(|i| u8::from(i % 3 == 0)).collect(), [1, 1, 16, 16]).unwrap();
            let loss = Loss::DiceCe.forward(Output::Softmax, DiceScope::Batch, network.forward(image), &targets);
            GradientsParams::from_grads(loss.backward(), &network)
        };
        let norm = norm_of(&gradients(), &network);
        assert!(norm > 0.01, "{norm}");
        let clipped = norm_of(&clip(gradients(), &network, norm / 4.0).unwrap(), &network);
        assert!((clipped / norm - 0.25).abs() < 1e-5, "{clipped} of {norm}");
        let untouched = norm_of(&clip(gradients(), &network, norm * 4.0).unwrap(), &network);
        assert!((untouched / norm - 1.0).abs() < 1e-6, "{untouched} of {norm}");
    }
}
