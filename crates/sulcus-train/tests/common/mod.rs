//! What several suites build: specifications, inputs, a few steps of training.
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
use sulcus_train::{Descent, DiceScope, Loss, Optimiser, UNet};
use sulcus_volume::LabelTable;

/// One case as [`training_shape`], as an engine takes it.
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
        precision: None,
        golden_case: None,
    }
}

pub(crate) fn optimiser() -> Descent {
    Descent::new(Optimiser::Adam)
}

/// One step of training on `shape`; gives the loss.
pub(crate) fn step(
    network: UNet,
    optimiser: &mut Descent,
    shape: [usize; 5],
    seed: u32,
    device: &Device,
) -> (UNet, f32) {
    let (image, truth) = batch(shape, seed, device);
    let loss = Loss::DiceCe.forward(OutputActivation::Softmax, DiceScope::Batch, network.forward(image), &truth);
    let value = loss.clone().into_scalar();
    let gradients = GradientsParams::from_grads(loss.backward(), &network);
    (optimiser.step(network, gradients, 1e-2, None).unwrap(), value)
}
