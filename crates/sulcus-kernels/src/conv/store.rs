//! Between sixteen channels side by side and one channel after another.

use crate::scratch::{LINE, SharedMut};
use crate::simd::Instructions;

/// Rows of `target` (`[positions][16]`) from `used` channels that lie `plane` floats apart; the other lanes become zero.
pub(super) fn interleave(
    instructions: Instructions,
    source: &[f32],
    plane: usize,
    used: usize,
    target: &mut [f32],
) {
    let count = target.len() / LINE;
    let done = interleave_wide(instructions, source, plane, used, target);
    let target = &mut target[done * LINE..];
    for lane in 0..LINE {
        if lane < used {
            let channel = &source[lane * plane + done..][..count - done];
            for (target, value) in target.chunks_exact_mut(LINE).zip(channel) {
                target[lane] = *value;
            }
        } else {
            for target in target.chunks_exact_mut(LINE) {
                target[lane] = 0.0;
            }
        }
    }
}

/// As many positions of [`interleave`] as whole registers cover; returns how many.
#[cfg(target_arch = "x86_64")]
fn interleave_wide(
    instructions: Instructions,
    source: &[f32],
    plane: usize,
    used: usize,
    target: &mut [f32],
) -> usize {
    let count = target.len() / LINE;
    if instructions != Instructions::Avx512 || used == 0 || source.len() < (used - 1) * plane + count {
        return 0;
    }
    let whole = count / LINE * LINE;
    for (index, target) in target.chunks_exact_mut(LINE * LINE).enumerate() {
        #[expect(unsafe_code, reason = "vector instructions")]
        // SAFETY: AVX-512 was detected; sixteen floats of each used channel and 256 of the target lie within the slices.
        unsafe {
            x86::interleave_16(source[index * LINE..].as_ptr(), plane, used, target.as_mut_ptr());
        }
    }
    whole
}

/// No wide registers here.
#[cfg(not(target_arch = "x86_64"))]
fn interleave_wide(_: Instructions, _: &[f32], _: usize, _: usize, _: &mut [f32]) -> usize {
    0
}

/// Writes `sums` (`[positions][16]`) to `channels`, every `step`-th element from `offset` on.
///
/// # Safety
///
/// The instructions are this processor's. Each of at most sixteen `channels` can be written at `offset + step·p` for every
/// position, and nobody else does.
#[expect(unsafe_code, reason = "channels of one tensor are written by several threads")]
pub(super) unsafe fn scatter(
    instructions: Instructions,
    sums: &[f32],
    channels: &[SharedMut],
    offset: usize,
    step: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if instructions == Instructions::Avx512 && step <= 2 {
        for (index, sums) in sums.chunks(LINE * LINE).enumerate() {
            // SAFETY: AVX-512 was detected, and the caller vouches for the elements.
            unsafe { x86::scatter_16(sums, channels, offset + step * LINE * index, step) };
        }
        return;
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = instructions;
    for (lane, channel) in channels.iter().enumerate() {
        for (position, sums) in sums.chunks_exact(LINE).enumerate() {
            // SAFETY: the caller vouches for the element.
            unsafe { channel.pointer().add(offset + step * position).write(sums[lane]) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::scratch::{LINE, SharedMut};
    use std::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_permutexvar_ps,
        _mm512_setr_epi32, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd,
        _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    /// Rows become columns.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transpose(rows: [__m512; 16]) -> [__m512; 16] {
        let mut pairs = rows;
        for (pairs, rows) in pairs.as_chunks_mut::<2>().0.iter_mut().zip(rows.as_chunks::<2>().0) {
            *pairs = [_mm512_unpacklo_ps(rows[0], rows[1]), _mm512_unpackhi_ps(rows[0], rows[1])];
        }
        let mut fours = pairs;
        for (fours, pairs) in fours.as_chunks_mut::<4>().0.iter_mut().zip(pairs.as_chunks::<4>().0) {
            let pairs = pairs.map(|lanes| _mm512_castps_pd(lanes));
            *fours = [
                _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[0], pairs[2])),
                _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[0], pairs[2])),
                _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[1], pairs[3])),
                _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[1], pairs[3])),
            ];
        }
        // `fours[4·r + c]` holds column `c` of each quarter of the rows `4·r..4·r + 4`.
        let mut columns = fours;
        for c in 0..4 {
            let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[c], fours[4 + c]);
            let low_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[c], fours[4 + c]);
            let high = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[8 + c], fours[12 + c]);
            let high_odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[8 + c], fours[12 + c]);
            columns[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low, high);
            columns[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low, high);
            columns[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low_odd, high_odd);
            columns[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low_odd, high_odd);
        }
        columns
    }

    /// # Safety
    ///
    /// Sixteen floats can be read at `source` and at each of the first `used` multiples of `plane` beyond it, and 256 written at
    /// `target`.
    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "vector instructions")]
    pub(super) unsafe fn interleave_16(source: *const f32, plane: usize, used: usize, target: *mut f32) {
        let mut channels = [_mm512_setzero_ps(); 16];
        for (index, channel) in channels.iter_mut().enumerate().take(used) {
            // SAFETY: the caller vouches for the floats.
            *channel = unsafe { _mm512_loadu_ps(source.add(index * plane)) };
        }
        for (index, position) in transpose(channels).into_iter().enumerate() {
            // SAFETY: the caller vouches for the floats.
            unsafe { _mm512_storeu_ps(target.add(index * LINE), position) };
        }
    }

    /// Up to sixteen positions of [`super::scatter`], with a step of 1 or 2.
    ///
    /// # Safety
    ///
    /// As [`super::scatter`].
    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "vector instructions")]
    pub(super) unsafe fn scatter_16(sums: &[f32], channels: &[SharedMut], offset: usize, step: usize) {
        let mut positions = [_mm512_setzero_ps(); 16];
        let count = (sums.len() / LINE).min(16);
        for (position, sums) in positions.iter_mut().zip(sums.as_chunks::<LINE>().0) {
            // SAFETY: `sums` is an array of sixteen floats.
            *position = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
        }
        let rows = transpose(positions);
        if step == 1 {
            let mask = ((1u32 << count) - 1) as u16;
            for (channel, row) in channels.iter().zip(rows) {
                // SAFETY: the mask leaves the elements that the caller vouches for.
                unsafe { _mm512_mask_storeu_ps(channel.pointer().add(offset), mask, row) };
            }
            return;
        }
        // Every second element: the first half of a row spread over one register, the second over another.
        let spread = ((1u64 << (2 * count)) - 1) & 0x5555_5555;
        let (first, second) = (spread as u16, (spread >> 16) as u16);
        let low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        let high = _mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
        for (channel, row) in channels.iter().zip(rows) {
            // SAFETY: the masks leave the elements that the caller vouches for. The second store's address may lie beyond the
            // channel where its mask is empty, so it is formed without a promise to lie within.
            unsafe {
                let target = channel.pointer().add(offset);
                _mm512_mask_storeu_ps(target, first, _mm512_permutexvar_ps(low, row));
                if second != 0 {
                    _mm512_mask_storeu_ps(target.add(16), second, _mm512_permutexvar_ps(high, row));
                }
            }
        }
    }
}
