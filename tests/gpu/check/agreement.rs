//! Networks on the device against the same networks on the processor.
//!
//! The processor's layers are those of `sulcus-kernels`, which other tests compare with Burn's operations. The device's layers
//! are Burn's CubeCL kernels and the forms of `GpuForms`.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Tensor};
use serde_json::{Value, json};
use sulcus_model::{Dimensions, Encoder, NetworkSpec, OutputActivation, Precision};
use sulcus_plan::{DeviceChoice, DiceScope, Loss, Optimizer};
use sulcus_train::{
    Batch, Exchange, Learner, Objective, OptimizerState, Placement, StepConfig, Targets, UNet, find_device,
    segmentation_loss, supported_precisions,
};

use crate::kinds::{batch, every_kind, noise, training_shape};
use crate::{Args, Failure, Outcome, open};

/// Of the greatest logit. Sums of some hundred products in another order, through a dozen layers that normalise.
const LOGITS: f32 = 1e-4;
/// Of a parameter's greatest gradient: the same, and back again.
const GRADIENTS: f32 = 1e-3;
/// A parameter's gradients are measured against no less than this share of the network's greatest one. A bias before a
/// normalisation has a gradient of zero, which rounding makes some tiny number of.
const MIN_SCALE: f32 = 1e-3;
/// Of the greatest step of a weight.
const STEPS: f32 = 1e-3;
/// Root mean square of the difference of logits in half precision, of that of the logits. bf16 keeps 8 bits of a number and
/// fp16 11: each layer rounds its output by up to 2⁻⁹ or 2⁻¹², and the networks have about ten layers.
const HALF_LOGITS: [(Precision, f32); 2] = [(Precision::Bf16, 0.05), (Precision::Fp16, 0.01)];

const RATE: f64 = 1e-2;
const CLASSES: usize = 3;
const SGD: Optimizer = Optimizer::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 };
const ADAMW: Optimizer = Optimizer::AdamW { weight_decay: 1e-2 };

/// Every kind that the other suites train, and slices with a residual encoder, instance norms and deep supervision.
fn kinds() -> Vec<NetworkSpec> {
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
    logits: Vec<Vec<f32>>,
    loss: f32,
    network: UNet,
    gradients: GradientsParams,
}

fn learn(spec: &NetworkSpec, device: &Device, precision: FloatDType) -> Learnt {
    let network = build(spec, device);
    let (image, truth) = batch(training_shape(spec), 3, device);
    let logits = network.forward_all(image.cast(precision));
    let loss = loss(&network, &logits, &truth);
    let value = loss.clone().into_scalar();
    let gradients = GradientsParams::from_grads(loss.backward(), &network);
    Learnt { logits: logits.into_iter().map(values).collect(), loss: value, network, gradients }
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
    values.iter().fold(0.0, |greatest, value| if value.is_nan() { f32::NAN } else { greatest.max(value.abs()) })
}

/// The maximum difference; NaN if a value is not a number.
pub(crate) fn apart(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    maximum(&found.iter().zip(expected).map(|(a, b)| a - b).collect::<Vec<f32>>())
}

/// The maximum difference relative to the maximum of the expected values.
pub(crate) fn relative(found: &[f32], expected: &[f32]) -> f32 {
    apart(found, expected) / maximum(expected)
}

/// The maximum difference of the gradients of any parameter, relative to its greatest one.
fn gradients_apart(found: &Learnt, expected: &Learnt) -> f32 {
    let of_found = of_each(&found.network, Some(&found.gradients));
    let of_expected = of_each(&expected.network, Some(&expected.gradients));
    let min_scale = MIN_SCALE * of_expected.iter().map(|values| maximum(values)).fold(0.0, f32::max);
    let each = of_found.iter().zip(&of_expected).map(|(a, b)| apart(a, b) / maximum(b).max(min_scale));
    each.fold(0.0, |greatest, value| if value.is_nan() { f32::NAN } else { greatest.max(value) })
}

/// `Ok` if every value is at most its limit; a NaN is above any.
fn within(limits: &[(&str, f32, f32)], details: Value) -> Outcome {
    let beyond = limits.iter().find(|(_, value, limit)| value.is_nan() || value > limit);
    match beyond {
        None => Ok(details),
        Some((what, value, limit)) => {
            Err(Failure::Failed(format!("{what}: {value:.1e} apart, at most {limit:.1e} expected; {details}")))
        }
    }
}

