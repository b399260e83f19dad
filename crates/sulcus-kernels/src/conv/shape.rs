//! The shape of a convolution, and its validation.

use crate::error::KernelError;

/// The largest supported kernel edge.
const MAX_KERNEL_EDGE: usize = 7;

/// The shape of a convolution. The padding is `kernel / 2` on both sides. A 2-D convolution has depth 1, and a kernel edge
/// and a stride of 1 along the depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// N, the number of samples.
    pub batch: usize,
    /// The number of input channels.
    pub inputs: usize,
    /// The number of output channels.
    pub outputs: usize,
    /// D, H and W of the input.
    pub size: [usize; 3],
    /// The kernel edges along D, H and W: odd, at most 7.
    pub kernel: [usize; 3],
    /// The stride along D, H and W: 1 or 2.
    pub stride: [usize; 3],
}

impl ConvShape {
    /// D′, H′ and W′ of the output: those of the input divided by the stride, rounded up.
    #[must_use]
    pub fn output_size(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.size[axis].div_ceil(self.stride[axis].max(1)))
    }

    /// The number of elements in one channel of the input.
    pub(crate) fn input_plane(&self) -> usize {
        self.size.iter().product()
    }

    /// The number of elements in one channel of the output.
    pub(crate) fn output_plane(&self) -> usize {
        self.output_size().iter().product()
    }

    pub(crate) fn output_length(&self) -> usize {
        self.batch * self.outputs * self.output_plane()
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    pub(crate) fn weight_length(&self) -> usize {
        self.outputs * self.inputs * self.taps()
    }

    /// Checks that the shape is supported and that no size computed from it overflows.
    pub(crate) fn check(&self) -> Result<(), KernelError> {
        let rule = |holds: bool, rule: &str| if holds { Ok(()) } else { Err(KernelError::Shape(rule.into())) };
        rule(self.kernel.iter().all(|edge| edge % 2 == 1), "every kernel edge must be odd")?;
        rule(self.kernel.iter().all(|&edge| edge <= MAX_KERNEL_EDGE), "no kernel edge may be larger than 7")?;
        rule(self.stride.iter().all(|stride| (1..=2).contains(stride)), "every stride must be 1 or 2")?;
        rule(self.size.iter().all(|&size| size > 0), "no axis may be empty")?;
        rule(
            self.batch > 0 && self.inputs > 0 && self.outputs > 0,
            "the batch and the channels may not be empty",
        )?;
        // A padded sample of fewer than 2^32 elements guarantees that no product in this module overflows a 64-bit size.
        let padded = self
            .size
            .iter()
            .zip(self.kernel)
            .try_fold(1usize, |floats, (&size, edge)| floats.checked_mul(size.checked_add(edge + 1)?));
        let sample = |channels: usize| {
            padded.and_then(|floats| floats.checked_add(64)?.checked_mul(channels)).filter(|&floats| {
                u32::try_from(floats).is_ok()
                    && floats.checked_mul(self.batch).is_some_and(|all| all < usize::MAX / 64)
            })
        };
        let weights = self.outputs.checked_mul(self.inputs).and_then(|pairs| pairs.checked_mul(self.taps() * 64));
        rule(
            sample(self.inputs).is_some()
                && sample(self.outputs.next_multiple_of(16)).is_some()
                && weights.is_some(),
            "one sample must have fewer than 2^32 elements",
        )
    }

    /// A convolution with kernel 1 and stride 1 as one over a single long row; any other shape unchanged.
    pub(crate) fn flattened(&self) -> Self {
        if self.kernel == [1; 3] && self.stride == [1; 3] {
            Self { size: [1, 1, self.input_plane()], ..*self }
        } else {
            *self
        }
    }
}

/// How the channels of an input are distributed over one or two tensors, which the convolution treats as concatenated.
#[derive(Debug, Clone)]
pub(crate) struct ChannelSplit {
    /// The number of channels of each tensor.
    channels: Vec<usize>,
}

impl ChannelSplit {
    /// All channels are in one tensor.
    pub(crate) fn whole(channels: usize) -> Self {
        Self { channels: vec![channels] }
    }

    /// Derives the split of the input's channels from the lengths of the tensors.
    pub(crate) fn new(shape: &ConvShape, argument: &'static str, lengths: &[usize]) -> Result<Self, KernelError> {
        if lengths.is_empty() || lengths.len() > 2 {
            return Err(KernelError::Shape("the input's channels must come in one or two blocks".into()));
        }
        let channel = shape.batch * shape.input_plane();
        let expected = channel * shape.inputs;
        let found = lengths.iter().fold(0usize, |sum, length| sum.saturating_add(*length));
        length(argument, expected, found)?;
        if lengths.iter().any(|length| length % channel != 0) {
            return Err(KernelError::Shape("each block of the input must hold whole channels".into()));
        }
        Ok(Self { channels: lengths.iter().map(|length| length / channel).collect() })
    }

    /// The number of channels of each tensor.
    pub(crate) fn channels(&self) -> &[usize] {
        &self.channels
    }

    /// The tensor that holds a channel, the channel's index in it, and the number of channels of that tensor.
    pub(crate) fn locate(&self, channel: usize) -> (usize, usize, usize) {
        let mut local = channel;
        for (part, &channels) in self.channels.iter().enumerate() {
            if local < channels {
                return (part, local, channels);
            }
            local -= channels;
        }
        (0, 0, 0)
    }
}

/// Returns an error for a slice of the wrong length.
pub(crate) fn length(argument: &'static str, expected: usize, found: usize) -> Result<(), KernelError> {
    if expected == found { Ok(()) } else { Err(KernelError::Length { what: argument, expected, found }) }
}
