//! The outputs of a plane with AMX: sums of tiles for each tap along W, which the epilogue adds.

use super::{Block, Execution, PanelGroup, View};
use crate::amx::{EDGE, Operands, Roles, TileArgs, TileSegment, Tiles};
use crate::inference::epilogue::{Epilogue, MAX_TAPS, PlanarMoments, PlanarSums};
use crate::inference::pack::{CellFormat, Region};
use crate::inference::weights::AmxWeights;
use crate::scratch::{LANES, Scratch};

/// The largest number of output panels that are computed together, and of panels of the weights for them.
const MAX_PANELS: usize = 2;
const MAX_WEIGHT_PANELS: usize = MAX_PANELS * MAX_TAPS;

/// The largest number of rows that are computed together.
const MAX_ROWS: usize = 2;

/// Up to this many sums are computed before they go through the epilogue, so that they stay in the L1 cache.
const MAX_SUMS: usize = 8 << 10;

/// The largest number of groups of positions of a run.
const MAX_POSITIONS: usize = 32;

/// The largest number of segments: up to two for each of seven planes.
const MAX_SEGMENTS: usize = 14;

/// The panels of the weights that read the same phase of the input: the number in the weights, and among those of the group.
struct PanelSet {
    phase: usize,
    panels: [[usize; 2]; MAX_WEIGHT_PANELS],
    count: usize,
}

/// Where the sums of a run are: `[row][panel][channel][column]`, with columns of zero padding on both sides.
#[derive(Clone, Copy)]
struct SumsLayout {
    panels: usize,
    /// Floats from one channel to the next.
    pitch: usize,
    /// The columns before the first.
    margin: usize,
}

impl SumsLayout {
    /// The offset of the first sum of a row and a panel.
    fn at(self, row: usize, panel: usize) -> usize {
        (row * self.panels + panel) * LANES * self.pitch + self.margin
    }
}

/// A run of groups of sixteen positions in some rows, and the sums of a row that they complete.
struct TileRun {
    h: usize,
    rows: usize,
    first: usize,
    count: usize,
}

