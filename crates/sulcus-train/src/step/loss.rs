//! The loss functions.

use std::sync::Arc;

use burn::tensor::activation::{log_sigmoid, log_softmax, sigmoid, softmax};
use burn::tensor::{Int, Tensor};
use sulcus_kernels::{DiceReduction, LossActivation, LossTerms, SegmentationLoss};
use sulcus_model::OutputActivation;
use sulcus_plan::{DiceScope, Loss};

use super::targets::Targets;
use crate::network::cpu;

/// Keeps the Dice of one sigmoid channel defined if both masks are empty.
const SIGMOID_SMOOTH: f64 = 1e-6;
/// The same for softmax classes and regions; nnU-Net's value.
const SMOOTH: f64 = 1e-5;

/// The loss of a batch.
///
/// Softmax: Dice is the mean over the foreground classes; cross-entropy over all voxels. Sigmoid: any class above
/// 0 is foreground. Regions: the targets define them; Dice and binary cross-entropy are means over them.
///
/// # Shapes
/// `logits` `[N, K, D, H, W]`, `targets` `[N, D, H, W]` → `[1]`.
pub fn segmentation_loss(
    loss: Loss,
    output: OutputActivation,
    scope: DiceScope,
    logits: Tensor<5>,
    targets: &Targets,
) -> Tensor<1> {
    if cpu::is_on(&logits) {
        let kind = SegmentationLoss {
            activation: match (output, &targets.regions) {
                (OutputActivation::Regions, Some(regions)) => LossActivation::Regions(regions.clone()),
                // Without regions there is one channel; the kernel refuses more.
                (OutputActivation::Sigmoid | OutputActivation::Regions, _) => LossActivation::Sigmoid,
                (OutputActivation::Softmax, _) => LossActivation::Softmax,
            },
            terms: match loss {
                Loss::Dice => LossTerms::Dice,
                Loss::DiceCe => LossTerms::DiceCrossEntropy,
            },
            reduction: match scope {
                DiceScope::Batch => DiceReduction::Batch,
                DiceScope::Case => DiceReduction::Sample,
            },
        };
        return cpu::loss(kind, logits, Arc::clone(&targets.classes));
    }
    loss_by_burn(loss, output, scope, logits, targets)
}

/// The same, composed of Burn's operations, for GPUs.
fn loss_by_burn(
    loss: Loss,
    output: OutputActivation,
    scope: DiceScope,
    logits: Tensor<5>,
    targets: &Targets,
) -> Tensor<1> {
    let [n, k, d, h, w] = logits.dims();
    let classes = targets.tensor(&logits.device());
    let logits = logits.reshape([n, k, d * h * w, 1]);
    let ignored = i64::from(Targets::IGNORED);
    let counted = classes.clone().not_equal_elem(ignored).float();
    match output {
        OutputActivation::Regions => {
            let truth = targets.region_masks(k, &logits.device());
            let probabilities = sigmoid(logits.clone()) * counted.clone();
            let dice = soft_dice(probabilities, truth.clone(), scope, SMOOTH);
            match loss {
                Loss::Dice => 1.0 - dice,
                Loss::DiceCe => binary_cross_entropy(logits, truth, counted.repeat_dim(1, k)) + 1.0 - dice,
            }
        }
        OutputActivation::Sigmoid => {
            let truth = classes.greater_elem(0).float() * counted.clone();
            let probabilities = sigmoid(logits.clone()) * counted.clone();
            let dice = soft_dice(probabilities, truth.clone(), scope, SIGMOID_SMOOTH);
            match loss {
                Loss::Dice => 1.0 - dice,
                Loss::DiceCe => binary_cross_entropy(logits, truth, counted) + 1.0 - dice,
            }
        }
        OutputActivation::Softmax => {
            let truth = one_hot(classes, k);
            let probabilities = softmax(logits.clone(), 1) * counted.clone();
            let dice = soft_dice(foreground(probabilities), foreground(truth.clone()), scope, SMOOTH);
            match loss {
                Loss::Dice => 1.0 - dice,
                Loss::DiceCe => cross_entropy(logits, truth, counted) + 1.0 - dice,
            }
        }
    }
}

