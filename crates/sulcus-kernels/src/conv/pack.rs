//! Packing: the input with zero padding, weights in panels of sixteen output channels, channel-blocked output gradients.

use super::shape::{ChannelSplit, ConvShape};
use crate::instruction_set::InstructionSet;
use crate::scratch::{LANES, Scratch, SharedMut};
use rayon::prelude::*;

/// The layout of a packed sample with its zero padding: `[D, H, C, phases, W / phases]`.
///
/// The rows of all channels are adjacent: a micro-kernel reads a few rows of every channel, which are then in few pages of
/// memory. With a stride of 2 along W the even columns of a row come before the odd ones, so that the inputs of neighbouring
/// outputs are adjacent for every tap.
#[derive(Debug, Clone)]
pub(super) struct PaddedLayout {
    channels: usize,
    /// D, H and W of the input without padding.
    size: [usize; 3],
    /// The number of zeros before the first element of each axis.
    padding: [usize; 3],
    /// D, H and W with padding on both sides.
    padded_size: [usize; 3],
    /// The number of column phases: the stride along W.
    phases: usize,
}

impl PaddedLayout {
    /// The layout for the forward pass: output `o` reads the inputs from `stride·o` on.
    pub(super) fn forward(shape: &ConvShape) -> Self {
        let output = shape.output_size();
        Self {
            channels: shape.inputs,
            size: shape.size,
            padding: shape.kernel.map(|edge| edge / 2),
            padded_size: std::array::from_fn(|axis| (output[axis] - 1) * shape.stride[axis] + shape.kernel[axis]),
            phases: shape.stride[2],
        }
    }

    /// A layout with a single column phase.
    pub(super) fn single_phase(
        channels: usize,
        size: [usize; 3],
        padding: [usize; 3],
        padded_size: [usize; 3],
    ) -> Self {
        Self { channels, size, padding, padded_size, phases: 1 }
    }

    /// Whether a sample is a single row without padding, so that its tensor already has this layout and needs no copy.
    pub(super) fn is_identity(&self) -> bool {
        self.size == self.padded_size && self.padding == [0; 3] && self.phases == 1 && self.size[..2] == [1, 1]
    }

    /// Floats per column phase of a row.
    fn phase(&self) -> usize {
        self.padded_size[2].div_ceil(self.phases)
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
        self.row() * self.padded_size[1]
    }

    /// Floats from one sample to the next.
    pub(super) fn sample(&self) -> usize {
        self.plane() * self.padded_size[0]
    }

    /// Whether a padded coordinate of an axis lies in the padding.
    pub(super) fn is_padding(&self, axis: usize, at: usize) -> bool {
        at < self.padding[axis] || at >= self.padding[axis] + self.size[axis]
    }

    /// The offset of the padded coordinate (d, h, w) of the first channel within a sample.
    pub(super) fn offset(&self, [d, h, w]: [usize; 3]) -> usize {
        d * self.plane() + h * self.row() + (w % self.phases) * self.phase() + w / self.phases
    }

    /// D and H with padding.
    pub(super) fn planes_and_rows(&self) -> [usize; 2] {
        [self.padded_size[0], self.padded_size[1]]
    }

    /// The number of samples that are packed at a time: as many as fit in 16 MiB, at least one.
    pub(super) fn samples_per_pass(&self, batch: usize) -> usize {
        const MAX_FLOATS: usize = 4 << 20;
        (MAX_FLOATS / self.sample()).clamp(1, batch)
    }
}

/// Packed samples.
pub(super) enum PackedInput<'a> {
    /// The tensor itself, whose layout needs no packing.
    Borrowed(&'a [f32]),
    /// A packed copy.
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

/// Packs samples `first..first + samples`.
pub(super) fn pack_input<'a>(
    padded: &PaddedLayout,
    x: &[&'a [f32]],
    split: &ChannelSplit,
    first: usize,
    samples: usize,
) -> PackedInput<'a> {
    let channel: usize = padded.size.iter().product();
    if let ([whole], true) = (x, padded.is_identity()) {
        let sample = padded.channels * channel;
        return PackedInput::Borrowed(&whole[first * sample..(first + samples) * sample]);
    }
    let mut scratch = Scratch::take(samples * padded.sample());
    // A task is a whole plane if there are many planes, and otherwise a few rows of one plane.
    let [planes, rows] = [padded.padded_size[0] * samples, padded.padded_size[1]];
    let rows = if planes >= 16 { rows } else { rows.div_ceil(16_usize.div_ceil(planes)) };
    let plane_work = |(plane, target): (usize, &mut [f32])| {
        let (sample, d) = (first + plane / padded.padded_size[0], plane % padded.padded_size[0]);
        target.par_chunks_mut(rows * padded.row()).enumerate().for_each(|(piece, target)| {
            pack_rows(padded, x, split, sample, [d, piece * rows], target);
        });
    };
    scratch.par_chunks_mut(padded.plane()).enumerate().for_each(plane_work);
    PackedInput::Copied(scratch)
}

