//! The gradient of the weights in bfloat16, by products of tiles.
//!
//! For a pair of channels and a tap it is a sum over positions, so that positions take the place that input channels have in the other passes: a
//! tile of the output gradient has sixteen output channels of 32 neighbouring positions, a tile of the input sixteen *pairs* of
//! positions of sixteen channels. Both come from rows of the output grid that follow each other, with the padding of the input between them, where
//! the output gradient is zero. A tap reads the same packed input at another offset. An odd offset would split the pairs, so that the
//! input is packed twice where there are such taps: with pairs that begin at even and at odd positions. A pair of sixteen channels is one cache
//! line, so that every tile begins at one.

use rayon::prelude::*;

use super::channel_layout::interleave;
use super::shape::{ChannelSplit, ConvShape};
use crate::amx::{Amx, EDGE, Operands, Roles, TileArgs, TileSegment, Tiles};
use crate::instruction_set::InstructionSet;
use crate::scratch::{LANES, Scratch, SharedMut};
use crate::simd::{Kernel, Simd, dispatch_on};

/// The floats of a tile.
const TILE: usize = EDGE * EDGE;

/// Accumulators of at most this many floats are kept for each task, which then has some of the positions.
const MAX_TASK_SUMS: usize = 128 << 10;

/// The number of such tasks, which alone decides about the order of the sums.
const TASKS: usize = 16;

/// What such a task packs at a time has at most this many floats, if that is more than one row.
const MAX_TASK_INPUT: usize = 160 << 10;

/// The tiles of both operands that one kernel reads: at most this many floats, if that is more than one plane.
const MAX_KERNEL_INPUT: usize = 128 << 10;

/// Cache lines that the last tile may read after the last packed pair.
const SLACK: usize = 32;

/// Computes `dw`, `[O, I, kd, kh, kw]`. `x` consists of the tensors that `split` describes.
pub(crate) fn run(amx: Amx, shape: &ConvShape, x: &[&[f32]], split: &ChannelSplit, dy: &[f32], dw: &mut [f32]) {
    let pass = WeightGradient::new(amx, shape, Sources { x, split, dy });
    if pass.panels * pass.groups * shape.taps() * TILE <= MAX_TASK_SUMS {
        pass.by_positions(dw);
    } else {
        pass.by_channels(dw);
    }
}

/// The tensors.
#[derive(Clone, Copy)]
struct Sources<'a> {
    x: &'a [&'a [f32]],
    split: &'a ChannelSplit,
    dy: &'a [f32],
}

struct WeightGradient<'a> {
    amx: Amx,
    shape: ConvShape,
    from: Sources<'a>,
    /// D, H and W of the output.
    out: [usize; 3],
    /// Blocks of sixteen output and of sixteen input channels.
    panels: usize,
    groups: usize,
    /// The pairs of positions in a packed row.
    pairs: usize,
    /// The copies of the packed input: the phase of its columns, and whether its pairs begin at odd positions.
    copies: Vec<[usize; 2]>,
    /// The copy that each tap along W reads, and from which pair on.
    columns: Vec<[usize; 2]>,
}

/// Some rows of the output, with what is packed for them.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    count: usize,
}

/// A part of the positions: planes and rows of a sample.
#[derive(Clone, Copy)]
struct Block {
    sample: usize,
    planes: [usize; 2],
    rows: Rows,
}

impl<'a> WeightGradient<'a> {
    fn new(amx: Amx, shape: &ConvShape, from: Sources<'a>) -> Self {
        let out = shape.output_size();
        let (edge, stride) = (shape.kernel[2], shape.stride[2]);
        let mut copies = Vec::new();
        let mut columns = Vec::new();
        for tap in 0..edge {
            let shift = tap / stride;
            let copy = [tap % stride, shift % 2];
            let index = copies.iter().position(|other| *other == copy).unwrap_or_else(|| {
                copies.push(copy);
                copies.len() - 1
            });
            columns.push([index, shift / 2]);
        }
        let pairs = (out[2] + (edge - 1) / stride).div_ceil(2);
        let (panels, groups) = (shape.outputs.div_ceil(LANES), shape.inputs.div_ceil(LANES));
        Self { amx, shape: *shape, from, out, panels, groups, pairs, copies, columns }
    }

    /// The packed rows of one phase for some rows of the output.
    fn phase_rows(&self, rows: usize) -> usize {
        rows + (self.shape.kernel[1] - 1) / self.shape.stride[1]
    }

