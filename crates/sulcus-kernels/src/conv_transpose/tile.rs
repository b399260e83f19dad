//! The register tile of the matrix product, and the packed panels that it reads.
//!
//! A *panel* is [`TILE_REGISTERS`] registers of neighbouring columns for all rows of an operand, `[rows][TILE_REGISTERS]`.

use std::cell::Cell;

use rayon::prelude::*;

use crate::simd::{Kernel, Simd, dispatch};

/// The width of a tile in registers.
pub(super) const TILE_REGISTERS: usize = 3;
/// A block has at most this many panels; several panels make the runs in which rows are read and written longer.
const MAX_BLOCK_PANELS: usize = 24;
/// The panels of a block have at most this many bytes, so that they fit in the L2 cache.
const MAX_BLOCK_BYTES: usize = 640 << 10;

thread_local! {
    /// The panel buffer of the last call, so that a step does not request the same pages from the system again.
    static PANEL_BUFFER: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Takes a buffer of at least `len` values of unspecified content; [`return_panel_buffer`] gives it back. The buffer is not
/// passed to a closure, because a closure would be compiled without the kernel's instruction set.
pub(super) fn take_panel_buffer(len: usize) -> Vec<f32> {
    let mut values = PANEL_BUFFER.take();
    values.resize(values.len().max(len), 0.0);
    values
}

/// Gives the buffer of [`take_panel_buffer`] back to the thread.
pub(super) fn return_panel_buffer(buffer: Vec<f32>) {
    PANEL_BUFFER.set(buffer);
}

/// The number of rows of a tile: 8 with 32 registers, 4 with 16.
struct TileHeight;

impl Kernel for TileHeight {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        tile_height::<S>()
    }
}

/// The number of rows of a tile: 8 with 32 registers, 4 with 16.
#[inline(always)]
pub(super) fn tile_height<S: Simd>() -> usize {
    if S::HAS_32_REGISTERS { 8 } else { 4 }
}

/// Packs pairs of weights in the order in which the tiles read them: `[rows / height, depth, height]`.
pub(super) fn pack_weights(rows: usize, depth: usize, value: impl Fn(usize, usize) -> u64 + Sync) -> Vec<u64> {
    let height = dispatch(TileHeight);
    let mut packed = vec![0; rows.next_multiple_of(height) * depth];
    packed.par_chunks_exact_mut(height * depth).enumerate().for_each(|(tile, packed)| {
        for (k, packed) in packed.chunks_exact_mut(height).enumerate() {
            for (row, packed) in (tile * height..rows).zip(packed) {
                *packed = value(row, k);
            }
        }
    });
    packed
}

/// The number of panels of `rows` rows per block.
pub(super) fn panels_per_block(rows: usize, width: usize) -> usize {
    (MAX_BLOCK_BYTES / (rows * width * size_of::<f32>())).clamp(2, MAX_BLOCK_PANELS)
}

/// `Σₖ weights[k] · panel[k]` for HEIGHT rows by [`TILE_REGISTERS`] registers, added to `sums`.
#[inline(always)]
pub(super) fn multiply_tile<S: Simd, const HEIGHT: usize>(
    simd: S,
    weights: &[u64],
    panel: &[S::Chunk],
    mut sums: [[S::Vector; TILE_REGISTERS]; HEIGHT],
) -> [[S::Vector; TILE_REGISTERS]; HEIGHT] {
    let (weights, _) = weights.as_chunks::<HEIGHT>();
    let (panel, _) = panel.as_chunks::<TILE_REGISTERS>();
    for (weights, chunks) in weights.iter().zip(panel) {
        let columns: [S::Vector; TILE_REGISTERS] = std::array::from_fn(|v| simd.load(&chunks[v]));
        for row in 0..HEIGHT {
            let weight = simd.splat_pair(weights[row]);
            for v in 0..TILE_REGISTERS {
                sums[row][v] = simd.fma(weight, columns[v], sums[row][v]);
            }
        }
    }
    sums
}

/// Fills the columns of a panel's row: each voxel is repeated `step` times.
#[inline(always)]
pub(super) fn repeat_voxels(x: &[f32], step: usize, row: &mut [f32]) {
    if step == 2 {
        let (pairs, _) = row.as_chunks_mut::<2>();
        for (to, &from) in pairs.iter_mut().zip(x) {
            *to = [from; 2];
        }
    } else {
        for (to, &from) in row.iter_mut().zip(x) {
            *to = from;
        }
    }
}

/// Stores a tile at the columns of a panel; `out` is `[HEIGHT, block_len]`.
#[inline(always)]
pub(super) fn store_tile<S: Simd, const HEIGHT: usize>(
    simd: S,
    sums: &[[S::Vector; TILE_REGISTERS]; HEIGHT],
    out: &mut [f32],
    panel: usize,
    block_len: usize,
) {
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(block_len)) {
        let (chunks, _) =
            simd.chunks_mut(&mut out[panel * TILE_REGISTERS * S::LANES..][..TILE_REGISTERS * S::LANES]);
        for (&sum, chunk) in sums.iter().zip(chunks) {
            simd.store(sum, chunk);
        }
    }
}
