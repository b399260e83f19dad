//! Multiplication of tiles of matrices, by Intel's Advanced Matrix Extensions.
//!
//! A tile register holds up to sixteen rows of 64 bytes, and one instruction multiplies two tiles: sixteen output channels, times
//! sixteen positions, times as many input channels as 64 bytes hold. The time of an instruction does not depend on how much of its tiles
//! is used. Tiles have to be read from cache lines: a tile whose rows straddle two lines each takes five times as long to load.
//!
//! The compiler knows neither these registers nor these instructions. Each kernel is therefore one block of assembly, between whose
//! beginning and end the registers are used, so that none of their contents lives across compiled code.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "instructions that the compiler does not know"))]

#[cfg(target_arch = "x86_64")]
mod detect;
#[cfg(target_arch = "x86_64")]
mod kernels;
#[cfg(target_arch = "x86_64")]
mod round;

#[cfg(target_arch = "x86_64")]
pub(crate) use detect::Amx;
#[cfg(target_arch = "x86_64")]
pub(crate) use kernels::{Operands, Roles, TileArgs, TileSegment, Tiles};

/// The rows of a tile, the cells of 32 bits in one of its rows, and the floats of a cache line.
pub(crate) const EDGE: usize = 16;

/// The proof that a processor has AMX, of which there is none on this architecture.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Amx {}

#[cfg(not(target_arch = "x86_64"))]
impl Amx {
    /// Always `None`.
    pub(crate) fn detect() -> Option<Self> {
        None
    }
}
