//! What several suites build: specifications, inputs, a few steps of training.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use sulcus_pipeline::{
    Activation, ChannelSpec, Dimensions, Downsampling, Encoder, FORMAT_VERSION, ModelSpec, NetworkSpec, Norm,
    Normalisation, Output, SpacingRule, StageConfig, Tiling, Training,
};
use sulcus_train::{DiceScope, Loss, UNet};
use sulcus_volume::LabelTable;

/// Three stages of uneven channels, kernels and strides, so that a swapped axis or stage shows.
pub(crate) fn uneven(norm: Norm, activation: Activation, downsampling: Downsampling) -> NetworkSpec {
    let stage = |channels, convolutions, kernel: [usize; 2], stride: [usize; 2]| StageConfig {
        channels,
        convolutions,
        kernel: kernel.to_vec(),
        stride: stride.to_vec(),
    };
    NetworkSpec {
        name: "uneven".into(),
        dimensions: Dimensions::Two,
        stages: vec![stage(3, 2, [3, 3], [1, 1]), stage(5, 1, [1, 3], [2, 2]), stage(7, 3, [5, 3], [1, 2])],
        norm,
        activation,
        downsampling,
        encoder: Encoder::Plain,
        deep_supervision: false,
    }
}

pub(crate) fn model_spec(network: NetworkSpec, channels: usize) -> ModelSpec {
    let multiple = network.padding_multiple();
    let channel = |i| ChannelSpec { name: format!("MRI {i}"), normalisation: Normalisation::ZScore };
    ModelSpec {
        format_version: FORMAT_VERSION,
        name: "a test".into(),
        patch: multiple.iter().map(|edge| edge * 4).collect(),
        mirror_axes: vec![],
        padding_multiple: multiple,
        network,
        channels: (0..channels).map(channel).collect(),
        labels: LabelTable::from_names([(1, "Anterior".into()), (2, "Posterior".into())]).unwrap(),
        activation: Output::Softmax,
        orientation: "RAS".parse().unwrap(),
        spacing: SpacingRule::Native,
        tiling: Tiling::Whole,
        overlap: 0.5,
        postprocessing: vec![],
        training: Training::default(),
        golden_case: None,
    }
}

/// Numbers in [-1, 1) that repeat nowhere soon.
pub(crate) fn noise(shape: [usize; 4], seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub(crate) fn batch(shape: [usize; 4], seed: u32, device: &Device) -> (Tensor<4>, Tensor<3, Int>) {
    let values = noise(shape, seed);
    let [n, c, h, w] = shape;
    let classes: Vec<i64> =
        values.iter().take(n * h * w).map(|v| i64::from(*v > 0.2) + i64::from(*v > 0.6)).collect();
    assert!(c > 0);
    (
        Tensor::from_data(TensorData::new(values, shape), device),
        Tensor::from_data(TensorData::new(classes, [n, h, w]), device),
    )
}

pub(crate) fn optimiser() -> ModuleOptimizer {
    AdamConfig::new().init()
}

/// One step of training on `shape`; gives the loss.
pub(crate) fn step(
    network: UNet,
    optimiser: &mut ModuleOptimizer,
    shape: [usize; 4],
    seed: u32,
    device: &Device,
) -> (UNet, f32) {
    let (image, truth) = batch(shape, seed, device);
    let loss = Loss::DiceCe.forward(Output::Softmax, DiceScope::Batch, network.forward(image), truth);
    let value = loss.clone().into_scalar();
    let gradients = GradientsParams::from_grads(loss.backward(), &network);
    (optimiser.step(1e-2, network, gradients), value)
}
