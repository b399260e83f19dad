//! The weight gradient: for each pair of channels and each tap, a sum over all positions.

use super::channel_layout::interleave;
use super::pack::{PaddedLayout, pack_gradient, pack_input, pack_rows};
use super::shape::{ChannelSplit, ConvShape};
use super::weight_micro_kernel::{WeightKernelArgs, WeightTileSize, choose_weight_tile, weight_micro_kernel_for};
use crate::instruction_set::InstructionSet;
use crate::scratch::{LANES, Scratch, SharedMut};
use rayon::prelude::*;

/// A block over a shared input reads at most this many floats of input and output gradient, so that they stay in the L2
/// cache.
const MAX_BLOCK_FLOATS: usize = 96 << 10;

/// Blocks pack their own input if the accumulators have at most this many floats.
const MAX_SELF_PACKING_WEIGHTS: usize = 64 << 10;

/// Such a block holds at most this many floats of input and output gradient at a time.
const MAX_SELF_PACKING_FLOATS: usize = 80 << 10;

/// The accumulators of all groups together have at most this many floats.
const MAX_ACCUMULATOR_FLOATS: usize = 1 << 20;

/// The number of tasks of a call. It must not depend on the machine, because the split determines the rounding.
const TASKS: usize = 16;

/// A range of planes and rows of one sample.
#[derive(Debug, Clone, Copy)]
struct Block {
    sample: usize,
    planes: [usize; 2],
    rows: [usize; 2],
}

/// The parameters of a call that all tasks share.
struct WeightGradient<'a> {
    shape: &'a ConvShape,
    padded: PaddedLayout,
    instruction_set: InstructionSet,
    size: WeightTileSize,
    /// Tap rows: their offsets along D and H in the padded input, and their offset in a padded row.
    tap_rows: Vec<([usize; 2], usize)>,
}

/// The packed data that one block reads.
struct Region<'a> {
    /// Packed input. The padded plane `d` is at index `d` modulo `planes`; the first row in memory is `first_row`.
    input: &'a [f32],
    planes: usize,
    plane_floats: usize,
    first_row: usize,
    /// Packed output gradient `[panel][positions][16]`, and its first position.
    gradient: &'a [f32],
    positions: usize,
    first_position: usize,
}

/// Computes `dw`, `[O, I, kd, kh, kw]`.
pub(super) fn run(
    instruction_set: InstructionSet,
    shape: &ConvShape,
    x: &[&[f32]],
    split: &ChannelSplit,
    dy: &[f32],
    dw: &mut [f32],
) {
    let padded = PaddedLayout::forward(shape);
    let [kd, kh, kw] = shape.kernel;
    let panels = shape.outputs.div_ceil(LANES);
    // With a stride of 2, neighbouring taps are in different column phases and cannot share a tap row.
    let taps = if kw == 3 && shape.stride[2] == 1 { 3 } else { 1 };
    let size = choose_weight_tile(instruction_set, taps, panels);
    let mut tap_rows = Vec::new();
    for d in 0..kd {
        for h in 0..kh {
            tap_rows.extend((0..kw).step_by(taps).map(|w| ([d, h], padded.offset([0, 0, w]))));
        }
    }
    let pass = WeightGradient { shape, padded, instruction_set, size, tap_rows };

    let terms = shape.taps() * shape.inputs;
    let group_floats = panels * terms * LANES;
    let steps = pass.tile_steps();
    let max_groups = (MAX_ACCUMULATOR_FLOATS / group_floats).clamp(1, TASKS);
    let self_packing_blocks =
        if group_floats > MAX_SELF_PACKING_WEIGHTS { None } else { pass.self_packing_blocks() };
    let samples_per_pass = pass.padded.samples_per_pass(shape.batch);
    let blocks =
        self_packing_blocks.as_ref().map_or_else(|| pass.shared_input_blocks(samples_per_pass), Vec::clone);
    let groups = max_groups.min(blocks.len());
    let group_blocks = |group: usize| &blocks[blocks.len() * group / groups..blocks.len() * (group + 1) / groups];
    let mut sums = Scratch::take(groups * group_floats);
    sums.par_chunks_mut(1 << 14).for_each(|sums| sums.fill(0.0));
    let shared = SharedMut::new(&mut sums);
    if self_packing_blocks.is_some() {
        (0..groups).into_par_iter().for_each(|group| {
            for block in group_blocks(group) {
                pass.run_self_packing(*block, x, split, dy, shared.offset(group * group_floats));
            }
        });
        reduce(&sums, groups, shape, taps, dw);
        return;
    }
    let tasks_per_group = TASKS.div_ceil(groups).min(steps);
    let positions = shape.output_plane();
    for first in (0..shape.batch).step_by(samples_per_pass) {
        let samples = samples_per_pass.min(shape.batch - first);
        let input = pack_input(&pass.padded, x, split, first, samples);
        let gradient = pack_gradient(instruction_set, dy, shape.outputs, positions, first, samples);
        (0..groups * tasks_per_group).into_par_iter().for_each(|index| {
            let (group, task) = (index / tasks_per_group, index % tasks_per_group);
            for block in group_blocks(group).iter().filter(|block| block.sample < samples) {
                let region = Region {
                    input: &input.floats()[block.sample * pass.padded.sample()..],
                    planes: pass.padded.planes_and_rows()[0],
                    plane_floats: pass.padded.plane(),
                    first_row: 0,
                    gradient: &gradient[block.sample * panels * positions * LANES..],
                    positions,
                    first_position: 0,
                };
                let steps = steps * task / tasks_per_group..steps * (task + 1) / tasks_per_group;
                pass.accumulate(*block, steps, &region, shared.offset(group * group_floats));
            }
        });
    }
    reduce(&sums, groups, shape, taps, dw);
}

