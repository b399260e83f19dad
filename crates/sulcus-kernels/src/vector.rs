//! One body of code, compiled once for each instruction set and chosen when it runs.
//!
//! A [`Kernel`] is written against [`Simd`]. [`vectorised`] finds out what the processor has and enters the kernel through
//! a function compiled for just that; everything the kernel calls must be `#[inline(always)]`, or it is compiled for the
//! baseline and twenty times as slow. A closure that holds vectors and is handed to another function is such a case.
#![expect(unsafe_code, reason = "vector instructions beyond the target's baseline are reached through intrinsics")]

#[cfg(target_arch = "x86_64")]
use crate::simd::Instructions;

/// Vectors of f32 of one instruction set. A value of an implementing type is the proof that the processor has it.
pub(crate) trait Simd: Copy {
    /// A register.
    type Vector: Copy;
    /// What one register holds, in memory: `[f32; LANES]`.
    type Chunk: Copy + AsRef<[f32]> + AsMut<[f32]>;
    /// Values in a register.
    const LANES: usize;
    /// Whether 32 registers are there rather than 16.
    const WIDE: bool;

    /// The whole registers of a slice, and the rest.
    fn chunks(self, values: &[f32]) -> (&[Self::Chunk], &[f32]);
    /// As `chunks`.
    fn chunks_mut(self, values: &mut [f32]) -> (&mut [Self::Chunk], &mut [f32]);
    fn load(self, from: &Self::Chunk) -> Self::Vector;
    fn store(self, value: Self::Vector, to: &mut Self::Chunk);
    fn splat(self, value: f32) -> Self::Vector;
    /// `[a, b, a, b, …]` of what [`pair`] packed.
    fn splat_pair(self, both: u64) -> Self::Vector;
    /// The sums of the even and of the odd lanes.
    fn sum_pairs(self, value: Self::Vector) -> [f32; 2];
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a · b + c
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a` where `by` is above 0, `b` elsewhere.
    fn where_positive(self, by: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// A register whose last lanes are `fill`, for the rest of a slice.
    #[inline(always)]
    fn load_rest(self, rest: &[f32], fill: f32) -> Self::Vector {
        let mut chunk = self.spread(fill);
        for (to, from) in chunk.as_mut().iter_mut().zip(rest) {
            *to = *from;
        }
        self.load(&chunk)
    }

    /// The first lanes of a register.
    #[inline(always)]
    fn store_rest(self, value: Self::Vector, rest: &mut [f32]) {
        let chunk = self.lanes(value);
        for (to, from) in rest.iter_mut().zip(chunk.as_ref()) {
            *to = *from;
        }
    }

    fn spread(self, value: f32) -> Self::Chunk;

    /// A register's values.
    #[inline(always)]
    fn lanes(self, value: Self::Vector) -> Self::Chunk {
        let mut chunk = self.spread(0.0);
        self.store(value, &mut chunk);
        chunk
    }

    /// The sum of a register's values, in one order, in double precision.
    #[inline(always)]
    fn sum(self, value: Self::Vector) -> f64 {
        let lanes = self.lanes(value);
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

/// Two values side by side, so that one load broadcasts both.
pub(crate) fn pair(a: f32, b: f32) -> u64 {
    u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32
}

/// The sum of a slice in one order: registers in single precision, then doubles.
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
    sums[1] = simd.add(sums[1], simd.load_rest(rest, 0.0));
    total(simd, sums)
}

/// The sum of four registers.
#[inline(always)]
pub(crate) fn total<S: Simd>(simd: S, sums: [S::Vector; 4]) -> f64 {
    simd.sum(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])))
}

/// Copies as many values as `to` takes; rows of a few registers are too short for a call of the library's.
#[inline(always)]
pub(crate) fn copy<S: Simd>(simd: S, from: &[f32], to: &mut [f32]) {
    let from = &from[..to.len()];
    if let Some(last) = to.len().checked_sub(S::LANES) {
        let (chunks, _) = simd.chunks(from);
        let (to_chunks, _) = simd.chunks_mut(to);
        for (from, to) in chunks.iter().zip(to_chunks) {
            *to = *from;
        }
        // The last register may overlap the one before.
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

/// Work that is compiled for each instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel with the widest vectors that this processor has.
pub(crate) fn vectorised<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if most() >= Instructions::Avx512
            && let Some(simd) = x86::Avx512::detect()
        {
            // SAFETY: `detect` found every feature that `avx512` is compiled with.
            return unsafe { x86::avx512(simd, kernel) };
        }
        if most() >= Instructions::Avx2
            && let Some(simd) = x86::Avx2::detect()
        {
            // SAFETY: `detect` found every feature that `avx2` is compiled with.
            return unsafe { x86::avx2(simd, kernel) };
        }
    }
    kernel.run(Portable)
}

/// The widest instructions that may be used: tests go through all of them.
#[cfg(target_arch = "x86_64")]
fn most() -> Instructions {
    #[cfg(test)]
    return crate::tests::limit();
    #[cfg(not(test))]
    Instructions::Avx512
}

/// Four lanes in plain Rust: SSE2, NEON or simd128, as the target's baseline has it.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Whether a fused multiply-add is one instruction of the target rather than a library's function.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; 4] {
    [f(0), f(1), f(2), f(3)]
}

impl Simd for Portable {
    type Vector = [f32; 4];
    type Chunk = [f32; 4];
    const LANES: usize = 4;
    const WIDE: bool = cfg!(target_arch = "aarch64");

    #[inline(always)]
    fn chunks(self, values: &[f32]) -> (&[[f32; 4]], &[f32]) {
        values.as_chunks()
    }
    #[inline(always)]
    fn chunks_mut(self, values: &mut [f32]) -> (&mut [[f32; 4]], &mut [f32]) {
        values.as_chunks_mut()
    }
    #[inline(always)]
    fn load(self, from: &[f32; 4]) -> [f32; 4] {
        *from
    }
    #[inline(always)]
    fn store(self, value: [f32; 4], to: &mut [f32; 4]) {
        *to = value;
    }
    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    fn spread(self, value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    fn splat_pair(self, both: u64) -> [f32; 4] {
        let (a, b) = (f32::from_bits(both as u32), f32::from_bits((both >> 32) as u32));
        [a, b, a, b]
    }
    #[inline(always)]
    fn sum_pairs(self, value: [f32; 4]) -> [f32; 2] {
        [value[0] + value[2], value[1] + value[3]]
    }
    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn fma(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        if FUSED { each(|i| a[i].mul_add(b[i], c[i])) } else { each(|i| a[i] * b[i] + c[i]) }
    }
    #[inline(always)]
    fn where_positive(self, by: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each(|i| if by[i] > 0.0 { a[i] } else { b[i] })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Simd};

    /// Enters a kernel with AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn avx512<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
        kernel.run(simd)
    }

    /// Enters a kernel with AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
        kernel.run(simd)
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(());

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(());

    impl Avx512 {
        pub(super) fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma");
            found.then_some(Self(()))
        }
    }

    impl Avx2 {
        pub(super) fn detect() -> Option<Self> {
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn pair512(both: i64) -> __m512 {
        _mm512_castsi512_ps(_mm512_set1_epi64(both))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn select512(by: __m512, a: __m512, b: __m512) -> __m512 {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(by, _mm512_setzero_ps()), b, a)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn pair256(both: i64) -> __m256 {
        _mm256_castsi256_ps(_mm256_set1_epi64x(both))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn select256(by: __m256, a: __m256, b: __m256) -> __m256 {
        _mm256_blendv_ps(b, a, _mm256_cmp_ps::<_CMP_GT_OQ>(by, _mm256_setzero_ps()))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2")]
    fn sums512(value: __m512) -> [f32; 2] {
        sums256(_mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps::<1>(value)))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sums256(value: __m256) -> [f32; 2] {
        let four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps::<1>(value));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        [_mm_cvtss_f32(two), _mm_cvtss_f32(_mm_movehdup_ps(two))]
    }

    /// Each intrinsic needs its features, which the token proves; loads and stores get an array of just their width.
    macro_rules! simd {
        ($token:ty, $vector:ty, $lanes:literal, $wide:literal, $load:ident, $store:ident, $splat:ident, $add:ident,
         $sub:ident, $mul:ident, $fma:ident, $pair:ident, $select:ident, $pairs:ident) => {
            impl Simd for $token {
                type Vector = $vector;
                type Chunk = [f32; $lanes];
                const LANES: usize = $lanes;
                const WIDE: bool = $wide;

                #[inline(always)]
                fn chunks(self, values: &[f32]) -> (&[Self::Chunk], &[f32]) {
                    values.as_chunks()
                }
                #[inline(always)]
                fn chunks_mut(self, values: &mut [f32]) -> (&mut [Self::Chunk], &mut [f32]) {
                    values.as_chunks_mut()
                }
                #[inline(always)]
                fn load(self, from: &Self::Chunk) -> Self::Vector {
                    // SAFETY: the token proves the features; `from` is readable over the register's width.
                    unsafe { $load(from.as_ptr()) }
                }
                #[inline(always)]
                fn store(self, value: Self::Vector, to: &mut Self::Chunk) {
                    // SAFETY: the token proves the features; `to` is writable over the register's width.
                    unsafe { $store(to.as_mut_ptr(), value) }
                }
                #[inline(always)]
                fn splat(self, value: f32) -> Self::Vector {
                    // SAFETY: the token proves the features.
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                fn spread(self, value: f32) -> Self::Chunk {
                    [value; $lanes]
                }
                #[inline(always)]
                fn splat_pair(self, both: u64) -> Self::Vector {
                    // SAFETY: the token proves the features.
                    unsafe { $pair(both.cast_signed()) }
                }
                #[inline(always)]
                fn sum_pairs(self, value: Self::Vector) -> [f32; 2] {
                    // SAFETY: the token proves the features.
                    unsafe { $pairs(value) }
                }
                #[inline(always)]
                fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                    // SAFETY: the token proves the features.
                    unsafe { $add(a, b) }
                }
                #[inline(always)]
                fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                    // SAFETY: the token proves the features.
                    unsafe { $sub(a, b) }
                }
                #[inline(always)]
                fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                    // SAFETY: the token proves the features.
                    unsafe { $mul(a, b) }
                }
                #[inline(always)]
                fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                    // SAFETY: the token proves the features.
                    unsafe { $fma(a, b, c) }
                }
                #[inline(always)]
                fn where_positive(self, by: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                    // SAFETY: the token proves the features.
                    unsafe { $select(by, a, b) }
                }
            }
        };
    }

    simd!(
        Avx512,
        __m512,
        16,
        true,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        pair512,
        select512,
        sums512
    );
    simd!(
        Avx2,
        __m256,
        8,
        false,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps,
        pair256,
        select256,
        sums256
    );
}
