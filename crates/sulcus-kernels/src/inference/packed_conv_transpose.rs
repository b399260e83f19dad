//! A transposed convolution with packed weights, for inference.

use super::execute::Execution;
use super::pack::PaddedInput;
use super::packed_conv::input_channels;
use super::precision::{Emulation, Machine, Precision};
use super::tensor::{LayerInput, LayerOutput};
use super::weights::{ConvKernel, PackedWeights};
use crate::error::{KernelError, check_length};
use crate::instruction_set::instruction_set;
use crate::scratch::LANES;

/// A transposed convolution whose kernel size equals its stride, with weights that are packed once. Each voxel becomes a
/// block: `y[n, o, d·sd + a, h·sh + b, w·sw + c] = Σᵢ x[n, i, d, h, w] · weight[i, o, a, b, c] + bias[o]`.
///
/// It is a pointwise convolution to `O·sd·sh·sw` channels whose results go to different voxels.
#[derive(Debug, Clone)]
pub struct PackedConvTranspose {
    inputs: usize,
    outputs: usize,
    stride: [usize; 3],
    weights: PackedWeights,
}

impl PackedConvTranspose {
    /// Packs the weights of a layer from `inputs` to `outputs` channels that multiplies each axis by `stride`.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[I, O, sd, sh, sw]`
    /// - `bias`: `[O]`
    ///
    /// # Errors
    ///
    /// [`KernelError::Length`] for a slice whose length does not match, [`KernelError::Shape`] for a stride other than 1 or 2 or
    /// a layer without channels.
    pub fn new(
        channels: [usize; 2],
        stride: [usize; 3],
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        Self::on(Machine::new(instruction_set(), Precision::F32, 0)?, channels, stride, weight, bias)
    }

    /// Packs the weights in bfloat16, as [`PackedConv::bf16`](super::PackedConv::bf16).
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and [`KernelError::Unsupported`] when the processor has no instructions for bfloat16 and emulation is
    /// refused.
    pub fn bf16(
        channels: [usize; 2],
        stride: [usize; 3],
        weight: &[f32],
        bias: Option<&[f32]>,
        emulation: Emulation,
    ) -> Result<Self, KernelError> {
        let machine = Machine::with_emulation(instruction_set(), Precision::Bf16, 0, emulation)?;
        Self::on(machine, channels, stride, weight, bias)
    }

    /// [`Self::new`] or [`Self::bf16`] with some instructions.
    pub(super) fn on(
        machine: Machine,
        [inputs, outputs]: [usize; 2],
        stride: [usize; 3],
        weight: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, KernelError> {
        if stride.iter().any(|step| !(1..=2).contains(step)) {
            return Err(KernelError::Shape(format!(
                "transposed convolution of stride {stride:?}: each has to be 1 or 2"
            )));
        }
        let block: usize = stride.iter().product();
        let lanes = outputs.div_ceil(LANES) * block * LANES;
        let kernel = ConvKernel { inputs, outputs: lanes, kernel: [1; 3], stride: [1; 3] };
        kernel.shape(1, [1; 3]).check()?;
        check_length("weight", weight.len(), inputs * outputs * block)?;
        if let Some(bias) = bias {
            check_length("bias", bias.len(), outputs)?;
        }
        // The panels of one block of sixteen outputs are ordered by the position in the block.
        let place = |lane: usize| {
            let (panel, lane) = (lane / LANES, lane % LANES);
            let output = panel / block * LANES + lane;
            (output < outputs).then_some((output, panel % block))
        };
        let value = |lane, channel, _| {
            place(lane).map_or(0.0, |(output, position)| weight[(channel * outputs + output) * block + position])
        };
        let initial = |lane| place(lane).map_or(0.0, |(output, _)| bias.map_or(0.0, |bias| bias[output]));
        let weights = PackedWeights::floats(machine, kernel, value, initial);
        Ok(Self { inputs, outputs, stride, weights: PackedWeights { outputs, upsampling: stride, ..weights } })
    }

    /// The numbers of input and output channels.
    pub fn channels(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    /// The stride along D, H and W.
    pub fn stride(&self) -> [usize; 3] {
        self.stride
    }

    /// The memory that a call takes for a packed copy of its input, as
    /// [`PackedConv::packed_input_bytes`](super::PackedConv::packed_input_bytes).
    ///
    /// # Errors
    ///
    /// [`KernelError::Shape`] for an empty or too large shape.
    pub fn packed_input_bytes(&self, batch: usize, size: [usize; 3]) -> Result<usize, KernelError> {
        self.check_shape(batch, size)?;
        let input = PaddedInput::new(&[], [self.inputs, 0], size, [0; 3], self.weights.input_format());
        Ok(Execution::new(&self.weights, batch, &input, size).shared_floats() * size_of::<f32>())
    }

    /// Checks that no sample is too large before or after; returns the size after.
    fn check_shape(&self, batch: usize, size: [usize; 3]) -> Result<[usize; 3], KernelError> {
        let enlarged = std::array::from_fn(|axis| size[axis].saturating_mul(self.stride[axis]));
        for (size, channels) in [(size, self.inputs), (enlarged, self.outputs)] {
            let kernel = ConvKernel { inputs: channels, outputs: channels, kernel: [1; 3], stride: [1; 3] };
            kernel.shape(batch, size).check()?;
        }
        Ok(enlarged)
    }

    /// Computes the transposed convolution of a batch.
    ///
    /// # Shapes
    ///
    /// - `size`: D, H and W of the input
    /// - `inputs`: one tensor `[N, I, D, H, W]`, or two whose channels are concatenated without a copy
    /// - `output`: `[N, O, D·sd, H·sh, W·sw]`
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
        let enlarged = self.check_shape(batch, size)?;
        let channels = input_channels(inputs, batch, size.iter().product(), self.inputs)?;
        output.check(batch, self.outputs, enlarged.iter().product())?;
        let input = PaddedInput::new(inputs, channels, size, [0; 3], self.weights.input_format());
        Execution::new(&self.weights, batch, &input, size).run(output);
        Ok(())
    }
}