impl WeightGradient<'_> {
    /// The blocks over a shared input, in a fixed order.
    fn shared_input_blocks(&self, samples: usize) -> Vec<Block> {
        let [depth, height, width] = self.shape.output_size();
        let [sd, sh, _] = self.shape.stride;
        let panels = self.shape.outputs.div_ceil(LANES);
        let row = self.padded.row() * self.shape.kernel[0] * sh + width * panels * LANES;
        let rows = (MAX_BLOCK_FLOATS / row).clamp(1, height);
        let rows = height.div_ceil(height.div_ceil(rows));
        let plane = self.padded.plane() * sd + height * width * panels * LANES;
        let planes = if rows < height { 1 } else { (MAX_BLOCK_FLOATS / plane).clamp(1, depth) };
        let mut blocks = Vec::new();
        for sample in 0..samples {
            for d in (0..depth).step_by(planes) {
                for h in (0..height).step_by(rows) {
                    let planes = [d, depth.min(d + planes)];
                    blocks.push(Block { sample, planes, rows: [h, height.min(h + rows)] });
                }
            }
        }
        blocks
    }

    /// The number of tiles that cover the input channels of one tap row.
    fn channel_steps(&self) -> usize {
        self.shape.inputs.div_ceil(self.size.rows)
    }

    /// The number of tiles that cover all weights.
    fn tile_steps(&self) -> usize {
        self.shape.outputs.div_ceil(LANES).div_ceil(self.size.panels) * self.tap_rows.len() * self.channel_steps()
    }

    /// Blocks that each pack their own data, one plane at a time, so that it stays in the L2 cache. `None` when a few rows are
    /// already too large for that.
    fn self_packing_blocks(&self) -> Option<Vec<Block>> {
        let [depth, height, width] = self.shape.output_size();
        let [planes, halo, _] = self.shape.kernel;
        let stride = self.shape.stride[1];
        let panels = self.shape.outputs.div_ceil(LANES);
        let row = planes * self.padded.row() * stride + width * panels * LANES;
        let max_rows = MAX_SELF_PACKING_FLOATS.checked_sub(planes * self.padded.row() * (halo - 1))? / row;
        if self.padded.is_identity() || max_rows < height.min(2 * halo) {
            return None;
        }
        let mut row_blocks = height.div_ceil(max_rows);
        while self.shape.batch * row_blocks < TASKS && height.div_ceil(row_blocks + 1) * stride >= 4 * halo {
            row_blocks += 1;
        }
        let rows = height.div_ceil(row_blocks);
        let planes = depth.div_ceil(TASKS.div_ceil(self.shape.batch * row_blocks).clamp(1, depth));
        let mut blocks = Vec::new();
        for sample in 0..self.shape.batch {
            for h in (0..height).step_by(rows) {
                for d in (0..depth).step_by(planes) {
                    let planes = [d, depth.min(d + planes)];
                    blocks.push(Block { sample, planes, rows: [h, height.min(h + rows)] });
                }
            }
        }
        Some(blocks)
    }

    /// Accumulates a block, packing its data plane by plane.
    fn run_self_packing(&self, block: Block, x: &[&[f32]], split: &ChannelSplit, dy: &[f32], sums: SharedMut) {
        let ([planes, halo, _], [sd, sh, _]) = (self.shape.kernel, self.shape.stride);
        let [_, height, width] = self.shape.output_size();
        let outputs = self.shape.outputs;
        let plane = self.shape.output_plane();
        let positions = (block.rows[1] - block.rows[0]) * width;
        let first_row = block.rows[0] * sh;
        let plane_floats = ((block.rows[1] - block.rows[0] - 1) * sh + halo) * self.padded.row();
        let mut ring = Scratch::take(planes * plane_floats);
        let mut gradient = Scratch::take(outputs.div_ceil(LANES) * positions * LANES);
        let mut packed = block.planes[0] * sd;
        for d in block.planes[0]..block.planes[1] {
            packed = packed.max(d * sd);
            while packed < d * sd + planes {
                // Planes of padding are never read.
                if !self.padded.is_padding(0, packed) {
                    let target = &mut ring[packed % planes * plane_floats..][..plane_floats];
                    pack_rows(&self.padded, x, split, block.sample, [packed, first_row], target);
                }
                packed += 1;
            }
            let first_position = (d * height + block.rows[0]) * width;
            for (panel, target) in gradient.chunks_exact_mut(positions * LANES).enumerate() {
                let source = &dy[(block.sample * outputs + panel * LANES) * plane + first_position..];
                interleave(self.instruction_set, source, plane, LANES.min(outputs - panel * LANES), target);
            }
            let (input, gradient) = (&ring[..], &gradient[..]);
            let region = Region { input, planes, plane_floats, first_row, gradient, positions, first_position };
            self.accumulate(Block { planes: [d, d + 1], ..block }, 0..self.tile_steps(), &region, sums);
        }
    }

    /// Accumulates the gradient of some of the weights over the positions of a block.
    fn accumulate(&self, block: Block, steps: std::ops::Range<usize>, region: &Region, sums: SharedMut) {
        let WeightTileSize { panels: tile_panels, taps, rows: tile_rows } = self.size;
        let inputs = self.shape.inputs;
        let terms = self.shape.taps() * inputs;
        let panels = self.shape.outputs.div_ceil(LANES);
        let [_, height, width] = self.shape.output_size();
        let [sd, sh, _] = self.shape.stride;
        for step in steps {
            let (step, channel) = (step / self.channel_steps(), step % self.channel_steps() * tile_rows);
            let (panel, row) = (step / self.tap_rows.len() * tile_panels, step % self.tap_rows.len());
            let ([kd, kh], column) = self.tap_rows[row];
            // Positions that read padding are skipped.
            let [d, d_end] = self.without_padding(0, block.planes, kd, sd);
            let [h, h_end] = self.without_padding(1, block.rows, kh, sh);
            if d == d_end || h == h_end {
                continue;
            }
            let size = WeightTileSize {
                panels: tile_panels.min(panels - panel),
                taps,
                rows: tile_rows.min(inputs - channel),
            };
            // The test `every_tile_size_has_a_micro_kernel` proves that none is missing.
            let Some(micro_kernel) = weight_micro_kernel_for(self.instruction_set, size) else { continue };
            let plane = (d * sd + kd) % region.planes * region.plane_floats;
            let line = (h * sh + kh - region.first_row) * self.padded.row();
            let at = plane + line + column + channel * self.padded.channel();
            let position = (d * height + h) * width - region.first_position;
            let args = WeightKernelArgs {
                input: region.input[at..].as_ptr(),
                row_step: self.padded.channel(),
                gradient: region.gradient[(panel * region.positions + position) * LANES..].as_ptr(),
                gradient_panel: region.positions * LANES,
                planes: d_end - d,
                lines: h_end - h,
                width,
                input_plane: region.plane_floats * sd,
                input_line: self.padded.row() * sh,
                gradient_plane: height * width * LANES,
                sums: sums.offset((panel * terms + (row * inputs + channel) * taps) * LANES).pointer(),
                sums_panel: terms * LANES,
            };
            #[expect(unsafe_code, reason = "the micro-kernel reads and writes through pointers")]
            // SAFETY: the micro-kernel uses the detected instruction set. A padded row extends to the last tap of the last output,
            // the gradient holds every position of every panel, and these accumulators of this group belong to this task alone.
            unsafe {
                micro_kernel(&args);
            }
        }
    }

    /// The part of a range of positions whose inputs at this tap are not padding.
    fn without_padding(
        &self,
        axis: usize,
        [mut from, mut to]: [usize; 2],
        tap: usize,
        stride: usize,
    ) -> [usize; 2] {
        while from < to && self.padded.is_padding(axis, from * stride + tap) {
            from += 1;
        }
        while from < to && self.padded.is_padding(axis, (to - 1) * stride + tap) {
            to -= 1;
        }
        [from, to]
    }
}

