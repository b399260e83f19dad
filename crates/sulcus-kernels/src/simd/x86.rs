//! AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::intrinsics::simd;
use super::{Kernel, Simd};

/// Runs a kernel compiled for AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) fn avx512<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// Runs a kernel compiled for AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) fn avx2<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
    kernel.run(simd)
}

/// The token for AVX-512.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// The token for AVX2 and FMA.
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
fn select512(condition: __m512, a: __m512, b: __m512) -> __m512 {
    _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(condition, _mm512_setzero_ps()), b, a)
}

#[inline]
#[target_feature(enable = "avx2")]
fn pair256(both: i64) -> __m256 {
    _mm256_castsi256_ps(_mm256_set1_epi64x(both))
}

#[inline]
#[target_feature(enable = "avx2")]
fn select256(condition: __m256, a: __m256, b: __m256) -> __m256 {
    _mm256_blendv_ps(b, a, _mm256_cmp_ps::<_CMP_GT_OQ>(condition, _mm256_setzero_ps()))
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
