//! Weights packed as tiles for AMX.
#![cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only x86-64 has AMX"))]

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
        cell: impl Fn(usize, &[usize], usize) -> u32,
        edge: impl Fn(usize, usize) -> u32,
    ) -> Self {
        let members = format.channels();
        let groups = kernel.inputs.div_ceil(members);
        let [planes, rows, taps] = kernel.kernel;
        let cell_rows = rows * groups;
        let tiles = cell_rows.div_ceil(MAX_DEPTH);
        let depth = cell_rows.div_ceil(tiles);
        let panels = kernel.outputs.div_ceil(LANES);
        let mut cells = AlignedFloats::zeros(panels * taps * planes * tiles * TILE);
        let mut edges = AlignedFloats::zeros(panels * taps * LANES);
        let mut channels = [0; 4];
        for (output, tap) in (0..kernel.outputs).flat_map(|output| (0..taps).map(move |tap| (output, tap))) {
            let panel = output / LANES * taps + tap;
            edges[panel * LANES + output % LANES] = f32::from_bits(edge(output, tap));
            for (plane, row) in (0..planes).flat_map(|plane| (0..cell_rows).map(move |row| (plane, row))) {
                let (of_kernel, group) = (row / groups, row % groups);
                let count = members.min(kernel.inputs - group * members);
                for (member, channel) in channels[..count].iter_mut().enumerate() {
                    *channel = group * members + member;
                }
                let tile = row / depth;
                let start = (tile * depth).min(cell_rows - depth);
                let at = ((panel * planes + plane) * tiles + tile) * TILE + output % LANES * EDGE + row - start;
                let tap = (plane * rows + of_kernel) * taps + tap;
                cells[at] = f32::from_bits(cell(output, &channels[..count], tap));
            }
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
