//! Copies that the sums run on: the input between zeros, and weights with sixteen outputs side by side.

use super::shape::{ConvShape, Parts};
use crate::scratch::{LINE, Scratch, SharedMut};
use crate::simd::Instructions;
use rayon::prelude::*;

/// How a sample lies between its zeros: `[D, H, C, phases, W / phases]`.
///
/// The rows of all channels lie together: a tile reads a few rows of every channel, and these are then few pages of memory.
/// Under a stride of 2 along W the even columns of a row lie before the odd ones, so that a tap's positions are neighbours there
/// too.
#[derive(Debug, Clone)]
pub(super) struct Padded {
    channels: usize,
    /// The input's own D, H and W.
    size: [usize; 3],
    /// Zeros before the first element of each axis.
    lead: [usize; 3],
    /// Elements of each axis, zeros included.
    extent: [usize; 3],
    /// Column phases.
    phases: usize,
}

impl Padded {
    /// The layout for the forward sum: an output at `o` reads from `stride·o` on.
    pub(super) fn forward(shape: &ConvShape) -> Self {
        let output = shape.output_size();
        Self {
            channels: shape.inputs,
            size: shape.size,
            lead: shape.kernel.map(|edge| edge / 2),
            extent: std::array::from_fn(|axis| (output[axis] - 1) * shape.stride[axis] + shape.kernel[axis]),
            phases: shape.stride[2],
        }
    }

    /// A layout without phases.
    pub(super) fn plain(channels: usize, size: [usize; 3], lead: [usize; 3], extent: [usize; 3]) -> Self {
        Self { channels, size, lead, extent, phases: 1 }
    }

    /// Whether the sample is one row without zeros: then its own layout is this one, and no copy is needed.
    pub(super) fn is_identity(&self) -> bool {
        self.size == self.extent && self.lead == [0; 3] && self.phases == 1 && self.size[..2] == [1, 1]
    }

    fn phase(&self) -> usize {
        self.extent[2].div_ceil(self.phases)
    }

    /// Floats from one channel to the next.
    pub(super) fn channel(&self) -> usize {
        self.phases * self.phase()
    }

    /// Floats from one row to the next.
    pub(super) fn row(&self) -> usize {
        self.channel() * self.channels
    }

    /// Floats from one plane to the next.
    pub(super) fn plane(&self) -> usize {
        self.row() * self.extent[1]
    }

    /// Floats from one sample to the next.
    pub(super) fn sample(&self) -> usize {
        self.plane() * self.extent[0]
    }

    /// Whether an axis's padded coordinate lies among its zeros.
    pub(super) fn is_zero(&self, axis: usize, at: usize) -> bool {
        at < self.lead[axis] || at >= self.lead[axis] + self.size[axis]
    }

    /// Where the padded coordinate (d, h, w) of the first channel lies within its sample.
    pub(super) fn offset(&self, [d, h, w]: [usize; 3]) -> usize {
        d * self.plane() + h * self.row() + (w % self.phases) * self.phase() + w / self.phases
    }

    /// Elements along D and H, zeros included.
    pub(super) fn planes_and_rows(&self) -> [usize; 2] {
        [self.extent[0], self.extent[1]]
    }

    /// Samples packed at a time: all, unless that would take more working memory than the caches can use.
    pub(super) fn samples_at_once(&self, batch: usize) -> usize {
        const FLOATS: usize = 4 << 20;
        (FLOATS / self.sample()).clamp(1, batch)
    }
}

/// Samples as the sums read them.
pub(super) enum PackedInput<'a> {
    /// The tensor as it came.
    Borrowed(&'a [f32]),
    /// A copy between zeros.
    Copied(Scratch),
}

impl PackedInput<'_> {
    pub(super) fn floats(&self) -> &[f32] {
        match self {
            Self::Borrowed(floats) => floats,
            Self::Copied(scratch) => scratch,
        }
    }
}

/// Samples `first..first + samples` between zeros.
pub(super) fn pack_input<'a>(
    padded: &Padded,
    x: &[&'a [f32]],
    parts: &Parts,
    first: usize,
    samples: usize,
) -> PackedInput<'a> {
    let channel: usize = padded.size.iter().product();
    if let ([whole], true) = (x, padded.is_identity()) {
        let sample = padded.channels * channel;
        return PackedInput::Borrowed(&whole[first * sample..(first + samples) * sample]);
    }
    let mut scratch = Scratch::take(samples * padded.sample());
    // Whole planes where there are many, else a few rows at a time: both are whole rows of one plane.
    let [planes, rows] = [padded.extent[0] * samples, padded.extent[1]];
    let rows = if planes >= 16 { rows } else { rows.div_ceil(16_usize.div_ceil(planes)) };
    let plane_work = |(plane, target): (usize, &mut [f32])| {
        let (sample, d) = (first + plane / padded.extent[0], plane % padded.extent[0]);
        target.par_chunks_mut(rows * padded.row()).enumerate().for_each(|(piece, target)| {
            pack_channels(padded, x, parts, sample, [d, piece * rows], target);
        });
    };
    scratch.par_chunks_mut(padded.plane()).enumerate().for_each(plane_work);
    PackedInput::Copied(scratch)
}

