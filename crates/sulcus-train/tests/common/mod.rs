//! Shared by several test suites: specifications, inputs, training steps.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "../kinds/mod.rs"]
mod kinds;

use burn::optim::GradientsParams;
use burn::tensor::Device;
pub(crate) use kinds::*;
use sulcus_model::{Dimensions, ModelSpec, NetworkSpec, OutputActivation, Tiling};
use sulcus_plan::{DiceScope, Loss, Optimizer};
use sulcus_testing::test_spec;
use sulcus_train::{OptimizerState, UNet, segmentation_loss};

/// One case of [`training_shape`] as the input of an engine.
pub(crate) fn prediction_shape(spec: &NetworkSpec) -> Vec<usize> {
    let [_, c, d, h, w] = training_shape(spec);
    match spec.dimensions {
        Dimensions::Two => vec![1, c, h, w],
        Dimensions::Three => vec![1, c, d, h, w],
    }
}

pub(crate) fn model_spec(network: NetworkSpec, channels: usize) -> ModelSpec {
    let patch: Vec<usize> = network.padding_multiple().iter().map(|edge| edge * 4).collect();
    test_spec(network.dimensions.into())
        .network(network)
        .channels((0..channels).map(|i| format!("MRI {i}")))
        .labels(&[(1, "Anterior"), (2, "Posterior")])
        .patch(&patch, Tiling::Whole)
        .build()
}

pub(crate) fn optimizer() -> OptimizerState {
    OptimizerState::new(Optimizer::Adam)
}

/// One training step on `shape`; returns the loss.
pub(crate) fn step(
    network: UNet,
    optimizer: &mut OptimizerState,
    shape: [usize; 5],
    seed: u32,
    device: &Device,
) -> (UNet, f32) {
    let (image, truth) = batch(shape, seed, device);
    let loss = segmentation_loss(
        Loss::DiceCe,
        OutputActivation::Softmax,
        DiceScope::Batch,
        network.forward(image),
        &truth,
    );
    let value = loss.clone().into_scalar();
    let gradients = GradientsParams::from_grads(loss.backward(), &network);
    (optimizer.step(network, gradients, 1e-2, None).unwrap(), value)
}