    /// Cache lines from one copy of a packed plane to the next.
    fn copy_lines(&self, rows: usize) -> usize {
        self.shape.stride[1] * self.phase_rows(rows) * self.pairs
    }

    /// The floats of a packed plane of the input.
    fn plane_floats(&self, rows: usize) -> usize {
        self.copies.len() * self.copy_lines(rows) * LANES
    }

    /// The tiles of some rows of the output.
    fn tiles(&self, rows: usize) -> usize {
        (rows * self.pairs).div_ceil(EDGE)
    }

    /// The plane of the input that a tap reads for a plane of the output, unless it is padding.
    fn input_plane(&self, plane: usize, tap: usize) -> Option<usize> {
        let at = (plane * self.shape.stride[0] + tap).checked_sub(self.shape.kernel[0] / 2)?;
        (at < self.shape.size[0]).then_some(at)
    }

    /// Where the taps of a plane of the kernel read a packed plane of the input, in floats, `[kh, kw]`.
    fn tap_offsets(&self, rows: usize) -> Vec<usize> {
        let stride = self.shape.stride[1];
        let of_row = |tap: usize| (tap % stride * self.phase_rows(rows) + tap / stride) * self.pairs;
        let offset = |row: usize, [copy, pair]: [usize; 2]| copy * self.copy_lines(rows) + of_row(row) + pair;
        let rows = 0..self.shape.kernel[1];
        rows.flat_map(|row| self.columns.iter().map(move |column| offset(row, *column) * LANES)).collect()
    }

    /// Packs a plane of sixteen input channels: `[copy][row phase][row][pair][16 channels]`, in pairs.
    fn pack_input(&self, group: usize, [sample, plane]: [usize; 2], rows: Rows, target: &mut [f32]) {
        let [depth, height, width] = self.shape.size;
        let ([_, edge, edge_w], [_, stride, stride_w]) = (self.shape.kernel, self.shape.stride);
        let used = LANES.min(self.shape.inputs - group * LANES);
        let stream = self.pairs.next_multiple_of(LANES);
        let mut streams = Streams::new(self.copies.len() * LANES, stream);
        let padding = edge_w / 2;
        // With a stride, the columns of each phase are taken from a rounded row.
        let mut halves = vec![0_u16; (2 * stream + 2) * stride_w];
        let phase_rows = self.phase_rows(rows.count);
        for (phase, row) in (0..stride).flat_map(|phase| (0..phase_rows).map(move |row| (phase, row))) {
            let line = (phase * phase_rows + row) * self.pairs;
            let of_copy = |copy: usize| (copy * self.copy_lines(rows.count) + line) * LANES;
            let at = ((rows.first + row) * stride + phase).checked_sub(edge / 2).filter(|at| *at < height);
            let Some(at) = at else {
                for copy in 0..self.copies.len() {
                    target[of_copy(copy)..][..self.pairs * LANES].fill(0.0);
                }
                continue;
            };
            for lane in 0..used {
                let (part, channel, channels) = self.from.split.locate(group * LANES + lane);
                let first = (((sample * channels + channel) * depth + plane) * height + at) * width;
                let source = &self.from.x[part][first..][..width];
                if stride_w == 1 {
                    for (copy, [_, parity]) in self.copies.iter().enumerate() {
                        // Pairs that begin at odd positions do not have the first one, which is padding if there are such pairs.
                        let target = &mut streams.halves(copy * LANES + lane)[padding - parity..];
                        self.amx.round_row(source, target);
                    }
                    continue;
                }
                self.amx.round_row(source, &mut halves[padding..]);
                for (copy, [phase, parity]) in self.copies.iter().enumerate() {
                    // The stride is 2.
                    let columns = halves[2 * parity + phase..].as_chunks::<2>().0;
                    for (target, [half, _]) in streams.halves(copy * LANES + lane).iter_mut().zip(columns) {
                        *target = *half;
                    }
                }
            }
            for copy in 0..self.copies.len() {
                let target = &mut target[of_copy(copy)..][..self.pairs * LANES];
                let streams = &streams.pairs[copy * LANES * stream..][..LANES * stream];
                interleave(InstructionSet::Avx512, streams, stream, used, target);
            }
        }
    }

