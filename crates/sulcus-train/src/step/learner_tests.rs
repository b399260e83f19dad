use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use sulcus_model::{Downsampling, Encoder, NetworkSpec, Norm, OutputActivation};
use sulcus_plan::{DiceScope, Loss, Optimizer};
use sulcus_testing::{test_spec, test_stage};

use super::*;
use crate::step::objective::Objective;

const SHAPE: [usize; 5] = [4, 2, 4, 8, 8];
const RATE: f64 = 1e-2;
const SGD: Optimizer = Optimizer::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 };

/// Blocks, instance norms, a residual encoder and deep supervision.
fn spec() -> NetworkSpec {
    let stages = vec![test_stage(3, 4, 1), test_stage(3, 6, 2), test_stage(3, 8, 2)];
    let mut network = test_spec(3).strided().stages(stages).build().network;
    (network.encoder, network.deep_supervision) = (Encoder::Residual, true);
    network
}

fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn batch(seed: u32) -> Batch {
    let [n, c, d, h, w] = SHAPE;
    let classes =
        noise(n * d * h * w, seed + 100).iter().map(|v| u8::from(*v > 0.2) + u8::from(*v > 0.6)).collect();
    Batch { image: noise(n * c * d * h * w, seed), classes, shape: SHAPE, regions: None }
}

fn learner_of(spec: &NetworkSpec, precision: Precision, scaler: Option<LossScaler>, devices: usize) -> Learner {
    let device = Device::flex();
    let network = UNet::new(spec, SHAPE[1], 3, 7, &device.clone().autodiff()).unwrap();
    let objective =
        Objective { loss: Loss::DiceCe, output: OutputActivation::Softmax, dice_scope: DiceScope::Case };
    let devices = vec![device; devices];
    let placement = Placement { devices, exchange: Exchange::ThroughFirst, description: "a test".into() };
    let config = StepConfig { objective, precision };
    Learner::new(spec, network, OptimizerState::new(SGD), config, scaler, &placement).unwrap()
}

fn learner(precision: Precision, devices: usize) -> Learner {
    learner_of(&spec(), precision, None, devices)
}

fn weights(learner: &Learner) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            self.0.extend(parameter.val().try_into_vec_as::<f32>().unwrap());
        }
    }
    let mut collect = Collect(vec![]);
    learner.network().valid().visit(&mut collect);
    collect.0
}

fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn learn(mut learner: Learner, steps: u32) -> (Learner, Vec<f64>) {
    let mut losses = vec![];
    for seed in 0..steps {
        // Clipping would hide a wrong factor of the gradients: every second step does not clip.
        let limit = (seed % 2 == 1).then_some(0.5);
        let (next, output) = learner.step(batch(seed), RATE, limit).unwrap();
        assert_eq!(output.overflow, None);
        losses.push(output.loss);
        learner = next;
    }
    (learner, losses)
}

/// Means over halves differ from the mean over all only by rounding.
#[test]
fn several_devices_learn_the_same_as_one() {
    const TOLERANCE: f32 = 1e-6;
    let before = weights(&learner(Precision::Fp32, 1));
    let (alone, losses) = learn(learner(Precision::Fp32, 1), 4);
    assert!(apart(&weights(&alone), &before) > 1e-3);
    for devices in [2, 4] {
        let (shared, shared_losses) = learn(learner(Precision::Fp32, devices), 4);
        for (found, expected) in shared_losses.iter().zip(&losses) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        let difference = apart(&weights(&shared), &weights(&alone));
        assert!(difference < TOLERANCE, "{devices} devices: {difference}");
    }
}

/// If one replica diverged, the averaged gradients would not be those of one network.
#[test]
fn device_added_on_resume_starts_from_saved_weights_and_moments() {
    let (begun, _) = learn(learner(Precision::Fp32, 1), 2);
    let placement = |devices| Placement {
        devices: vec![Device::flex(); devices],
        exchange: Exchange::ThroughFirst,
        description: "a test".into(),
    };
    let resumed = |devices| {
        let (network, optimizer) = (begun.network().clone(), begun.optimizer().clone());
        Learner::new(&spec(), network, optimizer, begun.config, None, &placement(devices)).unwrap()
    };
    let (alone, shared) = (learn(resumed(1), 3).0, learn(resumed(2), 3).0);
    assert!(apart(&weights(&shared), &weights(&alone)) < 1e-6);
}