/// Rows `h..` of all channels of the padded plane `d`, as many as fit into the target, which is whole rows.
///
/// Channel by channel: a channel's rows follow one another in the source, so that it is read in long runs.
pub(super) fn pack_channels(
    padded: &Padded,
    x: &[&[f32]],
    parts: &Parts,
    sample: usize,
    [d, h]: [usize; 2],
    target: &mut [f32],
) {
    if padded.is_zero(0, d) {
        target.fill(0.0);
        return;
    }
    let [depth, height, width] = padded.size;
    let (row, step) = (padded.row(), padded.channel());
    for channel in 0..padded.channels {
        let (part, local, part_channels) = parts.locate(channel);
        let plane = ((sample * part_channels + local) * depth + d - padded.lead[0]) * height;
        for (h, target) in (h..).zip(target.chunks_exact_mut(row)) {
            let target = &mut target[channel * step..][..step];
            if padded.is_zero(1, h) {
                target.fill(0.0);
            } else {
                let start = (plane + h - padded.lead[1]) * width;
                pack_row(padded, &x[part][start..start + width], target);
            }
        }
    }
}

fn pack_row(padded: &Padded, source: &[f32], target: &mut [f32]) {
    let lead = padded.lead[2];
    if padded.phases == 1 {
        let copied = source.len().min(target.len() - lead);
        target[..lead].fill(0.0);
        target[lead..lead + copied].copy_from_slice(&source[..copied]);
        target[lead + copied..].fill(0.0);
        return;
    }
    for (phase, target) in target.chunks_exact_mut(padded.phase()).enumerate() {
        // Column `phase + 2·i` of the padded row is column `phase + 2·i - lead` of the source.
        let zeros = lead.saturating_sub(phase).div_ceil(2).min(target.len());
        let from = (phase + 2 * zeros).saturating_sub(lead);
        let values = source.get(from..).unwrap_or_default().iter().step_by(2);
        let copied = values.len().min(target.len() - zeros);
        target[..zeros].fill(0.0);
        for (target, value) in target[zeros..].iter_mut().zip(values) {
            *target = *value;
        }
        target[zeros + copied..].fill(0.0);
    }
}

/// Where the weight of a lane and a channel lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightStrides {
    pub(super) lane: usize,
    pub(super) channel: usize,
}

/// Weights as `[panel][row of taps][channel][tap][16]`; lanes beyond the last are zero.
///
/// `taps` are the kernel's flat indices, `row` of them to a row.
pub(super) fn pack_weights(
    weight: &[f32],
    strides: WeightStrides,
    lanes: usize,
    channels: usize,
    taps: &[usize],
    row: usize,
) -> Scratch {
    let panels = lanes.div_ceil(LINE);
    let panel_floats = channels * taps.len() * LINE;
    let mut scratch = Scratch::take(panels * panel_floats);
    if panel_floats == 0 {
        return scratch;
    }
    let target = SharedMut::new(&mut scratch);
    (0..panels * channels).into_par_iter().with_min_len(32).for_each(|index| {
        let (panel, channel) = (index / channels, index % channels);
        let used = (lanes - panel * LINE).min(LINE);
        let mut sources: [&[f32]; LINE] = [&[]; LINE];
        for (lane, source) in sources[..used].iter_mut().enumerate() {
            *source = &weight[(panel * LINE + lane) * strides.lane + channel * strides.channel..];
        }
        for (position, &tap) in taps.iter().enumerate() {
            let at = panel * panel_floats + ((position / row * channels + channel) * row + position % row) * LINE;
            let mut lanes = [0.0; LINE];
            for (lane, source) in lanes.iter_mut().zip(&sources[..used]) {
                *lane = source[tap];
            }
            #[expect(unsafe_code, reason = "several threads write one tensor")]
            // SAFETY: the line lies within the scratch, and no other index has the same panel and channel.
            unsafe {
                target.offset(at).pointer().cast::<[f32; LINE]>().write(lanes);
            }
        }
    });
    scratch
}

/// Output gradients as `[samples][panel][D′·H′·W′][16]`; lanes beyond the last channel are zero.
pub(super) fn pack_gradient(
    instructions: Instructions,
    dy: &[f32],
    channels: usize,
    plane: usize,
    first: usize,
    samples: usize,
) -> Scratch {
    /// Positions of one piece of work.
    const POSITIONS: usize = 1024;
    let panels = channels.div_ceil(LINE);
    let mut scratch = Scratch::take(samples * panels * plane * LINE);
    let target = SharedMut::new(&mut scratch);
    let pieces = plane.div_ceil(POSITIONS);
    (0..samples * panels * pieces).into_par_iter().for_each(|index| {
        let (block, piece) = (index / pieces, index % pieces);
        let (sample, panel) = (first + block / panels, block % panels);
        let from = piece * POSITIONS;
        let count = POSITIONS.min(plane - from);
        let used = (channels - panel * LINE).min(LINE);
        #[expect(unsafe_code, reason = "pieces of one tensor are written by several threads")]
        // SAFETY: the piece lies within the scratch, and no other index has the same block and range of positions.
        let target = unsafe {
            std::slice::from_raw_parts_mut(target.pointer().add((block * plane + from) * LINE), count * LINE)
        };
        let source = &dy[(sample * channels + panel * LINE) * plane + from..];
        super::store::interleave(instructions, source, plane, used, target);
    });
    scratch
}