    /// Packs a plane of the gradient of sixteen output channels: `[tile][16 channels][16 pairs]`.
    fn pack_gradient(&self, panel: usize, [sample, plane]: [usize; 2], rows: Rows, target: &mut [f32]) {
        let [depth, height, width] = self.out;
        let used = LANES.min(self.shape.outputs - panel * LANES);
        let mut stream = Streams::new(1, self.tiles(rows.count) * EDGE);
        for lane in 0..LANES {
            if lane < used {
                let channel = sample * self.shape.outputs + panel * LANES + lane;
                let first = ((channel * depth + plane) * height + rows.first) * width;
                let source = self.from.dy[first..][..rows.count * width].chunks_exact(width);
                for (source, target) in source.zip(stream.halves(0).chunks_exact_mut(2 * self.pairs)) {
                    self.amx.round_row(source, target);
                }
            } else if lane == used {
                stream.pairs.fill(0.0);
            }
            for (pairs, tile) in stream.pairs.chunks_exact(EDGE).zip(target.chunks_exact_mut(TILE)) {
                tile[lane * EDGE..][..EDGE].copy_from_slice(pairs);
            }
        }
    }

    /// The registers for some panels.
    fn configure(&self, panels: usize) -> Tiles {
        self.amx.configure(EDGE, if panels == 3 { Roles::Triples } else { Roles::Pairs })
    }

    /// How many panels are computed together: three at once, or two by two.
    fn panels_together(&self) -> usize {
        if self.panels == 3 { 3 } else { 2 }
    }

    /// Adds the products of some planes to `sums`, `[panel][tap][16 output channels][16 input channels]`, for the taps of a plane of the kernel.
    /// `input` and `gradient` are the packed operands: those of the first panel, and the floats from one panel to the next.
    fn multiply(
        &self,
        tiles: &Tiles,
        segments: &[TileSegment],
        (input, taps): (&[f32], &[usize]),
        (gradient, panels, panel_step): (&[f32], usize, usize),
        (products, sums, sums_panel): (&mut [f32], &mut [f32], usize),
    ) {
        let line = LANES * size_of::<f32>();
        let mut args = TileArgs::new(segments, line, EDGE * line, line);
        let inputs: Vec<*const f32> = taps.iter().map(|offset| input[*offset..].as_ptr()).collect();
        let gradients: [*const f32; 3] = std::array::from_fn(|panel| {
            if panel < panels { gradient[panel * panel_step..].as_ptr() } else { gradient.as_ptr() }
        });
        let base = products.as_mut_ptr();
        #[expect(unsafe_code, reason = "the kernel reads and writes through pointers")]
        // SAFETY: a segment begins at a packed plane, whose rows of the output have `tiles` tiles in the gradient. In the input, the tiles of a tap
        // begin at its first row and end at most `SLACK` lines after the copy that it reads, where there are other planes or the slack. `products`
        // has a tile for each tap of each panel.
        unsafe {
            tiles.multiply(Operands::Bf16, &mut args, &inputs, &gradients[..panels], |panel, tap| {
                base.wrapping_add((panel * taps.len() + tap) * TILE)
            });
        }
        let products = products.chunks_exact(taps.len() * TILE).take(panels);
        for (products, sums) in products.zip(sums.chunks_mut(sums_panel)) {
            dispatch_on(InstructionSet::Amx, AddTo { products, sums: &mut sums[..taps.len() * TILE] });
        }
    }

    /// Each task has some of the positions and sums of its own for all weights.
    fn by_positions(&self, dw: &mut [f32]) {
        let blocks = self.blocks();
        let tasks = TASKS.min(blocks.len());
        let taps = self.shape.taps();
        let floats = self.panels * self.groups * taps * TILE;
        let mut sums = Scratch::take(tasks * floats);
        sums.par_chunks_mut(floats).enumerate().for_each(|(task, sums)| {
            sums.fill(0.0);
            let blocks = &blocks[blocks.len() * task / tasks..blocks.len() * (task + 1) / tasks];
            self.run_blocks(blocks, sums);
        });
        let dw = SharedMut::new(dw);
        (0..self.panels * self.groups).into_par_iter().for_each(|index| {
            let parts: Vec<&[f32]> =
                sums.chunks_exact(floats).map(|sums| &sums[index * taps * TILE..][..taps * TILE]).collect();
            self.write([index / self.groups, index % self.groups], 0, &parts, dw);
        });
    }

