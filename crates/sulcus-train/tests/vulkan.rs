//! Networks on a Vulkan device against the same networks on the processor: `cargo xtask test --vulkan`.
//!
//! The processor's layers are those of `sulcus-kernels`, which other tests compare with Burn's operations. The device's layers
//! are Burn's CubeCL kernels, the same as in a CUDA build.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "the differences that were seen are worth reading")]

#[macro_use]
extern crate sulcus_harness;

mod kinds;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use kinds::{batch, every_kind, noise, training_shape};
use sulcus_model::{Dimensions, Encoder, NetworkSpec, OutputActivation, Precision};
use sulcus_plan::{DeviceChoice, DiceScope, Loss, Optimizer};
use sulcus_train::{
    Batch, Exchange, Learner, Objective, OptimizerState, Placement, StepConfig, Targets, TrainError, UNet,
    find_device, segmentation_loss,
};

/// Of the greatest logit. Sums of some hundred products in another order, through a dozen layers that normalise.
const LOGITS: f32 = 1e-4;
/// Of a parameter's greatest gradient: the same, and back again.
const GRADIENTS: f32 = 1e-3;
/// A parameter's gradients are measured against no less than this share of the network's greatest one. A bias before a
/// normalisation has a gradient of zero, which rounding makes some tiny number of.
const MIN_SCALE: f32 = 1e-3;
/// Of the greatest step of a weight.
const STEPS: f32 = 1e-3;

const RATE: f64 = 1e-2;
const CLASSES: usize = 3;
const SGD: Optimizer = Optimizer::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 };

/// The first Vulkan device that is not Mesa's software renderer, whose version in Debian 12 crashes under these kernels.
fn vulkan() -> Option<Device> {
    for index in 0.. {
        match find_device(DeviceChoice::Vulkan(index)) {
            Ok((_, name)) if name.to_lowercase().contains("llvmpipe") => {}
            Ok((device, name)) => {
                println!("on {name}");
                return Some(device.autodiff());
            }
            Err(why) => {
                sulcus_harness::skip(format_args!("{why}"));
            }
        }
    }
    None
}

/// Every kind that the other suites train, and slices with a residual encoder, instance norms and deep supervision.
fn networks() -> Vec<NetworkSpec> {
    let mut kinds = every_kind();
    let mut flat = kinds[1].clone();
    flat.encoder = Encoder::Residual;
    flat.deep_supervision = true;
    // Deep supervision leaves the two lowest resolutions out.
    let mut deepest = flat.stages[2].clone();
    deepest.stride = vec![2, 2];
    flat.stages.push(deepest);
    kinds.push(flat);
    kinds
}

fn named(spec: &NetworkSpec) -> String {
    let axes = if spec.dimensions == Dimensions::Two { "2-D" } else { "3-D" };
    let supervised = if spec.deep_supervision { ", deep supervision" } else { "" };
    format!("{axes} {:?}, {:?} norm, {:?}{supervised}", spec.encoder, spec.norm, spec.downsampling)
}

fn build(spec: &NetworkSpec, device: &Device) -> UNet {
    UNet::new(spec, 2, CLASSES, 7, device).unwrap()
}

/// As a training weighs the resolutions of deep supervision.
fn loss(network: &UNet, logits: &[Tensor<5>], truth: &Targets) -> Tensor<1> {
    let mut parts = logits.iter().zip(network.supervised_strides()).enumerate().map(|(i, (logits, stride))| {
        let truth = truth.coarser(stride).unwrap();
        segmentation_loss(Loss::DiceCe, OutputActivation::Softmax, DiceScope::Case, logits.clone(), &truth)
            * 0.5_f64.powi(i as i32)
    });
    let first = parts.next().unwrap();
    parts.fold(first, |sum, part| sum + part)
}

struct Learnt {
    logits: Vec<Tensor<5>>,
    loss: f32,
    network: UNet,
    gradients: GradientsParams,
}

fn learn(spec: &NetworkSpec, device: &Device) -> Learnt {
    let network = build(spec, device);
    let (image, truth) = batch(training_shape(spec), 3, device);
    let logits = network.forward_all(image);
    let loss = loss(&network, &logits, &truth);
    let value = loss.clone().into_scalar();
    let gradients = GradientsParams::from_grads(loss.backward(), &network);
    Learnt { logits, loss: value, network, gradients }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

/// The values of each trainable parameter of a module.
fn of_each(network: &UNet, gradients: Option<&GradientsParams>) -> Vec<Vec<f32>> {
    struct Collect<'a>(Option<&'a GradientsParams>, Vec<Vec<f32>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            if parameter.is_require_grad() {
                self.1.push(match self.0 {
                    Some(gradients) => values(gradients.get::<D>(parameter.id).unwrap()),
                    None => values(parameter.val().inner()),
                });
            }
        }
    }
    let mut collect = Collect(gradients, vec![]);
    network.visit(&mut collect);
    collect.1
}

fn maximum(values: &[f32]) -> f32 {
    assert!(values.iter().all(|value| value.is_finite()));
    values.iter().fold(0.0, |greatest, value| greatest.max(value.abs()))
}

/// The maximum difference.
#[track_caller]
fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    maximum(&found.iter().zip(expected).map(|(a, b)| a - b).collect::<Vec<f32>>())
}

/// The weights after one step from the initial ones.
fn moved(learnt: Learnt, optimizer: Optimizer) -> Vec<Vec<f32>> {
    let network = OptimizerState::new(optimizer).step(learnt.network, learnt.gradients, RATE, Some(12.0)).unwrap();
    of_each(&network, None)
}

