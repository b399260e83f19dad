//! Runs a [`Correlation`]: splits it into blocks, packs the input and calls the micro-kernels.

use super::{Correlation, PhaseCorrelation, TapRow};
use crate::conv::channel_layout::deinterleave;
use crate::conv::micro_kernel::{
    MAX_POSITIONS, MicroKernel, MicroKernelArgs, TapSegment, TileSize, choose_tile, micro_kernel_for,
};
use crate::conv::pack::{pack_input, pack_rows};
use crate::conv::shape::ChannelSplit;
use crate::instruction_set::InstructionSet;
use crate::scratch::{LANES, Scratch, SharedMut};
use rayon::prelude::*;
use std::ops::Range;

/// A block of rows over a shared input reads at most this many floats, so that they stay in the L2 cache.
const MAX_BLOCK_ROWS_FLOATS: usize = 96 << 10;

/// A call with a shared input is split into at least this many blocks, if it is large enough.
const MIN_BLOCKS: usize = 24;

/// Blocks pack their own input if the weights have at most this many floats.
const MAX_SELF_PACKING_WEIGHTS: usize = 64 << 10;

/// Such a block holds at most this many floats of input at a time.
const MAX_BLOCK_INPUT_FLOATS: usize = 64 << 10;

/// The number of such blocks per thread. The split does not influence the results.
const BLOCKS_PER_THREAD: usize = 4;

impl Correlation {
    /// Computes a batch. `x` and `y` each consist of the tensors that their split describes.
    pub(in crate::conv) fn run(
        &self,
        instruction_set: InstructionSet,
        batch: usize,
        x: &[&[f32]],
        x_split: &ChannelSplit,
        y: &mut [&mut [f32]],
        y_split: &ChannelSplit,
    ) {
        let y: Vec<SharedMut> = y.iter_mut().map(|tensor| SharedMut::new(tensor)).collect();
        let execution = Execution { correlation: self, instruction_set, y: &y, y_split };
        if let [phase] = &self.phases[..]
            && let Some(blocks) = execution.self_packing_blocks(phase, batch)
        {
            blocks.into_par_iter().for_each(|block| execution.run_self_packing(&block, x, x_split));
            return;
        }
        let samples_per_pass = self.padded.samples_per_pass(batch);
        for first in (0..batch).step_by(samples_per_pass) {
            let samples = samples_per_pass.min(batch - first);
            let input = pack_input(&self.padded, x, x_split, first, samples);
            let input = input.floats();
            let blocks: Vec<Block> = self
                .phases
                .iter()
                .flat_map(|phase| execution.shared_input_blocks(phase, first..first + samples))
                .collect();
            blocks.into_par_iter().for_each(|block| {
                let floats = &input[(block.sample - first) * self.padded.sample()..];
                let view = InputView { floats, planes: self.padded.planes_and_rows()[0], rows: [0, 0] };
                for d in block.planes[0]..block.planes[1] {
                    execution.run_plane(&block, block.panels.clone(), d, &view);
                }
            });
        }
    }
}

/// The computation of one batch.
struct Execution<'a> {
    correlation: &'a Correlation,
    instruction_set: InstructionSet,
    y: &'a [SharedMut],
    y_split: &'a ChannelSplit,
}

/// The part of a padded sample that is in memory.
struct InputView<'a> {
    floats: &'a [f32],
    /// The number of planes in memory. Plane `d` is at index `d` modulo this number.
    planes: usize,
    /// The first padded row in memory and the number of rows; 0 means all of them.
    rows: [usize; 2],
}

