//! The micro-kernel of the forward pass and the input gradient: one or two panels of sixteen output channels for a few
//! neighbouring positions, accumulated in registers. The vector lanes are output channels; inputs are broadcast. The same
//! micro-kernel serves every precision ([`LaneType`]); where this file says *float*, other precisions have 32 bits that hold
//! two or four channels.

use crate::instruction_set::InstructionSet;
use crate::lanes16::{Array, ArrayBf16, ArrayInt8, Lanes16};
#[cfg(target_arch = "x86_64")]
use crate::lanes16::{Avx2, Avx2Int8, Avx512, Avx512Bf16, Avx512Vnni, AvxVnni};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use crate::lanes16::{Simd128, Simd128Int8};

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

/// Defines the micro-kernels of a lane type, compiled for the target features that it needs.
macro_rules! micro_kernel_functions {
    ($($(#[$attribute:meta])* $function:ident: $lanes:ty;)+) => {
        $(
            /// # Safety
            /// As [`micro_kernel`].
            $(#[$attribute])*
            #[expect(unsafe_code, reason = "vector instructions over raw pointers")]
            unsafe fn $function<const ROWS: usize, const COLUMNS: usize, const PANELS: usize, const TAPS: usize>(
                args: &MicroKernelArgs<'_>,
            ) {
                // SAFETY: guaranteed by the caller.
                unsafe { micro_kernel::<$lanes, ROWS, COLUMNS, PANELS, TAPS>(args) }
            }
        )+
    };
}

micro_kernel_functions! {
    portable: Array;
    portable_bf16: ArrayBf16;
    portable_int8: ArrayInt8;
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    simd128: Simd128;
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    simd128_int8: Simd128Int8;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    avx2: Avx2;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    avx512: Avx512;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bf16")]
    avx512_bf16: Avx512Bf16;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vnni")]
    avx512_vnni: Avx512Vnni;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,avxvnni")]
    avx_vnni: AvxVnni;
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    avx2_int8: Avx2Int8;
}

/// The lanes of a micro-kernel: the instructions and the operands of its multiply-adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneType {
    Array,
    ArrayBf16,
    ArrayInt8,
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128,
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128Int8,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx2Int8,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl LaneType {
    /// The lanes for single precision.
    pub(crate) fn single(instruction_set: InstructionSet) -> Self {
        match instruction_set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 | InstructionSet::Amx => Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => Self::Avx2,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            InstructionSet::Simd128 => Self::Simd128,
            _ => Self::Array,
        }
    }

    /// Whether the weights of several taps fit in registers beside the accumulators.
    pub(crate) fn has_many_registers(self) -> bool {
        self.accumulators() >= 16
    }

    /// How many sixteen-lane accumulators a tile may have.
    fn accumulators(self) -> usize {
        match self {
            Self::Array => Array::ACCUMULATORS,
            Self::ArrayBf16 => ArrayBf16::ACCUMULATORS,
            Self::ArrayInt8 => ArrayInt8::ACCUMULATORS,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => Simd128::ACCUMULATORS,
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128Int8 => Simd128Int8::ACCUMULATORS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::ACCUMULATORS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Int8 => Avx2Int8::ACCUMULATORS,
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => AvxVnni::ACCUMULATORS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::ACCUMULATORS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Avx512Bf16::ACCUMULATORS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => Avx512Vnni::ACCUMULATORS,
        }
    }
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
pub(crate) fn choose_tile(lanes: LaneType, width: usize, panels: usize, taps: usize) -> TileSize {
    let accumulators = lanes.accumulators();
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

/// The micro-kernels with 24 accumulators.
#[cfg(target_arch = "x86_64")]
macro_rules! micro_kernels_24 {
    ($function:ident, $size:expr) => {
        micro_kernels!($function, $size;
            1 x 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24;
            1 x 2: 1 2 3 4 5 6 7 8 9 10 11 12;
            1 x 4: 1 2 3 4 5 6;
            2 x 1: 1 2 3 4 5 6 7 8 9 10 11 12;
            2 x 2: 1 2 3 4 5 6;
            2 x 4: 1 2 3;
        )
    };
}

/// The micro-kernel for this tile size, if there is one.
pub(crate) fn micro_kernel_for(lanes: LaneType, size: TileSize) -> Option<MicroKernel> {
    match lanes {
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx512 => micro_kernels_24!(avx512, size),
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx512Bf16 => micro_kernels_24!(avx512_bf16, size),
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx512Vnni => micro_kernels_24!(avx512_vnni, size),
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx2 => micro_kernels!(avx2, size; 1 x 1: 1 2 3 4 5 6;),
        #[cfg(target_arch = "x86_64")]
        LaneType::AvxVnni => micro_kernels!(avx_vnni, size; 1 x 1: 1 2 3 4 5 6;),
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx2Int8 => micro_kernels!(avx2_int8, size; 1 x 1: 1 2 3 4 5 6;),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        LaneType::Simd128 => micro_kernels!(simd128, size; 1 x 1: 1 2;),
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        LaneType::Simd128Int8 => micro_kernels!(simd128_int8, size; 1 x 1: 1 2;),
        LaneType::Array => micro_kernels!(portable, size; 1 x 1: 1 2;),
        LaneType::ArrayBf16 => micro_kernels!(portable_bf16, size; 1 x 1: 1 2;),
        LaneType::ArrayInt8 => micro_kernels!(portable_int8, size; 1 x 1: 1 2;),
    }
}