    /// The positions in blocks, in a fixed order.
    fn blocks(&self) -> Vec<Block> {
        let [depth, height, _] = self.out;
        let planes = self.shape.kernel[0].min(self.shape.size[0]);
        // What a row takes in memory.
        let row =
            self.groups * planes * self.plane_floats(1) / self.phase_rows(1) + self.panels * self.pairs * LANES;
        let max_rows = (MAX_TASK_INPUT / row).saturating_sub(self.phase_rows(1) - 1).clamp(1, height);
        let mut row_blocks = height.div_ceil(max_rows);
        // Rows at the edge of a block are packed twice, planes at the edge more often.
        while self.shape.batch * row_blocks < TASKS && height.div_ceil(row_blocks + 1) >= 4 * self.phase_rows(1) {
            row_blocks += 1;
        }
        let count = height.div_ceil(row_blocks);
        let planes = depth.div_ceil(TASKS.div_ceil(self.shape.batch * row_blocks).clamp(1, depth));
        let mut blocks = Vec::new();
        for sample in 0..self.shape.batch {
            for first in (0..height).step_by(count) {
                for plane in (0..depth).step_by(planes) {
                    let rows = Rows { first, count: count.min(height - first) };
                    blocks.push(Block { sample, planes: [plane, depth.min(plane + planes)], rows });
                }
            }
        }
        blocks
    }

    /// Adds the products of some blocks, whose planes are packed one by one, to sums `[panel][group][tap][16 × 16]`.
    fn run_blocks(&self, blocks: &[Block], sums: &mut [f32]) {
        let most = blocks.iter().map(|block| block.rows.count).max().unwrap_or(1);
        let [edge, taps_h, taps_w] = self.shape.kernel;
        let (of_plane, of_all) = (taps_h * taps_w, self.shape.taps());
        let together = self.panels_together();
        let mut input = Scratch::take(self.groups * edge * self.plane_floats(most) + SLACK * LANES);
        let mut gradient = Scratch::take(self.panels * self.tiles(most) * TILE);
        let mut products = Scratch::take(together * of_plane * TILE);
        // What tiles read after the end of the rows is multiplied by zero, so that it must not be infinite.
        input.fill(0.0);
        let tiles = self.configure(self.panels);
        for block in blocks {
            let rows = block.rows;
            let (plane_floats, count) = (self.plane_floats(rows.count), self.tiles(rows.count));
            let taps = self.tap_offsets(rows.count);
            let segments = [TileSegment { input: 0, weights: 0, tiles: count }];
            let mut packed = None;
            for plane in block.planes[0]..block.planes[1] {
                for at in (0..edge).filter_map(|tap| self.input_plane(plane, tap)) {
                    if packed.is_none_or(|last| at > last) {
                        for group in 0..self.groups {
                            let target = &mut input[(group * edge + at % edge) * plane_floats..][..plane_floats];
                            self.pack_input(group, [block.sample, at], rows, target);
                        }
                        packed = Some(at);
                    }
                }
                for panel in 0..self.panels {
                    let target = &mut gradient[panel * count * TILE..][..count * TILE];
                    self.pack_gradient(panel, [block.sample, plane], rows, target);
                }
                for (group, tap) in (0..self.groups).flat_map(|group| (0..edge).map(move |tap| (group, tap))) {
                    let Some(at) = self.input_plane(plane, tap) else { continue };
                    let input = &input[(group * edge + at % edge) * plane_floats..];
                    for panel in (0..self.panels).step_by(together) {
                        let sums = &mut sums[((panel * self.groups + group) * of_all + tap * of_plane) * TILE..];
                        self.multiply(
                            &tiles,
                            &segments,
                            (input, &taps),
                            (&gradient[panel * count * TILE..], together.min(self.panels - panel), count * TILE),
                            (&mut products, sums, self.groups * of_all * TILE),
                        );
                    }
                }
            }
        }
    }

