//! The innermost loop of the convolution: sixteen (or thirty-two) outputs for a few neighbouring positions at once.
//!
//! Lanes are output channels, and the input is broadcast. So a tile is any number of positions long, and narrow maps, as
//! they are deep in a U-Net, waste nothing.

use crate::simd::{Array, Instructions, Lanes16};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};

/// What one call of a tile works on. Offsets and steps count floats.
#[derive(Clone, Copy)]
pub(super) struct TileWork {
    /// Products to be summed for each output.
    pub(super) terms: usize,
    /// For each term, where its input lies relative to a position's own.
    pub(super) offsets: *const u32,
    /// The input of the tile's first position.
    pub(super) input: *const f32,
    /// From one row of the tile to the next.
    pub(super) row_step: usize,
    /// Weights `[terms][16]`, one such panel per sixteen outputs.
    pub(super) weights: *const f32,
    /// What the sums start from, `[16]` per sixteen outputs.
    pub(super) start: *const f32,
    /// Where the sums go, `[rows·columns][16]` per sixteen outputs.
    pub(super) sums: *mut f32,
}

/// A tile with its number of rows, columns and panels fixed.
pub(super) type TileFn = unsafe fn(&TileWork);

/// The most positions of a tile over all instruction sets.
pub(super) const MOST_POSITIONS: usize = 24;

/// # Safety
///
/// The processor has `V`'s instructions. `offsets` has `terms` entries; for each of them, each row and each column,
/// `input + offset + row·row_step + column` can be read; `weights` has `PANELS·terms·16` floats, `start` `PANELS·16`, and
/// `sums` `PANELS·ROWS·COLUMNS·16`.
#[inline(always)]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn tile<V: Lanes16, const ROWS: usize, const COLUMNS: usize, const PANELS: usize>(work: &TileWork) {
    let TileWork { terms, offsets, input, row_step, weights, start, sums } = *work;
    // SAFETY: exactly the reads and writes that the caller vouches for.
    unsafe {
        let mut sum = [[[V::splat(0.0); PANELS]; COLUMNS]; ROWS];
        for panel in 0..PANELS {
            let first = V::load(start.add(panel * 16));
            for row in &mut sum {
                for column in row {
                    column[panel] = first;
                }
            }
        }
        let mut weight = weights;
        for term in 0..terms {
            let at = input.add(*offsets.add(term) as usize);
            let mut lanes = [V::splat(0.0); PANELS];
            for (panel, lanes) in lanes.iter_mut().enumerate() {
                *lanes = V::load(weight.add(panel * terms * 16));
            }
            for (row, sum) in sum.iter_mut().enumerate() {
                for (column, sum) in sum.iter_mut().enumerate() {
                    let value = V::splat(*at.add(row * row_step + column));
                    for (sum, lanes) in sum.iter_mut().zip(lanes) {
                        *sum = sum.add_product(lanes, value);
                    }
                }
            }
            weight = weight.add(16);
        }
        for (row, sum) in sum.iter().enumerate() {
            for (column, sum) in sum.iter().enumerate() {
                for (panel, sum) in sum.iter().enumerate() {
                    sum.store(sums.add(((panel * ROWS + row) * COLUMNS + column) * 16));
                }
            }
        }
    }
}

/// # Safety
/// As [`tile`].
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn portable<const ROWS: usize, const COLUMNS: usize, const PANELS: usize>(work: &TileWork) {
    // SAFETY: the caller's promise, handed on.
    unsafe { tile::<Array, ROWS, COLUMNS, PANELS>(work) }
}

/// # Safety
/// As [`tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx2<const ROWS: usize, const COLUMNS: usize, const PANELS: usize>(work: &TileWork) {
    // SAFETY: the caller's promise, handed on.
    unsafe { tile::<Avx2, ROWS, COLUMNS, PANELS>(work) }
}

/// # Safety
/// As [`tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx512<const ROWS: usize, const COLUMNS: usize, const PANELS: usize>(work: &TileWork) {
    // SAFETY: the caller's promise, handed on.
    unsafe { tile::<Avx512, ROWS, COLUMNS, PANELS>(work) }
}

/// The tiles of one instruction set: which panels, rows and columns there are.
macro_rules! tiles {
    ($function:ident, $panels:expr, $rows:expr, $columns:expr; $($p:literal x $r:literal: $($c:literal)+;)+) => {
        match ($panels, $rows, $columns) {
            $($(($p, $r, $c) => Some($function::<$r, $c, $p> as TileFn),)+)+
            _ => None,
        }
    };
}

/// How the tiles of a job look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TileSize {
    pub(super) panels: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The largest tile for rows of `width` positions and at most `panels` panels.
pub(super) fn largest_tile(instructions: Instructions, width: usize, panels: usize) -> TileSize {
    let accumulators = match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => Avx512::ACCUMULATORS,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => Avx2::ACCUMULATORS,
        _ => Array::ACCUMULATORS,
    };
    let panels = if accumulators >= 16 { panels.clamp(1, 2) } else { 1 };
    let positions = accumulators / panels;
    let rows = match positions / width.max(1) {
        0 | 1 => 1,
        2 | 3 => 2,
        _ => 4,
    };
    let rows = if accumulators >= 16 { rows } else { 1 };
    let most = positions / rows;
    // Even shares: 64 columns are eight tiles of eight, not five of twelve and a rest of four.
    let columns = width.div_ceil(width.div_ceil(most).max(1)).max(1);
    TileSize { panels, rows, columns }
}

/// The tile of this size, if there is one.
pub(super) fn tile_fn(instructions: Instructions, size: TileSize) -> Option<TileFn> {
    let TileSize { panels, rows, columns } = size;
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => tiles!(avx512, panels, rows, columns;
            1 x 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24;
            1 x 2: 1 2 3 4 5 6 7 8 9 10 11 12;
            1 x 4: 1 2 3 4 5 6;
            2 x 1: 1 2 3 4 5 6 7 8 9 10 11 12;
            2 x 2: 1 2 3 4 5 6;
            2 x 4: 1 2 3;
        ),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => tiles!(avx2, panels, rows, columns; 1 x 1: 1 2 3 4 5 6;),
        _ => tiles!(portable, panels, rows, columns; 1 x 1: 1 2;),
    }
}
