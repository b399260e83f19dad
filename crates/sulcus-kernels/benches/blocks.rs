//! Benches of the layers other than convolutions, at the sizes of nnU-Net's plan for the hippocampus (2 × 40 × 56 × 40) and of
//! a 2-D batch. tests/peers/pytorch_blocks.py times the same layers in PyTorch.
#![allow(clippy::expect_used, reason = "a bench that can't be set up has nothing to measure")]

use divan::Bencher;
use sulcus_kernels::{
    ConvTranspose, ConvTransposeGradients, DiceReduction, LossActivation, LossTerms, MaxPool, Norm, NormScope,
    NormShape, SegmentationLoss,
};

fn main() {
    divan::main();
}

/// Batch, channels, voxels.
const PLANES: [[usize; 3]; 3] = [[2, 16, 89_600], [2, 32, 89_600], [8, 64, 4096]];

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37) % 1013) as f32 / 500.0 - 1.0).collect()
}

/// The tensors of a normalisation.
struct Layer {
    shape: NormShape,
    x: Vec<f32>,
    y: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Layer {
    fn new([batch, channels, voxels]: [usize; 3]) -> Self {
        let x = values(batch * channels * voxels);
        let shape = NormShape { batch, channels, voxels, scope: NormScope::Instance };
        Self { shape, y: x.clone(), x, gamma: vec![1.1; channels], beta: vec![0.1; channels] }
    }
}

#[divan::bench(args = PLANES)]
fn norm_forward(bencher: Bencher<'_, '_>, planes: [usize; 3]) {
    let Layer { shape, x, mut y, gamma, beta } = Layer::new(planes);
    let norm = Norm::new(shape, &gamma, &beta, 0.01).expect("a norm");
    bencher.bench_local(|| norm.forward_train(&x, None, 1e-5, &mut y).expect("a norm"));
}

#[divan::bench(args = PLANES)]
fn norm_backward(bencher: Bencher<'_, '_>, planes: [usize; 3]) {
    let Layer { shape, x, mut y, gamma, beta } = Layer::new(planes);
    let norm = Norm::new(shape, &gamma, &beta, 0.01).expect("a norm");
    let moments = norm.forward_train(&x, None, 1e-5, &mut y).expect("a norm");
    let (mut dx, mut dgamma, mut dbeta) = (y.clone(), gamma.clone(), beta.clone());
    bencher
        .bench_local(|| norm.backward(&x, &moments, &y, None, &mut dx, &mut dgamma, &mut dbeta).expect("a norm"));
}

/// Batch, input and output channels; depth, height and width; strides.
const TRANSPOSED: [([usize; 3], [usize; 3], [usize; 3]); 3] = [
    ([2, 32, 16], [20, 28, 20], [2, 2, 2]),
    ([2, 128, 64], [5, 7, 5], [2, 2, 2]),
    ([8, 128, 64], [1, 32, 32], [1, 2, 2]),
];

#[divan::bench(args = [0, 1, 2])]
fn conv_transpose_forward(bencher: Bencher<'_, '_>, case: usize) {
    let ([batch, inputs, outputs], grid, stride) = TRANSPOSED[case];
    let (voxels, fold) = (grid.iter().product::<usize>(), stride.iter().product::<usize>());
    let layer = ConvTranspose::new(batch, [inputs, outputs], grid, stride).expect("a layer");
    let (x, weight, bias) = (values(batch * inputs * voxels), values(inputs * outputs * fold), values(outputs));
    let mut y = values(batch * outputs * voxels * fold);
    bencher.bench_local(|| layer.forward(&x, &weight, &bias, &mut y).expect("a layer"));
}

#[divan::bench(args = [0, 1, 2])]
fn conv_transpose_backward(bencher: Bencher<'_, '_>, case: usize) {
    let ([batch, inputs, outputs], grid, stride) = TRANSPOSED[case];
    let (voxels, fold) = (grid.iter().product::<usize>(), stride.iter().product::<usize>());
    let layer = ConvTranspose::new(batch, [inputs, outputs], grid, stride).expect("a layer");
    let (x, weight) = (values(batch * inputs * voxels), values(inputs * outputs * fold));
    let dy = values(batch * outputs * voxels * fold);
    let (mut dx, mut dw, mut db) = (x.clone(), weight.clone(), values(outputs));
    bencher.bench_local(|| {
        let gradients = ConvTransposeGradients { input: &mut dx, weight: &mut dw, bias: &mut db };
        layer.backward(&x, &weight, &dy, gradients).expect("a layer");
    });
}

#[divan::bench]
fn pool_forward(bencher: Bencher<'_, '_>) {
    let pool = MaxPool::new(32, [40, 56, 40], [2, 2, 2]).expect("a pool");
    let x = values(32 * 89_600);
    let (mut y, mut argmax) = (vec![0.0; 32 * 11_200], vec![0; 32 * 11_200]);
    bencher.bench_local(|| pool.forward(&x, &mut y, &mut argmax).expect("a pool"));
}

#[divan::bench]
fn pool_backward(bencher: Bencher<'_, '_>) {
    let pool = MaxPool::new(32, [40, 56, 40], [2, 2, 2]).expect("a pool");
    let mut x = values(32 * 89_600);
    let (mut y, mut argmax) = (vec![0.0; 32 * 11_200], vec![0; 32 * 11_200]);
    pool.forward(&x, &mut y, &mut argmax).expect("a pool");
    bencher.bench_local(|| pool.backward(&y, &argmax, &mut x).expect("a pool"));
}

/// Batch, classes, voxels.
#[divan::bench(args = [[2, 3, 89_600], [8, 3, 4096]])]
fn dice_and_cross_entropy(bencher: Bencher<'_, '_>, shape: [usize; 3]) {
    let loss = SegmentationLoss {
        activation: LossActivation::Softmax,
        terms: LossTerms::DiceCrossEntropy,
        reduction: DiceReduction::Sample,
    };
    let logits = values(shape.iter().product());
    let classes: Vec<u8> = (0..shape[0] * shape[2]).map(|i| (i / 7 % shape[1]) as u8).collect();
    let mut gradient = logits.clone();
    bencher.bench_local(|| loss.value_and_gradient(shape, 1.0, &logits, &classes, &mut gradient).expect("a loss"));
}