impl Execution<'_> {
    /// Splits the work over an input that is already packed. The panels are the outermost loop, because the weights of a panel
    /// may fill a cache.
    fn shared_input_blocks<'s>(&self, phase: &'s PhaseCorrelation, samples: Range<usize>) -> Vec<Block<'s>> {
        let [depth, height, width] = [0, 1, 2].map(|axis| phase.axes[axis].count);
        if depth * height * width == 0 {
            return Vec::new();
        }
        let padded = &self.correlation.padded;
        let panels = self.correlation.outputs.div_ceil(LANES);
        let size = choose_tile(self.instruction_set, width, panels, phase.taps);
        let row_floats = padded.row() * phase.axes[0].taps.len().max(1) * phase.axes[1].in_step;
        let mut rows =
            (MAX_BLOCK_ROWS_FLOATS / row_floats).max(size.rows * 2).next_multiple_of(size.rows).min(height);
        // With few planes, the rows must provide the parallelism.
        let groups = samples.len() * panels.div_ceil(size.panels) * self.correlation.phases.len();
        while groups * depth * height.div_ceil(rows) < MIN_BLOCKS && rows > size.rows {
            rows = (rows / 2).next_multiple_of(size.rows);
        }
        let wanted = MIN_BLOCKS.div_ceil(groups * height.div_ceil(rows)).clamp(1, depth);
        let planes = depth.div_ceil(wanted);
        let mut blocks = Vec::new();
        for panel in (0..panels).step_by(size.panels) {
            for sample in samples.clone() {
                for plane in (0..depth).step_by(planes) {
                    for row in (0..height).step_by(rows) {
                        blocks.push(Block {
                            phase,
                            sample,
                            panels: panel..panels.min(panel + size.panels),
                            planes: [plane, depth.min(plane + planes)],
                            rows: [row, height.min(row + rows)],
                        });
                    }
                }
            }
        }
        blocks
    }

    /// Splits the work into blocks that each pack their own input, a few planes at a time, so that it stays in the L2 cache.
    /// `None` when the weights would not fit in the cache beside it.
    fn self_packing_blocks<'s>(&self, phase: &'s PhaseCorrelation, batch: usize) -> Option<Vec<Block<'s>>> {
        let [depth, height, width] = [0, 1, 2].map(|axis| phase.axes[axis].count);
        let padded = &self.correlation.padded;
        if padded.is_identity() || phase.weights.len() > MAX_SELF_PACKING_WEIGHTS || depth * height * width == 0 {
            return None;
        }
        let [planes, halo] = phase.window();
        let rows_in_cache = MAX_BLOCK_INPUT_FLOATS / (planes * padded.row());
        // Rows at the edge of a block are packed twice, so blocks of few rows are not worth it.
        let max_rows = (rows_in_cache + 1).checked_sub(halo)? / phase.axes[1].in_step;
        if max_rows < height.min(4 * halo) {
            return None;
        }
        let wanted = BLOCKS_PER_THREAD * rayon::current_num_threads();
        let mut row_blocks = height.div_ceil(max_rows);
        while batch * row_blocks < wanted && height.div_ceil(row_blocks + 1) * phase.axes[1].in_step >= 4 * halo {
            row_blocks += 1;
        }
        let rows = height.div_ceil(row_blocks);
        let plane_blocks = wanted.div_ceil(batch * row_blocks).clamp(1, depth);
        let planes = depth.div_ceil(plane_blocks);
        let mut blocks = Vec::new();
        for sample in 0..batch {
            for row in (0..height).step_by(rows) {
                for plane in (0..depth).step_by(planes) {
                    blocks.push(Block {
                        phase,
                        sample,
                        panels: 0..self.correlation.outputs.div_ceil(LANES),
                        planes: [plane, depth.min(plane + planes)],
                        rows: [row, height.min(row + rows)],
                    });
                }
            }
        }
        Some(blocks)
    }

    /// Computes a block, packing its input plane by plane.
    fn run_self_packing(&self, block: &Block, x: &[&[f32]], x_split: &ChannelSplit) {
        let padded = &self.correlation.padded;
        let [depth, height, width] = &block.phase.axes;
        let [planes, halo] = block.phase.window();
        let first_row = block.rows[0] * height.in_step;
        let rows = (block.rows[1] - block.rows[0] - 1) * height.in_step + halo;
        let plane_floats = rows * padded.row();
        let mut ring = Scratch::take(planes * plane_floats);
        let panels = choose_tile(self.instruction_set, width.count, block.panels.len(), block.phase.taps).panels;
        let mut packed = block.planes[0] * depth.in_step;
        for d in block.planes[0]..block.planes[1] {
            packed = packed.max(d * depth.in_step);
            while packed < d * depth.in_step + planes {
                // Planes of padding are never read.
                if !padded.is_padding(0, packed) {
                    let target = &mut ring[packed % planes * plane_floats..][..plane_floats];
                    pack_rows(padded, x, x_split, block.sample, [packed, first_row], target);
                }
                packed += 1;
            }
            let view = InputView { floats: &ring, planes, rows: [first_row, rows] };
            for panel in block.panels.clone().step_by(panels) {
                self.run_plane(block, panel..block.panels.end.min(panel + panels), d, &view);
            }
        }
    }

    /// Pointers to the output channels of some panels.
    fn output_channels(&self, sample: usize, panels: &Range<usize>) -> Vec<SharedMut> {
        let plane: usize = self.correlation.out_size.iter().product();
        let channels = panels.start * LANES..self.correlation.outputs.min(panels.end * LANES);
        channels
            .map(|channel| {
                let (tensor, local, tensor_channels) = self.y_split.locate(channel);
                self.y[tensor].offset((sample * tensor_channels + local) * plane)
            })
            .collect()
    }

    /// Computes the outputs of some panels for the rows of a block in one plane.
    fn run_plane(&self, block: &Block, panels: Range<usize>, d: usize, view: &InputView) {
        let Correlation { padded, channels, .. } = self.correlation;
        let phase = block.phase;
        let [depth, height, width] = &phase.axes;
        let size = choose_tile(self.instruction_set, width.count, panels.len(), phase.taps);
        let panel_step = phase.tap_rows.len() * phase.taps * channels * LANES;
        let weights = &phase.weights[panels.start * panel_step..];
        let initial = &self.correlation.initial[panels.start * LANES..];
        let output = self.output_channels(block.sample, &panels);
        let view_rows = if view.rows[1] == 0 { padded.planes_and_rows()[1] } else { view.rows[1] };
        let plane_floats = view_rows * padded.row();
        let mut segments = Vec::with_capacity(phase.tap_rows.len());
        let mut sums = Accumulators([0.0; MAX_POSITIONS * LANES]);
        let rest = width.count % size.columns;
        // Micro-kernels by the logarithm of their number of rows, for full tiles and for the remainder of a row.
        let micro_kernels: [[Option<MicroKernel>; 2]; 3] = [1, 2, 4].map(|rows| {
            [size.columns, rest]
                .map(|columns| micro_kernel_for(self.instruction_set, TileSize { rows, columns, ..size }))
        });
        let mut h = block.rows[0];
        while h < block.rows[1] {
            let rows = size.rows.min(1 << (block.rows[1] - h).ilog2());
            let micro_kernels = micro_kernels[rows.ilog2() as usize];
            // Tap rows that read only padding are skipped.
            let reads_input = |row: &&TapRow| {
                let line = |h: usize| h * height.in_step + row.offset[1];
                !padded.is_padding(0, d * depth.in_step + row.offset[0])
                    && (h..h + rows).any(|h| !padded.is_padding(1, line(h)))
            };
            segments.clear();
            segments.extend(phase.tap_rows.iter().filter(reads_input).map(|row| {
                let plane = (d * depth.in_step + row.offset[0]) % view.planes;
                let input = plane * plane_floats + row.offset[1] * padded.row() + row.column;
                TapSegment { input, weights: row.weights }
            }));
            for w in (0..width.count).step_by(size.columns) {
                let columns = size.columns.min(width.count - w);
                // The test `every_tile_size_has_a_micro_kernel` proves that none is missing.
                let Some(micro_kernel) = micro_kernels[usize::from(columns < size.columns)] else { continue };
                let at = (h * height.in_step - view.rows[0]) * padded.row() + w;
                let args = MicroKernelArgs {
                    segments: &segments,
                    channels: *channels,
                    channel_step: padded.channel(),
                    input: view.floats[at..].as_ptr(),
                    row_step: padded.row() * height.in_step,
                    weights: weights.as_ptr(),
                    panel_step,
                    initial: initial.as_ptr(),
                    sums: sums.0.as_mut_ptr(),
                    sums_panel: rows * columns * LANES,
                    sums_row: columns * LANES,
                    sums_column: LANES,
                };
                #[expect(unsafe_code, reason = "the micro-kernel reads and writes through pointers")]
                // SAFETY: the micro-kernel uses the detected instruction set. The view holds every row and plane that the taps
                // of these outputs read, and a padded row extends to the last tap of the last output. `weights` and `initial`
                // hold every panel of the tile, and `sums` has room for the largest tile.
                unsafe {
                    micro_kernel(&args);
                }
                for (panel, channels) in output.chunks(LANES).enumerate() {
                    for row in 0..rows {
                        let sums = &sums.0[(panel * rows + row) * columns * LANES..][..columns * LANES];
                        let offset = self.correlation.output_offset(&phase.axes, [d, h + row, w]);
                        #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
                        // SAFETY: `channels` are channels of the output, `offset` lies within them, and every element belongs
                        // to exactly one block of one phase.
                        unsafe {
                            deinterleave(self.instruction_set, sums, channels, offset, width.out_step);
                        }
                    }
                }
            }
            h += rows;
        }
    }
}

impl PhaseCorrelation {
    /// The number of padded planes and rows that one output reads.
    fn window(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.axes[axis].taps.iter().map(|&(_, offset)| offset + 1).max().unwrap_or(1))
    }
}

/// The results of one micro-kernel call, aligned to cache lines.
#[repr(align(64))]
struct Accumulators([f32; MAX_POSITIONS * LANES]);

/// A unit of parallel work: some panels for some rows of some planes.
struct Block<'a> {
    phase: &'a PhaseCorrelation,
    sample: usize,
    /// Panels of sixteen output channels.
    panels: Range<usize>,
    planes: [usize; 2],
    rows: [usize; 2],
}
