//! Weights packed as tiles for AMX.
#![cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86-64 has AMX"))]

use rayon::prelude::*;

use super::ConvKernel;
use crate::amx::{Amx, EDGE};
use crate::inference::pack::CellFormat;
use crate::scratch::{AlignedFloats, LANES};

/// The floats of a tile.
const TILE: usize = EDGE * EDGE;

/// The largest number of cell rows of a tile of inputs.
const MAX_DEPTH: usize = EDGE;

/// Weights as tiles.
///
/// The sums of a tile belong to sixteen neighbouring positions of the *input*, so that every tile begins at a cache line: the taps along W
/// are computed as output channels of their own, and the epilogue adds them with the shift of each. The *cell rows* that a sum runs over are
/// the taps along H times the channel groups, which follow each other in the packed input. They are cut into tiles of equal depth; the last
/// may begin before the end of the one before it, and has zeros for the rows that both have.
#[derive(Debug, Clone)]
pub(in crate::inference) struct AmxWeights {
    pub(in crate::inference) amx: Amx,
    /// The taps along W.
    pub(in crate::inference) taps: usize,
    /// The number of cell rows of one plane, of a tile, and the number of tiles of one plane.
    pub(in crate::inference) cell_rows: usize,
    pub(in crate::inference) depth: usize,
    pub(in crate::inference) tiles: usize,
    /// `[panel][tap along W][plane][tile][16 channels][16 cells]`.
    pub(in crate::inference) cells: AlignedFloats,
    /// What zero padding adds to the sums of a tap along W, `[panel][tap along W][16]`: its zero point times the weights.
    pub(in crate::inference) edges: AlignedFloats,
}

impl AmxWeights {
    /// Packs weights. `cell` gives the cell of an output channel, of the input channels of a group and of a tap, `edge` what a padded column
    /// adds to the sum of an output channel by the taps along W of one number.
    pub(in crate::inference) fn new(
        amx: Amx,
        kernel: ConvKernel,
        format: CellFormat,
        cell: impl Fn(usize, &[usize], usize) -> u32 + Sync,
        edge: impl Fn(usize, usize) -> u32,
    ) -> Self {
        let members = format.channels();
        let groups = kernel.inputs.div_ceil(members);
        let [planes, rows, taps] = kernel.kernel;
        let cell_rows = rows * groups;
        let tiles = cell_rows.div_ceil(MAX_DEPTH);
        let depth = cell_rows.div_ceil(tiles);
        let panels = kernel.outputs.div_ceil(LANES);
        let panel_cells = taps * planes * tiles * TILE;
        let mut cells = AlignedFloats::zeros(panels * panel_cells);
        // Where the tile of a cell row begins, plus its row in the tile.
        let places: Vec<usize> = (0..cell_rows)
            .map(|row| row / depth * TILE + row - (row / depth * depth).min(cell_rows - depth))
            .collect();
        cells.par_chunks_exact_mut(panel_cells).enumerate().for_each(|(panel, cells)| {
            let outputs = panel * LANES..kernel.outputs.min((panel + 1) * LANES);
            let mut channels = [0; 4];
            for (output, group) in outputs.flat_map(|output| (0..groups).map(move |group| (output, group))) {
                let count = members.min(kernel.inputs - group * members);
                for (member, channel) in channels[..count].iter_mut().enumerate() {
                    *channel = group * members + member;
                }
                // Weights of neighbouring taps are neighbours in memory.
                for (plane, row) in (0..planes).flat_map(|plane| (0..rows).map(move |row| (plane, row))) {
                    let place = places[row * groups + group] + output % LANES * EDGE;
                    for tap in 0..taps {
                        let of_kernel = (plane * rows + row) * taps + tap;
                        cells[(tap * planes + plane) * tiles * TILE + place] =
                            f32::from_bits(cell(output, &channels[..count], of_kernel));
                    }
                }
            }
        });
        let mut edges = AlignedFloats::zeros(panels * taps * LANES);
        for (output, tap) in (0..kernel.outputs).flat_map(|output| (0..taps).map(move |tap| (output, tap))) {
            edges[(output / LANES * taps + tap) * LANES + output % LANES] = f32::from_bits(edge(output, tap));
        }
        Self { amx, taps, cell_rows, depth, tiles, cells, edges }
    }

    /// Floats from the weights of one panel and tap to the next, for a kernel of some planes.
    pub(in crate::inference) fn panel_step(&self, planes: usize) -> usize {
        planes * self.tiles * TILE
    }

    /// The bytes of the tiles of one plane.
    pub(in crate::inference) fn plane_bytes(&self) -> usize {
        self.tiles * TILE * size_of::<f32>()
    }
}
