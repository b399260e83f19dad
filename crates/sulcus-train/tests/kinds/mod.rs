//! One network of each kind, and batches for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use burn::tensor::{Device, Tensor, TensorData};
use sulcus_model::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};
use sulcus_train::Targets;

/// Three stages with different channels, kernels and strides, so that a swapped axis or stage is detected.
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
        imported: None,
    }
}

/// The same in 3-D, with different sizes along the depth and one more stage.
pub(crate) fn uneven_blocks(norm: Norm, activation: Activation, downsampling: Downsampling) -> NetworkSpec {
    let mut spec = uneven(norm, activation, downsampling);
    spec.dimensions = Dimensions::Three;
    for (stage, (kernel, stride)) in spec.stages.iter_mut().zip([(1, 1), (3, 2), (3, 1)]) {
        stage.kernel.insert(0, kernel);
        stage.stride.insert(0, stride);
    }
    let deepest = StageConfig { channels: 6, convolutions: 1, kernel: vec![3, 3, 3], stride: vec![2, 1, 1] };
    spec.stages.push(deepest);
    spec
}

/// One network of each kind.
pub(crate) fn every_kind() -> Vec<NetworkSpec> {
    let leaky = Activation::LeakyRelu { slope: 0.01 };
    let mut deep = uneven_blocks(Norm::Instance, leaky, Downsampling::StridedConvolution);
    deep.deep_supervision = true;
    let mut residual = deep.clone();
    residual.encoder = Encoder::Residual;
    let mut flat_residual = uneven(Norm::Batch, leaky, Downsampling::StridedConvolution);
    flat_residual.encoder = Encoder::Residual;
    vec![
        uneven(Norm::Batch, Activation::Relu, Downsampling::MaxPool),
        uneven(Norm::Instance, leaky, Downsampling::StridedConvolution),
        uneven_blocks(Norm::Batch, Activation::Relu, Downsampling::MaxPool),
        deep,
        residual,
        flat_residual,
    ]
}

/// The shape of a batch of two with two channels; each axis is four times the network's multiple.
pub(crate) fn training_shape(spec: &NetworkSpec) -> [usize; 5] {
    match spec.padding_multiple()[..] {
        [h, w] => [2, 2, 1, 4 * h, 4 * w],
        [d, h, w] => [2, 2, 2 * d, 2 * h, 4 * w],
        _ => unreachable!("a checked specification"),
    }
}

/// Pseudo-random numbers in [-1, 1).
pub(crate) fn noise(shape: &[usize], seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub(crate) fn batch(shape: [usize; 5], seed: u32, device: &Device) -> (Tensor<5>, Targets) {
    let values = noise(&shape, seed);
    let [n, c, d, h, w] = shape;
    let classes: Vec<u8> =
        values.iter().take(n * d * h * w).map(|v| u8::from(*v > 0.2) + u8::from(*v > 0.6)).collect();
    assert!(c > 0);
    (Tensor::from_data(TensorData::new(values, shape), device), Targets::new(classes, [n, d, h, w]).unwrap())
}
