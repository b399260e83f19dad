//! A convolution with packed weights, for inference.

use super::execute::Execution;
use super::pack::{CellFormat, PaddedInput};
use super::tensor::{LayerInput, LayerOutput};
use crate::conv::ConvShape;
use crate::conv::micro_kernel::{MicroKernel, TileSize, micro_kernel_for};
use crate::error::{KernelError, check_length};
use crate::instruction_set::{InstructionSet, instruction_set};
use crate::scratch::{AlignedFloats, LANES};

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

    /// Whether every output reads one input at the same position.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1; 3] && self.stride == [1; 3]
    }
}

/// A convolution whose weights are packed once, for any size of its input: `y = x ∗ weight + bias`.
///
/// Its inputs may carry an [`InputTransform`](super::InputTransform), which is applied while they are packed, and its output's
/// mean and variance can be gathered while it is written. A chain of convolutions with instance normalisation and leaky ReLU
/// between them therefore reads and writes each tensor once.
///
/// ```
/// use sulcus_kernels::inference::{ConvKernel, InputTransform, LayerInput, LayerOutput, PackedConv};
///
/// // One channel, a kernel of three along W that computes x[w − 1] − x[w + 1].
/// let kernel = ConvKernel { inputs: 1, outputs: 1, kernel: [1, 1, 3], stride: [1, 1, 1] };
/// let conv = PackedConv::new(kernel, &[1.0, 0.0, -1.0], Some(&[10.0]))?;
/// let (mut y, mut mean, mut variance) = ([0.0; 4], [0.0], [0.0]);
///
/// // The input is doubled and rectified while it is read: 2, 4, 6, 0.
/// let transform = InputTransform { scale: &[2.0], shift: &[0.0], slope: 0.0 };
/// let input = LayerInput::transformed(&[1.0, 2.0, 3.0, -4.0], transform);
/// let output = LayerOutput::raw(&mut y).with_moments(&mut mean, &mut variance);
/// conv.forward(1, [1, 1, 4], &[input], output)?;
/// assert_eq!(y, [6.0, 6.0, 14.0, 16.0]);
/// assert_eq!((mean, variance), ([10.5], [20.75]));
/// # Ok::<(), sulcus_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct PackedConv {
    pub(super) kernel: ConvKernel,
    pub(super) instruction_set: InstructionSet,
    pub(super) format: CellFormat,
    /// The number of neighbouring taps that share their inputs: 1 or 3.
    pub(super) taps: usize,
    /// `[panel][tap row][channel group][tap][16]`, in cells.
    pub(super) weights: AlignedFloats,
    /// The initial value of the accumulators, `[panel][16]`: the bias.
    pub(super) initial: AlignedFloats,
}

impl PackedConv {
    /// Packs the weights of a convolution in single precision.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[O, I, kd, kh, kw]`
    /// - `bias`: `[O]`
    ///
    /// # Errors
    ///
    /// [`KernelError::Length`] for a slice whose length does not match the kernel, [`KernelError::Shape`] for a kernel that is
    /// not supported.
    pub fn new(kernel: ConvKernel, weight: &[f32], bias: Option<&[f32]>) -> Result<Self, KernelError> {
        Self::on(instruction_set(), kernel, weight, bias)
    }

    /// [`Self::new`] for an instruction set that this processor has.
    pub(super) fn on(
        instruction_set: InstructionSet,
        kernel: ConvKernel,
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        check_kernel(kernel, weight.len(), bias.map(<[f32]>::len))?;
        let taps = kernel.taps();
        let weights = pack_cells(kernel, CellFormat::F32, |output, channel, tap| {
            weight[(output * kernel.inputs + channel[0]) * taps + tap].to_bits()
        });
        let initial = pack_initial(kernel, |output| bias.map_or(0.0, |bias| bias[output]));
        let format = CellFormat::F32;
        Ok(Self { kernel, instruction_set, format, taps: tap_group(kernel), weights, initial })
    }