/// (2 Σ p t + s) / (Σ p + Σ t + s), the mean over channels, and over cases if each is summed alone.
///
/// # Shapes
/// Both `[N, K, V, 1]` → `[1]`.
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

/// Mean of −log p(truth) over the counted voxels.
fn cross_entropy(logits: Tensor<4>, truth: Tensor<4>, counted: Tensor<4>) -> Tensor<1> {
    (log_softmax(logits, 1) * truth).sum() / counted.sum().clamp_min(1.0).neg()
}

/// Mean of −t log σ(x) − (1 − t) log σ(−x) over the counted voxels. `log_sigmoid` avoids an overflow of large logits.
fn binary_cross_entropy(logits: Tensor<4>, truth: Tensor<4>, counted: Tensor<4>) -> Tensor<1> {
    let background = counted.clone() - truth.clone();
    let sum = (truth * log_sigmoid(logits.clone()) + background * log_sigmoid(logits.neg())).sum();
    sum / counted.sum().clamp_min(1.0).neg()
}

/// # Shapes
/// `[N, 1, V, 1]` → `[N, K, V, 1]`.
fn one_hot(targets: Tensor<4, Int>, classes: usize) -> Tensor<4> {
    let device = targets.device();
    let indices = Tensor::<1, Int>::arange(0..classes as i64, &device).reshape([1, classes, 1, 1]);
    targets.equal(indices).float()
}

