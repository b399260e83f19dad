//! [`PackedConv`] against `conv_forward` of the transformed input.

use proptest::prelude::*;

use super::{Case, Tensor, assert_same_on_any_threads, available, bits, close, moments, noise, single};
use crate::KernelError;
use crate::conv::forward_with;
use crate::inference::{ConvKernel, LayerInput, LayerOutput, PackedConv};
use crate::instruction_set::InstructionSet;

/// Single precision over a few thousand terms of size one.
const TOLERANCE: f32 = 1e-5;

/// The output, its means and its variances.
fn run(conv: &PackedConv, case: &Case, inputs: &[Tensor], residual: Option<&Tensor>) -> [Vec<f32>; 3] {
    let channels = case.batch * case.kernel.outputs;
    let mut y = vec![f32::NAN; case.shape().output_length()];
    let (mut mean, mut variance) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
    let inputs: Vec<LayerInput> = inputs.iter().map(Tensor::input).collect();
    let mut output = LayerOutput::raw(&mut y).with_moments(&mut mean, &mut variance);
    if let Some(residual) = residual {
        output = LayerOutput { slope: 0.1, ..output.with_residual(residual.input()) };
    }
    conv.forward(case.batch, case.size, &inputs, output).unwrap();
    [y, mean, variance]
}

fn check(with: InstructionSet, case: &Case, seed: u64) -> Result<(), TestCaseError> {
    let shape = case.shape();
    let inputs = case.inputs(seed);
    let weight = noise(shape.weight_length(), seed + 10);
    let bias = noise(shape.outputs, seed + 11);
    let materialised: Vec<Vec<f32>> = inputs.iter().map(Tensor::materialised).collect();
    let parts: Vec<&[f32]> = materialised.iter().map(Vec::as_slice).collect();
    let mut expected = vec![f32::NAN; shape.output_length()];
    forward_with(with, &shape, &parts, &weight, Some(&bias), &mut expected).unwrap();

    let conv = PackedConv::on(single(with), case.kernel, &weight, Some(&bias)).unwrap();
    let voxels = shape.output_plane();
    for residual in [None, Some(Tensor::noise([case.batch, shape.outputs, voxels], seed + 20))] {
        if let Some(residual) = &residual {
            for (expected, residual) in expected.iter_mut().zip(residual.materialised()) {
                let sum = *expected + residual;
                *expected = if sum > 0.0 { sum } else { 0.1 * sum };
            }
        }
        let [y, mean, variance] = run(&conv, case, &inputs, residual.as_ref());
        close("y", &y, &expected, TOLERANCE)?;
        let [expected_mean, expected_variance] = moments(&y, voxels);
        close("mean", &mean, &expected_mean, TOLERANCE)?;
        close("variance", &variance, &expected_variance, TOLERANCE)?;
    }
    Ok(())
}

