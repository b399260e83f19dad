//! The outputs of a plane by Winograd's filtering: a sum for each frequency, then four columns from six sums.

use super::tap_rows::{MAX_TAP_ROWS, TapRows};
use super::{Block, Execution, PanelGroup, View};
use crate::conv::micro_kernel::{MicroKernelArgs, TapSegment, TileSize};
use crate::inference::epilogue::{Epilogue, MAX_COLUMNS, MAX_ROWS, MAX_SUMS, Sums};
use crate::inference::moments::SegmentSums;
use crate::inference::weights::MicroKernels;
use crate::inference::winograd::{FREQUENCIES, TILE, outputs};
use crate::scratch::LANES;
use crate::simd::{Kernel, Simd, dispatch_on};

impl Execution<'_> {
    /// As [`Execution::run_plane`].
    pub(super) fn run_plane_winograd(
        &self,
        block: &Block,
        group: &PanelGroup,
        d: usize,
        view: &mut View<'_>,
        epilogue: &Epilogue<'_>,
    ) {
        let (region, cells, weights) = (view.region, view.cells, self.weights.winograd_cells());
        let size = self.tile();
        let size = TileSize { panels: size.panels.min(group.panels.len()), ..size };
        let width = block.columns.len();
        let taps = TapRows { execution: self, d, region };
        let panel_step = weights.len() / self.weights.panels();
        let frequency_weights = region.groups * LANES;
        let mut frequencies = Sums([0.0; MAX_SUMS * LANES]);
        let mut sums = Sums([0.0; MAX_SUMS * LANES]);
        let mut moments = [SegmentSums::EMPTY; MAX_ROWS];
        let mut segments = [TapSegment::default(); MAX_TAP_ROWS];
        let micro_kernels = MicroKernels::new(self.weights, size, width.div_ceil(TILE));
        let max_tiles = (MAX_SUMS / FREQUENCIES / size.panels).min(MAX_COLUMNS / TILE);
        let run_columns = (max_tiles / size.columns).max(1) * size.columns * TILE;
        let mut h = block.rows.start;
        while h < block.rows.end {
            let rows = size.rows.min(1 << (block.rows.end - h).ilog2());
            let segments = taps.segments(h, rows, &mut segments);
            for first in (0..width).step_by(run_columns) {
                let columns = run_columns.min(width - first);
                let tiles = columns.div_ceil(TILE);
                let run = self.run_of(block, group, [d, h, rows], first..first + columns);
                let per_frequency = size.panels * rows * tiles * LANES;
                for frequency in 0..FREQUENCIES {
                    for tile in (0..tiles).step_by(size.columns) {
                        let tile_columns = size.columns.min(tiles - tile);
                        // The test `every_tile_size_has_a_micro_kernel` proves that none is missing.
                        let Some(micro_kernel) = micro_kernels.get(rows, tile_columns) else { continue };
                        if frequency == 0 {
                            let end = columns.min((tile + tile_columns) * TILE);
                            epilogue.prefetch(run, tile * TILE, end - tile * TILE);
                            if let Some(next) = &mut view.next {
                                next.step();
                            }
                        }
                        let row = h - region.first_row;
                        let column = (block.columns.start + first - region.first_column) / TILE + tile;
                        let input = row * region.row_step() + frequency * region.phase() + column;
                        let args = MicroKernelArgs {
                            segments,
                            channels: region.groups,
                            channel_step: region.group_step(),
                            input: cells[input..].as_ptr(),
                            row_step: region.row_step(),
                            weights: weights[group.panels.start * panel_step + frequency * frequency_weights..]
                                .as_ptr(),
                            panel_step,
                            initial: NO_BIAS.0.as_ptr(),
                            sums: frequencies.0[frequency * per_frequency + tile * LANES..].as_mut_ptr(),
                            sums_panel: rows * tiles * LANES,
                            sums_row: tiles * LANES,
                            sums_column: LANES,
                        };
                        #[expect(unsafe_code, reason = "the micro-kernel reads and writes through pointers")]
                        // SAFETY: the micro-kernel uses the detected instruction set. The region holds every row and plane that the
                        // taps of these outputs read, with a value of each frequency for every tile. `weights` holds every panel
                        // of the tile, and `NO_BIAS` two panels. `frequencies` has room for a value of each frequency for the
                        // panels, rows and tiles of a run: either one row of at most `max_tiles` tiles, or a micro-kernel's tile of
                        // several rows with at most 24 positions.
                        unsafe {
                            micro_kernel(&args);
                        }
                    }
                }
                dispatch_on(
                    self.weights.instruction_set,
                    Outputs {
                        frequencies: &frequencies.0[..FREQUENCIES * per_frequency],
                        bias: &self.weights.initial[group.panels.start * LANES..],
                        rows,
                        tiles,
                        columns,
                        sums: &mut sums.0,
                    },
                );
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

/// The biases are added to the outputs, not to the frequencies.
static NO_BIAS: Zeros = Zeros([0.0; 2 * LANES]);

#[repr(align(64))]
struct Zeros([f32; 2 * LANES]);

/// Turns the frequencies of a run, `[frequency][panel][row][tile][16]`, into its sums, `[panel][row][column][16]`.
struct Outputs<'a> {
    frequencies: &'a [f32],
    /// `[panel][16]`
    bias: &'a [f32],
    rows: usize,
    tiles: usize,
    columns: usize,
    sums: &'a mut [f32],
}

impl Kernel for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { frequencies, bias, rows, tiles, columns, sums } = self;
        let (frequencies, _) = frequencies.as_chunks::<LANES>();
        let positions = frequencies.len() / FREQUENCIES;
        let (bias, _) = bias.as_chunks::<LANES>();
        let (sums, _) = sums.as_chunks_mut::<LANES>();
        for (index, sums) in sums.chunks_exact_mut(columns).take(positions / tiles).enumerate() {
            let bias = &bias[index / rows];
            for (tile, sums) in sums.chunks_mut(TILE).enumerate() {
                let of = |frequency: usize| &frequencies[frequency * positions + index * tiles + tile];
                let found = outputs([0, 1, 2, 3, 4, 5].map(of), bias);
                if let Some(sums) = sums.first_chunk_mut::<TILE>() {
                    *sums = found;
                } else {
                    for (sum, found) in sums.iter_mut().zip(found) {
                        *sum = found;
                    }
                }
            }
        }
    }
}
