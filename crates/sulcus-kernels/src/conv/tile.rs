//! The innermost loop of the convolution: sixteen (or thirty-two) outputs for a few neighbouring positions at once.
//!
//! Lanes are output channels, and the input is broadcast. So a tile is any number of positions long, and narrow maps, as
//! they are deep in a U-Net, waste nothing.

use crate::simd::{Array, Instructions, Lanes16};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};

/// One row of taps that takes part in a tile.
#[derive(Clone, Copy, Default)]
pub(super) struct Segment {
    /// Where the first channel's input lies relative to a position's own, in floats.
    pub(super) input: usize,
    /// Where its weights begin in the panel, in floats.
    pub(super) weights: usize,
}

/// What one call of a tile works on. Steps count floats.
#[derive(Clone, Copy)]
pub(super) struct TileWork<'a> {
    /// The rows of taps to be summed.
    pub(super) segments: &'a [Segment],
    /// Channels of each row of taps, and from one channel's input to the next.
    pub(super) channels: usize,
    pub(super) channel_step: usize,
    /// The input of the tile's first position.
    pub(super) input: *const f32,
    /// From one row of the tile to the next.
    pub(super) row_step: usize,
    /// Weights `[row of taps][channel][tap][16]`, and from one sixteen outputs to the next.
    pub(super) weights: *const f32,
    pub(super) panel_step: usize,
    /// What the sums start from, `[16]` per sixteen outputs.
    pub(super) start: *const f32,
    /// Where the sums go, `[rows·columns][16]` per sixteen outputs.
    pub(super) sums: *mut f32,
}

/// A tile with its numbers fixed.
pub(super) type TileFn = unsafe fn(&TileWork<'_>);

/// The most positions of a tile over all instruction sets.
pub(super) const MOST_POSITIONS: usize = 24;

/// # Safety
///
/// The processor has `V`'s instructions. For each segment, channel, row, column and tap,
/// `input + segment.input + channel·channel_step + row·row_step + column + tap` can be read; `weights` has
/// `channels·TAPS·16` floats from each segment's on for each of the `PANELS`, `start` has `PANELS·16`, and `sums`
/// `PANELS·ROWS·COLUMNS·16`.
#[inline(always)]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn tile<V: Lanes16, const ROWS: usize, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
    work: &TileWork<'_>,
) {
    // SAFETY: exactly the reads and writes that the caller vouches for.
    unsafe {
        let mut sum = [[[V::splat(0.0); PANELS]; COLUMNS]; ROWS];
        for panel in 0..PANELS {
            let first = V::load(work.start.add(panel * 16));
            for row in &mut sum {
                for column in row {
                    column[panel] = first;
                }
            }
        }
        for segment in work.segments {
            let mut at = work.input.add(segment.input);
            let mut weight = work.weights.add(segment.weights);
            for _ in 0..work.channels {
                let mut lanes = [[V::splat(0.0); PANELS]; TAPS];
                for (tap, lanes) in lanes.iter_mut().enumerate() {
                    for (panel, lanes) in lanes.iter_mut().enumerate() {
                        *lanes = V::load(weight.add(panel * work.panel_step + tap * 16));
                    }
                }
                if ROWS > 0 {
                    add_row::<V, COLUMNS, PANELS, TAPS>(&mut sum[0], &lanes, at);
                }
                if ROWS > 1 {
                    add_row::<V, COLUMNS, PANELS, TAPS>(&mut sum[1], &lanes, at.add(work.row_step));
                }
                if ROWS > 2 {
                    add_row::<V, COLUMNS, PANELS, TAPS>(&mut sum[2], &lanes, at.add(2 * work.row_step));
                    add_row::<V, COLUMNS, PANELS, TAPS>(&mut sum[3], &lanes, at.add(3 * work.row_step));
                }
                at = at.wrapping_add(work.channel_step);
                weight = weight.add(TAPS * 16);
            }
        }
        for (row, sum) in sum.iter().enumerate() {
            for (column, sum) in sum.iter().enumerate() {
                for (panel, sum) in sum.iter().enumerate() {
                    sum.store(work.sums.add(((panel * ROWS + row) * COLUMNS + column) * 16));
                }
            }
        }
    }
}