#[test]
fn batch_that_cannot_be_divided_is_refused() {
    let error = learner(Precision::Fp32, 3).step(batch(1), RATE, None).unwrap_err();
    insta::assert_snapshot!(error, @"cannot train with this configuration: a batch of 4 cannot be divided equally among 3 devices; choose a `batch_size` that is a multiple of 3, or fewer devices");
    let short = Batch { image: vec![0.0; 7], ..batch(1) };
    learner(Precision::Fp32, 2).step(short, RATE, None).unwrap_err();
}

#[test]
fn failing_device_ends_the_training() {
    let mut broken = batch(1);
    // An invalid class: the loss panics, as a device without memory would.
    *broken.classes.last_mut().unwrap() = 77;
    let error = learner(Precision::Fp32, 2).step(broken, RATE, None).unwrap_err().to_string();
    assert!(error.contains("ended unexpectedly"), "{error}");
}

#[test]
fn non_finite_loss_updates_no_weight_on_any_device() {
    for devices in [1, 2] {
        let before = learner(Precision::Fp32, devices);
        let kept = weights(&before);
        let mut broken = batch(1);
        *broken.image.last_mut().unwrap() = f32::NAN;
        let (after, output) = before.step(broken, RATE, Some(1.0)).unwrap();
        assert!(output.loss.is_nan());
        assert_eq!(weights(&after), kept);
        let next = learn(after, 2).0;
        assert!(apart(&weights(&next), &weights(&learn(learner(Precision::Fp32, 1), 2).0)) < 1e-6);
    }
}

/// Convolutions in half precision, the rest in single precision. Flex computes both, so that casts and scale can be tested
/// without a GPU.
#[test]
fn half_precision_learns_almost_the_same_as_single_precision() {
    // Roundings of 8 and of 11 bits, through a dozen layers and back.
    for (precision, share) in [(Precision::Bf16, 0.1), (Precision::Fp16, 0.02)] {
        for spec in [
            spec(),
            NetworkSpec {
                encoder: Encoder::Plain,
                norm: Norm::Batch,
                downsampling: Downsampling::MaxPool,
                ..spec()
            },
        ] {
            let start = || learner_of(&spec, Precision::Fp32, None, 1);
            let before = weights(&start());
            let (exact, exact_losses) = learn(start(), 3);
            let (rounded, losses) = learn(learner_of(&spec, precision, None, 1), 3);
            for (found, expected) in losses.iter().zip(&exact_losses) {
                assert!(found != expected, "{precision} is not used");
                assert!((found - expected).abs() < f64::from(share) * expected, "{precision}: {found} {expected}");
            }
            let way = apart(&weights(&exact), &before);
            let difference = apart(&weights(&rounded), &weights(&exact));
            assert!(difference < share * way, "{precision}: {difference} of {way}");
        }
    }
}

#[test]
fn integers_are_refused() {
    let error = learner(Precision::Int8, 1).step(batch(1), RATE, None).unwrap_err().to_string();
    assert!(error.contains("cannot train in int8"), "{error}");
}

#[test]
fn overflow_updates_no_weight_and_lowers_the_scale() {
    let scaler = |exponent: u32| -> Option<LossScaler> {
        Some(serde_json::from_str(&format!(r#"{{"exponent":{exponent},"good_steps":0,"skipped":0}}"#)).unwrap())
    };
    for devices in [1, 2] {
        let start = learner_of(&spec(), Precision::Fp16, scaler(60), devices);
        let kept = weights(&start);
        let (after, output) = start.step(batch(0), RATE, None).unwrap();
        assert_eq!(output.overflow, Some(Overflow::ScaleLowered));
        assert!(output.loss.is_finite());
        assert_eq!(weights(&after), kept);
        assert_eq!(
            after.scaler(),
            Some(serde_json::from_str(r#"{"exponent":59,"good_steps":0,"skipped":1}"#).unwrap())
        );
        // The overflow has not changed the moments.
        let fitting = Learner { scaler: scaler(10), ..after };
        let (fitting, reference) =
            (learn(fitting, 2).0, learn(learner_of(&spec(), Precision::Fp16, scaler(10), 1), 2).0);
        assert!(apart(&weights(&fitting), &weights(&reference)) < 1e-4);
    }
}

/// The scale is a power of 2, so that scaling does not round unless a value vanishes or overflows.
#[test]
fn loss_scale_does_not_change_the_weights() {
    let scaled = |exponent: u32| {
        let scaler = serde_json::from_str(&format!(r#"{{"exponent":{exponent},"good_steps":0,"skipped":0}}"#));
        weights(&learn(learner_of(&spec(), Precision::Fp16, Some(scaler.unwrap()), 1), 2).0)
    };
    assert!(apart(&scaled(8), &scaled(12)) < 1e-5);
}
