//! Runs a convolution with [`PackedWeights`]: splits it into blocks, packs the input, calls the micro-kernels and the epilogue.

#[cfg(target_arch = "x86_64")]
mod amx;
mod tap_rows;
mod winograd;

use std::ops::Range;

use rayon::prelude::*;

use tap_rows::{MAX_TAP_ROWS, TapRows};

use super::epilogue::{Epilogue, MAX_COLUMNS, MAX_ROWS, MAX_SUMS, Run, Sums, Target};
use super::moments::{RowSegments, SegmentMoments, SegmentSums};
use super::pack::{ColumnLayout, PaddedInput, Region};
use super::prefetch::PlanePrefetch;
use super::tensor::LayerOutput;
use super::weights::{MicroKernels, PackedWeights};
use super::winograd::{HALO, TILE};
use crate::conv::micro_kernel::{MicroKernelArgs, TapSegment, TileSize, choose_tile};
use crate::scratch::{LANES, Scratch};

/// Blocks pack their own input if the weights have at most this many cells.
const MAX_SELF_PACKING_WEIGHTS: usize = 64 << 10;

/// Such a block holds at most this many cells of input at a time, so that they stay in the L2 cache.
const MAX_BLOCK_INPUT: usize = 96 << 10;

/// The number of such blocks per thread. The split does not influence the results.
const BLOCKS_PER_THREAD: usize = 8;

/// A block of rows over a shared input reads at most this many cells.
const MAX_BLOCK_ROWS: usize = 96 << 10;

/// A call with a shared input is split into at least this many blocks, if it is large enough.
const MIN_BLOCKS: usize = 24;

/// The cells of a pointwise convolution's block of columns.
const POINTWISE_BLOCK: usize = 32 << 10;

/// Samples with a shared input are packed together up to this many cells.
const MAX_SHARED_INPUT: usize = 4 << 20;

/// Rows of more columns than this are cut into blocks.
const MAX_BLOCK_COLUMNS: usize = 288;

/// The computation of one batch.
pub(super) struct Execution<'a> {
    weights: &'a PackedWeights,
    batch: usize,
    input: &'a PaddedInput<'a>,
    kernel: [usize; 3],
    stride: [usize; 3],
    /// D′, H′ and W′: the number of positions of the micro-kernels along each axis. A transposed convolution enlarges them.
    out: [usize; 3],
    /// The number of columns of a block, which gives the segments of the statistics. It depends on the shape alone.
    block_columns: usize,
    /// Whether Winograd's filtering is used.
    uses_winograd: bool,
}

/// A unit of parallel work: some groups of panels for some columns of some rows of some planes.
struct Block {
    sample: usize,
    groups: Range<usize>,
    planes: Range<usize>,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// Panels that are computed together.
struct PanelGroup {
    /// The panels of the weights.
    panels: Range<usize>,
    /// The panels of the output, and the position in the block that a transposed convolution makes of each voxel.
    out_panels: Range<usize>,
    offset: [usize; 2],
}

/// The packed input of a block, and the plane that it packs next.
struct View<'a> {
    region: &'a Region,
    cells: &'a [f32],
    next: Option<PlanePrefetch<'a>>,
}

/// The parts into which an axis is cut.
#[derive(Clone, Copy)]
struct Parts {
    length: usize,
    part: usize,
}

impl Parts {
    fn count(self) -> usize {
        self.length.div_ceil(self.part)
    }

    fn range(self, index: usize) -> Range<usize> {
        index * self.part..self.length.min((index + 1) * self.part)
    }
}

impl<'a> Execution<'a> {
    pub(super) fn new(
        weights: &'a PackedWeights,
        batch: usize,
        input: &'a PaddedInput<'a>,
        out: [usize; 3],
    ) -> Self {
        let width = out[2];
        let block_columns = if weights.is_pointwise() {
            (POINTWISE_BLOCK / input.groups() / MAX_COLUMNS).clamp(1, 20) * MAX_COLUMNS
        } else if weights.amx.is_some() {
            width
        } else {
            // Blocks of equal width, in whole vectors.
            width.div_ceil(width.div_ceil(MAX_BLOCK_COLUMNS)).next_multiple_of(LANES)
        };
        let (kernel, stride) = (weights.kernel, weights.stride);
        let uses_winograd = weights.prefers_winograd(input.groups(), out);
        let block_columns = block_columns.min(width);
        Self { weights, batch, input, kernel, stride, out, block_columns, uses_winograd }
    }

