//! A convolution with packed weights, for inference.

use super::execute::Execution;
use super::few_outputs;
use super::pack::PaddedInput;
use super::precision::{Emulation, Machine, Precision};
use super::tensor::{LayerInput, LayerOutput};
use super::weights::{ConvKernel, Int8Weights, PackedWeights};
use crate::amx::Amx;
use crate::conv::ConvShape;
use crate::error::{KernelError, check_length};
use crate::instruction_set::instruction_set;

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
    kernel: ConvKernel,
    weights: PackedWeights,
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
        Self::on(Machine::new(instruction_set(), Precision::F32, 0)?, kernel, weight, bias)
    }

    /// Packs the weights in bfloat16: the inputs are rounded to bfloat16 while they are packed, after their transform, and the
    /// products are summed in single precision.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and [`KernelError::Unsupported`] when the processor has no instructions for bfloat16 and emulation is
    /// refused.
    pub fn bf16(
        kernel: ConvKernel,
        weight: &[f32],
        bias: Option<&[f32]>,
        emulation: Emulation,
    ) -> Result<Self, KernelError> {
        let machine = Machine::with_emulation(instruction_set(), Precision::Bf16, 0, emulation)?;
        Self::on(machine, kernel, weight, bias)
    }

    /// Packs quantized weights: the inputs are quantized while they are packed, after their transform, and the products are
    /// summed exactly.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and [`KernelError::Unsupported`] when the processor has no instructions for such weights and emulation
    /// is refused.
    pub fn int8(kernel: ConvKernel, weights: Int8Weights<'_>, emulation: Emulation) -> Result<Self, KernelError> {
        let max_weight = weights.weight.iter().map(|weight| weight.unsigned_abs()).max().unwrap_or(0);
        let machine = Machine::with_emulation(instruction_set(), Precision::Int8, max_weight, emulation)?;
        Self::int8_on(machine, kernel, weights)
    }

    /// [`Self::new`] or [`Self::bf16`] with some instructions.
    pub(super) fn on(
        machine: Machine,
        kernel: ConvKernel,
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        check_kernel(kernel, weight.len(), bias.map(<[f32]>::len))?;
        let taps = kernel.taps();
        let value = |output, channel, tap| weight[(output * kernel.inputs + channel) * taps + tap];
        let bias = |output| bias.map_or(0.0, |bias| bias[output]);
        Ok(Self { kernel, weights: PackedWeights::floats(machine, kernel, value, bias) })
    }

    /// [`Self::int8`] with some instructions.
    pub(super) fn int8_on(
        machine: Machine,
        kernel: ConvKernel,
        weights: Int8Weights<'_>,
    ) -> Result<Self, KernelError> {
        check_kernel(kernel, weights.weight.len(), Some(weights.bias.len()))?;
        check_length("the scales of the weights", weights.scale.len(), kernel.outputs)?;
        let scales = weights.scale.iter().chain([&weights.input.scale]);
        if let Some(scale) = scales.into_iter().find(|scale| !(**scale > 0.0 && scale.is_finite())) {
            return Err(KernelError::Shape(format!("a quantization with a scale of {scale}")));
        }
        Ok(Self { kernel, weights: PackedWeights::integers(machine, kernel, &weights) })
    }

    /// Packs weights in bfloat16 for a convolution that is computed once, with AMX. `value` gives the weight of an output, an input and a
    /// tap, `bias` the bias of an output.
    pub(crate) fn bf16_once(
        amx: Amx,
        kernel: ConvKernel,
        value: impl Fn(usize, usize, usize) -> f32 + Sync,
        bias: impl Fn(usize) -> f32,
    ) -> Self {
        Self { kernel, weights: PackedWeights::floats(Machine::bf16(amx), kernel, value, bias) }
    }

    /// The channels, kernel and stride.
    pub fn kernel(&self) -> &ConvKernel {
        &self.kernel
    }

    /// D′, H′ and W′ of the output for an input of `size`: the size divided by the stride, rounded up.
    pub fn output_size(&self, size: [usize; 3]) -> [usize; 3] {
        self.kernel.shape(1, size).output_size()
    }

    /// The memory that a call with `batch` samples of `size` takes for a packed copy of its input, in bytes; 0 where threads pack
    /// parts of it, which needs a few hundred KiB each. The memory is kept for later calls, up to a limit.
    ///
    /// # Errors
    ///
    /// [`KernelError::Shape`] for an empty or too large shape.
    pub fn packed_input_bytes(&self, batch: usize, size: [usize; 3]) -> Result<usize, KernelError> {
        let shape = self.kernel.shape(batch, size);
        shape.check()?;
        let shape = shape.flattened();
        let input = self.padded_input(&[], [self.kernel.inputs, 0], &shape);
        let execution = Execution::new(&self.weights, batch, &input, shape.output_size());
        Ok(execution.shared_floats() * size_of::<f32>())
    }

    fn padded_input<'a>(
        &self,
        tensors: &'a [LayerInput<'a>],
        channels: [usize; 2],
        shape: &ConvShape,
    ) -> PaddedInput<'a> {
        let padding = shape.kernel.map(|edge| edge / 2);
        PaddedInput::new(tensors, channels, shape.size, padding, self.weights.input_format())
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
        let channels = input_channels(inputs, batch, size.iter().product(), self.kernel.inputs)?;
        output.check(batch, self.kernel.outputs, shape.output_plane())?;
        // A pointwise convolution is one over a single long row.
        let shape = shape.flattened();
        let input = self.padded_input(inputs, channels, &shape);
        if let Some(output) = few_outputs::run(&self.weights, batch, &input, output) {
            Execution::new(&self.weights, batch, &input, shape.output_size()).run(output);
        }
        Ok(())
    }
}

/// Checks the lengths of one or two inputs with `expected` channels together; returns the channels of each.
pub(super) fn input_channels(
    inputs: &[LayerInput<'_>],
    batch: usize,
    voxels: usize,
    expected: usize,
) -> Result<[usize; 2], KernelError> {
    if inputs.is_empty() || inputs.len() > 2 {
        return Err(KernelError::Shape("the input's channels must come in one or two tensors".into()));
    }
    let mut channels = [0; 2];
    for (channels, input) in channels.iter_mut().zip(inputs) {
        *channels = input.channels("an input", batch, voxels)?;
    }
    check_length("the inputs", batch * voxels * (channels[0] + channels[1]), batch * voxels * expected)?;
    Ok(channels)
}

/// Checks a kernel and the lengths of its weights.
fn check_kernel(kernel: ConvKernel, weights: usize, bias: Option<usize>) -> Result<(), KernelError> {
    let shape = kernel.shape(1, [1; 3]);
    shape.check()?;
    check_length("weight", weights, shape.weight_length())?;
    bias.map_or(Ok(()), |bias| check_length("bias", bias, kernel.outputs))
}