/// Logits at all resolutions, the loss and its gradients.
pub(crate) fn networks(args: &Args) -> Outcome {
    let device = open(args)?.0.autodiff();
    let processor = Device::flex().autodiff();
    let (mut logits, mut losses, mut gradients) = (0.0_f32, 0.0_f32, 0.0_f32);
    for spec in kinds() {
        let found = learn(&spec, &device, FloatDType::F32);
        let expected = learn(&spec, &processor, FloatDType::F32);
        let count = if spec.deep_supervision { 2 } else { 1 };
        if found.logits.len() != count || expected.logits.len() != count {
            return Err(Failure::Failed(format!("{}: {} resolutions", named(&spec), found.logits.len())));
        }
        let apart = found.logits.iter().zip(&expected.logits).map(|(a, b)| relative(a, b));
        let of_logits = apart.fold(0.0_f32, |a, b| if b.is_nan() { b } else { a.max(b) });
        let of_loss = (found.loss - expected.loss).abs() / expected.loss;
        let of_gradients = gradients_apart(&found, &expected);
        let details = json!({ "network": named(&spec) });
        within(
            &[("logits", of_logits, LOGITS), ("loss", of_loss, LOGITS), ("gradients", of_gradients, GRADIENTS)],
            details,
        )?;
        (logits, losses, gradients) = (logits.max(of_logits), losses.max(of_loss), gradients.max(of_gradients));
    }
    Ok(json!({
        "summary": format!("{} networks: logits {logits:.1e}, loss {losses:.1e}, gradients {gradients:.1e} apart", kinds().len()),
        "networks": kinds().iter().map(named).collect::<Vec<_>>(),
        "logits": logits, "loss": losses, "gradients": gradients,
    }))
}

/// The weights after one step from the initial ones.
fn stepped(learnt: Learnt, optimizer: Optimizer) -> Vec<Vec<f32>> {
    let network = OptimizerState::new(optimizer).step(learnt.network, learnt.gradients, RATE, Some(12.0)).unwrap();
    of_each(&network, None)
}

/// Weights after a step.
pub(crate) fn optimizers(args: &Args) -> Outcome {
    let device = open(args)?.0.autodiff();
    let processor = Device::flex().autodiff();
    let (mut by_sgd, mut by_adamw) = (0.0_f32, 0.0_f32);
    for spec in kinds() {
        let learnt = |device: &Device| learn(&spec, device, FloatDType::F32);
        let before = of_each(&build(&spec, &processor), None).concat();
        let expected = stepped(learnt(&processor), SGD).concat();
        let step = apart(&expected, &before);
        if step.is_nan() || step <= 1e-4 {
            return Err(Failure::Failed(format!("{}: SGD moves the weights by {step:.1e} only", named(&spec))));
        }
        let difference = apart(&stepped(learnt(&device), SGD).concat(), &expected) / step;
        within(&[("weights after SGD", difference, STEPS)], json!({ "network": named(&spec) }))?;
        by_sgd = by_sgd.max(difference);

        // Adam divides a gradient by its magnitude, so that the first step of a weight whose gradient is only rounding has a
        // random sign. Such weights are excluded.
        let expected = learnt(&processor);
        let gradients: Vec<f32> = of_each(&expected.network, Some(&expected.gradients)).concat();
        let noise = MIN_SCALE * maximum(&gradients);
        let (found, expected) = (stepped(learnt(&device), ADAMW).concat(), stepped(expected, ADAMW).concat());
        let sure: Vec<(f32, f32)> = found
            .iter()
            .zip(&expected)
            .zip(&gradients)
            .filter(|(_, gradient)| gradient.abs() > noise)
            .map(|((a, b), _)| (*a, *b))
            .collect();
        if sure.len() * 2 <= found.len() {
            return Err(Failure::Failed(format!("{}: {} weights compared", named(&spec), sure.len())));
        }
        let (found, expected): (Vec<f32>, Vec<f32>) = sure.into_iter().unzip();
        let difference = apart(&found, &expected) / RATE as f32;
        within(&[("weights after AdamW", difference, STEPS)], json!({ "network": named(&spec) }))?;
        by_adamw = by_adamw.max(difference);
    }
    Ok(json!({
        "summary": format!("weights after SGD {by_sgd:.1e}, after AdamW {by_adamw:.1e} of a step apart"),
        "sgd": by_sgd, "adamw": by_adamw,
    }))
}

fn float(precision: Precision) -> FloatDType {
    if precision == Precision::Bf16 { FloatDType::BF16 } else { FloatDType::F16 }
}

