//! Tests of the loss against its definition in double precision, and of its gradient against finite differences.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use super::common::{assert_same_on_any_threads, bits, noise};
use crate::{DiceReduction, KernelError, LossActivation, LossTerms, Regions, SegmentationLoss};
use proptest::prelude::*;

struct Case {
    shape: [usize; 3],
    logits: Vec<f32>,
    classes: Vec<u8>,
}

impl Case {
    fn new(shape: [usize; 3], scale: f32, ignored: bool, seed: u64) -> Self {
        let logits = noise(shape.iter().product(), seed).iter().map(|value| value * scale).collect();
        let classes = noise(shape[0] * shape[2], seed + 1)
            .iter()
            .map(|value| {
                let of = shape[1].max(2);
                let class = ((value + 1.0) / 2.0 * (of + usize::from(ignored)) as f32) as usize;
                if class >= of && ignored { 255 } else { class.min(of - 1) as u8 }
            })
            .collect();
        Self { shape, logits, classes }
    }

    fn found(&self, loss: &SegmentationLoss) -> (f64, Vec<f32>) {
        let mut gradient = vec![f32::NAN; self.logits.len()];
        let value = loss.value_and_gradient(self.shape, 1.0, &self.logits, &self.classes, &mut gradient).unwrap();
        (value, gradient)
    }

    fn logits_in_double(&self) -> Vec<f64> {
        self.logits.iter().map(|&value| f64::from(value)).collect()
    }

    /// The loss by its formula in double precision.
    fn reference(&self, loss: &SegmentationLoss, logits: &[f64]) -> f64 {
        let [batch, channels, voxels] = self.shape;
        let sigmoid = loss.activation != LossActivation::Softmax;
        let (first, smooth) = match loss.activation {
            LossActivation::Softmax => (1, 1e-5),
            LossActivation::Sigmoid => (0, 1e-6),
            LossActivation::Regions(_) => (0, 1e-5),
        };
        let is_true = |class: u8, k: usize| match &loss.activation {
            LossActivation::Softmax => usize::from(class) == k,
            LossActivation::Sigmoid => class != 0,
            LossActivation::Regions(_) => region_classes(channels)[k].contains(&class),
        };
        let (mut entropy, mut counted) = (0.0, 0.0);
        // For each sample and channel: Σ p t, Σ p, Σ t.
        let mut sums = vec![[0.0; 3]; batch * channels];
        for n in 0..batch {
            for v in 0..voxels {
                let class = self.classes[n * voxels + v];
                if class == 255 {
                    continue;
                }
                counted += if sigmoid { channels as f64 } else { 1.0 };
                let z = |k: usize| logits[(n * channels + k) * voxels + v];
                let highest = (0..channels).map(z).fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = (0..channels).map(|k| (z(k) - highest).exp()).sum();
                for k in 0..channels {
                    let t = f64::from(is_true(class, k));
                    let p = if sigmoid { 1.0 / (1.0 + (-z(k)).exp()) } else { (z(k) - highest).exp() / total };
                    let sum = &mut sums[n * channels + k];
                    *sum = [sum[0] + p * t, sum[1] + p, sum[2] + t];
                    if sigmoid {
                        entropy += z(k).max(0.0) - z(k) * t + (-z(k).abs()).exp().ln_1p();
                    } else {
                        entropy += t * (highest + total.ln() - z(k));
                    }
                }
            }
        }
        let dice = |both: f64, p: f64, t: f64| (2.0 * both + smooth) / (p + t + smooth);
        let of_channel = |k: usize| -> f64 {
            let cases: Vec<[f64; 3]> = (0..batch).map(|n| sums[n * channels + k]).collect();
            match loss.reduction {
                DiceReduction::Sample => cases.iter().map(|s| dice(s[0], s[1], s[2])).sum::<f64>() / batch as f64,
                DiceReduction::Batch => {
                    let all = |i: usize| cases.iter().map(|s| s[i]).sum::<f64>();
                    dice(all(0), all(1), all(2))
                }
            }
        };
        let dice = (first..channels).map(of_channel).sum::<f64>() / (channels - first) as f64;
        let entropy = if counted > 0.0 { entropy / counted } else { 0.0 };
        match loss.terms {
            LossTerms::CrossEntropy => entropy,
            LossTerms::Dice => 1.0 - dice,
            LossTerms::DiceCrossEntropy => entropy + 1.0 - dice,
        }
    }
}

/// `count` regions of the classes 1 to `count`: region k contains class k and all later classes. The last region, which would
/// otherwise be contained in all others, also contains class 1.
fn region_classes(count: usize) -> Vec<Vec<u8>> {
    let last = count as u8;
    let mut regions: Vec<Vec<u8>> = (1..=last).map(|first| (first..=last).collect()).collect();
    if let [_, .., end] = regions.as_mut_slice() {
        end.push(1);
    }
    regions
}

fn regions(count: usize) -> LossActivation {
    LossActivation::Regions(Regions::new(&region_classes(count), count + 1).unwrap())
}

