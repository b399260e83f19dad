//! [`PackedConvTranspose`] against [`ConvTranspose`] of the transformed input.

use super::{Tensor, assert_same_on_any_threads, available, bits, close, moments, noise};
use crate::inference::pack::CellFormat;
use crate::inference::{LayerInput, LayerOutput, PackedConvTranspose};
use crate::{ConvTranspose, KernelError};

const TOLERANCE: f32 = 1e-5;

/// Batch, inputs and outputs; depth, height and width; strides.
const SHAPES: [([usize; 3], [usize; 3], [usize; 3]); 8] = [
    ([2, 32, 16], [6, 7, 20], [2, 2, 2]),
    ([1, 70, 33], [3, 5, 6], [2, 2, 2]),
    ([2, 5, 19], [1, 9, 50], [1, 2, 2]),
    ([1, 16, 3], [3, 4, 3], [2, 1, 2]),
    ([1, 7, 16], [3, 4, 13], [2, 2, 1]),
    ([1, 320, 64], [3, 3, 3], [2, 2, 2]),
    ([1, 3, 17], [2, 2, 300], [1, 2, 2]),
    ([1, 2, 1], [1, 1, 1], [2, 2, 2]),
];

fn run(layer: &PackedConvTranspose, batch: usize, size: [usize; 3], x: &Tensor) -> [Vec<f32>; 3] {
    let channels = batch * layer.channels()[1];
    let voxels = size.iter().zip(layer.stride()).map(|(size, stride)| size * stride).product::<usize>();
    let mut y = vec![f32::NAN; channels * voxels];
    let (mut mean, mut variance) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
    let output = LayerOutput::raw(&mut y).with_moments(&mut mean, &mut variance);
    layer.forward(batch, size, &[x.input()], output).unwrap();
    [y, mean, variance]
}

#[test]
fn equals_the_transposed_convolution_of_the_transformed_input() {
    for ([batch, inputs, outputs], size, stride) in SHAPES {
        let block: usize = stride.iter().product();
        let voxels: usize = size.iter().product();
        let (weight, bias) = (noise(inputs * outputs * block, 1), noise(outputs, 2));
        let x = Tensor::noise([batch, inputs, voxels], 3);
        let mut expected = vec![f32::NAN; batch * outputs * voxels * block];
        let unfused = ConvTranspose::new(batch, [inputs, outputs], size, stride).unwrap();
        unfused.forward(&x.materialised(), &weight, &bias, &mut expected).unwrap();
        let [mean, variance] = moments(&expected, voxels * block);
        for with in available() {
            let channels = [inputs, outputs];
            let layer =
                PackedConvTranspose::on(with, CellFormat::F32, channels, stride, &weight, Some(&bias)).unwrap();
            let found = run(&layer, batch, size, &x);
            for (found, expected) in found.iter().zip([&expected, &mean, &variance]) {
                close("y", found, expected, TOLERANCE)
                    .unwrap_or_else(|error| panic!("{channels:?} {size:?} {stride:?} on {with:?}: {error}"));
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for ([batch, inputs, outputs], size, stride) in SHAPES {
        let weight = noise(inputs * outputs * stride.iter().product::<usize>(), 1);
        let x = Tensor::noise([batch, inputs, size.iter().product()], 3);
        let layer = PackedConvTranspose::new([inputs, outputs], stride, &weight, None).unwrap();
        assert_same_on_any_threads(|| run(&layer, batch, size, &x).map(|values| bits(&values)));
    }
}

#[test]
fn wrong_lengths_and_strides_are_refused() {
    let weight = noise(2 * 3 * 4, 1);
    let new = |stride, weight: &[f32]| PackedConvTranspose::new([2, 3], stride, weight, None);
    assert!(matches!(new([1, 2, 3], &weight), Err(KernelError::Shape(_))));
    assert!(matches!(new([1, 2, 2], &weight[1..]), Err(KernelError::Length { .. })));
    let layer = new([1, 2, 2], &weight).unwrap();
    let (x, mut y) = (noise(2 * 6, 2), vec![0.0; 3 * 24]);
    let mut forward = |x: &[f32], size, count: usize| {
        layer.forward(1, size, &[LayerInput::raw(x)], LayerOutput::raw(&mut y[..count]))
    };
    assert_eq!(forward(&x, [1, 2, 3], 72), Ok(()));
    assert!(matches!(forward(&x[6..], [1, 2, 3], 72), Err(KernelError::Length { .. })));
    assert!(matches!(forward(&x, [1, 2, 3], 71), Err(KernelError::Length { .. })));
    assert!(matches!(forward(&x, [0, 2, 3], 72), Err(KernelError::Shape(_))));
    assert!(matches!(forward(&x, [1, usize::MAX, usize::MAX], 72), Err(KernelError::Shape(_))));
}
