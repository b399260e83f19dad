//! What training minimises.

use burn::tensor::activation::{log_sigmoid, log_softmax, sigmoid, softmax};
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};
use sulcus_pipeline::Output;

/// Keeps the Dice of one sigmoid channel defined where both masks are empty.
const SIGMOID_SMOOTH: f64 = 1e-6;
/// The same for softmax classes; nnU-Net's value.
const SOFTMAX_SMOOTH: f64 = 1e-5;

/// What training minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// 1 − soft Dice (Milletari et al. 2016).
    Dice,
    /// Cross-entropy + 1 − soft Dice (Isensee et al. 2021).
    DiceCe,
}

/// Over what soft Dice sums before it divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiceScope {
    /// All slices of the batch together: a class that is small in one slice counts little there. nnU-Net's 2-D choice.
    Batch,
    /// Each slice alone, then the mean.
    Case,
}

impl Loss {
    /// The loss of a batch.
    ///
    /// Softmax: Dice is the mean over the foreground classes; cross-entropy over all voxels and classes. Sigmoid:
    /// any class above 0 is foreground.
    ///
    /// # Shapes
    /// `logits` `[N, K, H, W]`, `targets` `[N, H, W]` class indices below K (0 or 1 for sigmoid) → `[1]`.
    pub fn forward(
        self,
        output: Output,
        scope: DiceScope,
        logits: Tensor<4>,
        targets: Tensor<3, Int>,
    ) -> Tensor<1> {
        match output {
            Output::Sigmoid => {
                let truth = targets.greater_elem(0).float().unsqueeze_dim::<4>(1);
                let dice = soft_dice(sigmoid(logits.clone()), truth.clone(), scope, SIGMOID_SMOOTH);
                match self {
                    Self::Dice => 1.0 - dice,
                    Self::DiceCe => binary_cross_entropy(logits, truth) + 1.0 - dice,
                }
            }
            Output::Softmax => {
                let classes = logits.dims()[1];
                let truth = one_hot(targets, classes);
                let probabilities = softmax(logits.clone(), 1);
                let dice = soft_dice(foreground(probabilities), foreground(truth.clone()), scope, SOFTMAX_SMOOTH);
                match self {
                    Self::Dice => 1.0 - dice,
                    Self::DiceCe => cross_entropy(logits, truth) + 1.0 - dice,
                }
            }
        }
    }
}

/// (2 Σ p t + s) / (Σ p + Σ t + s), the mean over channels, and over cases where each is summed alone.
///
/// # Shapes
/// Both `[N, K, H, W]` → `[1]`.
fn soft_dice(probabilities: Tensor<4>, truth: Tensor<4>, scope: DiceScope, smooth: f64) -> Tensor<1> {
    let sums = |values: Tensor<4>| {
        let per_case = values.sum_dim(3).sum_dim(2);
        match scope {
            DiceScope::Batch => per_case.sum_dim(0),
            DiceScope::Case => per_case,
        }
    };
    let both = sums(probabilities.clone() * truth.clone());
    let either = sums(probabilities) + sums(truth);
    ((both * 2.0 + smooth) / (either + smooth)).mean()
}

/// Mean over voxels of −log p(truth).
fn cross_entropy(logits: Tensor<4>, truth: Tensor<4>) -> Tensor<1> {
    let [cases, _, height, width] = logits.dims();
    let voxels = (cases * height * width) as f64;
    (log_softmax(logits, 1) * truth).sum() / -voxels
}

/// Mean over voxels of −t log σ(x) − (1 − t) log σ(−x). The logarithm is taken before the sigmoid is rounded, so no
/// logit overflows.
fn binary_cross_entropy(logits: Tensor<4>, truth: Tensor<4>) -> Tensor<1> {
    let background = truth.clone().neg() + 1.0;
    (truth * log_sigmoid(logits.clone()) + background * log_sigmoid(logits.neg())).mean().neg()
}

/// # Shapes
/// `[N, H, W]` → `[N, K, H, W]`.
fn one_hot(targets: Tensor<3, Int>, classes: usize) -> Tensor<4> {
    let device = targets.device();
    let indices = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes, 1, 1]);
    targets.unsqueeze_dim::<4>(1).equal(indices).float()
}

