//! The loss against its definition in double precision, and its gradient against differences of that.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use super::common::{bits, noise, on_any_threads};
use crate::{Activation, DiceSums, KernelError, Regions, SegmentationLoss, Terms};
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

    /// The loss from its formula.
    fn reference(&self, loss: &SegmentationLoss, logits: &[f64]) -> f64 {
        let [batch, channels, voxels] = self.shape;
        let sigmoid = loss.activation != Activation::Softmax;
        let (first, smooth) = match loss.activation {
            Activation::Softmax => (1, 1e-5),
            Activation::Sigmoid => (0, 1e-6),
            Activation::Regions(_) => (0, 1e-5),
        };
        let is_true = |class: u8, k: usize| match &loss.activation {
            Activation::Softmax => usize::from(class) == k,
            Activation::Sigmoid => class != 0,
            Activation::Regions(_) => region_classes(channels)[k].contains(&class),
        };
        let (mut entropy, mut counted) = (0.0, 0.0);
        // Per case and channel: Σ p t, Σ p, Σ t.
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
            match loss.sums {
                DiceSums::Case => cases.iter().map(|s| dice(s[0], s[1], s[2])).sum::<f64>() / batch as f64,
                DiceSums::Batch => {
                    let all = |i: usize| cases.iter().map(|s| s[i]).sum::<f64>();
                    dice(all(0), all(1), all(2))
                }
            }
        };
        let dice = (first..channels).map(of_channel).sum::<f64>() / (channels - first) as f64;
        let entropy = if counted > 0.0 { entropy / counted } else { 0.0 };
        match loss.terms {
            Terms::CrossEntropy => entropy,
            Terms::Dice => 1.0 - dice,
            Terms::DiceCrossEntropy => entropy + 1.0 - dice,
        }
    }
}

/// Classes 1 to `count` of so many regions: each region holds its own class and all after it, and the last one, which
/// overlaps with none but the first, class 1 as well.
fn region_classes(count: usize) -> Vec<Vec<u8>> {
    let last = count as u8;
    let mut regions: Vec<Vec<u8>> = (1..=last).map(|first| (first..=last).collect()).collect();
    if let [_, .., end] = regions.as_mut_slice() {
        end.push(1);
    }
    regions
}

fn regions(count: usize) -> Activation {
    Activation::Regions(Regions::new(&region_classes(count), count + 1).unwrap())
}

/// Channels that go with the activation, as near to the wanted number as can be.
fn fitting(loss: &SegmentationLoss, wanted: usize) -> usize {
    match &loss.activation {
        Activation::Softmax => wanted,
        Activation::Sigmoid => 1,
        Activation::Regions(regions) => regions.count(),
    }
}

