//! Packed weights of a convolution or a transposed convolution.

mod amx;

use std::sync::OnceLock;

use super::pack::CellFormat;
use super::precision::{Machine, Precision};
use super::rows::to_bf16;
use super::tensor::Quantization;
use super::winograd;
use crate::amx::Amx;
use crate::conv::ConvShape;
use crate::conv::micro_kernel::{LaneType, MicroKernel, TileSize, micro_kernel_for};
use crate::instruction_set::InstructionSet;
use crate::scratch::{AlignedFloats, LANES};
pub(super) use amx::AmxWeights;

/// The channels, the kernel and the stride of a convolution. The padding is `kernel / 2` zeros on both sides of each axis. A
/// 2-D convolution has a kernel edge and a stride of 1 along the depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvKernel {
    /// The number of input channels.
    pub inputs: usize,
    /// The number of output channels.
    pub outputs: usize,
    /// The kernel edges along D, H and W: odd, at most 7.
    pub kernel: [usize; 3],
    /// The stride along D, H and W: 1 or 2.
    pub stride: [usize; 3],
}

impl ConvKernel {
    pub(super) fn shape(&self, batch: usize, size: [usize; 3]) -> ConvShape {
        let Self { inputs, outputs, kernel, stride } = *self;
        ConvShape { batch, inputs, outputs, size, kernel, stride }
    }

    /// The number of taps.
    pub(super) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }
}

/// The weights of a convolution in 8-bit integers, and the quantization of its input.
#[derive(Debug, Clone, Copy)]
pub struct Int8Weights<'a> {
    /// The integers, symmetric around 0: `[O, I, kd, kh, kw]`.
    pub weight: &'a [i8],
    /// The scale of each output channel's weights, `[O]`.
    pub scale: &'a [f32],
    /// The biases in units of the input's scale times the weights' scale, `[O]`.
    pub bias: &'a [i32],
    /// The quantization of the input.
    pub input: Quantization,
}

/// Packed weights, and what the execution has to know of the layer.
#[derive(Debug, Clone)]
pub(super) struct PackedWeights {
    pub(super) instruction_set: InstructionSet,
    pub(super) lanes: LaneType,
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
    /// `[panel][tap row][channel group][tap][16]`, in cells; none if the layer is computed with AMX.
    pub(super) cells: AlignedFloats,
    /// The weights as tiles, if the layer is computed with AMX.
    pub(super) amx: Option<AmxWeights>,
    /// The same transformed for Winograd's filtering, from the first call on that uses it.
    pub(super) winograd: OnceLock<AlignedFloats>,
    /// The initial value of the accumulators, `[panel][16]`: the bias.
    pub(super) initial: AlignedFloats,
    /// The factors that turn integer sums into values, `[panel][16]`.
    pub(super) factors: Option<AlignedFloats>,
}

impl PackedWeights {
    /// Packs weights in single precision or bfloat16. `value` gives the weight of an output, an input and a tap, `bias` the bias
    /// of an output.
    pub(super) fn floats(
        machine: Machine,
        kernel: ConvKernel,
        value: impl Fn(usize, usize, usize) -> f32 + Sync,
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let format = if machine.precision == Precision::Bf16 { CellFormat::Bf16 } else { CellFormat::F32 };
        let cell = |output: usize, channels: &[usize], tap: usize| match format {
            CellFormat::Bf16 => {
                let member =
                    |index: usize| channels.get(index).map_or(0.0, |&channel| value(output, channel, tap));
                u32::from(to_bf16(member(0))) | u32::from(to_bf16(member(1))) << 16
            }
            _ => value(output, channels[0], tap).to_bits(),
        };
        Self::new(machine, format, kernel, cell, |_, _| 0, bias)
    }

    /// Packs weights in 8-bit integers. The sums of a quantized input exceed those of its values by the zero point times the
    /// sum of the weights, which is therefore subtracted from the bias. Zero padding is packed as the zero point.
    pub(super) fn integers(machine: Machine, kernel: ConvKernel, weights: &Int8Weights<'_>) -> Self {
        let format = CellFormat::U8(weights.input);
        let taps = kernel.taps();
        let cell = |output: usize, channels: &[usize], tap: usize| {
            let byte = |&channel: &usize| weights.weight[(output * kernel.inputs + channel) * taps + tap];
            channels.iter().rev().fold(0, |cell, channel| cell << 8 | u32::from(byte(channel).cast_unsigned()))
        };
        let per_output = kernel.inputs * taps;
        let of_output = |output: usize| weights.weight[output * per_output..][..per_output].iter();
        let sum = |sum: i32, weight: &i8| sum.wrapping_add(i32::from(*weight));
        let zero_point = i32::from(weights.input.zero_point);
        let edge = |output: usize, tap: usize| {
            let of_tap = of_output(output).skip(tap).step_by(kernel.kernel[2]);
            of_tap.fold(0, sum).wrapping_mul(zero_point).cast_unsigned()
        };
        let bias = |output: usize| {
            let offset = of_output(output).fold(0, sum).wrapping_mul(zero_point);
            f32::from_bits(weights.bias[output].wrapping_sub(offset).cast_unsigned())
        };
        let mut packed = Self::new(machine, format, kernel, cell, edge, bias);
        let mut factors = AlignedFloats::zeros(packed.initial.len());
        for (factor, scale) in factors.iter_mut().zip(weights.scale) {
            *factor = weights.input.scale * scale;
        }
        packed.factors = Some(factors);
        packed
    }