/// All channels but the first.
fn foreground(maps: Tensor<4>) -> Tensor<4> {
    let classes = maps.dims()[1];
    maps.narrow(1, 1, classes.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Reference figures below were computed in double precision with NumPy from the formulas in the papers.
    const TOLERANCE: f32 = 1e-6;

    fn three_classes(device: &Device) -> (Tensor<4>, Tensor<3, Int>) {
        let logits = vec![0.5_f32, -1.0, 2.0, 0.0, -0.5, 1.5, 1.0, 3.0, 0.25, -2.0, 0.0, 0.5];
        let targets = vec![1_i64, 2, 0, 1];
        (
            Tensor::from_data(TensorData::new(logits, [2, 3, 1, 2]), device),
            Tensor::from_data(TensorData::new(targets, [2, 1, 2]), device),
        )
    }

    fn one_channel(device: &Device) -> (Tensor<4>, Tensor<3, Int>) {
        (
            Tensor::from_data(TensorData::new(vec![0.0_f32, 2.0, -3.0, 1.0], [2, 1, 1, 2]), device),
            Tensor::from_data(TensorData::new(vec![0_i64, 1, 1, 0], [2, 1, 2]), device),
        )
    }

    fn check(found: Tensor<1>, expected: f32) {
        let found: f32 = found.into_scalar();
        assert!((found - expected).abs() < TOLERANCE, "found {found}, expected {expected}");
    }

    #[test]
    fn softmax_losses_leave_the_background_out_of_dice() {
        let (logits, targets) = three_classes(&Device::flex());
        let value = |loss: Loss, scope| loss.forward(Output::Softmax, scope, logits.clone(), targets.clone());
        check(value(Loss::Dice, DiceScope::Batch), 0.394_555_76);
        check(value(Loss::Dice, DiceScope::Case), 0.590_339);
        check(value(Loss::DiceCe, DiceScope::Batch), 1.951_488_8);
        check(value(Loss::DiceCe, DiceScope::Case), 2.147_272);
    }

    #[test]
    fn sigmoid_losses_take_one_channel() {
        let (logits, targets) = one_channel(&Device::flex());
        let value = |loss: Loss, scope| loss.forward(Output::Sigmoid, scope, logits.clone(), targets.clone());
        check(value(Loss::Dice, DiceScope::Batch), 0.553_661_75);
        check(value(Loss::Dice, DiceScope::Case), 0.603_374_3);
        check(value(Loss::DiceCe, DiceScope::Batch), 0.553_661_75 + 1.295_481_1);
    }

    #[test]
    fn a_perfect_answer_costs_nothing_and_huge_logits_stay_finite() {
        let device = Device::flex();
        let (_, targets) = three_classes(&device);
        let sure = (one_hot(targets.clone(), 3) - 0.5) * 400.0;
        check(Loss::DiceCe.forward(Output::Softmax, DiceScope::Batch, sure, targets), 0.0);
        let (_, targets) = one_channel(&device);
        let sure = (targets.clone().float().unsqueeze_dim::<4>(1) - 0.5) * 400.0;
        check(Loss::DiceCe.forward(Output::Sigmoid, DiceScope::Batch, sure.clone(), targets.clone()), 0.0);
        let wrong: f32 =
            Loss::DiceCe.forward(Output::Sigmoid, DiceScope::Batch, sure.neg(), targets).into_scalar();
        assert!((wrong - 201.0).abs() < 0.01, "{wrong}");
    }

    #[test]
    fn empty_masks_have_a_defined_loss() {
        let device = Device::flex();
        let none = Tensor::<3, Int>::zeros([1, 2, 2], &device);
        let sure_of_nothing = Tensor::<4>::full([1, 1, 2, 2], -200.0, &device);
        check(Loss::Dice.forward(Output::Sigmoid, DiceScope::Batch, sure_of_nothing, none), 0.0);
    }

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        let device = Device::flex().autodiff();
        for (output, (logits, targets)) in
            [(Output::Softmax, three_classes(&device)), (Output::Sigmoid, one_channel(&device))]
        {
            for loss in [Loss::Dice, Loss::DiceCe] {
                let value = |logits: Tensor<4>| loss.forward(output, DiceScope::Batch, logits, targets.clone());
                let tracked = logits.clone().require_grad();
                let gradients = value(tracked.clone()).backward();
                let slopes: Vec<f32> = tracked.grad(&gradients).unwrap().try_into_vec_as().unwrap();
                let flat: Vec<f32> = logits.clone().try_into_vec_as().unwrap();
                for (i, slope) in slopes.iter().enumerate() {
                    let at = |step: f32| -> f32 {
                        let mut moved = flat.clone();
                        moved[i] += step;
                        value(Tensor::from_data(TensorData::new(moved, logits.dims()), &device)).into_scalar()
                    };
                    let difference = (at(0.01) - at(-0.01)) / 0.02;
                    assert!((slope - difference).abs() < 1e-3, "{output:?} {loss:?} {i}: {slope} {difference}");
                }
            }
        }
    }
}
