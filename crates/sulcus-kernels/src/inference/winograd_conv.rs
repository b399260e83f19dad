//! A convolution in single precision that is computed once, as in training.

use super::execute::Execution;
use super::pack::{CellFormat, PaddedInput};
use super::tensor::{LayerInput, LayerOutput};
use super::weights::{ConvKernel, PackedWeights};
use crate::instruction_set::InstructionSet;

/// Computes a convolution by Winograd's filtering. It has to be one for which the filtering is
/// [faster](super::winograd::is_faster).
///
/// - `x`: one or two tensors `[N, C, D, H, W]` with their channels
/// - `weights`: `[panel][tap row][channel][3 taps][16]`
/// - `y`: `[N, O, D, H, W]`, overwritten
pub(crate) fn convolve(
    instruction_set: InstructionSet,
    [batch, depth, height, width]: [usize; 4],
    kernel: ConvKernel,
    x: &[(&[f32], usize)],
    (weights, bias): (&[f32], Option<&[f32]>),
    y: &mut [f32],
) {
    let size = [depth, height, width];
    let bias = |output: usize| bias.map_or(0.0, |bias| bias[output]);
    let weights = PackedWeights::winograd_only(instruction_set, kernel, weights, bias);
    let tensors: Vec<LayerInput<'_>> = x.iter().map(|(values, _)| LayerInput::raw(values)).collect();
    let mut channels = [0; 2];
    for (channels, (_, count)) in channels.iter_mut().zip(x) {
        *channels = *count;
    }
    let padding = kernel.kernel.map(|edge| edge / 2);
    let input = PaddedInput::new(&tensors, channels, size, padding, (CellFormat::F32, None));
    Execution::new(&weights, batch, &input, size).run(LayerOutput::raw(y));
}
