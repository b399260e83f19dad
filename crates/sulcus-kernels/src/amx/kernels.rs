//! The kernels: sums of products of tiles.
//!
//! A kernel computes one to three *panels* of sixteen output channels for one to four groups of sixteen positions. Panels come from the
//! weights, `[channel][64 bytes]` per tile, positions from the input, `[cell row][16 positions]`: sums are planar, like the tensors.

use std::arch::asm;
use std::marker::PhantomData;

use super::EDGE;
use super::detect::Amx;

/// The largest number of groups of positions of a kernel.
pub(crate) const MAX_INPUTS: usize = 4;

/// The largest number of panels of a kernel.
pub(crate) const MAX_WEIGHTS: usize = 3;

/// The largest number of tiles of sums of a kernel.
const MAX_SUMS: usize = 6;

/// The bytes of a tile of weights.
const TILE_BYTES: usize = EDGE * EDGE * size_of::<f32>();

/// What the cells of 32 bits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operands {
    /// Two channels in bfloat16.
    Bf16,
    /// Four channels: signed 8-bit weights and unsigned 8-bit inputs.
    Int8,
}

/// Which registers hold what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Roles {
    /// Four tiles of sums, two of weights and two of inputs: for one or two panels.
    Pairs,
    /// Six tiles of sums, one of weights and one of inputs: for three panels.
    Triples,
}

/// A part of the sums: some neighbouring tiles.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct TileSegment {
    /// Where its inputs begin, in bytes from each of [`TileArgs::inputs`].
    pub(crate) input: usize,
    /// Where its weights begin, in bytes from each of [`TileArgs::weights`].
    pub(crate) weights: usize,
    /// The number of tiles, at least one.
    pub(crate) tiles: usize,
}

/// The arguments of a kernel.
#[repr(C)]
pub(crate) struct TileArgs {
    /// The segments to sum.
    segments: *const TileSegment,
    segments_end: *const TileSegment,
    /// The bytes from one cell row of the input to the next, and from one tile to the next.
    row_step: usize,
    tile_step: usize,
    /// The inputs of each group of positions.
    inputs: [*const f32; MAX_INPUTS],
    /// The weights of each panel.
    weights: [*const f32; MAX_WEIGHTS],
    /// The bytes from one output channel of the sums to the next.
    sums_step: usize,
    /// The first sum of each tile, `[panel][group]`.
    sums: [*mut f32; MAX_SUMS],
}

/// Where the assembly finds the fields of [`TileArgs`].
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(TileArgs, segments_end) == 8 && offset_of!(TileArgs, row_step) == 16);
    assert!(offset_of!(TileArgs, tile_step) == 24 && offset_of!(TileArgs, inputs) == 32);
    assert!(offset_of!(TileArgs, weights) == 64 && offset_of!(TileArgs, sums_step) == 88);
    assert!(offset_of!(TileArgs, sums) == 96 && size_of::<TileSegment>() == 24 && TILE_BYTES == 1024);
    assert!(offset_of!(TileSegment, weights) == 8 && offset_of!(TileSegment, tiles) == 16);
};

/// The memory layout of a configuration, which `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The configured tile registers of this thread, released when dropped.
pub(crate) struct Tiles {
    roles: Roles,
    /// The configuration belongs to a thread.
    of_thread: PhantomData<*const ()>,
}

impl Amx {
    /// Configures the registers for tiles of `depth` cell rows, 1 to 16.
    pub(crate) fn configure(self, depth: usize, roles: Roles) -> Tiles {
        let depth = depth.clamp(1, EDGE);
        let full = (EDGE * size_of::<f32>()) as u16;
        let sums = if roles == Roles::Pairs { 4 } else { 6 };
        let weights = if roles == Roles::Pairs { 2 } else { 1 };
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        for register in 0..8 {
            let (rows, bytes) = if register < sums {
                (EDGE, full)
            } else if register < sums + weights {
                (EDGE, (depth * size_of::<f32>()) as u16)
            } else {
                (depth, full)
            };
            configuration.rows[register] = rows as u8;
            configuration.row_bytes[register] = bytes;
        }
        // SAFETY: the token proves that the process may use AMX; the configuration is a valid one of 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, preserves_flags, readonly));
        }
        Tiles { roles, of_thread: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a value of this type exists only where AMX may be used.
        unsafe {
            asm!("tilerelease", options(nomem, nostack, preserves_flags));
        }
    }
}