    /// Computes the batch.
    pub(super) fn run(&self, output: LayerOutput<'_>) {
        let enlarged: [usize; 3] = std::array::from_fn(|axis| self.out[axis] * self.weights.upsampling[axis]);
        let segments = RowSegments {
            rows: enlarged[0] * enlarged[1],
            width: enlarged[2],
            length: self.block_columns * self.weights.upsampling[2],
        };
        let LayerOutput { values, moments, residual, slope } = output;
        let panels = self.weights.outputs.div_ceil(LANES);
        let mut records =
            moments.is_some().then(|| SegmentMoments::new(self.batch, panels, segments.rows * segments.per_row()));
        let epilogue = Epilogue {
            instruction_set: self.weights.instruction_set,
            target: Target::new(values),
            moments: records.as_mut().map(SegmentMoments::writer),
            residual,
            slope,
            dequantize: self.weights.dequantize(),
            initial: &self.weights.initial,
            outputs: self.weights.outputs,
            plane: enlarged.iter().product(),
        };
        if self.packs_in_blocks() {
            self.run_self_packing(&epilogue);
        } else {
            self.run_shared(&epilogue);
        }
        if let (Some(records), Some(moments)) = (records, moments) {
            records.finish(self.weights.outputs, segments, moments);
        }
    }

    /// Whether each block packs its own input, or the input is packed once for all.
    fn packs_in_blocks(&self) -> bool {
        self.weights.panels() * self.weights.kernel.iter().product::<usize>() * self.input.groups() * LANES
            <= MAX_SELF_PACKING_WEIGHTS
            || self.weights.is_pointwise()
    }

    /// The number of floats of a packed input that all blocks share; 0 if there is none.
    pub(super) fn shared_floats(&self) -> usize {
        if self.packs_in_blocks() {
            return 0;
        }
        let [depth, height, width] = self.out;
        let planes = (depth - 1) * self.stride[0] + self.kernel[0];
        let sample = planes * self.region(planes, &(0..height), &(0..width)).plane_step();
        sample * (MAX_SHARED_INPUT / sample).clamp(1, self.batch)
    }

    /// The tile for the largest group of panels.
    fn tile(&self) -> TileSize {
        if self.weights.amx.is_some() {
            // Two groups of positions are computed together, if need be of two rows.
            let rows = if self.block_columns.div_ceil(LANES) % 2 == 1 { 2 } else { 1 };
            return TileSize { panels: self.weights.panels().min(2), rows, columns: LANES, taps: 1 };
        }
        let panels = if self.is_transposed() { self.weights.upsampling[2] } else { self.weights.panels() };
        let taps = if self.uses_winograd { 1 } else { self.weights.taps };
        choose_tile(self.weights.lanes, self.positions(self.block_columns), panels, taps)
    }

    /// The positions of the micro-kernels in a row of some columns.
    fn positions(&self, columns: usize) -> usize {
        if self.uses_winograd { columns.div_ceil(TILE) } else { columns }
    }

    fn is_transposed(&self) -> bool {
        self.weights.upsampling != [1; 3]
    }

    /// The number of panels in a group: as many as a tile has, or those of neighbouring output columns.
    fn group_panels(&self) -> usize {
        if self.is_transposed() { self.weights.upsampling[2] } else { self.tile().panels }
    }

    fn groups(&self) -> usize {
        self.weights.panels().div_ceil(self.group_panels())
    }

    fn group(&self, index: usize) -> PanelGroup {
        let panels = Parts { length: self.weights.panels(), part: self.group_panels() }.range(index);
        if !self.is_transposed() {
            return PanelGroup { panels: panels.clone(), out_panels: panels, offset: [0; 2] };
        }
        let [depth, height, _] = self.weights.upsampling;
        let (out_panel, position) = (index / (depth * height), index % (depth * height));
        PanelGroup { panels, out_panels: out_panel..out_panel + 1, offset: [position / height, position % height] }
    }

