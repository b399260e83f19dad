use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::processor;
use crate::network::cpu::is_on;
use crate::{TrainError, UNet};

/// What gradients of this norm are multiplied by so that it is at most `limit`.
pub(crate) fn factor(norm: f64, limit: f64) -> f64 {
    // A norm that is no number shows in the next loss, which ends the training.
    if norm.is_nan() || norm <= limit { 1.0 } else { limit / norm }
}

/// The norm of a network's gradients, all taken together.
pub(crate) fn norm(gradients: &GradientsParams, network: &UNet) -> Result<f64, TrainError> {
    let mut parts = Parts { gradients, norms: Vec::new() };
    network.visit(&mut parts);
    if parts.norms.is_empty() {
        return Ok(0.0);
    }
    // One reading for all: each makes other devices wait.
    let norms = Tensor::cat(parts.norms, 0).try_into_vec_as::<f32>();
    let norms = norms.map_err(|e| TrainError::Tensor(format!("{e:?}")))?;
    Ok(norms.into_iter().map(|norm| f64::from(norm).powi(2)).sum::<f64>().sqrt())
}

/// Whether every weight is a number.
pub(crate) fn weights_are_finite(network: &UNet) -> Result<bool, TrainError> {
    let mut weights = Weights(Vec::new());
    network.valid().visit(&mut weights);
    let norms = Tensor::cat(weights.0, 0).try_into_vec_as::<f32>();
    let norms = norms.map_err(|e| TrainError::Tensor(format!("{e:?}")))?;
    Ok(norms.into_iter().all(f32::is_finite))
}

/// The norm of each parameter, `[1]`.
struct Weights(Vec<Tensor<1>>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        self.0.push(norm_of(parameter.val()));
    }
}

/// The Euclidean norm of values, `[1]`.
fn norm_of<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    if is_on(&values) { processor::norm(values) } else { values.square().sum().sqrt() }
}

struct Parts<'a> {
    gradients: &'a GradientsParams,
    /// Of each parameter, `[1]`.
    norms: Vec<Tensor<1>>,
}

impl ModuleVisitor for Parts<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(parameter.id) {
            self.norms.push(norm_of(gradient));
        }
    }
}