fn any_loss() -> impl Strategy<Value = SegmentationLoss> {
    let terms = prop_oneof![Just(Terms::CrossEntropy), Just(Terms::Dice), Just(Terms::DiceCrossEntropy)];
    let sums = prop_oneof![Just(DiceSums::Batch), Just(DiceSums::Case)];
    let activation =
        prop_oneof![Just(Activation::Softmax), Just(Activation::Sigmoid), (1_usize..5).prop_map(regions)];
    (activation, terms, sums).prop_map(|(activation, terms, sums)| SegmentationLoss { activation, terms, sums })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn values_and_gradients_are_the_definition_s(
        loss in any_loss(),
        batch in 1_usize..4,
        channels in 2_usize..6,
        voxels in 1_usize..60,
        scale in prop_oneof![Just(1.0_f32), Just(10.0)],
        ignored: bool,
        seed: u64,
    ) {
        let channels = fitting(&loss, channels);
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
    fn large_inputs_keep_their_digits(loss in any_loss(), ignored: bool, seed: u64) {
        let channels = fitting(&loss, 3);
        let case = Case::new([2, channels, 20_001], 4.0, ignored, seed >> 8);
        let expected = case.reference(&loss, &case.logits_in_double());
        let (value, _) = case.found(&loss);
        prop_assert!((value - expected).abs() < 1e-6, "{value} {expected}");
    }
}

/// The figures that the trainer's own loss is checked with, computed in double precision from the papers' formulas.
#[test]
fn the_trainer_s_figures_are_met() {
    let softmax = Case {
        shape: [2, 3, 2],
        logits: vec![0.5, -1.0, 2.0, 0.0, -0.5, 1.5, 1.0, 3.0, 0.25, -2.0, 0.0, 0.5],
        classes: vec![1, 2, 0, 1],
    };
    let sigmoid = Case { shape: [2, 1, 2], logits: vec![0.0, 2.0, -3.0, 1.0], classes: vec![0, 1, 1, 0] };
    for (case, activation, terms, sums, expected) in [
        (&softmax, Activation::Softmax, Terms::Dice, DiceSums::Batch, 0.394_555_76),
        (&softmax, Activation::Softmax, Terms::Dice, DiceSums::Case, 0.590_339),
        (&softmax, Activation::Softmax, Terms::DiceCrossEntropy, DiceSums::Batch, 1.951_488_8),
        (&softmax, Activation::Softmax, Terms::DiceCrossEntropy, DiceSums::Case, 2.147_272),
        (&sigmoid, Activation::Sigmoid, Terms::Dice, DiceSums::Batch, 0.553_661_75),
        (&sigmoid, Activation::Sigmoid, Terms::Dice, DiceSums::Case, 0.603_374_3),
        (&sigmoid, Activation::Sigmoid, Terms::DiceCrossEntropy, DiceSums::Batch, 1.849_142_85),
    ] {
        let loss = SegmentationLoss { activation, terms, sums };
        let (value, _) = case.found(&loss);
        assert!((value - expected).abs() < 1e-6, "{loss:?} {terms:?} {sums:?}: {value} {expected}");
    }
}

#[test]
fn huge_logits_stay_finite() {
    for (activation, channels) in [(Activation::Softmax, 3), (Activation::Sigmoid, 1), (regions(2), 2)] {
        let loss = SegmentationLoss {
            activation: activation.clone(),
            terms: Terms::DiceCrossEntropy,
            sums: DiceSums::Batch,
        };
        let case = Case::new([2, channels, 600], 1e4, true, 4);
        let (value, gradient) = case.found(&loss);
        let expected = case.reference(&loss, &case.logits_in_double());
        assert!((value / expected - 1.0).abs() < 1e-6, "{activation:?}: {value} {expected}");
        assert!(gradient.iter().all(|slope| slope.is_finite()), "{activation:?}");
    }
}

#[test]
fn nan_is_not_lost_unless_ignored() {
    for terms in [Terms::CrossEntropy, Terms::Dice, Terms::DiceCrossEntropy] {
        for (activation, channels) in [(Activation::Softmax, 3), (Activation::Sigmoid, 1), (regions(2), 2)] {
            let loss = SegmentationLoss { activation: activation.clone(), terms, sums: DiceSums::Case };
            for bad in [f32::NAN, f32::INFINITY] {
                let mut case = Case::new([1, channels, 40], 1.0, false, 5);
                case.classes[17] = 1;
                case.logits[(channels - 1) * 40 + 17] = bad;
                if bad.is_nan() || activation == Activation::Softmax {
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
fn ignored_voxels_alone_cost_nothing() {
    let mut case = Case::new([2, 3, 50], 1.0, false, 6);
    case.classes.fill(255);
    let loss = |terms| SegmentationLoss { activation: Activation::Softmax, terms, sums: DiceSums::Case };
    let (value, gradient) = case.found(&loss(Terms::DiceCrossEntropy));
    assert_eq!(value, 0.0);
    assert!(gradient.iter().all(|&slope| slope == 0.0));
}

#[test]
fn a_weight_multiplies_both() {
    let case = Case::new([1, 3, 70], 1.0, true, 7);
    let loss = SegmentationLoss {
        activation: Activation::Softmax,
        terms: Terms::DiceCrossEntropy,
        sums: DiceSums::Batch,
    };
    let (value, gradient) = case.found(&loss);
    let mut half = vec![0.0; gradient.len()];
    let found = loss.value_and_gradient(case.shape, 0.5, &case.logits, &case.classes, &mut half).unwrap();
    assert_eq!(found, value * 0.5);
    assert!(half.iter().zip(&gradient).all(|(half, whole)| (half - whole * 0.5).abs() < 1e-9));
}

#[test]
fn threads_change_no_bit() {
    for (activation, channels) in [(Activation::Softmax, 4), (Activation::Sigmoid, 1), (regions(3), 3)] {
        let loss = SegmentationLoss { activation, terms: Terms::DiceCrossEntropy, sums: DiceSums::Case };
        let case = Case::new([3, channels, 20_011], 3.0, true, 8);
        on_any_threads(|| {
            let (value, gradient) = case.found(&loss);
            (value.to_bits(), bits(&gradient))
        });
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let softmax = SegmentationLoss { activation: Activation::Softmax, terms: Terms::Dice, sums: DiceSums::Case };
    let sigmoid = SegmentationLoss { activation: Activation::Sigmoid, ..softmax.clone() };
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