    /// The padded input that some outputs read, with room for `planes` planes.
    fn region(&self, planes: usize, rows: &Range<usize>, columns: &Range<usize>) -> Region {
        let (_, amx) = self.weights.input_format();
        let (layout, padded_columns) = if self.uses_winograd {
            (ColumnLayout::Winograd, columns.len().next_multiple_of(TILE) + HALO)
        } else if amx.is_some() {
            (ColumnLayout::Aligned(self.stride[2]), self.input.size[2].min(columns.len() * self.stride[2]))
        } else {
            (ColumnLayout::Phases(self.stride[2]), (columns.len() - 1) * self.stride[2] + self.kernel[2])
        };
        Region {
            planes,
            first_row: rows.start * self.stride[1],
            rows: (rows.len() - 1) * self.stride[1] + self.kernel[1],
            first_column: columns.start * self.stride[2],
            columns: padded_columns,
            groups: self.input.groups(),
            layout,
            amx,
        }
    }

    /// Each block packs its own input, a few planes at a time in a ring, so that it never leaves the core's cache.
    fn run_self_packing(&self, epilogue: &Epilogue<'_>) {
        let [depth, height, width] = self.out;
        let columns = Parts { length: width, part: self.block_columns };
        let row_cells = self.region(1, &(0..1), &(0..self.block_columns)).row_step() * self.kernel[0];
        let [_, stride, _] = self.stride;
        let halo = self.kernel[1] - 1;
        let max_rows = (MAX_BLOCK_INPUT / row_cells).saturating_sub(halo) / stride;
        // Rows at the edge of a block are packed twice, so blocks of very few rows are not worth it.
        let max_rows = max_rows.max(4 * self.kernel[1].min(2)).min(height);
        let wanted = BLOCKS_PER_THREAD * rayon::current_num_threads();
        let fixed = self.batch * columns.count();
        let mut row_blocks = height.div_ceil(max_rows);
        while fixed * row_blocks * depth < wanted && row_blocks < height {
            row_blocks += 1;
        }
        let rows = Parts { length: height, part: height.div_ceil(row_blocks) };
        let plane_blocks = wanted.div_ceil(fixed * rows.count()).clamp(1, depth);
        let planes = Parts { length: depth, part: depth.div_ceil(plane_blocks) };
        let blocks = self.batch * rows.count() * columns.count() * planes.count();
        (0..blocks).into_par_iter().with_max_len(1).for_each(|index| {
            let (index, plane) = (index / planes.count(), index % planes.count());
            let (index, column) = (index / columns.count(), index % columns.count());
            let (sample, row) = (index / rows.count(), index % rows.count());
            self.run_ring(
                &Block {
                    sample,
                    groups: 0..self.groups(),
                    planes: planes.range(plane),
                    rows: rows.range(row),
                    columns: columns.range(column),
                },
                epilogue,
            );
        });
    }

    /// Computes a block, packing its input plane by plane.
    fn run_ring(&self, block: &Block, epilogue: &Epilogue<'_>) {
        let ring = self.kernel[0];
        let region = self.region(ring, &block.rows, &block.columns);
        let plane_cells = region.plane_step();
        let mut scratch = Scratch::take(ring * plane_cells + region.temporary(self.input.format));
        let (cells, temporary) = scratch.split_at_mut(ring * plane_cells);
        let mut packed = block.planes.start * self.stride[0];
        for d in block.planes.clone() {
            packed = packed.max(d * self.stride[0]);
            while packed < d * self.stride[0] + self.kernel[0] {
                // Planes of padding are not read.
                if !(self.input.format.padding_is_zero() && self.input.is_padding(0, packed)) {
                    let target = &mut cells[packed % ring * plane_cells..][..plane_cells];
                    let instruction_set = self.weights.instruction_set;
                    let at = [block.sample, packed, 0];
                    self.input.pack(instruction_set, &region, at, target, temporary);
                }
                packed += 1;
            }
            let next = (d + 1 < block.planes.end).then(|| {
                let steps = block.groups.len()
                    * block.rows.len()
                    * self.positions(block.columns.len()).div_ceil(self.tile().columns);
                PlanePrefetch::new(self.input, &region, block.sample, packed, steps)
            });
            let mut view = View { region: &region, cells, next };
            for group in block.groups.clone() {
                self.run_plane(block, &self.group(group), d, &mut view, epilogue);
            }
        }
    }

