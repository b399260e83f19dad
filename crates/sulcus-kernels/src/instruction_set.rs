//! The SIMD instruction sets that the kernels are compiled for, and which of them this processor has.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::amx::Amx;

/// A SIMD instruction set that the kernels are compiled for, in ascending order of register width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum InstructionSet {
    /// Portable Rust, auto-vectorised by the compiler for the target's baseline (SSE2 or NEON).
    Portable,
    /// WebAssembly with SIMD128: 4 lanes of `f32` per register. Known when a module is compiled, because browsers without it refuse
    /// the whole module.
    Simd128,
    /// x86-64 with AVX2 and FMA: 8 lanes of `f32` per register.
    Avx2,
    /// x86-64 with AVX-512F: 16 lanes of `f32` per register.
    Avx512,
    /// x86-64 with AMX for bfloat16 and 8-bit integers, on Linux, and the extensions of AVX-512 that come with it. Layers for inference in
    /// these precisions and [`Bf16Convolution`](crate::Bf16Convolution) multiply tiles of matrices; everything else is computed as with
    /// [`Self::Avx512`].
    Amx,
}

/// The instruction set that the convolutions use on this processor: the widest one that it has.
#[must_use]
pub fn instruction_set() -> InstructionSet {
    static FOUND: OnceLock<InstructionSet> = OnceLock::new();
    *FOUND.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if Amx::detect().is_some() {
                return InstructionSet::Amx;
            }
            if is_x86_feature_detected!("avx512f") {
                return InstructionSet::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return InstructionSet::Avx2;
            }
        }
        if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) {
            InstructionSet::Simd128
        } else {
            InstructionSet::Portable
        }
    })
}