    /// Each task has some of the weights, and all positions. The operands are packed once for all of them.
    fn by_channels(&self, dw: &mut [f32]) {
        let [depth, height, _] = self.out;
        let rows = Rows { first: 0, count: height };
        let [edge, taps_h, taps_w] = self.shape.kernel;
        let of_plane = taps_h * taps_w;
        let (plane_floats, count) = (self.plane_floats(height), self.tiles(height));
        let (planes, batch) = (self.shape.size[0], self.shape.batch);
        let mut input = Scratch::take(self.groups * batch * planes * plane_floats + SLACK * LANES);
        let (whole, slack) = input.split_at_mut(self.groups * batch * planes * plane_floats);
        slack.fill(0.0);
        whole.par_chunks_exact_mut(plane_floats).enumerate().for_each(|(index, target)| {
            let (group, plane) = (index / (batch * planes), index % (batch * planes));
            self.pack_input(group, [plane / planes, plane % planes], rows, target);
        });
        let mut gradient = Scratch::take(self.panels * batch * depth * count * TILE);
        gradient.par_chunks_exact_mut(count * TILE).enumerate().for_each(|(index, target)| {
            let (panel, plane) = (index / (batch * depth), index % (batch * depth));
            self.pack_gradient(panel, [plane / depth, plane % depth], rows, target);
        });
        let (input, gradient) = (&input[..], &gradient[..]);
        let taps = self.tap_offsets(height);
        let together = self.panels_together();
        // What a kernel reads of both operands stays in the cache while it is read for each tap.
        let part = (MAX_KERNEL_INPUT / (plane_floats + together * count * TILE)).clamp(1, depth);
        let panel_sets = self.panels.div_ceil(together);
        let dw = SharedMut::new(dw);
        (0..panel_sets * self.groups * edge).into_par_iter().for_each(|index| {
            let (index, tap) = (index / edge, index % edge);
            let (panel, group) = (index / self.groups * together, index % self.groups);
            let panels = together.min(self.panels - panel);
            let mut products = Scratch::take(panels * of_plane * TILE);
            let mut sums = Scratch::take(panels * of_plane * TILE);
            sums.fill(0.0);
            let tiles = self.configure(self.panels);
            for (sample, first) in (0..batch).flat_map(|n| (0..depth).step_by(part).map(move |first| (n, first))) {
                let segments: Vec<TileSegment> = (first..depth.min(first + part))
                    .filter_map(|plane| {
                        let input = self.input_plane(plane, tap)? * plane_floats * size_of::<f32>();
                        Some(TileSegment { input, weights: plane * count * TILE * size_of::<f32>(), tiles: count })
                    })
                    .collect();
                if segments.is_empty() {
                    continue;
                }
                let of_sample = (panel * batch + sample) * depth * count * TILE;
                self.multiply(
                    &tiles,
                    &segments,
                    (&input[(group * batch + sample) * planes * plane_floats..], &taps),
                    (&gradient[of_sample..], panels, batch * depth * count * TILE),
                    (&mut products, &mut sums, of_plane * TILE),
                );
            }
            for (index, sums) in sums.chunks_exact(of_plane * TILE).enumerate() {
                self.write([panel + index, group], tap * of_plane, &[sums], dw);
            }
        });
    }

    /// Writes the sum of `parts`, each `[tap][16 output channels][16 input channels]` from `first_tap` on, for a panel and a group.
    fn write(&self, [panel, group]: [usize; 2], first_tap: usize, parts: &[&[f32]], dw: SharedMut) {
        let ConvShape { inputs, outputs, .. } = self.shape;
        let taps = self.shape.taps();
        let (first_output, first_input) = (panel * LANES, group * LANES);
        let mut totals = [0.0_f32; TILE];
        for tap in 0..parts[0].len() / TILE {
            totals.fill(0.0);
            for part in parts {
                for (total, sum) in totals.iter_mut().zip(&part[tap * TILE..][..TILE]) {
                    *total += sum;
                }
            }
            for output in first_output..outputs.min(first_output + LANES) {
                for input in first_input..inputs.min(first_input + LANES) {
                    let at = (output * inputs + input) * taps + first_tap + tap;
                    let total = totals[(output - first_output) * LANES + input - first_input];
                    #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
                    // SAFETY: the weight exists, and no other task has its panel, group and tap.
                    unsafe {
                        dw.offset(at).pointer().write(total);
                    }
                }
            }
        }
    }
}

/// Rows of positions in bfloat16, which begin with zeros.
struct Streams {
    pairs: Scratch,
    /// The pairs of a row.
    length: usize,
}

impl Streams {
    fn new(rows: usize, length: usize) -> Self {
        let mut pairs = Scratch::take(rows * length);
        pairs.fill(0.0);
        Self { pairs, length }
    }

    /// The positions of a row.
    fn halves(&mut self, row: usize) -> &mut [u16] {
        let pairs = &mut self.pairs[row * self.length..][..self.length];
        #[expect(unsafe_code, reason = "floats that hold pairs are viewed as halves")]
        // SAFETY: a float is as large as two halves and aligned better, and any bits are valid for both. The result holds the borrow.
        unsafe {
            std::slice::from_raw_parts_mut(pairs.as_mut_ptr().cast::<u16>(), 2 * pairs.len())
        }
    }
}

/// Adds products to sums.
struct AddTo<'a> {
    products: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for AddTo<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let ((products, _), (sums, _)) = (simd.chunks(self.products), simd.chunks_mut(self.sums));
        for (sum, product) in sums.iter_mut().zip(products) {
            simd.store(simd.add(simd.load(sum), simd.load(product)), sum);
        }
    }
}