    /// Packs weights as tiles or as cells. `cell` gives the cell of an output channel, of the input channels of a group and of a tap, `edge`
    /// what a padded column adds to the sum of an output channel by the taps along W of one number.
    fn new(
        machine: Machine,
        format: CellFormat,
        kernel: ConvKernel,
        cell: impl Fn(usize, &[usize], usize) -> u32 + Sync,
        edge: impl Fn(usize, usize) -> u32,
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let amx = machine.amx.map(|amx| AmxWeights::new(amx, kernel, format, &cell, edge));
        let cells = match &amx {
            Some(_) => AlignedFloats::zeros(0),
            None => pack_cells(kernel, format, tap_group(machine, kernel), cell),
        };
        Self { amx, ..Self::with_cells(machine, format, kernel, cells, bias) }
    }

    fn with_cells(
        machine: Machine,
        format: CellFormat,
        kernel: ConvKernel,
        cells: AlignedFloats,
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let mut initial = AlignedFloats::zeros(kernel.outputs.next_multiple_of(LANES));
        for (output, initial) in initial[..kernel.outputs].iter_mut().enumerate() {
            *initial = bias(output);
        }
        let Machine { instruction_set, lanes, .. } = machine;
        let (taps, upsampling, factors) = (tap_group(machine, kernel), [1; 3], None);
        let ConvKernel { outputs, kernel, stride, .. } = kernel;
        let winograd = OnceLock::new();
        Self {
            instruction_set,
            lanes,
            format,
            outputs,
            kernel,
            stride,
            upsampling,
            taps,
            cells,
            amx: None,
            winograd,
            initial,
            factors,
        }
    }

    /// The weights of a convolution that is computed once, by Winograd's filtering. `cells` are packed as
    /// `[panel][tap row][channel][3 taps][16]`.
    pub(super) fn winograd_only(
        instruction_set: InstructionSet,
        kernel: ConvKernel,
        cells: &[f32],
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        let machine = Machine {
            instruction_set,
            lanes: LaneType::single(instruction_set),
            precision: Precision::F32,
            amx: None,
        };
        let transformed = winograd::transform_weights(instruction_set, cells, kernel.inputs, 3);
        let packed = Self::with_cells(machine, CellFormat::F32, kernel, AlignedFloats::zeros(0), bias);
        Self { winograd: OnceLock::from(transformed), ..packed }
    }

    /// What the cells of the input hold, and the proof of AMX if it reads them.
    pub(super) fn input_format(&self) -> (CellFormat, Option<Amx>) {
        (self.format, self.amx.as_ref().map(|weights| weights.amx))
    }

    /// Whether every output reads one input at the same position.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1; 3] && self.stride == [1; 3] && self.upsampling == [1; 3]
    }

    /// Whether Winograd's filtering computes an output of D′, H′ and W′ from some input channels.
    pub(super) fn prefers_winograd(&self, inputs: usize, out: [usize; 3]) -> bool {
        let is_convolution = self.format == CellFormat::F32 && self.upsampling == [1; 3];
        is_convolution && winograd::is_faster(inputs, self.kernel, self.stride, out)
    }

    /// The weights for Winograd's filtering, `[panel][tap row][frequency][channel][16]`.
    pub(super) fn winograd_cells(&self) -> &[f32] {
        let rows = self.panels() * self.kernel[0] * self.kernel[1];
        let channels = self.cells.len() / (rows * 3 * LANES);
        self.winograd
            .get_or_init(|| winograd::transform_weights(self.instruction_set, &self.cells, channels, self.taps))
    }

    /// The number of panels of the weights.
    pub(super) fn panels(&self) -> usize {
        self.initial.len() / LANES
    }

    /// Cells from one panel to the next, where they are not tiles.
    pub(super) fn panel_cells(&self) -> usize {
        self.cells.len() / self.panels()
    }

    /// The factors that turn integer sums into values, `[panel][16]`.
    pub(super) fn dequantize(&self) -> Option<&[f32]> {
        self.factors.as_deref()
    }

    /// The micro-kernel for a tile size.
    pub(super) fn micro_kernel(&self, size: TileSize) -> Option<MicroKernel> {
        micro_kernel_for(self.lanes, size)
    }
}

/// The number of neighbouring taps along W that share their inputs. The weights of all of them have to be in registers.
fn tap_group(machine: Machine, kernel: ConvKernel) -> usize {
    let ConvKernel { kernel, stride, .. } = kernel;
    if kernel[2] == 3 && stride[2] == 1 && machine.lanes.has_many_registers() { 3 } else { 1 }
}

/// Packs weights as `[panel][tap row][channel group][tap][16]`, where a tap row has `row` taps. `cell` gives the cell of an output channel, of the input
/// channels of a group and of a tap.
fn pack_cells(
    kernel: ConvKernel,
    format: CellFormat,
    row: usize,
    cell: impl Fn(usize, &[usize], usize) -> u32,
) -> AlignedFloats {
    let members = format.channels();
    let groups = kernel.inputs.div_ceil(members);
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

/// Micro-kernels by the logarithm of their number of rows, for full tiles and for the remainder of a row.
pub(super) struct MicroKernels {
    columns: usize,
    kernels: [[Option<MicroKernel>; 2]; 3],
}

impl MicroKernels {
    pub(super) fn new(weights: &PackedWeights, size: TileSize, width: usize) -> Self {
        let kernels = [1, 2, 4].map(|rows| {
            [size.columns, width % size.columns]
                .map(|columns| weights.micro_kernel(TileSize { rows, columns, ..size }))
        });
        Self { columns: size.columns, kernels }
    }

    pub(super) fn get(&self, rows: usize, columns: usize) -> Option<MicroKernel> {
        self.kernels[rows.ilog2() as usize][usize::from(columns < self.columns)]
    }
}
