//! The innermost loop of the weight gradient: sums that stay in registers while the positions run past.

use crate::simd::{Array, Instructions, Lanes16};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};

/// What one call of a weight tile works on. Steps count floats.
#[derive(Clone, Copy)]
pub(super) struct WeightWork {
    /// The first row's input for the first position, and from one of the tile's rows (input channels) to the next.
    pub(super) input: *const f32,
    pub(super) row_step: usize,
    /// Output gradients `[positions][16]` from the first position on.
    pub(super) gradient: *const f32,
    /// From one panel of sixteen outputs to the next in `gradient`.
    pub(super) gradient_panel: usize,
    /// Planes of positions, lines of each, and positions of each of those.
    pub(super) planes: usize,
    pub(super) lines: usize,
    pub(super) width: usize,
    /// From one plane to the next, and from one line to the next, in the inputs.
    pub(super) input_plane: usize,
    pub(super) input_line: usize,
    /// From one plane to the next in the gradient, whose lines lie without gaps.
    pub(super) gradient_plane: usize,
    /// Sums to be added to, `[panel][ROWS·TAPS][16]`, with this many floats from one panel to the next.
    pub(super) sums: *mut f32,
    pub(super) sums_panel: usize,
}

/// A weight tile with its rows, taps and panels fixed.
pub(super) type WeightFn = unsafe fn(&WeightWork);

/// # Safety
///
/// The processor has `V`'s instructions. `input` can be read at `row·row_step + plane·input_plane +
/// line·input_line + position + tap` for every row, plane, line, position and tap, `gradient` at every position of every panel,
/// and the sums can be written.
#[inline(always)]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn tile<V: Lanes16, const ROWS: usize, const TAPS: usize, const PANELS: usize>(work: &WeightWork) {
    // SAFETY: exactly the reads and writes that the caller vouches for.
    unsafe {
        let mut sum = [[[V::splat(0.0); PANELS]; TAPS]; ROWS];
        for (row, sum) in sum.iter_mut().enumerate() {
            for (tap, sum) in sum.iter_mut().enumerate() {
                for (panel, sum) in sum.iter_mut().enumerate() {
                    *sum = V::load(work.sums.add(panel * work.sums_panel + (row * TAPS + tap) * 16));
                }
            }
        }
        let mut line = 0;
        let mut plane_input = work.input;
        let mut plane_gradient = work.gradient;
        let (mut input, mut gradient) = (plane_input, plane_gradient);
        for _ in 0..work.planes * work.lines {
            if line == work.lines {
                line = 0;
                plane_input = plane_input.add(work.input_plane);
                plane_gradient = plane_gradient.add(work.gradient_plane);
                (input, gradient) = (plane_input, plane_gradient);
            }
            let mut inputs = [input; ROWS];
            for (row, input) in inputs.iter_mut().enumerate() {
                *input = input.add(row * work.row_step);
            }
            for position in 0..work.width {
                let mut lanes = [V::splat(0.0); PANELS];
                for (panel, lanes) in lanes.iter_mut().enumerate() {
                    *lanes = V::load(gradient.add(panel * work.gradient_panel));
                }
                for (sum, input) in sum.iter_mut().zip(inputs) {
                    for (tap, sum) in sum.iter_mut().enumerate() {
                        let value = V::splat(*input.add(position + tap));
                        for (sum, lanes) in sum.iter_mut().zip(lanes) {
                            *sum = sum.add_product(lanes, value);
                        }
                    }
                }
                gradient = gradient.add(16);
            }
            line += 1;
            input = input.wrapping_add(work.input_line);
        }
        for (row, sum) in sum.iter().enumerate() {
            for (tap, sum) in sum.iter().enumerate() {
                for (panel, sum) in sum.iter().enumerate() {
                    sum.store(work.sums.add(panel * work.sums_panel + (row * TAPS + tap) * 16));
                }
            }
        }
    }
}

/// # Safety
/// As [`tile`].
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn portable<const ROWS: usize, const TAPS: usize, const PANELS: usize>(work: &WeightWork) {
    // SAFETY: the caller's promise, handed on.
    unsafe { tile::<Array, ROWS, TAPS, PANELS>(work) }
}

/// # Safety
/// As [`tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx2<const ROWS: usize, const TAPS: usize, const PANELS: usize>(work: &WeightWork) {
    // SAFETY: the caller's promise, handed on.
    unsafe { tile::<Avx2, ROWS, TAPS, PANELS>(work) }
}

/// # Safety
/// As [`tile`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx512<const ROWS: usize, const TAPS: usize, const PANELS: usize>(work: &WeightWork) {
    // SAFETY: the caller's promise, handed on.
    unsafe { tile::<Avx512, ROWS, TAPS, PANELS>(work) }
}

/// How the tiles of a job look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WeightTileSize {
    pub(super) panels: usize,
    /// Neighbouring taps that share their inputs: 1 or 3.
    pub(super) taps: usize,
    pub(super) rows: usize,
}

/// The weight tiles of one instruction set: which panels, taps and rows there are.
macro_rules! tiles {
    ($function:ident, $size:expr; $($p:literal x $t:literal: $($r:literal)+;)+) => {
        match ($size.panels, $size.taps, $size.rows) {
            $($(($p, $t, $r) => Some($function::<$r, $t, $p> as WeightFn),)+)+
            _ => None,
        }
    };
}

/// The largest tile for `taps` neighbouring taps and at most `panels` panels.
pub(super) fn largest_weight_tile(instructions: Instructions, taps: usize, panels: usize) -> WeightTileSize {
    let taps = if taps == 3 { 3 } else { 1 };
    let (panels, rows) = match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 if taps == 3 => (panels.clamp(1, 2), 8 / panels.clamp(1, 2)),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => (panels.clamp(1, 2), 8),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => (1, if taps == 3 { 2 } else { 6 }),
        _ => (1, if taps == 3 { 1 } else { 2 }),
    };
    WeightTileSize { panels, taps, rows }
}

/// The tile of this size, if there is one.
pub(super) fn weight_fn(instructions: Instructions, size: WeightTileSize) -> Option<WeightFn> {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => tiles!(avx512, size;
            1 x 1: 1 2 3 4 5 6 7 8;
            1 x 3: 1 2 3 4 5 6 7 8;
            2 x 1: 1 2 3 4 5 6 7 8;
            2 x 3: 1 2 3 4;
        ),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => tiles!(avx2, size; 1 x 1: 1 2 3 4 5 6; 1 x 3: 1 2;),
        _ => tiles!(portable, size; 1 x 1: 1 2; 1 x 3: 1;),
    }
}