/// The networks in half precision against single precision on the processor.
pub(crate) fn half(args: &Args) -> Outcome {
    let (device, name) = open(args)?;
    let supported = supported_precisions(&device);
    // The processor computes in half precision only for checks, and does not offer it.
    let is_checked = |precision: Precision| args.device == DeviceChoice::Cpu || supported.contains(&precision);
    let (device, processor) = (device.autodiff(), Device::flex().autodiff());
    let mut all = serde_json::Map::new();
    for (precision, limit) in HALF_LOGITS {
        if !is_checked(precision) {
            all.insert(precision.to_string(), json!("not supported"));
            continue;
        }
        let mut greatest = 0.0_f32;
        for spec in kinds() {
            let found = learn(&spec, &device, float(precision));
            let expected = learn(&spec, &processor, FloatDType::F32);
            let square = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            let (found, expected) = (found.logits.concat(), expected.logits.concat());
            let differences: Vec<f32> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
            let apart = (square(&differences) / square(&expected)).sqrt() as f32;
            within(&[("logits", apart, limit)], json!({ "network": named(&spec), "precision": precision }))?;
            greatest = greatest.max(apart);
        }
        all.insert(precision.to_string(), json!(greatest));
    }
    if all.values().all(Value::is_string) {
        return Err(Failure::Skipped(format!("{name} computes in neither bf16 nor fp16")));
    }
    Ok(
        json!({ "summary": format!("root mean square of the logits' differences: {}", Value::Object(all.clone())), "rms": all }),
    )
}

/// A learner with several replicas of the network.
fn learner(devices: Vec<Device>, exchange: Exchange) -> Result<Learner, Failure> {
    let spec = kinds().remove(4);
    let objective =
        Objective { loss: Loss::DiceCe, output: OutputActivation::Softmax, dice_scope: DiceScope::Case };
    let config = StepConfig { objective, precision: Precision::Fp32 };
    let network = build(&spec, &devices[0].clone().autodiff());
    let placement = Placement::new(devices, exchange, "a check");
    Ok(Learner::new(&spec, network, OptimizerState::new(SGD), config, None, &placement)?)
}

/// The weights after two steps on these devices.
fn learnt_on(devices: Vec<Device>, exchange: Exchange) -> Result<Vec<f32>, Failure> {
    let shape = training_shape(&kinds().remove(4));
    let mut learner = learner(devices, exchange)?;
    for seed in 0..2 {
        let image = noise(&shape, seed);
        let classes = image.chunks_exact(shape[1]).map(|v| u8::from(v[0] > 0.2) + u8::from(v[0] > 0.6)).collect();
        (learner, _) = learner.step(Batch { image, classes, shape, regions: None }, RATE, Some(12.0))?;
    }
    Ok(of_each(learner.network(), None).concat())
}

/// Two replicas that share batches, compared with one network that trains on whole batches.
pub(crate) fn replicas(args: &Args) -> Outcome {
    let device = open(args)?.0;
    let one = learnt_on(vec![device.clone()], Exchange::ThroughFirst)?;
    let two = learnt_on(vec![device.clone(), device], Exchange::ThroughFirst)?;
    let difference = apart(&two, &one);
    within(
        &[("weights", difference, 1e-6)],
        json!({ "summary": format!("weights {difference:.1e} apart after two steps"), "weights": difference }),
    )
}

/// The same on two devices whose gradients are averaged by the backend.
pub(crate) fn collective(args: &Args) -> Outcome {
    let DeviceChoice::Cuda(first) = args.device else {
        return Err(Failure::Skipped("only CUDA has collective operations".into()));
    };
    let devices = match (find_device(DeviceChoice::Cuda(first)), find_device(DeviceChoice::Cuda(first + 1))) {
        (Ok((a, _)), Ok((b, _))) => vec![a, b],
        _ => return Err(Failure::Skipped("there are no two CUDA devices".into())),
    };
    let one = learnt_on(vec![devices[0].clone()], Exchange::ThroughFirst)?;
    let two = learnt_on(devices.clone(), Exchange::Collective(devices))?;
    let difference = apart(&two, &one);
    within(
        &[("weights", difference, 1e-6)],
        json!({ "summary": format!("weights {difference:.1e} apart after two steps"), "weights": difference }),
    )
}

/// Burn has collective operations only on CUDA and panics elsewhere; this must be an error before the training.
pub(crate) fn missing_collective(args: &Args) -> Outcome {
    if matches!(args.device, DeviceChoice::Cuda(_)) {
        return Err(Failure::Skipped("CUDA has collective operations".into()));
    }
    let devices = vec![open(args)?.0; 2];
    match learner(devices.clone(), Exchange::Collective(devices)) {
        Err(Failure::Failed(error)) if error.contains("could not average their gradients") => Ok(json!(error)),
        Err(Failure::Failed(error) | Failure::Skipped(error)) => {
            Err(Failure::Failed(format!("another error than expected: {error}")))
        }
        Ok(_) => Err(Failure::Failed("it was accepted".into())),
    }
}
