//! The forward pass and the input gradient of a convolution, by Winograd's filtering where it is faster, else as a direct sum. The
//! shape of a sample alone decides.

use crate::conv::pack::{WeightStrides, pack_weights};
use crate::conv::{ConvShape, check_forward, check_input_gradient, forward_with, input_gradient_with};
use crate::error::KernelError;
use crate::inference::{ConvKernel, convolve, winograd};
use crate::instruction_set::{InstructionSet, instruction_set};

/// Convolution: `y = x ∗ weight + bias`.
///
/// As in all deep-learning frameworks this is a cross-correlation. The input is padded with `kernel / 2` zeros on both sides
/// of each axis, and every `stride`-th position is computed.
///
/// ```
/// use sulcus_kernels::{ConvShape, conv_forward};
///
/// // One channel, a row of four voxels, a kernel of three.
/// let shape =
///     ConvShape { batch: 1, inputs: 1, outputs: 1, size: [1, 1, 4], kernel: [1, 1, 3], stride: [1, 1, 1] };
/// let mut y = [0.0; 4];
/// conv_forward(&shape, &[&[1.0, 2.0, 3.0, 4.0]], &[1.0, 0.0, -1.0], Some(&[10.0]), &mut y)?;
/// assert_eq!(y, [8.0, 8.0, 8.0, 13.0]);
/// # Ok::<(), sulcus_kernels::KernelError>(())
/// ```
///
/// # Shapes
///
/// - `x`: one tensor `[N, C, D, H, W]`, or two tensors `[N, C₁, D, H, W]` and `[N, C₂, D, H, W]` that are concatenated
///   along the channels without a copy, `C₁ + C₂ = shape.inputs`. The lengths of the slices give C₁ and C₂
/// - `weight`: `[O, I, kd, kh, kw]`
/// - `bias`: `[O]`
/// - `y`: `[N, O, D′, H′, W′]`, overwritten; the last three are [`ConvShape::output_size`]
///
/// # Errors
///
/// [`KernelError::Length`] for a slice whose length does not match the shape, [`KernelError::Shape`] for a shape that is not
/// supported: an even kernel edge, a kernel edge above 7, a stride above 2, an empty axis.
pub fn conv_forward(
    shape: &ConvShape,
    x: &[&[f32]],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<(), KernelError> {
    forward_on(instruction_set(), shape, x, weight, bias, y)
}

/// The gradient of a convolution with respect to its input: computes `dx` from `dy`.
///
/// # Shapes
///
/// - `weight`: `[O, I, kd, kh, kw]`
/// - `dy`: `[N, O, D′, H′, W′]`
/// - `dx`: one or two tensors, as `x` of [`conv_forward`], overwritten
///
/// # Errors
///
/// As [`conv_forward`].
pub fn conv_input_gradient(
    shape: &ConvShape,
    weight: &[f32],
    dy: &[f32],
    dx: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    input_gradient_on(instruction_set(), shape, weight, dy, dx)
}

fn forward_on(
    instruction_set: InstructionSet,
    shape: &ConvShape,
    x: &[&[f32]],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<(), KernelError> {
    let ConvShape { batch, inputs, outputs, size, kernel, stride } = *shape;
    if !winograd::is_faster(inputs, kernel, stride, size) {
        return forward_with(instruction_set, shape, x, weight, bias, y);
    }
    let split = check_forward(shape, x, weight, bias, y)?;
    let taps: Vec<usize> = (0..shape.taps()).collect();
    let strides = WeightStrides { lane: inputs * taps.len(), channel: taps.len() };
    let weights = pack_weights(weight, strides, outputs, inputs, &taps, 3);
    let x: Vec<(&[f32], usize)> = x.iter().copied().zip(split.channels().iter().copied()).collect();
    let kernel = ConvKernel { inputs, outputs, kernel, stride };
    convolve(instruction_set, [batch, size[0], size[1], size[2]], kernel, &x, (&weights, bias), y);
    Ok(())
}

/// With a stride of 1, the input gradient is a convolution of `dy` with the reversed kernel, whose outputs are the inputs.
fn input_gradient_on(
    instruction_set: InstructionSet,
    shape: &ConvShape,
    weight: &[f32],
    dy: &[f32],
    dx: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    let ConvShape { batch, inputs, outputs, size, kernel, stride } = *shape;
    if !winograd::is_faster(outputs, kernel, stride, size) {
        return input_gradient_with(instruction_set, shape, weight, dy, dx);
    }
    let split = check_input_gradient(shape, weight, dy, dx)?;
    let taps: Vec<usize> = (0..shape.taps()).rev().collect();
    let strides = WeightStrides { lane: taps.len(), channel: inputs * taps.len() };
    let mut first = 0;
    for (dx, &channels) in dx.iter_mut().zip(split.channels()) {
        if channels > 0 {
            let weights = pack_weights(&weight[first * taps.len()..], strides, channels, outputs, &taps, 3);
            let kernel = ConvKernel { inputs: outputs, outputs: channels, kernel, stride };
            let size = [batch, size[0], size[1], size[2]];
            convolve(instruction_set, size, kernel, &[(dy, outputs)], (&weights, None), dx);
        }
        first += channels;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
mod tests {
    use super::*;
    use crate::tests::{assert_same_on_any_threads, available, bits, noise};

    /// Shapes that Winograd's filtering computes: with a second input, tiles of several rows, columns beyond the last tile.
    const SHAPES: [(ConvShape, usize); 4] = [
        (shape(2, [40, 33], [5, 12, 37], [3; 3]), 7),
        (shape(1, [64, 48], [6, 30, 7], [3; 3]), 64),
        (shape(2, [25, 32], [1, 40, 50], [1, 3, 3]), 1),
        (shape(1, [130, 70], [4, 9, 22], [3; 3]), 128),
    ];

    const fn shape(batch: usize, channels: [usize; 2], size: [usize; 3], kernel: [usize; 3]) -> ConvShape {
        ConvShape { batch, inputs: channels[0], outputs: channels[1], size, kernel, stride: [1; 3] }
    }

    fn assert_close(found: &[f32], expected: &[f32]) {
        let scale = expected.iter().fold(1e-3_f32, |scale, value| scale.max(value.abs()));
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() <= 1e-5 * scale,
                "[{index}]: {found} instead of {expected} of {scale}"
            );
        }
    }

    #[test]
    fn both_passes_equal_the_direct_sum() {
        for (shape, cut) in SHAPES {
            assert!(winograd::is_faster(shape.inputs, shape.kernel, shape.stride, shape.size));
            let x = noise(shape.batch * shape.inputs * shape.input_plane(), 1);
            let (first, second) = x.split_at(shape.batch * cut * shape.input_plane());
            let (weight, bias) = (noise(shape.weight_length(), 2), noise(shape.outputs, 3));
            let dy = noise(shape.output_length(), 4);
            let parts: Vec<&[f32]> = [first, second].into_iter().filter(|part| !part.is_empty()).collect();
            for with in available() {
                let (mut found, mut expected) = (vec![f32::NAN; dy.len()], vec![f32::NAN; dy.len()]);
                forward_on(with, &shape, &parts, &weight, Some(&bias), &mut found).unwrap();
                forward_with(with, &shape, &parts, &weight, Some(&bias), &mut expected).unwrap();
                assert_close(&found, &expected);

                let (mut found, mut expected) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                for (dx, run) in [
                    (&mut found, input_gradient_on as fn(_, &_, &_, &_, &mut [_]) -> _),
                    (&mut expected, input_gradient_with),
                ] {
                    let (first, second) = dx.split_at_mut(first.len());
                    let mut parts: Vec<&mut [f32]> =
                        [first, second].into_iter().filter(|part| !part.is_empty()).collect();
                    run(with, &shape, &weight, &dy, &mut parts).unwrap();
                }
                assert_close(&found, &expected);
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        for (shape, _) in SHAPES {
            let x = noise(shape.batch * shape.inputs * shape.input_plane(), 1);
            let (weight, dy) = (noise(shape.weight_length(), 2), noise(shape.output_length(), 4));
            assert_same_on_any_threads(|| {
                let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
                conv_forward(&shape, &[&x], &weight, None, &mut y).unwrap();
                conv_input_gradient(&shape, &weight, &dy, &mut [&mut dx]).unwrap();
                [bits(&y), bits(&dx)]
            });
        }
    }
}
