use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::processor;
use crate::error::TrainError;
use crate::network::UNet;
use crate::network::cpu::is_on;

/// The factor that limits a gradient of this norm to `max_norm`.
pub(crate) fn factor(norm: f64, max_norm: f64) -> f64 {
    // After a NaN the next loss is NaN too, which ends the training.
    if norm.is_nan() || norm <= max_norm { 1.0 } else { max_norm / norm }
}

/// The norm of the gradient over all weights of a network.
pub(crate) fn norm(gradients: &GradientsParams, network: &UNet) -> Result<f64, TrainError> {
    let norms = norms(gradients, network);
    if norms.is_empty() { Ok(0.0) } else { Ok(total(&read(norms)?)) }
}

/// A loss, `[1]`, and the norm of the gradient over all weights of a network. Both are read at once, because each read waits
/// for the device.
pub(crate) fn loss_and_norm(
    loss: Tensor<1>,
    gradients: &GradientsParams,
    network: &UNet,
) -> Result<(f64, f64), TrainError> {
    let mut values = norms(gradients, network);
    values.push(loss);
    let mut values = read(values)?;
    let loss = values.pop().map_or(f64::NAN, f64::from);
    Ok((loss, total(&values)))
}

/// The norm of each parameter's gradient, `[1]` each.
fn norms(gradients: &GradientsParams, network: &UNet) -> Vec<Tensor<1>> {
    let mut collected = GradientNorms { gradients, norms: Vec::new() };
    network.visit(&mut collected);
    collected.norms
}

fn read(values: Vec<Tensor<1>>) -> Result<Vec<f32>, TrainError> {
    Tensor::cat(values, 0).try_into_vec_as::<f32>().map_err(|e| TrainError::Tensor(format!("{e:?}")))
}

fn total(norms: &[f32]) -> f64 {
    norms.iter().map(|norm| f64::from(*norm).powi(2)).sum::<f64>().sqrt()
}

/// Whether all weights are finite.
pub(crate) fn weights_are_finite(network: &UNet) -> Result<bool, TrainError> {
    let mut weights = WeightNorms(Vec::new());
    network.valid().visit(&mut weights);
    Ok(read(weights.0)?.into_iter().all(f32::is_finite))
}

/// The norm of each parameter, `[1]`.
struct WeightNorms(Vec<Tensor<1>>);

impl ModuleVisitor for WeightNorms {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.0.push(norm_of(parameter.val()));
    }
}

/// The Euclidean norm of values, `[1]`.
fn norm_of<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    if is_on(&values) { processor::norm(values) } else { values.square().sum().sqrt() }
}

struct GradientNorms<'a> {
    gradients: &'a GradientsParams,
    /// The norm of each parameter's gradient, `[1]`.
    norms: Vec<Tensor<1>>,
}

impl ModuleVisitor for GradientNorms<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            self.norms.push(norm_of(gradient));
        }
    }
}