prop_compose! {
    fn any_case()(
        batch in 1usize..=2,
        inputs in prop_oneof![1usize..=5, Just(16), Just(17), Just(20)],
        outputs in prop_oneof![1usize..=5, Just(16), Just(19), Just(32), Just(37), Just(48)],
        size in (1usize..=5, 1usize..=9, prop_oneof![1usize..=13, 20usize..=50]),
        kernel in [0usize..=2, 0usize..=2, 0usize..=3],
        stride in [1usize..=2, 1usize..=2, 1usize..=2],
        cut in 1usize..=20,
    ) -> Case {
        let kernel = ConvKernel { inputs, outputs, kernel: kernel.map(|half| 2 * half + 1), stride };
        Case { batch, kernel, size: [size.0, size.1, size.2], cut: cut.min(inputs) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_convolution_of_the_transformed_input(case in any_case(), seed in 0u64..1000) {
        for with in available() {
            check(with, &case, seed)?;
        }
    }
}

/// Shapes that are cut into blocks of rows, columns and planes, packed by the block or for all blocks.
fn large_cases() -> Vec<Case> {
    let case = |[batch, inputs, outputs, cut]: [usize; 4], size, kernel, stride| Case {
        batch,
        kernel: ConvKernel { inputs, outputs, kernel, stride },
        size,
        cut,
    };
    vec![
        case([1, 16, 16, 16], [12, 56, 40], [3; 3], [1; 3]),
        case([2, 32, 16, 16], [6, 28, 40], [3; 3], [1; 3]),
        case([1, 32, 32, 32], [9, 15, 70], [3; 3], [2, 2, 2]),
        case([1, 70, 64, 6], [5, 14, 10], [3; 3], [1; 3]),
        case([2, 128, 80, 128], [5, 7, 6], [3; 3], [2, 2, 1]),
        case([1, 16, 3, 16], [11, 23, 40], [1; 3], [1; 3]),
        case([1, 64, 32, 1], [9, 25, 43], [1; 3], [1; 3]),
        case([1, 3, 19, 3], [1, 50, 700], [1, 3, 3], [1, 2, 2]),
        case([2, 4, 32, 4], [1, 64, 333], [1, 7, 7], [1; 3]),
        case([1, 2, 1, 2], [3, 3, 3], [7; 3], [2; 3]),
        // Winograd's filtering: three panels, blocks of columns, a shared input, and tiles of two and four rows.
        case([2, 33, 48, 20], [4, 23, 37], [3; 3], [1; 3]),
        case([1, 24, 19, 3], [1, 50, 701], [1, 3, 3], [1; 3]),
        case([1, 64, 70, 64], [5, 14, 22], [3; 3], [1; 3]),
        case([1, 64, 33, 64], [9, 30, 7], [3; 3], [1; 3]),
        case([1, 25, 16, 3], [1, 90, 30], [1, 1, 3], [1; 3]),
    ]
}

#[test]
fn large_shapes_equal_the_convolution_of_the_transformed_input() {
    for case in large_cases() {
        for with in available() {
            check(with, &case, 5).unwrap_or_else(|error| panic!("{case:?} on {with:?}: {error}"));
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for case in large_cases() {
        let inputs = case.inputs(3);
        let weight = noise(case.shape().weight_length(), 4);
        let conv = PackedConv::new(case.kernel, &weight, None).unwrap();
        assert_same_on_any_threads(|| run(&conv, &case, &inputs, None).map(|values| bits(&values)));
    }
}

/// A single-precision sum of squares would lose all digits of this variance.
#[test]
fn large_offset_costs_the_variance_no_precision() {
    let kernel = ConvKernel { inputs: 1, outputs: 1, kernel: [1; 3], stride: [1; 3] };
    let case = Case { batch: 1, kernel, size: [20, 30, 40], cut: 1 };
    for with in available() {
        let conv = PackedConv::on(single(with), kernel, &[1.0], Some(&[3000.0])).unwrap();
        let [y, mean, variance] = run(&conv, &case, &case.inputs(1), None);
        let [expected_mean, expected_variance] = moments(&y, y.len());
        assert!((mean[0] - expected_mean[0]).abs() < 1e-3);
        assert!((variance[0] / expected_variance[0] - 1.0).abs() < 1e-4, "{variance:?} {expected_variance:?}");
    }
}

#[test]
fn wrong_lengths_and_shapes_are_refused() {
    let kernel = ConvKernel { inputs: 2, outputs: 3, kernel: [1, 3, 3], stride: [1; 3] };
    let (weight, x) = (noise(54, 1), noise(2 * 20, 2));
    let conv = PackedConv::new(kernel, &weight, None).unwrap();
    let mut y = vec![0.0; 60];
    let mut forward = |x: &[f32], size, count: usize| {
        conv.forward(1, size, &[LayerInput::raw(x)], LayerOutput::raw(&mut y[..count]))
    };
    assert_eq!(forward(&x, [1, 4, 5], 60), Ok(()));
    assert!(matches!(forward(&x[1..], [1, 4, 5], 60), Err(KernelError::Length { .. })), "a part of a channel");
    assert!(matches!(forward(&x[20..], [1, 4, 5], 60), Err(KernelError::Length { .. })), "one channel");
    assert!(matches!(forward(&x, [1, 4, 5], 59), Err(KernelError::Length { .. })), "the output");
    assert!(matches!(forward(&x, [1, 0, 5], 60), Err(KernelError::Shape(_))), "an empty axis");
    let few = Tensor { values: x, scale: vec![1.0], shift: vec![0.0; 2], slope: 0.0 };
    let output = LayerOutput::raw(&mut y);
    assert!(matches!(conv.forward(1, [1, 4, 5], &[few.input()], output), Err(KernelError::Length { .. })));
    let none = conv.forward(1, [1, 4, 5], &[], LayerOutput::raw(&mut y));
    assert!(matches!(none, Err(KernelError::Shape(_))));
    assert!(PackedConv::new(kernel, &weight[1..], None).is_err());
    assert!(PackedConv::new(kernel, &weight, Some(&[0.0])).is_err());
    assert!(PackedConv::new(ConvKernel { stride: [1, 1, 3], ..kernel }, &weight, None).is_err());
}
