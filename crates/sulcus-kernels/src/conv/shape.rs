//! What a convolution works on, checked before anything is computed.

use crate::error::KernelError;

/// The largest kernel edge.
const LARGEST_KERNEL: usize = 7;

/// The size of a convolution. Padding is `kernel / 2`; a 2-D convolution has depth 1 and a kernel and stride of 1 along it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Samples.
    pub batch: usize,
    /// Channels that go in.
    pub inputs: usize,
    /// Channels that come out.
    pub outputs: usize,
    /// The input's D, H and W.
    pub size: [usize; 3],
    /// The kernel's edges along D, H and W: odd, at most 7.
    pub kernel: [usize; 3],
    /// The stride along D, H and W: 1 or 2.
    pub stride: [usize; 3],
}

impl ConvShape {
    /// The output's D′, H′ and W′: the input's divided by the stride, rounded up.
    #[must_use]
    pub fn output_size(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.size[axis].div_ceil(self.stride[axis].max(1)))
    }

    /// Elements of one channel of the input.
    pub(super) fn input_plane(&self) -> usize {
        self.size.iter().product()
    }

    /// Elements of one channel of the output.
    pub(super) fn output_plane(&self) -> usize {
        self.output_size().iter().product()
    }

    pub(super) fn output_length(&self) -> usize {
        self.batch * self.outputs * self.output_plane()
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    pub(super) fn weight_length(&self) -> usize {
        self.outputs * self.inputs * self.taps()
    }

    /// Whether this can be computed without any size overflowing.
    pub(super) fn check(&self) -> Result<(), KernelError> {
        let rule = |holds: bool, rule: &str| if holds { Ok(()) } else { Err(KernelError::Shape(rule.into())) };
        rule(self.kernel.iter().all(|edge| edge % 2 == 1), "every kernel edge must be odd")?;
        rule(self.kernel.iter().all(|&edge| edge <= LARGEST_KERNEL), "no kernel edge may be larger than 7")?;
        rule(self.stride.iter().all(|stride| (1..=2).contains(stride)), "every stride must be 1 or 2")?;
        rule(self.size.iter().all(|&size| size > 0), "no axis may be empty")?;
        rule(
            self.batch > 0 && self.inputs > 0 && self.outputs > 0,
            "the batch and the channels may not be empty",
        )?;
        // Offsets within one padded sample are 32 bits wide; with that no product below overflows a 64-bit size.
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

    /// The same sum over one long row where the kernel looks at no neighbour.
    pub(super) fn flattened(&self) -> Self {
        if self.kernel == [1; 3] && self.stride == [1; 3] {
            Self { size: [1, 1, self.input_plane()], ..*self }
        } else {
            *self
        }
    }
}

/// Blocks of channels that lie behind one another in the convolution's view, each a tensor of its own.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// Channels of each part.
    channels: Vec<usize>,
}

impl Parts {
    /// All channels in one tensor.
    pub(super) fn whole(channels: usize) -> Self {
        Self { channels: vec![channels] }
    }

    /// Reads the split of the input's channels from the lengths of the parts.
    pub(super) fn new(shape: &ConvShape, argument: &'static str, lengths: &[usize]) -> Result<Self, KernelError> {
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

    /// The part that holds this channel, the channel's index there, and how many channels that part has.
    pub(super) fn locate(&self, channel: usize) -> (usize, usize, usize) {
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

/// Refuses a slice of another length.
pub(super) fn length(argument: &'static str, expected: usize, found: usize) -> Result<(), KernelError> {
    if expected == found { Ok(()) } else { Err(KernelError::Length { what: argument, expected, found }) }
}