    /// The factors that turn integer sums into values, `[panel][16]`.
    pub(super) fn dequantize(&self) -> Option<&[f32]> {
        None
    }

    /// The micro-kernel for a tile size.
    pub(super) fn micro_kernel(&self, size: TileSize) -> Option<MicroKernel> {
        micro_kernel_for(self.instruction_set, size)
    }

    /// The channels, kernel and stride.
    pub fn kernel(&self) -> &ConvKernel {
        &self.kernel
    }

    /// D′, H′ and W′ of the output for an input of `size`: the size divided by the stride, rounded up.
    pub fn output_size(&self, size: [usize; 3]) -> [usize; 3] {
        self.kernel.shape(1, size).output_size()
    }

    /// Computes the convolution of a batch.
    ///
    /// # Shapes
    ///
    /// - `size`: D, H and W of the input
    /// - `inputs`: one tensor `[N, I, D, H, W]`, or two whose channels are concatenated without a copy
    /// - `output`: `[N, O, D′, H′, W′]`
    ///
    /// # Errors
    ///
    /// [`KernelError::Length`] for a slice whose length does not match the shape, [`KernelError::Shape`] for an empty or too
    /// large shape.
    pub fn forward(
        &self,
        batch: usize,
        size: [usize; 3],
        inputs: &[LayerInput<'_>],
        output: LayerOutput<'_>,
    ) -> Result<(), KernelError> {
        let shape = self.kernel.shape(batch, size);
        shape.check()?;
        let voxels: usize = size.iter().product();
        let mut channels = [0; 2];
        if inputs.is_empty() || inputs.len() > 2 {
            return Err(KernelError::Shape("the input's channels must come in one or two tensors".into()));
        }
        for (channels, input) in channels.iter_mut().zip(inputs) {
            *channels = input.channels("an input", batch, voxels)?;
        }
        let expected = batch * voxels * self.kernel.inputs;
        check_length("the inputs", batch * voxels * (channels[0] + channels[1]), expected)?;
        output.check(batch, self.kernel.outputs, shape.output_plane())?;
        // A pointwise convolution is one over a single long row.
        let shape = shape.flattened();
        let input = PaddedInput {
            tensors: inputs,
            channels,
            size: shape.size,
            padding: shape.kernel.map(|edge| edge / 2),
            format: self.format,
        };
        Execution::new(self, batch, &input, shape.output_size()).run(output);
        Ok(())
    }
}

/// The number of neighbouring taps along W that share their inputs.
pub(super) fn tap_group(kernel: ConvKernel) -> usize {
    if kernel.kernel[2] == 3 && kernel.stride[2] == 1 { 3 } else { 1 }
}

/// Checks a kernel and the lengths of its weights.
pub(super) fn check_kernel(kernel: ConvKernel, weights: usize, bias: Option<usize>) -> Result<(), KernelError> {
    let shape = kernel.shape(1, [1; 3]);
    shape.check()?;
    check_length("weight", weights, shape.weight_length())?;
    bias.map_or(Ok(()), |bias| check_length("bias", bias, kernel.outputs))
}

/// Packs weights as `[panel][tap row][channel group][tap][16]`. `cell` gives the cell of an output channel, of the input
/// channels of a group and of a tap.
pub(super) fn pack_cells(
    kernel: ConvKernel,
    format: CellFormat,
    cell: impl Fn(usize, &[usize], usize) -> u32,
) -> AlignedFloats {
    let members = format.channels();
    let (groups, row) = (kernel.inputs.div_ceil(members), tap_group(kernel));
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

/// The initial values of the accumulators, padded with zeros.
pub(super) fn pack_initial(kernel: ConvKernel, value: impl Fn(usize) -> f32) -> AlignedFloats {
    let mut initial = AlignedFloats::zeros(kernel.outputs.next_multiple_of(LANES));
    for (output, initial) in initial[..kernel.outputs].iter_mut().enumerate() {
        *initial = value(output);
    }
    initial
}
