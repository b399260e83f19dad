//! The innermost loop of the weight gradient: sums that stay in registers while the positions run past.

use crate::simd::{Array, Instructions, Lanes16};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};

/// What one call of a weight tile works on. Steps count floats.
#[derive(Clone, Copy)]
pub(super) struct WeightWork {
    /// The input that each of the tile's rows starts from, for the first position.
    pub(super) inputs: [*const f32; MOST_ROWS],
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

/// The most rows of a weight tile.
pub(super) const MOST_ROWS: usize = 8;

/// # Safety
///
/// The processor has `V`'s instructions. Each of the first `ROWS` inputs can be read at `plane·input_plane + line·input_line +
/// position + tap` for every plane, line, position and tap, `gradient` at every position of every panel, and the sums can be
/// written.
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
        for line in 0..work.planes * work.lines {
            let (plane, line) = (line / work.lines, line % work.lines);
            let mut gradient = work.gradient.add(plane * work.gradient_plane + line * work.width * 16);
            let mut inputs = [work.inputs[0]; ROWS];
            for (input, from) in inputs.iter_mut().zip(work.inputs) {
                *input = from.add(plane * work.input_plane + line * work.input_line);
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

/// The weight tiles of one instruction set: which panels, taps and rows there are.
macro_rules! tiles {
    ($function:ident, $panels:expr, $taps:expr, $rows:expr; $($p:literal x $t:literal: $($r:literal)+;)+) => {
        match ($panels, $taps, $rows) {
            $($(($p, $t, $r) => Some($function::<$r, $t, $p> as WeightFn),)+)+
            _ => None,
        }
    };
}

/// The most rows for `taps` neighbouring taps (1 or 3) and `panels` panels, both as large as this instruction set can use.
pub(super) fn largest_weight_tile(
    instructions: Instructions,
    taps: usize,
    panels: usize,
) -> (usize, usize, usize) {
    let taps = if taps == 3 { 3 } else { 1 };
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => {
            let panels = panels.clamp(1, 2);
            (panels, taps, if taps == 3 { 8 / panels } else { 8 })
        }
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => (1, taps, if taps == 3 { 2 } else { 6 }),
        _ => (1, taps, if taps == 3 { 1 } else { 2 }),
    }
}

/// The tile of this size, if there is one.
pub(super) fn weight_fn(instructions: Instructions, panels: usize, taps: usize, rows: usize) -> Option<WeightFn> {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => tiles!(avx512, panels, taps, rows;
            1 x 1: 1 2 3 4 5 6 7 8;
            1 x 3: 1 2 3 4 5 6 7 8;
            2 x 1: 1 2 3 4 5 6 7 8;
            2 x 3: 1 2 3 4;
        ),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => tiles!(avx2, panels, taps, rows; 1 x 1: 1 2 3 4 5 6; 1 x 3: 1 2;),
        _ => tiles!(portable, panels, taps, rows; 1 x 1: 1 2; 1 x 3: 1;),
    }
}