impl TileArgs {
    /// Arguments without positions and panels.
    pub(crate) fn new(segments: &[TileSegment], row_step: usize, tile_step: usize, sums_step: usize) -> Self {
        let range = segments.as_ptr_range();
        Self {
            segments: range.start,
            segments_end: range.end,
            row_step,
            tile_step,
            inputs: [std::ptr::null(); MAX_INPUTS],
            weights: [std::ptr::null(); MAX_WEIGHTS],
            sums_step,
            sums: [std::ptr::null_mut(); MAX_SUMS],
        }
    }
}

impl Tiles {
    /// Computes the sums of `weights` panels for `inputs` groups of positions, of which `sums` gives the place for a panel and a group.
    ///
    /// # Safety
    ///
    /// For every segment and each of its tiles, as many cell rows as were configured must be readable from each input on, sixteen cells
    /// each, and a tile of weights from each of the weights on. Each of the sums must be writable for sixteen channels of sixteen positions.
    pub(crate) unsafe fn multiply(
        &self,
        operands: Operands,
        args: &mut TileArgs,
        inputs: &[*const f32],
        weights: &[*const f32],
        sums: impl Fn(usize, usize) -> *mut f32,
    ) {
        debug_assert!(self.roles == Roles::Triples || weights.len() < 3, "three panels need their own registers");
        // At most four tiles of sums for one or two panels, six for three.
        let group = match (self.roles, weights.len()) {
            (Roles::Pairs, 1) => 4,
            _ => 2,
        };
        for (index, panel) in args.weights.iter_mut().zip(weights) {
            *index = *panel;
        }
        let mut first = 0;
        while first < inputs.len() {
            let count = match inputs.len() - first {
                3 if group == 4 => 2,
                left => left.min(group),
            };
            args.inputs[..count].copy_from_slice(&inputs[first..][..count]);
            for panel in 0..weights.len() {
                for position in 0..count {
                    args.sums[panel * count + position] = sums(panel, first + position);
                }
            }
            // SAFETY: guaranteed by the caller; the registers are configured for the roles that each kernel expects.
            unsafe {
                match (self.roles, weights.len(), count) {
                    (Roles::Pairs, 1, 4) => one_by_four(operands, args),
                    (Roles::Pairs, 1, 2) => one_by_two(operands, args),
                    (Roles::Pairs, 1, _) => one_by_one(operands, args),
                    (Roles::Pairs, _, 2) => two_by_two(operands, args),
                    (Roles::Pairs, ..) => two_by_one(operands, args),
                    (Roles::Triples, _, 2) => three_by_two(operands, args),
                    (Roles::Triples, ..) => three_by_one(operands, args),
                }
            }
            first += count;
        }
    }
}

/// One line of assembly.
macro_rules! line {
    ($multiply:literal, input $tile:literal $from:ident) => {
        concat!("tileloadd tmm", $tile, ", [{", stringify!($from), "} + {row_step}*1]")
    };
    ($multiply:literal, weights $tile:literal $from:ident) => {
        concat!("tileloadd tmm", $tile, ", [{", stringify!($from), "} + {line}*1]")
    };
    ($multiply:literal, multiply $sum:literal $weights:literal $input:literal) => {
        concat!($multiply, " tmm", $sum, ", tmm", $weights, ", tmm", $input)
    };
}

