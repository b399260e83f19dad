//! The micro-kernel of the forward pass and the input gradient: one or two panels of sixteen output channels for a few
//! neighbouring positions, accumulated in registers. The vector lanes are output channels; inputs are broadcast.

use crate::instruction_set::InstructionSet;
use crate::lanes16::{Array, Lanes16};
#[cfg(target_arch = "x86_64")]
use crate::lanes16::{Avx2, Avx512};

/// One tap row that contributes to a tile.
#[derive(Clone, Copy, Default)]
pub(crate) struct TapSegment {
    /// The offset of the first channel's input from the position's own input, in floats.
    pub(crate) input: usize,
    /// The offset of its weights in the panel, in floats.
    pub(crate) weights: usize,
}

/// The arguments of a micro-kernel. Strides and steps are in floats.
#[derive(Clone, Copy)]
pub(crate) struct MicroKernelArgs<'a> {
    /// The tap rows to accumulate.
    pub(crate) segments: &'a [TapSegment],
    /// The number of input channels, and the stride from one channel's input to the next.
    pub(crate) channels: usize,
    pub(crate) channel_step: usize,
    /// The input of the first position of the tile.
    pub(crate) input: *const f32,
    /// The stride from one row of the tile to the next in the input.
    pub(crate) row_step: usize,
    /// Packed weights `[tap row][channel][tap][16]`, and the stride from one panel to the next.
    pub(crate) weights: *const f32,
    pub(crate) panel_step: usize,
    /// The initial value of the accumulators, `[16]` per panel.
    pub(crate) initial: *const f32,
    /// Where the results are written, and the strides from one panel, row and column to the next. Each is sixteen floats.
    pub(crate) sums: *mut f32,
    pub(crate) sums_panel: usize,
    pub(crate) sums_row: usize,
    pub(crate) sums_column: usize,
}

/// A micro-kernel for one tile size and instruction set.
pub(crate) type MicroKernel = unsafe fn(&MicroKernelArgs<'_>);

/// The largest number of positions of a tile on any instruction set.
pub(crate) const MAX_POSITIONS: usize = 24;

/// # Safety
///
/// The processor must have `V`'s instruction set. For each segment, channel, row, column and tap,
/// `input + segment.input + channel·channel_step + row·row_step + column + tap` must be readable. `weights` must have
/// `channels·TAPS·16` floats from each segment's offset on for each of the `PANELS`, `initial` `PANELS·16`, and `sums`
/// must be writable for sixteen floats from `panel·sums_panel + row·sums_row + column·sums_column` on for every panel, row and
/// column.
#[inline(always)]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn micro_kernel<
    V: Lanes16,
    const ROWS: usize,
    const COLUMNS: usize,
    const PANELS: usize,
    const TAPS: usize,
>(
    args: &MicroKernelArgs<'_>,
) {
    // SAFETY: these are exactly the reads and writes that the caller guarantees.
    unsafe {
        let mut sum = [[[V::splat(0.0); PANELS]; COLUMNS]; ROWS];
        for panel in 0..PANELS {
            let first = V::load(args.initial.add(panel * 16));
            for row in &mut sum {
                for column in row {
                    column[panel] = first;
                }
            }
        }
        for segment in args.segments {
            let mut at = args.input.add(segment.input);
            let mut weight = args.weights.add(segment.weights);
            for _ in 0..args.channels {
                let mut lanes = [[V::splat(0.0); PANELS]; TAPS];
                for (tap, lanes) in lanes.iter_mut().enumerate() {
                    for (panel, lanes) in lanes.iter_mut().enumerate() {
                        *lanes = V::load(weight.add(panel * args.panel_step + tap * 16));
                    }
                }
                if ROWS > 0 {
                    accumulate_row::<V, COLUMNS, PANELS, TAPS>(&mut sum[0], &lanes, at);
                }
                if ROWS > 1 {
                    accumulate_row::<V, COLUMNS, PANELS, TAPS>(&mut sum[1], &lanes, at.add(args.row_step));
                }
                if ROWS > 2 {
                    accumulate_row::<V, COLUMNS, PANELS, TAPS>(&mut sum[2], &lanes, at.add(2 * args.row_step));
                    accumulate_row::<V, COLUMNS, PANELS, TAPS>(&mut sum[3], &lanes, at.add(3 * args.row_step));
                }
                at = at.wrapping_add(args.channel_step);
                weight = weight.add(TAPS * 16);
            }
        }
        for (row, sum) in sum.iter().enumerate() {
            for (column, sum) in sum.iter().enumerate() {
                for (panel, sum) in sum.iter().enumerate() {
                    sum.store(
                        args.sums.add(panel * args.sums_panel + row * args.sums_row + column * args.sums_column),
                    );
                }
            }
        }
    }
}

/// Unrolls the body for every input position that a tile of any size may have. The accumulators stay in registers only if
/// no loop remains that would index them.
macro_rules! unroll_positions {
    ($position:ident, $body:block) => {
        unroll_positions!(@ $position, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25)
    };
    (@ $position:ident, $body:block, $($number:literal)+) => {
        $({
            const $position: usize = $number;
            $body
        })+
    };
}

/// Accumulates one row of one input channel. Each input is broadcast once for all taps that use it.
///
/// # Safety
///
/// As [`micro_kernel`].
#[inline(always)]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn accumulate_row<V: Lanes16, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
    sum: &mut [[V; PANELS]; COLUMNS],
    lanes: &[[V; PANELS]; TAPS],
    at: *const f32,
) {
    unroll_positions!(POSITION, {
        if POSITION < COLUMNS + TAPS - 1 {
            // SAFETY: guaranteed by the caller.
            let value = unsafe { V::splat(*at.add(POSITION)) };
            for (tap, lanes) in lanes.iter().enumerate() {
                if let Some(column) = POSITION.checked_sub(tap)
                    && column < COLUMNS
                {
                    for (sum, lanes) in sum[column].iter_mut().zip(lanes) {
                        // SAFETY: guaranteed by the caller.
                        *sum = unsafe { sum.add_product(*lanes, value) };
                    }
                }
            }
        }
    });
}