/// All channels except the first.
fn foreground(maps: Tensor<4>) -> Tensor<4> {
    let classes = maps.dims()[1];
    maps.narrow(1, 1, classes.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use sulcus_kernels::Regions;

    use super::*;

    /// Reference figures below were computed in double precision with NumPy from the formulas in the papers.
    const TOLERANCE: f32 = 1e-6;

    const REGIONS_DICE_BATCH: f32 = 0.516_232;
    const REGIONS_DICE_CASE: f32 = 0.553_819_8;
    const REGIONS_ENTROPY: f32 = 0.897_070_4;

    fn three_classes(device: &Device) -> (Tensor<5>, Targets) {
        let logits = vec![0.5_f32, -1.0, 2.0, 0.0, -0.5, 1.5, 1.0, 3.0, 0.25, -2.0, 0.0, 0.5];
        (
            Tensor::from_data(TensorData::new(logits, [2, 3, 1, 1, 2]), device),
            Targets::new(vec![1, 2, 0, 1], [2, 1, 1, 2]).unwrap(),
        )
    }

    fn one_channel(device: &Device) -> (Tensor<5>, Targets) {
        (
            Tensor::from_data(TensorData::new(vec![0.0_f32, 2.0, -3.0, 1.0], [2, 1, 1, 1, 2]), device),
            Targets::new(vec![0, 1, 1, 0], [2, 1, 1, 2]).unwrap(),
        )
    }

    /// Classes 1 to 3: all of them, the last two, the first and the last.
    fn overlapping(device: &Device) -> (Tensor<5>, Targets) {
        let (logits, targets) = three_classes(device);
        let regions = Regions::new(&[vec![1, 2, 3], vec![2, 3], vec![1, 3]], 4).unwrap();
        (logits, targets.with_regions(Some(regions)))
    }

    fn each_output(device: &Device) -> [(OutputActivation, (Tensor<5>, Targets)); 3] {
        [
            (OutputActivation::Softmax, three_classes(device)),
            (OutputActivation::Sigmoid, one_channel(device)),
            (OutputActivation::Regions, overlapping(device)),
        ]
    }

    fn check(found: Tensor<1>, expected: f32) {
        let found: f32 = found.into_scalar();
        assert!((found - expected).abs() < TOLERANCE, "found {found}, expected {expected}");
    }

    #[test]
    fn softmax_dice_excludes_the_background() {
        let (logits, targets) = three_classes(&Device::flex());
        let value = |loss: Loss, scope| {
            segmentation_loss(loss, OutputActivation::Softmax, scope, logits.clone(), &targets)
        };
        check(value(Loss::Dice, DiceScope::Batch), 0.394_555_76);
        check(value(Loss::Dice, DiceScope::Case), 0.590_339);
        check(value(Loss::DiceCe, DiceScope::Batch), 1.951_488_8);
        check(value(Loss::DiceCe, DiceScope::Case), 2.147_272);
    }

    #[test]
    fn sigmoid_loss_has_one_channel() {
        let (logits, targets) = one_channel(&Device::flex());
        let value = |loss: Loss, scope| {
            segmentation_loss(loss, OutputActivation::Sigmoid, scope, logits.clone(), &targets)
        };
        check(value(Loss::Dice, DiceScope::Batch), 0.553_661_75);
        check(value(Loss::Dice, DiceScope::Case), 0.603_374_3);
        check(value(Loss::DiceCe, DiceScope::Batch), 0.553_661_75 + 1.295_481_1);
    }

    #[test]
    fn region_losses_are_means_over_channels() {
        let (logits, targets) = overlapping(&Device::flex());
        let value = |loss: Loss, scope| {
            segmentation_loss(loss, OutputActivation::Regions, scope, logits.clone(), &targets)
        };
        check(value(Loss::Dice, DiceScope::Batch), REGIONS_DICE_BATCH);
        check(value(Loss::Dice, DiceScope::Case), REGIONS_DICE_CASE);
        check(value(Loss::DiceCe, DiceScope::Batch), REGIONS_DICE_BATCH + REGIONS_ENTROPY);
        assert_eq!(targets.coarser([1, 1, 2]).unwrap().regions, targets.regions);
    }

    /// Logits that are far above for the truth and far below for everything else.
    fn sure(targets: &Targets, classes: usize, device: &Device) -> Tensor<5> {
        let [n, d, h, w] = targets.shape();
        let truth = match classes {
            1 => targets.tensor(device).float(),
            _ => one_hot(targets.tensor(device), classes),
        };
        (truth - 0.5).mul_scalar(400.0).reshape([n, classes, d, h, w])
    }

    #[test]
    fn perfect_prediction_has_zero_loss_and_large_logits_stay_finite() {
        let device = Device::flex();
        let (_, targets) = three_classes(&device);
        let value =
            |output, logits, targets| segmentation_loss(Loss::DiceCe, output, DiceScope::Batch, logits, targets);
        check(value(OutputActivation::Softmax, sure(&targets, 3, &device), &targets), 0.0);
        let (_, targets) = one_channel(&device);
        let sure = sure(&targets, 1, &device);
        check(value(OutputActivation::Sigmoid, sure.clone(), &targets), 0.0);
        let wrong: f32 = value(OutputActivation::Sigmoid, sure.neg(), &targets).into_scalar();
        assert!((wrong - 201.0).abs() < 0.01, "{wrong}");
    }

    #[test]
    fn empty_masks_have_a_finite_loss() {
        let device = Device::flex();
        let none = Targets::new(vec![0; 4], [1, 1, 2, 2]).unwrap();
        let sure_of_nothing = Tensor::<5>::full([1, 1, 1, 2, 2], -200.0, &device);
        check(
            segmentation_loss(Loss::Dice, OutputActivation::Sigmoid, DiceScope::Batch, sure_of_nothing, &none),
            0.0,
        );
    }

    #[test]
    fn ignored_voxels_do_not_change_the_loss() {
        let device = Device::flex();
        let targets = Targets::new(vec![1, Targets::IGNORED, 0, 2], [1, 1, 2, 2]).unwrap();
        let shorter = Targets::new(vec![1, 0, 2], [1, 1, 1, 3]).unwrap();
        for (output, classes) in [(OutputActivation::Softmax, 3), (OutputActivation::Sigmoid, 1)] {
            for loss in [Loss::Dice, Loss::DiceCe] {
                let logits = |columns: &[usize], ignored: f32| -> Tensor<5> {
                    let value =
                        |k: usize, v: usize| if v == 1 { ignored } else { (k * 7 + v * 3) as f32 % 5.0 - 2.0 };
                    let all = (0..classes).flat_map(|k| columns.iter().map(move |v| value(k, *v))).collect();
                    let shape = if columns.len() == 4 { [1, classes, 1, 2, 2] } else { [1, classes, 1, 1, 3] };
                    Tensor::from_data(TensorData::new::<f32, _>(all, shape), &device)
                };
                let without: f32 =
                    segmentation_loss(loss, output, DiceScope::Batch, logits(&[0, 2, 3], 0.0), &shorter)
                        .into_scalar();
                for ignored in [-50.0, 0.0, 50.0] {
                    let with = logits(&[0, 1, 2, 3], ignored);
                    check(segmentation_loss(loss, output, DiceScope::Batch, with, &targets), without);
                }
            }
        }
    }

    #[test]
    fn loss_and_gradient_equal_burns_operations() {
        let device = Device::flex().autodiff();
        for (output, (logits, targets)) in each_output(&device) {
            let mut classes = targets.classes.to_vec();
            classes[2] = Targets::IGNORED;
            let with_ignored =
                Targets::new(classes, targets.shape()).unwrap().with_regions(targets.regions.clone());
            for targets in [targets.clone(), with_ignored] {
                for loss in [Loss::Dice, Loss::DiceCe] {
                    for scope in [DiceScope::Batch, DiceScope::Case] {
                        let (a, b) = (logits.clone().require_grad(), logits.clone().detach().require_grad());
                        let ours = segmentation_loss(loss, output, scope, a.clone(), &targets);
                        let burns = loss_by_burn(loss, output, scope, b.clone(), &targets);
                        check(ours.clone(), burns.clone().into_scalar());
                        // A weight on the loss, as deep supervision has.
                        let (of_ours, of_burns) = ((ours * 0.3).backward(), (burns * 0.3).backward());
                        let values = |tensor: Tensor<5>| -> Vec<f32> { tensor.try_into_vec_as().unwrap() };
                        let (found, expected) =
                            (values(a.grad(&of_ours).unwrap()), values(b.grad(&of_burns).unwrap()));
                        for (found, expected) in found.iter().zip(&expected) {
                            assert!(
                                (found - expected).abs() < TOLERANCE,
                                "{output:?} {loss:?} {scope:?}: {found} {expected}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn coarser_targets_use_the_centre_of_each_window() {
        let classes: Vec<u8> = (0..2 * 2 * 4 * 6).collect();
        let targets = Targets::new(classes, [2, 2, 4, 6]).unwrap();
        let coarse = targets.coarser([1, 2, 3]).unwrap();
        assert_eq!(coarse.shape(), [2, 2, 2, 2]);
        // Rows 1 and 3, columns 1 and 4 of each plane.
        assert_eq!(coarse.classes[..4], [7, 10, 19, 22]);
        assert_eq!(coarse.classes[12..], [79, 82, 91, 94]);
        assert_eq!(targets.coarser([1, 1, 1]).unwrap(), targets);
        assert!(targets.coarser([1, 3, 1]).is_err());
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let device = Device::flex().autodiff();
        for (output, (logits, targets)) in each_output(&device) {
            for loss in [Loss::Dice, Loss::DiceCe] {
                let value =
                    |logits: Tensor<5>| segmentation_loss(loss, output, DiceScope::Batch, logits, &targets);
                let tracked = logits.clone().require_grad();
                let gradients = value(tracked.clone()).backward();
                let found: Vec<f32> = tracked.grad(&gradients).unwrap().try_into_vec_as().unwrap();
                let flat: Vec<f32> = logits.clone().try_into_vec_as().unwrap();
                for (i, slope) in found.iter().enumerate() {
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
