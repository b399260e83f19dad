use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::module::ModuleVisitor;
use burn::optim::AdamWConfig;
use burn::tensor::{Device, TensorData};
use sulcus_model::OutputActivation;
use sulcus_plan::{DiceScope, Loss, preset};

use super::*;
use crate::step::loss::segmentation_loss;
use crate::step::targets::Targets;

/// Far below the update of one step.
const TOLERANCE: f32 = 1e-6;
const EDGE: usize = 16;

fn device() -> Device {
    Device::flex().autodiff()
}

fn network() -> UNet {
    UNet::new(&preset("unet2d-lite").unwrap(), 1, 2, 1, &device()).unwrap()
}

fn gradients(network: &UNet, seed: usize) -> GradientsParams {
    let image: Vec<f32> = (0..EDGE * EDGE).map(|i| (((i + seed) * 37) % 101) as f32 / 50.0 - 1.0).collect();
    let image = Tensor::<5>::from_data(TensorData::new(image, [1, 1, 1, EDGE, EDGE]), &device());
    let targets =
        Targets::new((0..EDGE * EDGE).map(|i| u8::from(i % 3 == 0)).collect(), [1, 1, EDGE, EDGE]).unwrap();
    let loss = segmentation_loss(
        Loss::DiceCe,
        OutputActivation::Softmax,
        DiceScope::Batch,
        network.forward(image),
        &targets,
    );
    GradientsParams::from_grads(loss.backward(), network)
}

fn tensor(values: &[f32]) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &Device::flex())
}

fn values(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().try_into_vec_as().unwrap()
}

#[track_caller]
fn assert_alike(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= TOLERANCE, "{i}: found {found}, expected {expected}");
    }
}

fn noise(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| (((i + 1) * (2 * seed + 37)) % 1009) as f32 / 500.0 - 1.0).collect()
}

/// All weights.
fn weights(network: &UNet) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            // Running statistics change with each pass.
            if parameter.is_require_grad() {
                self.0.extend(parameter.val().inner().try_into_vec_as::<f32>().unwrap());
            }
        }
    }
    let mut collect = Collect(vec![]);
    network.visit(&mut collect);
    collect.0
}

fn place<const D: usize>(tensor: Tensor<D>) -> usize {
    match tensor.into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(values)) => values.bytes().as_ptr() as usize,
        other => panic!("not on the processor: {other:?}"),
    }
}

/// Where each parameter lies in memory.
fn places(network: &UNet) -> Vec<usize> {
    struct Collect(Vec<usize>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            self.0.push(place(parameter.val().inner()));
        }
    }
    let mut collect = Collect(vec![]);
    network.visit(&mut collect);
    collect.0
}

fn every_choice() -> [Optimizer; 4] {
    let sgd = |nesterov| Optimizer::Sgd { momentum: 0.9, nesterov, weight_decay: 0.01 };
    [Optimizer::Adam, Optimizer::AdamW { weight_decay: 0.01 }, sgd(false), sgd(true)]
}

#[test]
fn adamw_equals_burns_with_the_same_epsilon() {
    let mut ours = network();
    let mut theirs = ours.clone();
    let mut burns = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.02).init();
    let mut adam = OptimizerState::new(Optimizer::AdamW { weight_decay: 0.02 });
    let before = weights(&ours);
    for seed in 0..4 {
        // The same for both: what rounding makes of them would drive the two apart.
        let (of_ours, of_theirs) = (gradients(&ours, seed), gradients(&ours, seed));
        ours = adam.step(ours, of_ours, 1e-3, None).unwrap();
        theirs = burns.step(1e-3, theirs, of_theirs);
    }
    let moved = before.iter().zip(weights(&ours)).map(|(b, w)| (b - w).abs()).fold(0.0, f32::max);
    assert!(moved > 1e-3, "{moved}");
    assert_alike(&weights(&ours), &weights(&theirs));
}

#[test]
fn burns_operations_equal_the_processors_kernels() {
    const COUNT: usize = 1000;
    for choice in every_choice() {
        let start = noise(COUNT, 1);
        let (mut fused, mut fused_moments) = (tensor(&start), None);
        let (mut composed, mut composed_moments) =
            (tensor(&start), vec![Tensor::zeros([COUNT], &Device::flex()); 2]);
        for number in 1..5 {
            let size = StepSize { learning_rate: 0.01 / number as f64, gradient_factor: 0.5 };
            let gradient = tensor(&noise(COUNT, number));
            let (weight, moments) = UpdateRule::of(choice).step(size, fused, gradient.clone(), fused_moments);
            (fused, fused_moments) = (weight, Some(moments));
            let (mean, square) = (composed_moments[0].clone(), composed_moments[1].clone());
            composed = match UpdateRule::of(choice) {
                UpdateRule::Adam(adam) => {
                    let (weight, mean, square) =
                        update_rule::adam(adam, number as u64, size, composed, gradient, [mean, square]);
                    composed_moments = vec![mean, square];
                    weight
                }
                UpdateRule::Sgd(sgd) => {
                    let (weight, velocity) = update_rule::sgd(sgd, size, composed, gradient, mean);
                    composed_moments[0] = velocity;
                    weight
                }
            };
        }
        assert_alike(&values(&fused), &values(&composed));
        for (fused, composed) in fused_moments.unwrap().values.iter().zip(&composed_moments) {
            assert_alike(&values(fused), &values(composed));
        }
    }
}