/// Defines a kernel for both operands. `sums` are its tiles of sums with the places of their addresses in the arguments, `inputs` and
/// `weights` its pointers with theirs, and the lines what it does for each tile.
macro_rules! kernel {
    (
        $(#[$attribute:meta])*
        $function:ident,
        sums: $($sum:literal $sum_at:literal),+;
        inputs: $($input:ident $input_at:literal),+;
        weights: $($weights:ident $weights_at:literal),+;
        $(($($line:tt)+))+
    ) => {
        $(#[$attribute])*
        ///
        /// # Safety
        ///
        /// As [`Tiles::multiply`], for registers of the kernel's roles.
        unsafe fn $function(operands: Operands, args: &TileArgs) {
            match operands {
                Operands::Bf16 => kernel!(@ "tdpbf16ps", args; $($sum $sum_at),+; $($input $input_at),+; $($weights $weights_at),+;
                    $([$($line)+])+),
                Operands::Int8 => kernel!(@ "tdpbsud", args; $($sum $sum_at),+; $($input $input_at),+; $($weights $weights_at),+;
                    $([$($line)+])+),
            }
        }
    };
    (
        @ $multiply:literal, $args:ident; $($sum:literal $sum_at:literal),+; $($input:ident $input_at:literal),+;
        $($weights:ident $weights_at:literal),+; $([$($line:tt)+])+
    ) => {
        // SAFETY: the caller guarantees what is read and written.
        unsafe {
            asm!(
                $(concat!("tilezero tmm", $sum),)+
                "mov {segment}, [{args}]",
                "cmp {segment}, [{args} + 8]",
                "jae 4f",
                "2:",
                "mov {left}, [{segment} + 16]",
                $(
                    concat!("mov {", stringify!($input), "}, [{args} + ", $input_at, "]"),
                    concat!("add {", stringify!($input), "}, [{segment}]"),
                )+
                $(
                    concat!("mov {", stringify!($weights), "}, [{args} + ", $weights_at, "]"),
                    concat!("add {", stringify!($weights), "}, [{segment} + 8]"),
                )+
                "3:",
                $(line!($multiply, $($line)+),)+
                $(concat!("add {", stringify!($input), "}, [{args} + 24]"),)+
                $(concat!("add {", stringify!($weights), "}, 1024"),)+
                "dec {left}",
                "jnz 3b",
                "add {segment}, 24",
                "cmp {segment}, [{args} + 8]",
                "jb 2b",
                "4:",
                "mov {left}, [{args} + 88]",
                $(
                    concat!("mov {segment}, [{args} + ", $sum_at, "]"),
                    concat!("tilestored [{segment} + {left}*1], tmm", $sum),
                )+
                args = in(reg) std::ptr::from_ref($args),
                segment = out(reg) _,
                left = out(reg) _,
                row_step = in(reg) $args.row_step,
                line = in(reg) EDGE * size_of::<f32>(),
                $($input = out(reg) _,)+
                $($weights = out(reg) _,)+
                out("tmm0") _,
                out("tmm1") _,
                out("tmm2") _,
                out("tmm3") _,
                out("tmm4") _,
                out("tmm5") _,
                out("tmm6") _,
                out("tmm7") _,
                options(nostack),
            );
        }
    };
}

kernel! {
    /// One panel, four groups.
    one_by_four,
    sums: 0 96, 1 104, 2 112, 3 120;
    inputs: input0 32, input1 40, input2 48, input3 56;
    weights: weights0 64;
    (weights 4 weights0)
    (input 6 input0) (multiply 0 4 6)
    (input 7 input1) (multiply 1 4 7)
    (input 6 input2) (multiply 2 4 6)
    (input 7 input3) (multiply 3 4 7)
}

kernel! {
    /// One panel, two groups.
    one_by_two,
    sums: 0 96, 1 104;
    inputs: input0 32, input1 40;
    weights: weights0 64;
    (weights 4 weights0)
    (input 6 input0) (multiply 0 4 6)
    (input 7 input1) (multiply 1 4 7)
}

kernel! {
    /// One panel, one group.
    one_by_one,
    sums: 0 96;
    inputs: input0 32;
    weights: weights0 64;
    (weights 4 weights0)
    (input 6 input0) (multiply 0 4 6)
}

kernel! {
    /// Two panels, two groups.
    two_by_two,
    sums: 0 96, 1 104, 2 112, 3 120;
    inputs: input0 32, input1 40;
    weights: weights0 64, weights1 72;
    (input 6 input0)
    (weights 4 weights0) (multiply 0 4 6)
    (weights 5 weights1) (multiply 2 5 6)
    (input 7 input1) (multiply 1 4 7) (multiply 3 5 7)
}

kernel! {
    /// Two panels, one group.
    two_by_one,
    sums: 0 96, 1 104;
    inputs: input0 32;
    weights: weights0 64, weights1 72;
    (input 6 input0)
    (weights 4 weights0) (multiply 0 4 6)
    (weights 5 weights1) (multiply 1 5 6)
}

kernel! {
    /// Three panels, two groups.
    three_by_two,
    sums: 0 96, 1 104, 2 112, 3 120, 4 128, 5 136;
    inputs: input0 32, input1 40;
    weights: weights0 64, weights1 72, weights2 80;
    (input 7 input0)
    (weights 6 weights0) (multiply 0 6 7)
    (weights 6 weights1) (multiply 2 6 7)
    (weights 6 weights2) (multiply 4 6 7)
    (input 7 input1)
    (weights 6 weights0) (multiply 1 6 7)
    (weights 6 weights1) (multiply 3 6 7)
    (weights 6 weights2) (multiply 5 6 7)
}

kernel! {
    /// Three panels, one group.
    three_by_one,
    sums: 0 96, 1 104, 2 112;
    inputs: input0 32;
    weights: weights0 64, weights1 72, weights2 80;
    (input 7 input0)
    (weights 6 weights0) (multiply 0 6 7)
    (weights 6 weights1) (multiply 1 6 7)
    (weights 6 weights2) (multiply 2 6 7)
}