/// The number of channels that the activation requires, or `wanted` if any is allowed.
fn channels_for(loss: &SegmentationLoss, wanted: usize) -> usize {
    match &loss.activation {
        LossActivation::Softmax => wanted,
        LossActivation::Sigmoid => 1,
        LossActivation::Regions(regions) => regions.count(),
    }
}

fn any_loss() -> impl Strategy<Value = SegmentationLoss> {
    let terms =
        prop_oneof![Just(LossTerms::CrossEntropy), Just(LossTerms::Dice), Just(LossTerms::DiceCrossEntropy)];
    let reduction = prop_oneof![Just(DiceReduction::Batch), Just(DiceReduction::Sample)];
    let activation =
        prop_oneof![Just(LossActivation::Softmax), Just(LossActivation::Sigmoid), (1_usize..5).prop_map(regions)];
    (activation, terms, reduction).prop_map(|(activation, terms, reduction)| SegmentationLoss {
        activation,
        terms,
        reduction,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn values_and_gradients_match_the_definition(
        loss in any_loss(),
        batch in 1_usize..4,
        channels in 2_usize..6,
        voxels in 1_usize..60,
        scale in prop_oneof![Just(1.0_f32), Just(10.0)],
        ignored: bool,
        seed: u64,
    ) {
        let channels = channels_for(&loss, channels);
        let case = Case::new([batch, channels, voxels], scale, ignored, seed >> 8);
        let (value, gradient) = case.found(&loss);
        let mut logits = case.logits_in_double();
        let expected = case.reference(&loss, &logits);
        prop_assert!((value - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{value} {expected}");
        for (i, &slope) in gradient.iter().enumerate() {
            let at = logits[i];
            let mut moved = |to: f64| {
                logits[i] = to;
                case.reference(&loss, &logits)
            };
            let expected = (moved(at + 1e-5) - moved(at - 1e-5)) / 2e-5;
            logits[i] = at;
            prop_assert!((f64::from(slope) - expected).abs() < 1e-6, "[{i}]: {slope} {expected}");
        }
    }

    #[test]
    fn large_inputs_are_summed_precisely(loss in any_loss(), ignored: bool, seed: u64) {
        let channels = channels_for(&loss, 3);
        let case = Case::new([2, channels, 20_001], 4.0, ignored, seed >> 8);
        let expected = case.reference(&loss, &case.logits_in_double());
        let (value, _) = case.found(&loss);
        prop_assert!((value - expected).abs() < 1e-6, "{value} {expected}");
    }
}

/// The values that the tests of the trainer's loss use, computed in double precision from the formulas of the papers.
#[test]
fn value_matches_the_trainers_reference_values() {
    let softmax = Case {
        shape: [2, 3, 2],
        logits: vec![0.5, -1.0, 2.0, 0.0, -0.5, 1.5, 1.0, 3.0, 0.25, -2.0, 0.0, 0.5],
        classes: vec![1, 2, 0, 1],
    };
    let sigmoid = Case { shape: [2, 1, 2], logits: vec![0.0, 2.0, -3.0, 1.0], classes: vec![0, 1, 1, 0] };
    for (case, activation, terms, reduction, expected) in [
        (&softmax, LossActivation::Softmax, LossTerms::Dice, DiceReduction::Batch, 0.394_555_76),
        (&softmax, LossActivation::Softmax, LossTerms::Dice, DiceReduction::Sample, 0.590_339),
        (&softmax, LossActivation::Softmax, LossTerms::DiceCrossEntropy, DiceReduction::Batch, 1.951_488_8),
        (&softmax, LossActivation::Softmax, LossTerms::DiceCrossEntropy, DiceReduction::Sample, 2.147_272),
        (&sigmoid, LossActivation::Sigmoid, LossTerms::Dice, DiceReduction::Batch, 0.553_661_75),
        (&sigmoid, LossActivation::Sigmoid, LossTerms::Dice, DiceReduction::Sample, 0.603_374_3),
        (&sigmoid, LossActivation::Sigmoid, LossTerms::DiceCrossEntropy, DiceReduction::Batch, 1.849_142_85),
    ] {
        let loss = SegmentationLoss { activation, terms, reduction };
        let (value, _) = case.found(&loss);
        assert!((value - expected).abs() < 1e-6, "{loss:?} {terms:?} {reduction:?}: {value} {expected}");
    }
}

#[test]
fn huge_logits_give_finite_results() {
    for (activation, channels) in [(LossActivation::Softmax, 3), (LossActivation::Sigmoid, 1), (regions(2), 2)] {
        let loss = SegmentationLoss {
            activation: activation.clone(),
            terms: LossTerms::DiceCrossEntropy,
            reduction: DiceReduction::Batch,
        };
        let case = Case::new([2, channels, 600], 1e4, true, 4);
        let (value, gradient) = case.found(&loss);
        let expected = case.reference(&loss, &case.logits_in_double());
        assert!((value / expected - 1.0).abs() < 1e-6, "{activation:?}: {value} {expected}");
        assert!(gradient.iter().all(|slope| slope.is_finite()), "{activation:?}");
    }
}

#[test]
fn nan_propagates_unless_ignored() {
    for terms in [LossTerms::CrossEntropy, LossTerms::Dice, LossTerms::DiceCrossEntropy] {
        for (activation, channels) in [(LossActivation::Softmax, 3), (LossActivation::Sigmoid, 1), (regions(2), 2)]
        {
            let loss =
                SegmentationLoss { activation: activation.clone(), terms, reduction: DiceReduction::Sample };
            for bad in [f32::NAN, f32::INFINITY] {
                let mut case = Case::new([1, channels, 40], 1.0, false, 5);
                case.classes[17] = 1;
                case.logits[(channels - 1) * 40 + 17] = bad;
                if bad.is_nan() || activation == LossActivation::Softmax {
                    assert!(case.found(&loss).0.is_nan(), "{activation:?} {terms:?} {bad}");
                }
                case.classes[17] = 255;
                let (value, gradient) = case.found(&loss);
                assert!(value.is_finite(), "{activation:?} {terms:?} {bad}: {value}");
                assert!((0..channels).all(|k| gradient[k * 40 + 17] == 0.0), "{activation:?} {terms:?} {bad}");
            }
        }
    }
}

#[test]
fn only_ignored_voxels_give_zero_loss() {
    let mut case = Case::new([2, 3, 50], 1.0, false, 6);
    case.classes.fill(255);
    let loss =
        |terms| SegmentationLoss { activation: LossActivation::Softmax, terms, reduction: DiceReduction::Sample };
    let (value, gradient) = case.found(&loss(LossTerms::DiceCrossEntropy));
    assert_eq!(value, 0.0);
    assert!(gradient.iter().all(|&slope| slope == 0.0));
}

#[test]
fn weight_multiplies_value_and_gradient() {
    let case = Case::new([1, 3, 70], 1.0, true, 7);
    let loss = SegmentationLoss {
        activation: LossActivation::Softmax,
        terms: LossTerms::DiceCrossEntropy,
        reduction: DiceReduction::Batch,
    };
    let (value, gradient) = case.found(&loss);
    let mut half = vec![0.0; gradient.len()];
    let found = loss.value_and_gradient(case.shape, 0.5, &case.logits, &case.classes, &mut half).unwrap();
    assert_eq!(found, value * 0.5);
    assert!(half.iter().zip(&gradient).all(|(half, whole)| (half - whole * 0.5).abs() < 1e-9));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for (activation, channels) in [(LossActivation::Softmax, 4), (LossActivation::Sigmoid, 1), (regions(3), 3)] {
        let loss =
            SegmentationLoss { activation, terms: LossTerms::DiceCrossEntropy, reduction: DiceReduction::Sample };
        let case = Case::new([3, channels, 20_011], 3.0, true, 8);
        assert_same_on_any_threads(|| {
            let (value, gradient) = case.found(&loss);
            (value.to_bits(), bits(&gradient))
        });
    }
}

#[test]
fn wrong_lengths_and_shapes_are_refused() {
    let softmax = SegmentationLoss {
        activation: LossActivation::Softmax,
        terms: LossTerms::Dice,
        reduction: DiceReduction::Sample,
    };
    let sigmoid = SegmentationLoss { activation: LossActivation::Sigmoid, ..softmax.clone() };
    let two = SegmentationLoss { activation: regions(2), ..softmax.clone() };
    let mut gradient = [0.0; 4];
    let mut run = |loss: &SegmentationLoss, shape, logits: &[f32], classes: &[u8]| {
        loss.value_and_gradient(shape, 1.0, logits, classes, &mut gradient)
    };
    assert_eq!(run(&softmax, [1, 2, 2], &[0.0; 4], &[0, 2]), Err(KernelError::Class { found: 2, classes: 2 }));
    assert!(run(&sigmoid, [1, 1, 4], &[0.0; 4], &[0, 2, 255, 1]).is_ok());
    assert!(matches!(run(&softmax, [1, 1, 4], &[0.0; 4], &[0; 4]), Err(KernelError::Shape(_))));
    assert!(matches!(run(&sigmoid, [1, 2, 2], &[0.0; 4], &[0; 2]), Err(KernelError::Shape(_))));
    assert_eq!(run(&two, [1, 2, 2], &[0.0; 4], &[0, 3]), Err(KernelError::Class { found: 3, classes: 3 }));
    assert!(matches!(run(&two, [1, 1, 4], &[0.0; 4], &[0; 4]), Err(KernelError::Shape(_))));
    assert_eq!(Regions::new(&[vec![1, 4]], 4), Err(KernelError::Class { found: 4, classes: 4 }));
    assert_eq!(Regions::new(&[vec![0]], 4), Err(KernelError::Class { found: 0, classes: 4 }));
    assert!(matches!(Regions::new(&[], 4), Err(KernelError::Shape(_))));
    assert!(matches!(Regions::new(&vec![vec![1]; 32], 4), Err(KernelError::Shape(_))));
    assert!(matches!(run(&softmax, [0, 2, 2], &[], &[]), Err(KernelError::Shape(_))));
    let found = run(&softmax, [1, 2, 2], &[0.0; 4], &[0; 3]);
    assert_eq!(found, Err(KernelError::Length { what: "classes", expected: 2, found: 3 }));
}