/// # Safety
/// As [`micro_kernel`].
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn portable<const ROWS: usize, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
    args: &MicroKernelArgs<'_>,
) {
    // SAFETY: guaranteed by the caller.
    unsafe { micro_kernel::<Array, ROWS, COLUMNS, PANELS, TAPS>(args) }
}

/// # Safety
/// As [`micro_kernel`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx2<const ROWS: usize, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
    args: &MicroKernelArgs<'_>,
) {
    // SAFETY: guaranteed by the caller.
    unsafe { micro_kernel::<Avx2, ROWS, COLUMNS, PANELS, TAPS>(args) }
}

/// # Safety
/// As [`micro_kernel`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx512<const ROWS: usize, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
    args: &MicroKernelArgs<'_>,
) {
    // SAFETY: guaranteed by the caller.
    unsafe { micro_kernel::<Avx512, ROWS, COLUMNS, PANELS, TAPS>(args) }
}

/// Lists the micro-kernels of one instruction set as `panels x rows: columns…`.
macro_rules! micro_kernels {
    ($function:ident, $size:expr; $($p:literal x $r:literal: $($c:literal)+;)+) => {
        match ($size.panels, $size.rows, $size.columns, $size.taps) {
            $($(($p, $r, $c, 1) => Some($function::<$r, $c, $p, 1> as MicroKernel),
            ($p, $r, $c, 3) => Some($function::<$r, $c, $p, 3> as MicroKernel),)+)+
            _ => None,
        }
    };
}

/// The size of a register tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileSize {
    pub(crate) panels: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The number of neighbouring taps that share their inputs: 1 or 3.
    pub(crate) taps: usize,
}

/// The largest tile for rows of `width` positions and at most `panels` panels.
pub(crate) fn choose_tile(instruction_set: InstructionSet, width: usize, panels: usize, taps: usize) -> TileSize {
    let accumulators = match instruction_set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => Avx512::ACCUMULATORS,
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => Avx2::ACCUMULATORS,
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
    let max_columns = positions / rows;
    // Tiles of equal width: 64 columns become eight tiles of eight rather than five of twelve and a remainder of four.
    let columns = width.div_ceil(width.div_ceil(max_columns).max(1)).max(1);
    TileSize { panels, rows, columns, taps }
}

/// The micro-kernel for this tile size, if there is one.
pub(crate) fn micro_kernel_for(instruction_set: InstructionSet, size: TileSize) -> Option<MicroKernel> {
    match instruction_set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => micro_kernels!(avx512, size;
            1 x 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24;
            1 x 2: 1 2 3 4 5 6 7 8 9 10 11 12;
            1 x 4: 1 2 3 4 5 6;
            2 x 1: 1 2 3 4 5 6 7 8 9 10 11 12;
            2 x 2: 1 2 3 4 5 6;
            2 x 4: 1 2 3;
        ),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => micro_kernels!(avx2, size; 1 x 1: 1 2 3 4 5 6;),
        _ => micro_kernels!(portable, size; 1 x 1: 1 2;),
    }
}
