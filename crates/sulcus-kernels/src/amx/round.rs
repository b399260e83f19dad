//! Rounding to bfloat16.

use std::arch::x86_64::{
    __m256bh, __m256i, _MM_HINT_T0, _mm_prefetch, _mm256_mask_storeu_epi16, _mm512_cvtneps_pbh,
    _mm512_maskz_loadu_ps,
};

use super::EDGE;
use super::detect::Amx;

impl Amx {
    /// Rounds a row to the nearest bfloat16 values, half to even. Numbers below 2⁻¹²⁶ become zero.
    ///
    /// # Panics
    ///
    /// If the target is shorter than the row.
    pub(crate) fn round_row(self, row: &[f32], target: &mut [u16]) {
        let target = &mut target[..row.len()];
        // SAFETY: the token proves the instructions.
        unsafe {
            round(row, target);
        }
    }
}

/// Rounds a row. The target is as long.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn round(row: &[f32], target: &mut [u16]) {
    let length = row.len();
    for (row, target) in row.chunks(EDGE).zip(target.chunks_mut(EDGE)) {
        // Rows are rounded for many channels in turn, and the next row of each follows in memory.
        _mm_prefetch::<_MM_HINT_T0>(row.as_ptr().wrapping_add(length).cast());
        let mask = ((1_u32 << row.len()) - 1) as u16;
        // SAFETY: the mask selects the elements of both chunks, which have the same length. Both types of registers have the same size,
        // and any bits are valid.
        unsafe {
            let halves = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, row.as_ptr()));
            let halves = std::mem::transmute::<__m256bh, __m256i>(halves);
            _mm256_mask_storeu_epi16(target.as_mut_ptr().cast(), mask, halves);
        }
    }
}