/// Runs the body once for every place that a tile of any size may have, spelled out: sums stay in registers only if no loop
/// remains that would index them.
macro_rules! for_each_place {
    ($place:ident, $body:block) => {
        for_each_place!(@ $place, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25)
    };
    (@ $place:ident, $body:block, $($number:literal)+) => {
        $({
            const $place: usize = $number;
            $body
        })+
    };
}

/// One channel's inputs of one row times their weights, each input fetched once for all the taps that meet it.
///
/// # Safety
///
/// As [`tile`].
#[inline(always)]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn add_row<V: Lanes16, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
    sum: &mut [[V; PANELS]; COLUMNS],
    lanes: &[[V; PANELS]; TAPS],
    at: *const f32,
) {
    for_each_place!(PLACE, {
        if PLACE < COLUMNS + TAPS - 1 {
            // SAFETY: the caller's promise.
            let value = unsafe { V::splat(*at.add(PLACE)) };
            for (tap, lanes) in lanes.iter().enumerate() {
                if let Some(column) = PLACE.checked_sub(tap)
                    && column < COLUMNS
                {
                    for (sum, lanes) in sum[column].iter_mut().zip(lanes) {
                        // SAFETY: the caller's promise.
                        *sum = unsafe { sum.add_product(*lanes, value) };
                    }
                }
            }
        }
    });
}

/// # Safety
/// As [`tile`].
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn portable<const ROWS: usize, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
    work: &TileWork<'_>,
) {
    // SAFETY: the caller's promise, handed on.
    unsafe { tile::<Array, ROWS, COLUMNS, PANELS, TAPS>(work) }
}

/// # Safety
/// As [`tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx2<const ROWS: usize, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
    work: &TileWork<'_>,
) {
    // SAFETY: the caller's promise, handed on.
    unsafe { tile::<Avx2, ROWS, COLUMNS, PANELS, TAPS>(work) }
}

/// # Safety
/// As [`tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx512<const ROWS: usize, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
    work: &TileWork<'_>,
) {
    // SAFETY: the caller's promise, handed on.
    unsafe { tile::<Avx512, ROWS, COLUMNS, PANELS, TAPS>(work) }
}

/// The tiles of one instruction set: which panels, rows and columns there are.
macro_rules! tiles {
    ($function:ident, $size:expr; $($p:literal x $r:literal: $($c:literal)+;)+) => {
        match ($size.panels, $size.rows, $size.columns, $size.taps) {
            $($(($p, $r, $c, 1) => Some($function::<$r, $c, $p, 1> as TileFn),
            ($p, $r, $c, 3) => Some($function::<$r, $c, $p, 3> as TileFn),)+)+
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
    /// Neighbouring taps that share their inputs: 1 or 3.
    pub(super) taps: usize,
}

/// The largest tile for rows of `width` positions and at most `panels` panels.
pub(super) fn largest_tile(instructions: Instructions, width: usize, panels: usize, taps: usize) -> TileSize {
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
    TileSize { panels, rows, columns, taps }
}

/// The tile of this size, if there is one.
pub(super) fn tile_fn(instructions: Instructions, size: TileSize) -> Option<TileFn> {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => tiles!(avx512, size;
            1 x 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24;
            1 x 2: 1 2 3 4 5 6 7 8 9 10 11 12;
            1 x 4: 1 2 3 4 5 6;
            2 x 1: 1 2 3 4 5 6 7 8 9 10 11 12;
            2 x 2: 1 2 3 4 5 6;
            2 x 4: 1 2 3;
        ),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => tiles!(avx2, size; 1 x 1: 1 2 3 4 5 6;),
        _ => tiles!(portable, size; 1 x 1: 1 2;),
    }
}
