//! Shared by several test suites: specifications, inputs, training steps.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "../kinds/mod.rs"]
mod kinds;

use burn::optim::GradientsParams;
use burn::tensor::Device;
pub(crate) use kinds::*;
use sulcus_model::{
    ChannelSpec, CropRule, Dimensions, ModelSpec, NetworkSpec, Normalisation, OutputActivation, SpacingRule,
    Tiling, Training,
};
use sulcus_plan::{DiceScope, Loss, Optimizer};
use sulcus_train::{OptimizerState, UNet, segmentation_loss};
use sulcus_volume::LabelTable;

/// One case of [`training_shape`] as the input of an engine.
pub(crate) fn prediction_shape(spec: &NetworkSpec) -> Vec<usize> {
    let [_, c, d, h, w] = training_shape(spec);
    match spec.dimensions {
        Dimensions::Two => vec![1, c, h, w],
        Dimensions::Three => vec![1, c, d, h, w],
    }
}

pub(crate) fn model_spec(network: NetworkSpec, channels: usize) -> ModelSpec {
    let multiple = network.padding_multiple();
    let channel = |i| ChannelSpec { name: format!("MRI {i}"), normalisation: Normalisation::ZScore };
    ModelSpec {
        format_version: ModelSpec::version_for(&[]),
        name: "a test".into(),
        patch: multiple.iter().map(|edge| edge * 4).collect(),
        mirror_axes: vec![],
        padding_multiple: multiple,
        network,
        channels: (0..channels).map(channel).collect(),
        labels: LabelTable::from_names([(1, "Anterior".into()), (2, "Posterior".into())]).unwrap(),
        regions: Vec::new(),
        activation: OutputActivation::Softmax,
        crop: CropRule::Whole,
        orientation: "RAS".parse().unwrap(),
        spacing: SpacingRule::Native,
        tiling: Tiling::Whole,
        tile_step: 0.5,
        postprocessing: vec![],
        training: Training::default(),
        training_scans: None,
        precision: None,
        unchecked: None,
        golden_case: None,
    }
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