#[test]
fn weights_and_moments_are_updated_in_place() {
    for choice in every_choice() {
        let mut descent = OptimizerState::new(choice);
        let network = network();
        let of_network = gradients(&network, 0);
        let network = descent.step(network, of_network, 1e-3, None).unwrap();
        let of_network = gradients(&network, 1);
        let moments = |descent: &OptimizerState| {
            descent.moments.values().flat_map(|m| m.values.iter().cloned().map(place)).collect::<Vec<_>>()
        };
        let (weights_before, moments_before) = (places(&network), moments(&descent));
        let network = descent.step(network, of_network, 1e-3, Some(0.1)).unwrap();
        assert_eq!(places(&network), weights_before);
        assert_eq!(moments(&descent), moments_before);
    }
}

#[test]
fn clone_of_the_network_keeps_its_weights() {
    let network = network();
    let kept = network.clone();
    let before = weights(&kept);
    let of_network = gradients(&network, 0);
    let network = OptimizerState::new(Optimizer::Adam).step(network, of_network, 1e-2, None).unwrap();
    assert!(weights(&kept) == before);
    assert!(weights(&network) != before);
}

#[test]
fn gradients_are_clipped_by_their_norm_over_all_weights() {
    let network = network();
    let norm = clip::norm(&gradients(&network, 0), &network).unwrap();
    assert!(norm > 0.01, "{norm}");
    // Plain descent: weights go by the gradient times the learning rate, so that its norm shows in them.
    let plain = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let way = |limit| {
        let before = weights(&network);
        let of_network = gradients(&network, 0);
        let moved = OptimizerState::new(plain).step(network.clone(), of_network, 1.0, limit).unwrap();
        let squares = before.iter().zip(weights(&moved)).map(|(b, w)| f64::from(b - w).powi(2));
        squares.sum::<f64>().sqrt()
    };
    assert!((way(None) / norm - 1.0).abs() < 1e-4, "{} of {norm}", way(None));
    assert!((way(Some(norm / 4.0)) / norm - 0.25).abs() < 1e-4, "{} of {norm}", way(Some(norm / 4.0)));
    assert_eq!(way(Some(norm * 4.0)), way(None));
}

#[test]
fn state_round_trips_through_bytes() {
    for choice in every_choice() {
        let network = network();
        let mut descent = OptimizerState::new(choice);
        let of_network = gradients(&network, 0);
        let network = descent.step(network, of_network, 1e-2, None).unwrap();
        let bytes = descent.to_bytes().unwrap();
        let mut restored = OptimizerState::from_bytes(choice, &bytes).unwrap();
        assert!(restored.to_bytes().unwrap() == bytes);
        let next = |descent: &mut OptimizerState| {
            let of_network = gradients(&network, 1);
            weights(&descent.step(network.clone(), of_network, 1e-2, None).unwrap())
        };
        let expected = next(&mut descent);
        assert!(next(&mut restored) == expected);
        assert!(next(&mut OptimizerState::new(choice)) != expected);
    }
}

#[test]
fn bytes_of_another_optimizer_are_refused() {
    let network = network();
    let mut descent = OptimizerState::new(Optimizer::Adam);
    let of_network = gradients(&network, 0);
    descent.step(network, of_network, 1e-2, None).unwrap();
    let bytes = descent.to_bytes().unwrap();
    let refused = |choice, bytes: &[u8]| OptimizerState::from_bytes(choice, bytes).unwrap_err();
    let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 };
    insta::assert_snapshot!(refused(sgd, &bytes), @"it holds the moments of Adam, the run is of Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 }");
    insta::assert_snapshot!(refused(Optimizer::Adam, &bytes[..bytes.len() - 1]), @"it ends too early");
    insta::assert_snapshot!(refused(Optimizer::Adam, &bytes[..4]), @"it ends too early");
    let longer: Vec<u8> = bytes.iter().copied().chain([0; 4]).collect();
    insta::assert_snapshot!(refused(Optimizer::Adam, &longer), @"4 bytes follow where it should end");
    // The length of a header that no file has.
    insta::assert_snapshot!(refused(Optimizer::Adam, &[255; 64]), @"it ends too early");
}