/// Sums the accumulators of the groups in a fixed order and converts them from `[panel][tap row][input][tap][16]` to
/// `[O, I, kd, kh, kw]`.
fn reduce(sums: &[f32], groups: usize, shape: &ConvShape, row: usize, dw: &mut [f32]) {
    let (panels, inputs, taps) = (shape.outputs.div_ceil(LANES), shape.inputs, shape.taps());
    let group_floats = panels * inputs * taps * LANES;
    let dw = SharedMut::new(dw);
    (0..panels * inputs).into_par_iter().with_min_len(8).for_each(|index| {
        let (panel, input) = (index / inputs, index % inputs);
        let used = (shape.outputs - panel * LANES).min(LANES);
        for tap in 0..taps {
            let at = panel * inputs * taps + (tap / row * inputs + input) * row + tap % row;
            let mut total = [0.0f32; LANES];
            for group in 0..groups {
                let from = group * group_floats + at * LANES;
                for (total, sum) in total.iter_mut().zip(&sums[from..from + LANES]) {
                    *total += sum;
                }
            }
            for (lane, total) in total[..used].iter().enumerate() {
                #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
                // SAFETY: the weight exists, because `lane < used`, and no other task has its panel and input.
                unsafe {
                    dw.offset(((panel * LANES + lane) * inputs + input) * taps + tap).pointer().write(*total);
                }
            }
        }
    });
}

/// Computes `db`, `[O]`: the output gradient summed over samples and positions.
pub(super) fn bias(shape: &ConvShape, dy: &[f32], db: &mut [f32]) {
    let plane = shape.output_plane();
    db.par_iter_mut().enumerate().for_each(|(channel, db)| {
        let samples = (0..shape.batch).map(|sample| &dy[(sample * shape.outputs + channel) * plane..][..plane]);
        // Chunks are summed in single precision and their sums in double, because a plane may hold millions of values.
        let chunk_sums = samples.flat_map(|sample| sample.chunks(1024)).map(|chunk| {
            let mut lanes = [0.0f32; LANES];
            let (whole, rest) = chunk.as_chunks::<LANES>();
            for values in whole {
                for (lane, value) in lanes.iter_mut().zip(values) {
                    *lane += value;
                }
            }
            f64::from(lanes.iter().sum::<f32>() + rest.iter().sum::<f32>())
        });
        *db = chunk_sums.sum::<f64>() as f32;
    });
}