impl Execution<'_> {
    /// As [`Execution::run_plane`].
    pub(super) fn run_plane_amx(
        &self,
        weights: &AmxWeights,
        block: &Block,
        group: &PanelGroup,
        d: usize,
        view: &mut View<'_>,
        epilogue: &Epilogue<'_>,
    ) {
        let sets = [0, 1].map(|phase| self.panel_set(weights, group, phase));
        let sets = &sets[..self.stride[2]];
        let panels = group.panels.len() * weights.taps;
        let roles = if sets.len() == 1 && panels == 3 { Roles::Triples } else { Roles::Pairs };
        let tiles = weights.amx.configure(weights.depth, roles);
        let mut segments = [TileSegment::default(); MAX_SEGMENTS];
        let segments = self.tile_segments(weights, d, view.region, &mut segments);

        let width = block.columns.len();
        let groups = width.div_ceil(EDGE);
        let max_rows = self.tile().rows;
        let run_groups = (MAX_SUMS / (max_rows * panels * LANES * EDGE)).clamp(1, MAX_POSITIONS / max_rows);
        let run_groups = if run_groups < groups { (run_groups / 2 * 2).max(1) } else { groups };
        let margin = if weights.taps > 1 { EDGE } else { 0 };
        let layout =
            SumsLayout { panels, pitch: (((run_groups * EDGE + 2 * margin) / LANES) | 1) * LANES, margin };
        let mut sums = Scratch::take(max_rows * panels * LANES * layout.pitch + EDGE);
        let mut moments = [const { PlanarMoments::EMPTY }; MAX_ROWS * MAX_PANELS];
        let shifts = self.tap_shifts(weights);
        let ahead = shifts[weights.taps - 1].max(0).cast_unsigned();

        let mut h = block.rows.start;
        while h < block.rows.end {
            let rows = max_rows.min(block.rows.end - h);
            for first in (0..groups).step_by(run_groups) {
                let run = TileRun { h, rows, first, count: run_groups.min(groups - first) };
                let is_last = first + run.count == groups;
                let from = if first == 0 { 0 } else { first * EDGE - ahead };
                let to = if is_last { width } else { (first + run.count) * EDGE - ahead };
                let out = |row: usize| self.run_of(block, group, [d, h + row, 1], from..to);
                for row in 0..rows {
                    let out = out(row);
                    epilogue.prefetch(out, 0, out.columns);
                }
                if let Some(next) = &mut view.next {
                    (0..rows * run.count).for_each(|_| next.step());
                }
                if margin > 0 && first > 0 {
                    carry_columns(&mut sums, rows, layout, run_groups);
                }
                self.multiply_tiles(&tiles, weights, (sets, segments), &run, view, (&mut sums, layout));
                if margin > 0 {
                    self.fill_edges(weights, group, &mut sums, layout, (&run, is_last.then_some(width)));
                }
                for row in 0..rows {
                    let out = out(row);
                    for panel in 0..out.panels {
                        let taps = if self.is_transposed() { panels } else { weights.taps };
                        let mut source = PlanarSums::new(layout.pitch, self.is_transposed());
                        for (tap, shift) in shifts[..taps].iter().enumerate() {
                            let column = from.cast_signed() - (first * EDGE).cast_signed() + shift;
                            let at = layout.at(row, panel * taps + tap).cast_signed() + column;
                            source.push(&sums[at.cast_unsigned()..]);
                        }
                        let moments = &mut moments[row * MAX_PANELS + panel];
                        #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
                        // SAFETY: the rows, columns and panels of a block lie within the output, and each belongs to exactly one
                        // block. The sums of each tap reach from the first to the last column of the run, for sixteen channels.
                        unsafe {
                            epilogue.write_planar(weights.amx, out, panel, &source, moments);
                        }
                    }
                }
            }
            h += rows;
        }
    }

    /// By how many columns the sums of each tap are ahead of the outputs that they belong to.
    fn tap_shifts(&self, weights: &AmxWeights) -> [isize; MAX_TAPS] {
        let padding = (weights.taps / 2).cast_signed();
        std::array::from_fn(|tap| {
            let tap = if tap < weights.taps { tap.cast_signed() } else { padding };
            (tap - padding).div_euclid(self.stride[2].cast_signed())
        })
    }

    /// The panels of a group whose taps read a phase of the input.
    fn panel_set(&self, weights: &AmxWeights, group: &PanelGroup, phase: usize) -> PanelSet {
        let (taps, stride) = (weights.taps, self.stride[2]);
        let mut set = PanelSet { phase, panels: [[0; 2]; MAX_WEIGHT_PANELS], count: 0 };
        for local in 0..group.panels.len() * taps {
            // The padding is added to keep the difference positive: it is a multiple of the stride, or that is 1.
            let column = local % taps + taps / 2 * (2 * stride - 1);
            if column % stride == phase {
                set.panels[set.count] = [group.panels.start * taps + local, local];
                set.count += 1;
            }
        }
        set
    }

    /// The tiles of the planes that contribute to the outputs of a plane.
    fn tile_segments<'s>(
        &self,
        weights: &AmxWeights,
        d: usize,
        region: &Region,
        segments: &'s mut [TileSegment; MAX_SEGMENTS],
    ) -> &'s [TileSegment] {
        let AmxWeights { tiles, depth, cell_rows, .. } = *weights;
        let row_bytes = region.group_step() * size_of::<f32>();
        let tile_bytes = weights.plane_bytes() / tiles;
        let mut count = 0;
        for a in 0..self.kernel[0] {
            let plane = d * self.stride[0] + a;
            if self.input.format.padding_is_zero() && self.input.is_padding(0, plane) {
                continue;
            }
            let input = plane % region.planes * region.plane_step() * size_of::<f32>();
            let of_plane = a * weights.plane_bytes();
            // The last tile may begin before the end of the one before it.
            let regular = if tiles * depth == cell_rows { tiles } else { tiles - 1 };
            let last = input + (cell_rows - depth) * row_bytes;
            let parts = [(input, of_plane, regular), (last, of_plane + regular * tile_bytes, tiles - regular)];
            for (input, weights, tiles) in parts.into_iter().filter(|(.., tiles)| *tiles > 0) {
                segments[count] = TileSegment { input, weights, tiles };
                count += 1;
            }
        }
        &segments[..count]
    }

    /// Computes the sums of a run.
    fn multiply_tiles(
        &self,
        tiles: &Tiles,
        weights: &AmxWeights,
        (sets, segments): (&[PanelSet], &[TileSegment]),
        run: &TileRun,
        view: &View<'_>,
        (sums, layout): (&mut [f32], SumsLayout),
    ) {
        let (region, cells) = (view.region, view.cells);
        let operands = match self.input.format {
            CellFormat::Bf16 => Operands::Bf16,
            _ => Operands::Int8,
        };
        let row_bytes = region.group_step() * size_of::<f32>();
        let sums_bytes = layout.pitch * size_of::<f32>();
        let mut args = TileArgs::new(segments, row_bytes, weights.depth * row_bytes, sums_bytes);
        let together = if sets.len() == 1 && sets[0].count == 3 { 3 } else { 2 };
        let panel_step = weights.panel_step(self.kernel[0]);
        for set in sets {
            let mut inputs = [std::ptr::null(); MAX_POSITIONS];
            let mut places = [[0; 2]; MAX_POSITIONS];
            let mut count = 0;
            for row in 0..run.rows {
                let of_region = (run.h + row) * self.stride[1] - region.first_row;
                let line = of_region * region.row_step() + set.phase * region.phase();
                for group in 0..run.count {
                    inputs[count] = cells[line + (run.first + group) * EDGE..].as_ptr();
                    places[count] = [row, group * EDGE];
                    count += 1;
                }
            }
            for panels in set.panels[..set.count].chunks(together) {
                let mut panel_weights = [std::ptr::null(); 3];
                for (pointer, [panel, _]) in panel_weights.iter_mut().zip(panels) {
                    *pointer = weights.cells[panel * panel_step..].as_ptr();
                }
                let base = sums.as_mut_ptr();
                let place = |panel: usize, position: usize| {
                    let [row, column] = places[position];
                    base.wrapping_add(layout.at(row, panels[panel][1]) + column)
                };
                #[expect(unsafe_code, reason = "the kernel reads and writes through pointers")]
                // SAFETY: the region holds every row and plane that the taps of these outputs read, and each phase of a row extends to
                // a multiple of sixteen columns. `weights` has the tiles of every plane of a panel. `sums` has sixteen channels of
                // `pitch` columns for each row and panel, and all groups of the run fit between the margins.
                unsafe {
                    let panel_weights = &panel_weights[..panels.len()];
                    tiles.multiply(operands, &mut args, &inputs[..count], panel_weights, place);
                }
            }
        }
    }

    /// Writes what zero padding adds to the sums, at the beginning and at the end of rows. `width` is the number of columns of a row that
    /// ends with the run.
    fn fill_edges(
        &self,
        weights: &AmxWeights,
        group: &PanelGroup,
        sums: &mut [f32],
        layout: SumsLayout,
        (run, width): (&TileRun, Option<usize>),
    ) {
        let shifts = self.tap_shifts(weights);
        for (row, panel) in (0..run.rows).flat_map(|row| (0..layout.panels).map(move |panel| (row, panel))) {
            let shift = shifts[panel % weights.taps];
            let (first, count) = match width {
                _ if shift < 0 && run.first == 0 => (layout.at(row, panel) - shift.unsigned_abs(), -shift),
                Some(width) if shift > 0 => (layout.at(row, panel) + width - run.first * EDGE, shift),
                _ => continue,
            };
            let edges = &weights.edges[(group.panels.start * weights.taps + panel) * LANES..][..LANES];
            for (edge, channel) in edges.iter().zip(sums[first..].chunks_mut(layout.pitch)) {
                for sum in &mut channel[..count.unsigned_abs()] {
                    *sum = *edge;
                }
            }
        }
    }
}

/// Moves the last columns of a run before the first of the next.
fn carry_columns(sums: &mut [f32], rows: usize, layout: SumsLayout, run_groups: usize) {
    for channel in sums.chunks_exact_mut(layout.pitch).take(rows * layout.panels * LANES) {
        channel.copy_within(run_groups * EDGE..(run_groups + 1) * EDGE, 0);
    }
}
