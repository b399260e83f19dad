//! The precisions of the multiply-adds, and which of them this processor has instructions for.

use crate::amx::Amx;
use crate::conv::micro_kernel::LaneType;
use crate::error::KernelError;
use crate::instruction_set::{InstructionSet, instruction_set};

/// The precision of a layer's multiply-adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// Single precision.
    F32,
    /// Products of bfloat16 values, summed in single precision.
    Bf16,
    /// Products of unsigned 8-bit inputs and signed 8-bit weights, summed exactly in 32 bits.
    Int8,
}

impl Precision {
    /// Whether this processor has instructions for the precision: AMX or AVX512-BF16 for bfloat16; AMX, AVX512-VNNI, AVX-VNNI, AVX2 or SIMD128
    /// for integers.
    pub fn is_supported(self) -> bool {
        Machine::new(instruction_set(), self, MAX_AVX2_WEIGHT).is_ok()
    }
}

/// Whether a precision may be computed in plain Rust where the processor has no instructions for it, which is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulation {
    /// The layer is refused.
    Refused,
    /// The layer is computed in plain Rust.
    Allowed,
}

/// The largest absolute weight for which AVX2's sums of two products fit in 16 bits: 2 · 255 · 64 < 2¹⁵.
pub(super) const MAX_AVX2_WEIGHT: u8 = 64;

/// The instructions that compute a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    pub(super) instruction_set: InstructionSet,
    pub(super) lanes: LaneType,
    pub(super) precision: Precision,
    /// The proof of AMX, if it computes the layer.
    pub(super) amx: Option<Amx>,
}

impl Machine {
    /// The instructions for a precision, for 8-bit weights of at most `max_weight`.
    pub(super) fn new(
        instruction_set: InstructionSet,
        precision: Precision,
        max_weight: u8,
    ) -> Result<Self, KernelError> {
        let lanes = match precision {
            Precision::F32 => Some(LaneType::single(instruction_set)),
            Precision::Bf16 => bf16_lanes(instruction_set),
            Precision::Int8 => int8_lanes(instruction_set, max_weight),
        };
        let lanes = lanes.ok_or(KernelError::Unsupported(match precision {
            Precision::Bf16 => "bfloat16",
            _ => "8-bit integers",
        }))?;
        let multiplies_tiles = instruction_set >= InstructionSet::Amx && precision != Precision::F32;
        let amx = if multiplies_tiles { Amx::detect() } else { None };
        Ok(Self { instruction_set, lanes, precision, amx })
    }

    /// Bfloat16 with AMX.
    pub(super) fn bf16(amx: Amx) -> Self {
        let instruction_set = InstructionSet::Amx;
        let lanes = bf16_lanes(instruction_set).unwrap_or(LaneType::ArrayBf16);
        Self { instruction_set, lanes, precision: Precision::Bf16, amx: Some(amx) }
    }

    /// The same, in plain Rust where it is allowed and the processor has no instructions.
    pub(super) fn with_emulation(
        instruction_set: InstructionSet,
        precision: Precision,
        max_weight: u8,
        emulation: Emulation,
    ) -> Result<Self, KernelError> {
        match (Self::new(instruction_set, precision, max_weight), emulation) {
            (Err(_), Emulation::Allowed) => Ok(Self::emulated(instruction_set, precision)),
            (found, _) => found,
        }
    }

    /// Plain Rust.
    pub(super) fn emulated(instruction_set: InstructionSet, precision: Precision) -> Self {
        let lanes = match precision {
            Precision::F32 => LaneType::Array,
            Precision::Bf16 => LaneType::ArrayBf16,
            Precision::Int8 => LaneType::ArrayInt8,
        };
        Self { instruction_set, lanes, precision, amx: None }
    }
}

#[cfg(target_arch = "x86_64")]
fn bf16_lanes(instruction_set: InstructionSet) -> Option<LaneType> {
    let found = instruction_set >= InstructionSet::Avx512 && is_x86_feature_detected!("avx512bf16");
    found.then_some(LaneType::Avx512Bf16)
}

#[cfg(not(target_arch = "x86_64"))]
fn bf16_lanes(_: InstructionSet) -> Option<LaneType> {
    None
}

#[cfg(target_arch = "x86_64")]
fn int8_lanes(instruction_set: InstructionSet, max_weight: u8) -> Option<LaneType> {
    if instruction_set >= InstructionSet::Avx512 && is_x86_feature_detected!("avx512vnni") {
        return Some(LaneType::Avx512Vnni);
    }
    if instruction_set >= InstructionSet::Avx2 && is_x86_feature_detected!("avxvnni") {
        return Some(LaneType::AvxVnni);
    }
    let found = instruction_set >= InstructionSet::Avx2 && max_weight <= MAX_AVX2_WEIGHT;
    found.then_some(LaneType::Avx2Int8)
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
fn int8_lanes(_: InstructionSet, _: u8) -> Option<LaneType> {
    Some(LaneType::Simd128Int8)
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
fn int8_lanes(_: InstructionSet, _: u8) -> Option<LaneType> {
    None
}
