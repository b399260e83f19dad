//! Packed weights of a convolution or a transposed convolution.

use super::pack::CellFormat;
use super::packed_conv::ConvKernel;
use super::rows::to_bf16;
use crate::conv::micro_kernel::{MicroKernel, TileSize, micro_kernel_for};
use crate::instruction_set::InstructionSet;
use crate::scratch::{AlignedFloats, LANES};

/// Packed weights, and what the execution has to know of the layer.
#[derive(Debug, Clone)]
pub(super) struct PackedWeights {
    pub(super) instruction_set: InstructionSet,
    pub(super) format: CellFormat,
    /// The number of output channels of the layer.
    pub(super) outputs: usize,
    pub(super) kernel: [usize; 3],
    pub(super) stride: [usize; 3],
    /// The factors by which a transposed convolution enlarges D, H and W; 1 for a convolution. Each input position becomes a
    /// block of this size, and each position of the block has panels of its own: `[block of 16 outputs][d][h][w]`.
    pub(super) upsampling: [usize; 3],
    /// The number of neighbouring taps that share their inputs: 1 or 3.
    pub(super) taps: usize,
    /// `[panel][tap row][channel group][tap][16]`, in cells.
    pub(super) cells: AlignedFloats,
    /// The initial value of the accumulators, `[panel][16]`: the bias.
    pub(super) initial: AlignedFloats,
}

impl PackedWeights {
    /// Packs weights in single precision or bfloat16. `value` gives the weight of an output, an input and a tap, `initial` the
    /// bias of an output.
    pub(super) fn floats(
        instruction_set: InstructionSet,
        format: CellFormat,
        kernel: ConvKernel,
        value: impl Fn(usize, usize, usize) -> f32,
        initial: impl Fn(usize) -> f32,
    ) -> Self {
        let cells = pack_cells(kernel, format, |output, channels, tap| match format {
            CellFormat::Bf16 => {
                let member =
                    |index: usize| channels.get(index).map_or(0.0, |&channel| value(output, channel, tap));
                u32::from(to_bf16(member(0))) | u32::from(to_bf16(member(1))) << 16
            }
            _ => value(output, channels[0], tap).to_bits(),
        });
        Self::new(instruction_set, format, kernel, cells, initial)
    }

    fn new(
        instruction_set: InstructionSet,
        format: CellFormat,
        kernel: ConvKernel,
        cells: AlignedFloats,
        value: impl Fn(usize) -> f32,
    ) -> Self {
        let mut initial = AlignedFloats::zeros(kernel.outputs.next_multiple_of(LANES));
        for (output, initial) in initial[..kernel.outputs].iter_mut().enumerate() {
            *initial = value(output);
        }
        let ConvKernel { outputs, kernel, stride, .. } = kernel;
        let (taps, upsampling) = (tap_group(kernel, stride), [1; 3]);
        Self { instruction_set, format, outputs, kernel, stride, upsampling, taps, cells, initial }
    }

    /// Whether every output reads one input at the same position.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1; 3] && self.stride == [1; 3] && self.upsampling == [1; 3]
    }

    /// The number of panels of the weights.
    pub(super) fn panels(&self) -> usize {
        self.initial.len() / LANES
    }

    /// Cells from one panel to the next.
    pub(super) fn panel_cells(&self) -> usize {
        self.cells.len() / self.panels()
    }

    /// The factors that turn integer sums into values, `[panel][16]`.
    pub(super) fn dequantize(&self) -> Option<&[f32]> {
        None
    }

    /// The micro-kernel for a tile size.
    pub(super) fn micro_kernel(&self, size: TileSize) -> Option<MicroKernel> {
        micro_kernel_for(self.instruction_set, size)
    }
}

/// The number of neighbouring taps along W that share their inputs.
fn tap_group(kernel: [usize; 3], stride: [usize; 3]) -> usize {
    if kernel[2] == 3 && stride[2] == 1 { 3 } else { 1 }
}

/// Packs weights as `[panel][tap row][channel group][tap][16]`. `cell` gives the cell of an output channel, of the input
/// channels of a group and of a tap.
fn pack_cells(
    kernel: ConvKernel,
    format: CellFormat,
    cell: impl Fn(usize, &[usize], usize) -> u32,
) -> AlignedFloats {
    let members = format.channels();
    let (groups, row) = (kernel.inputs.div_ceil(members), tap_group(kernel.kernel, kernel.stride));
    let panel_cells = kernel.taps() * groups * LANES;
    let mut packed = AlignedFloats::zeros(kernel.outputs.div_ceil(LANES) * panel_cells);
    let mut channels = [0; 4];
    for output in 0..kernel.outputs {
        let target = &mut packed[output / LANES * panel_cells..][..panel_cells];
        for tap in 0..kernel.taps() {
            for group in 0..groups {
                let count = members.min(kernel.inputs - group * members);
                for (member, channel) in channels[..count].iter_mut().enumerate() {
                    *channel = group * members + member;
                }
                let at = ((tap / row * groups + group) * row + tap % row) * LANES + output % LANES;
                target[at] = f32::from_bits(cell(output, &channels[..count], tap));
            }
        }
    }
    packed
}