    /// The input is packed once; the blocks are ordered with the panels outermost, so that the weights of a panel stay in the
    /// cache.
    fn run_shared(&self, epilogue: &Epilogue<'_>) {
        let [depth, height, width] = self.out;
        let padded_planes = (depth - 1) * self.stride[0] + self.kernel[0];
        let region = self.region(padded_planes, &(0..height), &(0..width));
        let sample_cells = padded_planes * region.plane_step();
        let pass = (MAX_SHARED_INPUT / sample_cells).clamp(1, self.batch);
        let mut cells = Scratch::take(pass * sample_cells);
        let size = self.tile();
        for first in (0..self.batch).step_by(pass) {
            let samples = pass.min(self.batch - first);
            self.pack_samples(first, samples, &region, &mut cells);
            let cells = &cells[..];
            let row_cells = region.row_step() * self.kernel[0] * self.stride[1];
            let mut rows = (MAX_BLOCK_ROWS / row_cells).max(size.rows * 2).next_multiple_of(size.rows);
            rows = rows.min(height);
            let groups = self.groups();
            // With few planes, the rows must provide the parallelism.
            while samples * groups * depth * height.div_ceil(rows) < MIN_BLOCKS && rows > size.rows {
                rows = (rows / 2).next_multiple_of(size.rows);
            }
            let rows = Parts { length: height, part: rows };
            let wanted = MIN_BLOCKS.div_ceil(samples * groups * rows.count()).clamp(1, depth);
            let planes = Parts { length: depth, part: depth.div_ceil(wanted) };
            let columns = Parts { length: width, part: self.block_columns };
            let blocks = groups * samples * planes.count() * rows.count() * columns.count();
            (0..blocks).into_par_iter().with_max_len(1).for_each(|index| {
                let (index, column) = (index / columns.count(), index % columns.count());
                let (index, row) = (index / rows.count(), index % rows.count());
                let (index, plane) = (index / planes.count(), index % planes.count());
                let (group, sample) = (index / samples, index % samples);
                let block = Block {
                    sample: first + sample,
                    groups: group..group + 1,
                    planes: planes.range(plane),
                    rows: rows.range(row),
                    columns: columns.range(column),
                };
                let cells = &cells[sample * sample_cells..][..sample_cells];
                let mut view = View { region: &region, cells, next: None };
                for d in block.planes.clone() {
                    self.run_plane(&block, &self.group(group), d, &mut view, epilogue);
                }
            });
        }
    }

    /// Packs whole samples.
    fn pack_samples(&self, first: usize, samples: usize, region: &Region, cells: &mut [f32]) {
        let tasks = samples * region.planes;
        // A task is a whole plane if there are many planes, and otherwise a few rows of one plane.
        let rows = if tasks >= 16 { region.rows } else { region.rows.div_ceil(16_usize.div_ceil(tasks)) };
        let temporary = region.temporary(self.input.format);
        let planes = cells.par_chunks_mut(region.plane_step()).take(tasks).enumerate();
        planes.for_each(|(plane, target)| {
            let (sample, d) = (first + plane / region.planes, plane % region.planes);
            target.par_chunks_mut(rows * region.row_step()).enumerate().for_each(|(piece, target)| {
                let mut temporary = Scratch::take(temporary);
                let instruction_set = self.weights.instruction_set;
                let at = [sample, d, piece * rows];
                self.input.pack(instruction_set, region, at, target, &mut temporary);
            });
        });
    }

    /// The number of columns that go through the epilogue together: whole tiles.
    fn run_columns(&self, size: TileSize) -> usize {
        (MAX_COLUMNS / self.weights.upsampling[2] / size.columns).max(1) * size.columns
    }

    /// Some columns of a block, from plane `d` and row `h` on for a number of rows.
    fn run_of(&self, block: &Block, group: &PanelGroup, [d, h, rows]: [usize; 3], columns: Range<usize>) -> Run {
        let [depth_factor, height_factor, width_factor] = self.weights.upsampling;
        let [_, height, width] = self.out;
        let out_row =
            (d * depth_factor + group.offset[0]) * height * height_factor + h * height_factor + group.offset[1];
        let width = width * width_factor;
        let per_row = self.out[2].div_ceil(self.block_columns);
        let column = block.columns.start + columns.start;
        Run {
            sample: block.sample,
            first_panel: group.out_panels.start,
            panels: group.out_panels.len(),
            rows,
            columns: columns.len() * width_factor,
            offset: out_row * width + column * width_factor,
            row_step: height_factor * width,
            segment: out_row * per_row + column / self.block_columns,
            segment_step: height_factor * per_row,
            is_last: columns.end == block.columns.len(),
        }
    }

