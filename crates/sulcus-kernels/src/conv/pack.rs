//! Copies that the sums run on: the input between zeros, and weights with sixteen outputs side by side.

use super::shape::{ConvShape, Parts};
use crate::scratch::{LINE, Scratch, SharedMut};
use rayon::prelude::*;

/// How an input lies between its zeros: `[C, D, H, phases, W / phases]`.
///
/// Under a stride of 2 along W the even columns of a row lie before the odd ones, so that a tap's positions are neighbours there
/// too.
#[derive(Debug, Clone)]
pub(super) struct Padded {
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
            size: shape.size,
            lead: shape.kernel.map(|edge| edge / 2),
            extent: std::array::from_fn(|axis| (output[axis] - 1) * shape.stride[axis] + shape.kernel[axis]),
            phases: shape.stride[2],
        }
    }

    /// A layout without phases.
    pub(super) fn plain(size: [usize; 3], lead: [usize; 3], extent: [usize; 3]) -> Self {
        Self { size, lead, extent, phases: 1 }
    }

    /// Whether the layout is the input's own, so that no copy is needed.
    fn is_identity(&self) -> bool {
        self.size == self.extent && self.lead == [0; 3] && self.phases == 1
    }

    fn phase(&self) -> usize {
        self.extent[2].div_ceil(self.phases)
    }

    /// Floats from one row to the next.
    pub(super) fn row(&self) -> usize {
        self.phases * self.phase()
    }

    /// Floats from one plane to the next.
    pub(super) fn plane(&self) -> usize {
        self.row() * self.extent[1]
    }

    /// Floats from one channel to the next.
    pub(super) fn channel(&self) -> usize {
        let floats = self.plane() * self.extent[0];
        // Channels a multiple of a page apart would fall on the same few lines of the first cache.
        if !self.is_identity() && floats % 1024 == 0 { floats + LINE } else { floats }
    }

    /// Where the padded coordinate (d, h, w) lies within its channel.
    pub(super) fn offset(&self, [d, h, w]: [usize; 3]) -> usize {
        d * self.plane() + h * self.row() + (w % self.phases) * self.phase() + w / self.phases
    }

    /// Samples packed at a time: all, unless that would take more working memory than the caches can use.
    pub(super) fn samples_at_once(&self, channels: usize, batch: usize) -> usize {
        const FLOATS: usize = 4 << 20;
        (FLOATS / (self.channel() * channels).max(1)).clamp(1, batch)
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

/// Samples `first..first + samples` between zeros, `[samples, C, …]`.
pub(super) fn pack_input<'a>(
    padded: &Padded,
    x: &[&'a [f32]],
    parts: &Parts,
    channels: usize,
    first: usize,
    samples: usize,
) -> PackedInput<'a> {
    let source_channel: usize = padded.size.iter().product();
    if let ([whole], true) = (x, padded.is_identity()) {
        let sample = channels * source_channel;
        return PackedInput::Borrowed(&whole[first * sample..(first + samples) * sample]);
    }
    let mut scratch = Scratch::take(samples * channels * padded.channel());
    scratch.par_chunks_mut(padded.channel()).enumerate().for_each(|(index, target)| {
        let (sample, channel) = (first + index / channels, index % channels);
        let (part, local, part_channels) = parts.locate(channel);
        let start = (sample * part_channels + local) * source_channel;
        pack_channel(padded, &x[part][start..start + source_channel], target);
    });
    PackedInput::Copied(scratch)
}

fn pack_channel(padded: &Padded, source: &[f32], target: &mut [f32]) {
    let [depth, height, width] = padded.size;
    let (row, plane) = (padded.row(), padded.plane());
    let inside = |at: usize, axis: usize, size: usize| at.checked_sub(padded.lead[axis]).filter(|&at| at < size);
    let (planes, rest) = target.split_at_mut(plane * padded.extent[0]);
    rest.fill(0.0);
    for (d, target) in planes.chunks_exact_mut(plane).enumerate() {
        let Some(d) = inside(d, 0, depth) else {
            target.fill(0.0);
            continue;
        };
        for (h, target) in target.chunks_exact_mut(row).enumerate() {
            match inside(h, 1, height) {
                Some(h) => pack_row(padded, &source[(d * height + h) * width..][..width], target),
                None => target.fill(0.0),
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

/// Where the weight of a lane, a channel and a tap lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightStrides {
    pub(super) lane: usize,
    pub(super) channel: usize,
}

/// Weights as `[panel][channel][tap][16]`; lanes beyond the last are zero.
pub(super) fn pack_weights(
    weight: &[f32],
    strides: WeightStrides,
    lanes: usize,
    channels: usize,
    taps: &[usize],
) -> Scratch {
    let block = taps.len() * LINE;
    let panels = lanes.div_ceil(LINE);
    let mut scratch = Scratch::take(panels * channels * block);
    if block == 0 {
        return scratch;
    }
    scratch.par_chunks_mut(block).enumerate().with_min_len(64).for_each(|(index, target)| {
        let (panel, channel) = (index / channels, index % channels);
        let used = (lanes - panel * LINE).min(LINE);
        for lane in 0..LINE {
            if lane < used {
                let source = &weight[(panel * LINE + lane) * strides.lane + channel * strides.channel..];
                for (target, &tap) in target.chunks_exact_mut(LINE).zip(taps) {
                    target[lane] = source[tap];
                }
            } else {
                for target in target.chunks_exact_mut(LINE) {
                    target[lane] = 0.0;
                }
            }
        }
    });
    scratch
}

/// Output gradients as `[samples][panel][D′·H′·W′][16]`; lanes beyond the last channel are zero.
pub(super) fn pack_gradient(dy: &[f32], channels: usize, plane: usize, first: usize, samples: usize) -> Scratch {
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
        super::store::interleave(source, plane, used, target);
    });
    scratch
}
