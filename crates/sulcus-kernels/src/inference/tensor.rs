//! The tensors that inference layers read and write: their storage, and what is applied to values while they are read.

use crate::error::{KernelError, check_length};

/// The values of a tensor that a layer reads, row-major.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Values<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// The bits of bfloat16 values: the upper half of a single-precision number.
    Bf16(&'a [u16]),
    /// Unsigned integers. A layer reads them as the numbers 0 to 255; an [`InputTransform`] dequantizes them.
    U8(&'a [u8]),
}

impl<'a> Values<'a> {
    /// The number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a value.
    pub(super) fn bytes_each(&self) -> usize {
        match self {
            Self::F32(_) => size_of::<f32>(),
            Self::Bf16(_) => size_of::<u16>(),
            Self::U8(_) => size_of::<u8>(),
        }
    }

    /// The values `from..from + count`.
    pub(super) fn part(&self, from: usize, count: usize) -> Values<'a> {
        match self {
            Self::F32(values) => Values::F32(&values[from..from + count]),
            Self::Bf16(values) => Values::Bf16(&values[from..from + count]),
            Self::U8(values) => Values::U8(&values[from..from + count]),
        }
    }
}

/// The values of a tensor that a layer overwrites, row-major.
#[derive(Debug)]
#[non_exhaustive]
pub enum ValuesMut<'a> {
    /// Single precision.
    F32(&'a mut [f32]),
    /// The bits of bfloat16 values, rounded to nearest even.
    Bf16(&'a mut [u16]),
    /// Unsigned integers: `q = clamp(round(x / scale) + zero_point, 0, 255)`, rounded half to even, as ONNX's
    /// `QuantizeLinear`.
    U8 {
        /// The quantized values.
        values: &'a mut [u8],
        /// The quantization.
        quantization: Quantization,
    },
}

impl ValuesMut<'_> {
    /// The number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::U8 { values, .. } => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The quantization of values to unsigned 8-bit integers: `x ≈ scale · (q − zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantization {
    /// The difference between the values of two neighbouring integers; positive.
    pub scale: f32,
    /// The integer of 0.
    pub zero_point: u8,
}

/// What is applied to every value while it is read: `leaky_relu(x · scale + shift)`, with a scale and a shift for each channel
/// of each sample.
///
/// It expresses a normalisation whose statistics are known, with its activation. A normalised tensor is then never written
/// to memory: the layer before writes raw values, the layer after transforms them while it reads.
#[derive(Debug, Clone, Copy)]
pub struct InputTransform<'a> {
    /// The factors, `[N, C]`.
    pub scale: &'a [f32],
    /// The summands, `[N, C]`.
    pub shift: &'a [f32],
    /// The slope of the activation for negative values: 0 for ReLU, 1 for no activation.
    pub slope: f32,
}

/// An input of a layer: a tensor, and optionally what is applied to its values while they are read.
#[derive(Debug, Clone, Copy)]
pub struct LayerInput<'a> {
    /// The tensor, `[N, C, D, H, W]`.
    pub values: Values<'a>,
    /// What is applied to its values; `None` reads them as they are. Zero padding is added afterwards.
    pub transform: Option<InputTransform<'a>>,
}

impl<'a> LayerInput<'a> {
    /// A single-precision tensor that is read as it is.
    pub fn raw(values: &'a [f32]) -> Self {
        Self { values: Values::F32(values), transform: None }
    }

    /// A single-precision tensor with a transform.
    pub fn transformed(values: &'a [f32], transform: InputTransform<'a>) -> Self {
        Self { values: Values::F32(values), transform: Some(transform) }
    }

    /// The number of channels, from the length of the tensor.
    pub(super) fn channels(&self, what: &'static str, batch: usize, voxels: usize) -> Result<usize, KernelError> {
        let channel = batch * voxels;
        let channels = self.values.len() / channel.max(1);
        check_length(what, self.values.len(), channels * channel)?;
        if let Some(transform) = &self.transform {
            check_length("the scales of an input", transform.scale.len(), batch * channels)?;
            check_length("the shifts of an input", transform.shift.len(), batch * channels)?;
        }
        Ok(channels)
    }

    /// What is applied to the values of one channel of one sample, `index = sample · C + channel`.
    pub(super) fn channel_transform(&self, index: usize) -> Option<ChannelTransform> {
        self.transform.map(|transform| ChannelTransform {
            scale: transform.scale[index],
            shift: transform.shift[index],
            slope: transform.slope,
        })
    }
}

/// The [`InputTransform`] of one channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelTransform {
    pub(super) scale: f32,
    pub(super) shift: f32,
    pub(super) slope: f32,
}

/// Where a layer writes the mean and the variance of each channel of each sample of its output.
#[derive(Debug)]
pub struct MomentsMut<'a> {
    /// The means, `[N, O]`.
    pub mean: &'a mut [f32],
    /// The biased variances (divided by the count), `[N, O]`.
    pub variance: &'a mut [f32],
}

/// The output of a layer.
#[derive(Debug)]
pub struct LayerOutput<'a> {
    /// The tensor, `[N, O, D′, H′, W′]`, overwritten.
    pub values: ValuesMut<'a>,
    /// Where the statistics of the output go, if they are wanted. They are computed before values are rounded to bfloat16,
    /// and after they are rounded to integers (from the values that the integers stand for). They depend neither on the
    /// number of threads nor on how the work is cut into blocks.
    pub moments: Option<MomentsMut<'a>>,
    /// A tensor of the output's shape that is added to the output.
    pub residual: Option<LayerInput<'a>>,
    /// The slope for negative values of the leaky ReLU that is applied to the output, after the residual; 1 for none.
    pub slope: f32,
}

impl<'a> LayerOutput<'a> {
    /// An output in single precision without statistics, residual or activation.
    pub fn raw(values: &'a mut [f32]) -> Self {
        Self::new(ValuesMut::F32(values))
    }

    /// An output without statistics, residual or activation.
    pub fn new(values: ValuesMut<'a>) -> Self {
        Self { values, moments: None, residual: None, slope: 1.0 }
    }

    /// The same output with statistics, `[N, O]` each.
    #[must_use]
    pub fn with_moments(self, mean: &'a mut [f32], variance: &'a mut [f32]) -> Self {
        Self { moments: Some(MomentsMut { mean, variance }), ..self }
    }

    /// The same output with a residual that is added to it.
    #[must_use]
    pub fn with_residual(self, residual: LayerInput<'a>) -> Self {
        Self { residual: Some(residual), ..self }
    }

    /// Checks every length for `[batch, channels]` channels of `voxels` values.
    pub(super) fn check(&self, batch: usize, channels: usize, voxels: usize) -> Result<(), KernelError> {
        check_length("the output", self.values.len(), batch * channels * voxels)?;
        if let Some(moments) = &self.moments {
            check_length("the means", moments.mean.len(), batch * channels)?;
            check_length("the variances", moments.variance.len(), batch * channels)?;
        }
        if let Some(residual) = &self.residual {
            check_length("the residual", residual.values.len(), batch * channels * voxels)?;
            residual.channels("the residual", batch, voxels)?;
        }
        if let ValuesMut::U8 { quantization, .. } = &self.values
            && !(quantization.scale > 0.0 && quantization.scale.is_finite())
        {
            return Err(KernelError::Shape(format!("a quantization with a scale of {}", quantization.scale)));
        }
        Ok(())
    }
}