    /// Computes the outputs of a group of panels for the rows and columns of a block in one plane.
    fn run_plane(
        &self,
        block: &Block,
        group: &PanelGroup,
        d: usize,
        view: &mut View<'_>,
        epilogue: &Epilogue<'_>,
    ) {
        #[cfg(target_arch = "x86_64")]
        if let Some(weights) = &self.weights.amx {
            return self.run_plane_amx(weights, block, group, d, view, epilogue);
        }
        if self.uses_winograd {
            return self.run_plane_winograd(block, group, d, view, epilogue);
        }
        let (region, cells) = (view.region, view.cells);
        let size = self.tile();
        let size = TileSize { panels: size.panels.min(group.panels.len()), ..size };
        let width = block.columns.len();
        let taps = TapRows { execution: self, d, region };
        let [_, _, width_factor] = self.weights.upsampling;
        let panel_step = self.weights.panel_cells();
        let mut sums = Sums([0.0; MAX_SUMS * LANES]);
        let mut moments = [SegmentSums::EMPTY; MAX_ROWS];
        let mut segments = [TapSegment::default(); MAX_TAP_ROWS];
        let run_columns = self.run_columns(size);
        let micro_kernels = MicroKernels::new(self.weights, size, width);
        let mut h = block.rows.start;
        while h < block.rows.end {
            let rows = size.rows.min(1 << (block.rows.end - h).ilog2());
            let segments = taps.segments(h, rows, &mut segments);
            for first in (0..width).step_by(run_columns) {
                let columns = run_columns.min(width - first);
                let run = self.run_of(block, group, [d, h, rows], first..first + columns);
                let row_sums = columns * width_factor * LANES;
                // The panels of a transposed convolution are neighbouring columns of the output.
                let (sums_panel, sums_column) =
                    if self.is_transposed() { (LANES, width_factor * LANES) } else { (rows * row_sums, LANES) };
                let tiles = (first..first + columns).step_by(size.columns);
                for (w, panel) in
                    tiles.flat_map(|w| group.panels.clone().step_by(size.panels).map(move |panel| (w, panel)))
                {
                    let tile_columns = size.columns.min(first + columns - w);
                    // The test `every_tile_size_has_a_micro_kernel` proves that none is missing.
                    let Some(micro_kernel) = micro_kernels.get(rows, tile_columns) else { continue };
                    epilogue.prefetch(run, (w - first) * width_factor, tile_columns * width_factor);
                    if let Some(next) = &mut view.next {
                        next.step();
                    }
                    let row = h * self.stride[1] - region.first_row;
                    let column = block.columns.start + w - region.first_column / self.stride[2];
                    let at = (panel - group.panels.start) * sums_panel + (w - first) * sums_column;
                    let args = MicroKernelArgs {
                        segments,
                        channels: region.groups,
                        channel_step: region.group_step(),
                        input: cells[row * region.row_step() + column..].as_ptr(),
                        row_step: region.row_step() * self.stride[1],
                        weights: self.weights.cells[panel * panel_step..].as_ptr(),
                        panel_step,
                        initial: self.weights.initial[panel * LANES..].as_ptr(),
                        sums: sums.0[at..].as_mut_ptr(),
                        sums_panel,
                        sums_row: row_sums,
                        sums_column,
                    };
                    #[expect(unsafe_code, reason = "the micro-kernel reads and writes through pointers")]
                    // SAFETY: the micro-kernel uses the detected instruction set. The region holds every row and plane that the
                    // taps of these outputs read, and a packed row extends to the last tap of the last output. `weights` and
                    // `initial` hold every panel of the tile. `sums` has room for the panels, rows and columns of a run: either
                    // one row of at most `MAX_COLUMNS` columns, or a tile of several rows with at most 24 positions.
                    unsafe {
                        micro_kernel(&args);
                    }
                }
                #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
                // SAFETY: the rows, columns and panels of a block lie within the output, and each belongs to exactly one block.
                unsafe {
                    epilogue.write(run, &mut sums.0, &mut moments);
                }
            }
            h += rows;
        }
    }
}