/// Logits at all resolutions, the loss and its gradients.
#[test]
fn forward_and_backward_equal_the_processors() {
    let Some(device) = vulkan() else { return };
    let processor = Device::flex().autodiff();
    for spec in networks() {
        let (found, expected) = (learn(&spec, &device), learn(&spec, &processor));
        assert_eq!(found.logits.len(), if spec.deep_supervision { 2 } else { 1 });
        let mut logits = 0.0_f32;
        for (found, expected) in found.logits.iter().zip(&expected.logits) {
            assert_eq!(found.dims(), expected.dims());
            let expected = values(expected.clone());
            logits = logits.max(apart(&values(found.clone()), &expected) / maximum(&expected));
        }
        assert!((found.loss - expected.loss).abs() <= LOGITS * expected.loss, "{} {}", found.loss, expected.loss);

        let of_found = of_each(&found.network, Some(&found.gradients));
        let of_expected = of_each(&expected.network, Some(&expected.gradients));
        let min_scale = MIN_SCALE * of_expected.iter().map(|values| maximum(values)).fold(0.0, f32::max);
        let gradients = of_found.iter().zip(&of_expected);
        let gradients = gradients.map(|(a, b)| apart(a, b) / maximum(b).max(min_scale)).fold(0.0, f32::max);
        println!("{}: logits {logits:.1e}, gradients {gradients:.1e}", named(&spec));
        assert!(logits <= LOGITS && gradients <= GRADIENTS, "{}: {logits} {gradients}", named(&spec));
    }
}

#[test]
fn sgd_step_equals_the_processors() {
    let Some(device) = vulkan() else { return };
    let processor = Device::flex().autodiff();
    for spec in networks() {
        let before = of_each(&build(&spec, &processor), None);
        let found = moved(learn(&spec, &device), SGD);
        let expected = moved(learn(&spec, &processor), SGD);
        let step = expected.iter().zip(&before).map(|(a, b)| apart(a, b)).fold(0.0, f32::max);
        let difference = found.iter().zip(&expected).map(|(a, b)| apart(a, b)).fold(0.0, f32::max);
        println!("{}: weights move by {step:.1e}, {difference:.1e} apart", named(&spec));
        assert!(step > 1e-4 && difference <= STEPS * step, "{}: {difference} of {step}", named(&spec));
    }
}

/// Adam divides a gradient by its magnitude, so that the first step of a weight whose gradient is only rounding has a random
/// sign. Such weights are excluded.
#[test]
fn adamw_step_equals_the_processors() {
    let Some(device) = vulkan() else { return };
    let processor = Device::flex().autodiff();
    let adamw = Optimizer::AdamW { weight_decay: 1e-2 };
    for spec in networks() {
        let expected = learn(&spec, &processor);
        let gradients: Vec<f32> = of_each(&expected.network, Some(&expected.gradients)).concat();
        let found = moved(learn(&spec, &device), adamw).concat();
        let expected = moved(expected, adamw).concat();
        let noise = MIN_SCALE * maximum(&gradients);
        let sure = gradients.iter().map(|gradient| gradient.abs() > noise);
        let compared = sure.clone().filter(|sure| *sure).count();
        let pairs = found.iter().zip(&expected).zip(sure).filter(|(_, sure)| *sure);
        let difference = maximum(&pairs.map(|((a, b), _)| a - b).collect::<Vec<f32>>());
        println!("{}: {compared} of {} weights, {difference:.1e} apart", named(&spec), found.len());
        assert!(compared * 2 > found.len() && f64::from(difference) <= f64::from(STEPS) * RATE, "{difference}");
    }
}

/// A learner with several replicas of the network on one device.
fn learner(device: &Device, copies: usize, exchange: Exchange) -> Result<Learner, TrainError> {
    let spec = networks().remove(4);
    let objective =
        Objective { loss: Loss::DiceCe, output: OutputActivation::Softmax, dice_scope: DiceScope::Case };
    let computing = StepConfig { objective, precision: Precision::Fp32 };
    let devices = vec![device.clone().without_autodiff(); copies];
    let placement = Placement::new(devices, exchange, "a test");
    Learner::new(&spec, build(&spec, device), OptimizerState::new(SGD), computing, None, &placement)
}

/// Two replicas that share batches, compared with one network that trains on whole batches.
#[test]
fn replicas_that_average_through_the_first_learn_the_same_as_one() {
    let Some(device) = vulkan() else { return };
    let shape = training_shape(&networks().remove(4));
    let learn = |copies| {
        let mut learner = learner(&device, copies, Exchange::ThroughFirst).unwrap();
        for seed in 0..2 {
            let image = noise(&shape, seed);
            let classes =
                image.chunks_exact(shape[1]).map(|v| u8::from(v[0] > 0.2) + u8::from(v[0] > 0.6)).collect();
            (learner, _) = learner.step(Batch { image, classes, shape, regions: None }, RATE, Some(12.0)).unwrap();
        }
        of_each(learner.network(), None).concat()
    };
    let difference = apart(&learn(2), &learn(1));
    println!("two copies and one: {difference:.1e} apart");
    assert!(difference < 1e-6, "{difference}");
}

/// Burn has no collective operations on Vulkan and panics; this must be an error before the training.
#[test]
fn missing_collective_operations_are_an_error() {
    let Some(device) = vulkan() else { return };
    let devices = vec![device.clone().without_autodiff(); 2];
    let error = learner(&device, 2, Exchange::Collective(devices)).unwrap_err().to_string();
    assert!(error.contains("could not average their gradients"), "{error}");
}

sulcus_harness::main!();
