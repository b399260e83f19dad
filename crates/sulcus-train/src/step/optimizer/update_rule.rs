use burn::tensor::{Device, Tensor};
use sulcus_kernels::{Adam, Sgd, StepSize};
use sulcus_plan::Optimizer;

use super::processor;
use crate::network::cpu::{done, is_on};

/// The optimizer's state of one parameter.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    /// Number of steps.
    pub(super) steps: u64,
    /// Adam's mean and mean square, or SGD's velocity; each as long as the parameter.
    pub(super) values: Vec<Tensor<1>>,
}

/// The update rule of a step.
#[derive(Debug, Clone, Copy)]
pub(super) enum UpdateRule {
    Adam(Adam),
    Sgd(Sgd),
}

impl UpdateRule {
    pub(super) fn of(choice: Optimizer) -> Self {
        match choice {
            Optimizer::Sgd { momentum, nesterov, weight_decay } => {
                Self::Sgd(Sgd { momentum, nesterov, weight_decay: weight_decay.into() })
            }
            Optimizer::Adam => Self::Adam(Adam::new(0.0)),
            Optimizer::AdamW { weight_decay } => Self::Adam(Adam::new(weight_decay.into())),
        }
    }

    /// The number of moments per weight.
    pub(super) fn moments(self) -> usize {
        match self {
            Self::Adam(_) => 2,
            Self::Sgd(_) => 1,
        }
    }

    /// Updates one parameter.
    ///
    /// # Shapes
    /// `weight`, `gradient`, each moment: `[values]`.
    pub(super) fn step(
        self,
        size: StepSize,
        weight: Tensor<1>,
        gradient: Tensor<1>,
        moments: Option<Moments>,
    ) -> (Tensor<1>, Moments) {
        let device = weight.device();
        let Moments { steps, values } = moments.unwrap_or(Moments { steps: 0, values: vec![] });
        let mut values = values.into_iter().map(|values| on_device(values, &device));
        let mut moment = || values.next().unwrap_or_else(|| Tensor::zeros(weight.shape(), &device));
        let steps = steps + 1;
        match self {
            Self::Adam(rule) => {
                let (mean, square) = (moment(), moment());
                let step = if is_on(&weight) { processor::adam } else { adam };
                let (weight, mean, square) = step(rule, steps, size, weight, gradient, [mean, square]);
                (weight, Moments { steps, values: vec![mean, square] })
            }
            Self::Sgd(rule) => {
                let velocity = moment();
                let step = if is_on(&weight) { processor::sgd } else { sgd };
                let (weight, velocity) = step(rule, size, weight, gradient, velocity);
                (weight, Moments { steps, values: vec![velocity] })
            }
        }
    }
}

/// Moves moments to a device; after reading a file they are on the processor.
fn on_device(values: Tensor<1>, device: &Device) -> Tensor<1> {
    if values.device() == *device { values } else { values.to_device(device) }
}

/// [`Adam::step`], composed of Burn's operations.
pub(super) fn adam(
    rule: Adam,
    number: u64,
    size: StepSize,
    weight: Tensor<1>,
    gradient: Tensor<1>,
    [mean, square]: [Tensor<1>; 2],
) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let factors = done(rule.factors(number, size));
    let gradient = gradient * factors.gradient;
    let mean = mean * factors.mean[0] + gradient.clone() * factors.mean[1];
    let square = square * factors.square[0] + gradient.square() * factors.square[1];
    let update = mean.clone() * factors.rate / (square.clone().sqrt() * factors.root + factors.epsilon);
    (weight * factors.keep - update, mean, square)
}

/// [`Sgd::step`], composed of Burn's operations.
pub(super) fn sgd(
    rule: Sgd,
    size: StepSize,
    weight: Tensor<1>,
    gradient: Tensor<1>,
    velocity: Tensor<1>,
) -> (Tensor<1>, Tensor<1>) {
    let gradient = gradient * size.gradient_factor + weight.clone() * rule.weight_decay;
    let velocity = velocity * rule.momentum + gradient.clone();
    let update = if rule.nesterov { gradient + velocity.clone() * rule.momentum } else { velocity.clone() };
    (weight - update * size.learning_rate, velocity)
}
