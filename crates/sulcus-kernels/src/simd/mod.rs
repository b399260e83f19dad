//! Generic SIMD kernels with run-time dispatch.
//!
//! A [`Kernel`] is written once against [`Simd`]. [`dispatch`] detects the instruction set of the processor and runs the
//! kernel inside a function that is compiled for it. Everything that a kernel calls must be `#[inline(always)]`; otherwise
//! it is compiled for the target's baseline and runs about twenty times slower. The same holds for a closure that uses
//! vectors and is passed to a function that is not inlined.
#![cfg_attr(
    any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")),
    expect(
        unsafe_code,
        reason = "vector instructions beyond the target's baseline are reached through intrinsics"
    )
)]

#[cfg(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128")))]
mod intrinsics;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::instruction_set::InstructionSet;

/// `f32` vectors of one instruction set. A value of an implementing type is a token that proves that the processor has the
/// instruction set.
pub(crate) trait Simd: Copy {
    /// One register.
    type Vector: Copy;
    /// The values of one register in memory: `[f32; LANES]`.
    type Chunk: Copy + AsRef<[f32]> + AsMut<[f32]>;
    /// The number of `f32` values in a register.
    const LANES: usize;
    /// Whether the processor has 32 vector registers rather than 16.
    const HAS_32_REGISTERS: bool;

    /// Splits a slice into full registers and the remainder.
    fn chunks(self, values: &[f32]) -> (&[Self::Chunk], &[f32]);
    /// As [`Simd::chunks`].
    fn chunks_mut(self, values: &mut [f32]) -> (&mut [Self::Chunk], &mut [f32]);
    fn load(self, from: &Self::Chunk) -> Self::Vector;
    fn store(self, value: Self::Vector, to: &mut Self::Chunk);
    fn splat(self, value: f32) -> Self::Vector;
    /// `[a, b, a, b, …]` from the result of [`pack_pair`].
    fn splat_pair(self, both: u64) -> Self::Vector;
    /// The sum of the even lanes and the sum of the odd lanes.
    fn sum_pairs(self, value: Self::Vector) -> [f32; 2];
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`.
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Per lane: `a` where `condition` is greater than 0, `b` elsewhere.
    fn select_positive(self, condition: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// Loads a remainder; the lanes after it are `fill`.
    #[inline(always)]
    fn load_partial(self, rest: &[f32], fill: f32) -> Self::Vector {
        let mut chunk = self.splat_chunk(fill);
        for (to, from) in chunk.as_mut().iter_mut().zip(rest) {
            *to = *from;
        }
        self.load(&chunk)
    }

    /// Stores the first lanes of a register to a remainder.
    #[inline(always)]
    fn store_partial(self, value: Self::Vector, rest: &mut [f32]) {
        let chunk = self.to_chunk(value);
        for (to, from) in rest.iter_mut().zip(chunk.as_ref()) {
            *to = *from;
        }
    }

    /// A chunk of equal values.
    fn splat_chunk(self, value: f32) -> Self::Chunk;

    /// The values of a register.
    #[inline(always)]
    fn to_chunk(self, value: Self::Vector) -> Self::Chunk {
        let mut chunk = self.splat_chunk(0.0);
        self.store(value, &mut chunk);
        chunk
    }

    /// The sum of a register's lanes in double precision. The order of summation is the same for every register width.
    #[inline(always)]
    fn sum(self, value: Self::Vector) -> f64 {
        let lanes = self.to_chunk(value);
        let (fours, _) = lanes.as_ref().as_chunks::<4>();
        let mut sums = [0.0; 4];
        for four in fours {
            for i in 0..4 {
                sums[i] += f64::from(four[i]);
            }
        }
        (sums[0] + sums[1]) + (sums[2] + sums[3])
    }
}

/// Packs two values so that one 64-bit load broadcasts both.
pub(crate) fn pack_pair(a: f32, b: f32) -> u64 {
    u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32
}

/// The sum of a slice in a fixed order: per register lane in single precision, then over the lanes in double precision.
#[inline(always)]
pub(crate) fn sum<S: Simd>(simd: S, values: &[f32]) -> f64 {
    let mut sums = [simd.splat(0.0); 4];
    let (chunks, rest) = simd.chunks(values);
    let mut fours = chunks.chunks_exact(4);
    for four in &mut fours {
        for i in 0..4 {
            sums[i] = simd.add(sums[i], simd.load(&four[i]));
        }
    }
    for chunk in fours.remainder() {
        sums[0] = simd.add(sums[0], simd.load(chunk));
    }
    sums[1] = simd.add(sums[1], simd.load_partial(rest, 0.0));
    sum_registers(simd, sums)
}

/// The sum of the lanes of four registers.
#[inline(always)]
pub(crate) fn sum_registers<S: Simd>(simd: S, sums: [S::Vector; 4]) -> f64 {
    simd.sum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])))
}

/// Copies `to.len()` values. For rows of a few registers this is faster than a call of `memcpy`.
#[inline(always)]
pub(crate) fn copy<S: Simd>(simd: S, from: &[f32], to: &mut [f32]) {
    let from = &from[..to.len()];
    if let Some(last) = to.len().checked_sub(S::LANES) {
        let (chunks, _) = simd.chunks(from);
        let (to_chunks, _) = simd.chunks_mut(to);
        for (from, to) in chunks.iter().zip(to_chunks) {
            *to = *from;
        }
        // The last register may overlap the one before it.
        if let ([from], [to]) = (simd.chunks(&from[last..]).0, simd.chunks_mut(&mut to[last..]).0) {
            *to = *from;
        }
    } else if let Some(last) = to.len().checked_sub(4) {
        for (from, to) in from.as_chunks::<4>().0.iter().zip(to.as_chunks_mut::<4>().0) {
            *to = *from;
        }
        if let ([from], [to]) = (from[last..].as_chunks::<4>().0, to[last..].as_chunks_mut::<4>().0) {
            *to = *from;
        }
    } else {
        for (from, to) in from.iter().zip(to) {
            *to = *from;
        }
    }
}

/// Code that is compiled for each instruction set. Implementations of `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel with the widest vectors of this processor.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_on(max_instruction_set(), kernel)
}

/// Runs a kernel with the vectors of an instruction set, or the widest narrower ones that this processor has.
#[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "there is one instruction set"))]
pub(crate) fn dispatch_on<K: Kernel>(instruction_set: InstructionSet, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if instruction_set >= InstructionSet::Avx512
            && let Some(simd) = x86::Avx512::detect()
        {
            // SAFETY: `detect` found every target feature that `avx512` enables.
            return unsafe { x86::avx512(simd, kernel) };
        }
        if instruction_set >= InstructionSet::Avx2
            && let Some(simd) = x86::Avx2::detect()
        {
            // SAFETY: `detect` found every target feature that `avx2` enables.
            return unsafe { x86::avx2(simd, kernel) };
        }
    }
    // A module that is compiled for SIMD128 does not run without it.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    return kernel.run(wasm::Simd128::new());
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    kernel.run(portable::Portable)
}

/// The widest instruction set that may be used. Tests run with each of them.
pub(crate) fn max_instruction_set() -> InstructionSet {
    #[cfg(test)]
    return crate::tests::max_instruction_set();
    #[cfg(not(test))]
    InstructionSet::Amx
}
