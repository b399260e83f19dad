//! Convolutions in bfloat16 against those in single precision of factors that were rounded before. Without AMX this is reported as ignored,
//! and then the tests of the same convolutions in the library have nothing to compute.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
extern crate sulcus_harness;

use sulcus_kernels::{Bf16Convolution, ConvShape, conv_forward, conv_input_gradient, conv_weight_gradient};
use sulcus_testing::Noise;

/// Sums of a few thousand products in another order, as a share of the largest result.
const TOLERANCE: f32 = 1e-5;

const SHAPE: ConvShape =
    ConvShape { batch: 2, inputs: 24, outputs: 40, size: [6, 13, 21], kernel: [3; 3], stride: [1; 3] };

/// Values that bfloat16 holds exactly.
fn halves(count: usize, seed: u64) -> Vec<f32> {
    Noise(seed).take(count, 1.0).into_iter().map(|value| f32::from_bits(value.to_bits() & 0xffff_0000)).collect()
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    let scale = expected.iter().fold(0.0_f32, |scale, value| scale.max(value.abs()));
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.len() == expected.len() && apart <= TOLERANCE * scale, "{what}: {apart} of {scale}");
}

#[test]
fn all_passes_equal_those_in_single_precision_of_rounded_factors() {
    let Some(bf16) = Bf16Convolution::detect() else {
        sulcus_harness::skip("this processor has no AMX");
    };
    let voxels: usize = SHAPE.size.iter().product();
    let x = halves(SHAPE.batch * SHAPE.inputs * voxels, 1);
    let weight = halves(SHAPE.outputs * SHAPE.inputs * 27, 2);
    let dy = halves(SHAPE.batch * SHAPE.outputs * voxels, 3);

    let (mut found, mut expected) = (vec![0.0; dy.len()], vec![0.0; dy.len()]);
    bf16.forward(&SHAPE, &[&x], &weight, None, &mut found).unwrap();
    conv_forward(&SHAPE, &[&x], &weight, None, &mut expected).unwrap();
    assert_close("y", &found, &expected);

    let (mut found, mut expected) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    bf16.input_gradient(&SHAPE, &weight, &dy, &mut [&mut found]).unwrap();
    conv_input_gradient(&SHAPE, &weight, &dy, &mut [&mut expected]).unwrap();
    assert_close("dx", &found, &expected);

    let (mut found, mut expected) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
    bf16.weight_gradient(&SHAPE, &[&x], &dy, &mut found, None).unwrap();
    conv_weight_gradient(&SHAPE, &[&x], &dy, &mut expected, None).unwrap();
    assert_close("dw", &found, &expected);
}

sulcus_harness::main!();