/// Packs the rows from `h` on of all channels of the padded plane `d`. The target holds whole rows and gives their number.
///
/// The outer loop is over the channels: the rows of a channel are contiguous in the source, which is read in long runs.
pub(super) fn pack_rows(
    padded: &PaddedLayout,
    x: &[&[f32]],
    split: &ChannelSplit,
    sample: usize,
    [d, h]: [usize; 2],
    target: &mut [f32],
) {
    if padded.is_padding(0, d) {
        target.fill(0.0);
        return;
    }
    let [depth, height, width] = padded.size;
    let (row, step) = (padded.row(), padded.channel());
    for channel in 0..padded.channels {
        let (tensor, local, tensor_channels) = split.locate(channel);
        let plane = ((sample * tensor_channels + local) * depth + d - padded.padding[0]) * height;
        for (h, target) in (h..).zip(target.chunks_exact_mut(row)) {
            let target = &mut target[channel * step..][..step];
            if padded.is_padding(1, h) {
                target.fill(0.0);
            } else {
                let start = (plane + h - padded.padding[1]) * width;
                pack_row(padded, &x[tensor][start..start + width], target);
            }
        }
    }
}

fn pack_row(padded: &PaddedLayout, source: &[f32], target: &mut [f32]) {
    let padding = padded.padding[2];
    if padded.phases == 1 {
        let copied = source.len().min(target.len() - padding);
        target[..padding].fill(0.0);
        target[padding..padding + copied].copy_from_slice(&source[..copied]);
        target[padding + copied..].fill(0.0);
        return;
    }
    for (phase, target) in target.chunks_exact_mut(padded.phase()).enumerate() {
        // Column `phase + 2·i` of the padded row is column `phase + 2·i - padding` of the source.
        let zeros = padding.saturating_sub(phase).div_ceil(2).min(target.len());
        let from = (phase + 2 * zeros).saturating_sub(padding);
        let values = source.get(from..).unwrap_or_default().iter().step_by(2);
        let copied = values.len().min(target.len() - zeros);
        target[..zeros].fill(0.0);
        for (target, value) in target[zeros..].iter_mut().zip(values) {
            *target = *value;
        }
        target[zeros + copied..].fill(0.0);
    }
}

/// The strides of the weight tensor: from one output lane to the next and from one summed channel to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightStrides {
    pub(crate) lane: usize,
    pub(crate) channel: usize,
}

/// Packs weights as `[panel][tap row][channel][tap][16]`, padded with zero lanes.
///
/// `taps` are flat indices into the kernel, in groups of `row` taps.
pub(crate) fn pack_weights(
    weight: &[f32],
    strides: WeightStrides,
    lanes: usize,
    channels: usize,
    taps: &[usize],
    row: usize,
) -> Scratch {
    let panels = lanes.div_ceil(LANES);
    let panel_floats = channels * taps.len() * LANES;
    let mut scratch = Scratch::take(panels * panel_floats);
    if panel_floats == 0 {
        return scratch;
    }
    let target = SharedMut::new(&mut scratch);
    (0..panels * channels).into_par_iter().with_min_len(32).for_each(|index| {
        let (panel, channel) = (index / channels, index % channels);
        let used = (lanes - panel * LANES).min(LANES);
        let mut sources: [&[f32]; LANES] = [&[]; LANES];
        for (lane, source) in sources[..used].iter_mut().enumerate() {
            *source = &weight[(panel * LANES + lane) * strides.lane + channel * strides.channel..];
        }
        for (position, &tap) in taps.iter().enumerate() {
            let at = panel * panel_floats + ((position / row * channels + channel) * row + position % row) * LANES;
            let mut lanes = [0.0; LANES];
            for (lane, source) in lanes.iter_mut().zip(&sources[..used]) {
                *lane = source[tap];
            }
            #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
            // SAFETY: the sixteen floats lie within the buffer, and no other index has the same panel and channel.
            unsafe {
                target.offset(at).pointer().cast::<[f32; LANES]>().write(lanes);
            }
        }
    });
    scratch
}

/// Packs output gradients as `[samples][panel][D′·H′·W′][16]`, padded with zero lanes.
pub(super) fn pack_gradient(
    instruction_set: InstructionSet,
    dy: &[f32],
    channels: usize,
    plane: usize,
    first: usize,
    samples: usize,
) -> Scratch {
    /// The number of positions per task.
    const POSITIONS: usize = 1024;
    let panels = channels.div_ceil(LANES);
    let mut scratch = Scratch::take(samples * panels * plane * LANES);
    let target = SharedMut::new(&mut scratch);
    let pieces = plane.div_ceil(POSITIONS);
    (0..samples * panels * pieces).into_par_iter().for_each(|index| {
        let (block, piece) = (index / pieces, index % pieces);
        let (sample, panel) = (first + block / panels, block % panels);
        let from = piece * POSITIONS;
        let count = POSITIONS.min(plane - from);
        let used = (channels - panel * LANES).min(LANES);
        #[expect(unsafe_code, reason = "several threads write disjoint split of one tensor")]
        // SAFETY: the range lies within the buffer, and no other index has the same block and range of positions.
        let target = unsafe {
            std::slice::from_raw_parts_mut(target.pointer().add((block * plane + from) * LANES), count * LANES)
        };
        let source = &dy[(sample * channels + panel * LANES) * plane + from..];
        super::channel_layout::interleave(instruction_set, source, plane, used, target);
    });
    scratch
}
