//! The micro-kernel of the weight gradient: a tile of weights is accumulated in registers while the loop runs over the
//! positions. The vector lanes are output channels; inputs are broadcast.

use crate::instruction_set::InstructionSet;
use crate::lanes16::{Array, Lanes16};
#[cfg(target_arch = "x86_64")]
use crate::lanes16::{Avx2, Avx512};

/// The arguments of a weight micro-kernel. Strides and steps are in floats.
#[derive(Clone, Copy)]
pub(super) struct WeightKernelArgs {
    /// The input of the tile's first row for the first position, and the stride to the next row. Rows are input channels.
    pub(super) input: *const f32,
    pub(super) row_step: usize,
    /// The output gradient `[positions][16]` from the first position on.
    pub(super) gradient: *const f32,
    /// The stride from one panel to the next in `gradient`.
    pub(super) gradient_panel: usize,
    /// The number of planes, the number of lines per plane, and the number of positions per line.
    pub(super) planes: usize,
    pub(super) lines: usize,
    pub(super) width: usize,
    /// The strides from one plane and from one line to the next in the input.
    pub(super) input_plane: usize,
    pub(super) input_line: usize,
    /// The stride from one plane to the next in the gradient, whose lines are contiguous.
    pub(super) gradient_plane: usize,
    /// The accumulators in memory, `[panel][ROWS·TAPS][16]`, and the stride from one panel to the next.
    pub(super) sums: *mut f32,
    pub(super) sums_panel: usize,
}

/// A weight micro-kernel for one tile size and instruction set.
pub(super) type WeightKernel = unsafe fn(&WeightKernelArgs);

/// # Safety
///
/// The processor must have `V`'s instruction set. `input` must be readable at `row·row_step + plane·input_plane +
/// line·input_line + position + tap` for every row, plane, line, position and tap, `gradient` at every position of every
/// panel, and the sums must be readable and writable.
#[inline(always)]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn weight_micro_kernel<V: Lanes16, const ROWS: usize, const TAPS: usize, const PANELS: usize>(
    args: &WeightKernelArgs,
) {
    // SAFETY: these are exactly the reads and writes that the caller guarantees.
    unsafe {
        let mut sum = [[[V::splat(0.0); PANELS]; TAPS]; ROWS];
        for (row, sum) in sum.iter_mut().enumerate() {
            for (tap, sum) in sum.iter_mut().enumerate() {
                for (panel, sum) in sum.iter_mut().enumerate() {
                    *sum = V::load(args.sums.add(panel * args.sums_panel + (row * TAPS + tap) * 16));
                }
            }
        }
        let mut line = 0;
        let mut plane_input = args.input;
        let mut plane_gradient = args.gradient;
        let (mut input, mut gradient) = (plane_input, plane_gradient);
        for _ in 0..args.planes * args.lines {
            if line == args.lines {
                line = 0;
                plane_input = plane_input.add(args.input_plane);
                plane_gradient = plane_gradient.add(args.gradient_plane);
                (input, gradient) = (plane_input, plane_gradient);
            }
            let mut inputs = [input; ROWS];
            for (row, input) in inputs.iter_mut().enumerate() {
                *input = input.add(row * args.row_step);
            }
            for position in 0..args.width {
                let mut lanes = [V::splat(0.0); PANELS];
                for (panel, lanes) in lanes.iter_mut().enumerate() {
                    *lanes = V::load(gradient.add(panel * args.gradient_panel));
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
            input = input.wrapping_add(args.input_line);
        }
        for (row, sum) in sum.iter().enumerate() {
            for (tap, sum) in sum.iter().enumerate() {
                for (panel, sum) in sum.iter().enumerate() {
                    sum.store(args.sums.add(panel * args.sums_panel + (row * TAPS + tap) * 16));
                }
            }
        }
    }
}

/// # Safety
/// As [`weight_micro_kernel`].
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn portable<const ROWS: usize, const TAPS: usize, const PANELS: usize>(args: &WeightKernelArgs) {
    // SAFETY: guaranteed by the caller.
    unsafe { weight_micro_kernel::<Array, ROWS, TAPS, PANELS>(args) }
}

/// # Safety
/// As [`weight_micro_kernel`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx2<const ROWS: usize, const TAPS: usize, const PANELS: usize>(args: &WeightKernelArgs) {
    // SAFETY: guaranteed by the caller.
    unsafe { weight_micro_kernel::<Avx2, ROWS, TAPS, PANELS>(args) }
}

/// # Safety
/// As [`weight_micro_kernel`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[expect(unsafe_code, reason = "vector instructions over raw pointers")]
unsafe fn avx512<const ROWS: usize, const TAPS: usize, const PANELS: usize>(args: &WeightKernelArgs) {
    // SAFETY: guaranteed by the caller.
    unsafe { weight_micro_kernel::<Avx512, ROWS, TAPS, PANELS>(args) }
}

/// The size of a register tile of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WeightTileSize {
    pub(super) panels: usize,
    /// The number of neighbouring taps that share their inputs: 1 or 3.
    pub(super) taps: usize,
    pub(super) rows: usize,
}

/// Lists the weight micro-kernels of one instruction set as `panels x taps: rows…`.
macro_rules! weight_micro_kernels {
    ($function:ident, $size:expr; $($p:literal x $t:literal: $($r:literal)+;)+) => {
        match ($size.panels, $size.taps, $size.rows) {
            $($(($p, $t, $r) => Some($function::<$r, $t, $p> as WeightKernel),)+)+
            _ => None,
        }
    };
}

/// The largest tile for `taps` neighbouring taps and at most `panels` panels.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "tiles have one panel"))]
pub(super) fn choose_weight_tile(instruction_set: InstructionSet, taps: usize, panels: usize) -> WeightTileSize {
    let taps = if taps == 3 { 3 } else { 1 };
    let (panels, rows) = match instruction_set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 | InstructionSet::Amx if taps == 3 => (panels.clamp(1, 2), 8 / panels.clamp(1, 2)),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 | InstructionSet::Amx => (panels.clamp(1, 2), 8),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => (1, if taps == 3 { 2 } else { 6 }),
        _ => (1, if taps == 3 { 1 } else { 2 }),
    };
    WeightTileSize { panels, taps, rows }
}

/// The weight micro-kernel for this tile size, if there is one.
pub(super) fn weight_micro_kernel_for(
    instruction_set: InstructionSet,
    size: WeightTileSize,
) -> Option<WeightKernel> {
    match instruction_set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 | InstructionSet::Amx => weight_micro_kernels!(avx512, size;
            1 x 1: 1 2 3 4 5 6 7 8;
            1 x 3: 1 2 3 4 5 6 7 8;
            2 x 1: 1 2 3 4 5 6 7 8;
            2 x 3: 1 2 3 4;
        ),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => weight_micro_kernels!(avx2, size; 1 x 1: 1 2 3 4 5 6; 1 x 3: 1 2;),
        _ => weight_micro_kernels!(portable, size; 1 x 1: 1 2; 1 x 3: 1;),
    }
}
