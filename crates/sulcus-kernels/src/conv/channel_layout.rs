//! Conversion between planar tensors (one channel after the other) and channel-blocked ones (sixteen channels interleaved
//! per position, oneDNN's nChw16c).

use crate::instruction_set::InstructionSet;
use crate::scratch::{LANES, SharedMut};

/// Fills `target`, `[positions][16]`, from `used` channels that are `plane` floats apart. The other lanes become zero.
pub(crate) fn interleave(
    instruction_set: InstructionSet,
    source: &[f32],
    plane: usize,
    used: usize,
    target: &mut [f32],
) {
    let count = target.len() / LANES;
    let done = interleave_wide(instruction_set, source, plane, used, target);
    let target = &mut target[done * LANES..];
    for lane in 0..LANES {
        if lane < used {
            let channel = &source[lane * plane + done..][..count - done];
            for (target, value) in target.chunks_exact_mut(LANES).zip(channel) {
                target[lane] = *value;
            }
        } else {
            for target in target.chunks_exact_mut(LANES) {
                target[lane] = 0.0;
            }
        }
    }
}

/// The part of [`interleave`] that vector instructions do; returns the number of positions done.
#[cfg(target_arch = "x86_64")]
fn interleave_wide(
    instruction_set: InstructionSet,
    source: &[f32],
    plane: usize,
    used: usize,
    target: &mut [f32],
) -> usize {
    let count = target.len() / LANES;
    if instruction_set < InstructionSet::Avx512 || used == 0 || source.len() < (used - 1) * plane + count {
        return 0;
    }
    // The last register may read values after those that are wanted, where there are some.
    let reads_last = source.len() >= (used - 1) * plane + count.next_multiple_of(LANES);
    let done = if reads_last { count } else { count / LANES * LANES };
    for (index, target) in target[..done * LANES].chunks_mut(LANES * LANES).enumerate() {
        #[expect(unsafe_code, reason = "vector instructions")]
        // SAFETY: AVX-512 was detected; sixteen floats of each used channel lie within the source, and the positions within the target.
        unsafe {
            x86::interleave_16(source[index * LANES..].as_ptr(), plane, used, target);
        }
    }
    done
}

/// Without AVX-512 the scalar loop does everything.
#[cfg(not(target_arch = "x86_64"))]
fn interleave_wide(_: InstructionSet, _: &[f32], _: usize, _: usize, _: &mut [f32]) -> usize {
    0
}

/// Writes `sums`, `[positions][16]`, to `channels`, to every `step`-th element from `offset` on.
///
/// # Safety
///
/// The processor must have the instruction set. Each of at most sixteen `channels` must be writable at `offset + step·p` for
/// every position, and no other thread may access these elements.
#[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
pub(crate) unsafe fn deinterleave(
    instruction_set: InstructionSet,
    sums: &[f32],
    channels: &[SharedMut],
    offset: usize,
    step: usize,
) {
    // SAFETY: guaranteed by the caller.
    let done = unsafe { deinterleave_wide(instruction_set, sums, channels, [offset, step]) };
    for (lane, channel) in channels.iter().enumerate() {
        for (position, sums) in sums.chunks_exact(LANES).enumerate().skip(done) {
            // SAFETY: the caller guarantees the element.
            unsafe { channel.pointer().add(offset + step * position).write(sums[lane]) };
        }
    }
}

/// The part of [`deinterleave`] that vector instructions do; returns the number of positions done. `place` is the offset and the
/// step.
///
/// # Safety
///
/// As [`deinterleave`].
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
unsafe fn deinterleave_wide(
    instruction_set: InstructionSet,
    sums: &[f32],
    channels: &[SharedMut],
    [offset, step]: [usize; 2],
) -> usize {
    if instruction_set < InstructionSet::Avx512 || step > 2 {
        return 0;
    }
    for (index, sums) in sums.chunks(LANES * LANES).enumerate() {
        // SAFETY: AVX-512 was detected, and the caller guarantees the elements.
        unsafe { x86::deinterleave_16(sums, channels, offset + step * LANES * index, step) };
    }
    sums.len() / LANES
}

/// As on x86-64.
///
/// # Safety
///
/// As [`deinterleave`].
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
unsafe fn deinterleave_wide(
    instruction_set: InstructionSet,
    sums: &[f32],
    channels: &[SharedMut],
    [offset, step]: [usize; 2],
) -> usize {
    if instruction_set != InstructionSet::Simd128 || step > 1 {
        return 0;
    }
    // SAFETY: the caller guarantees the elements.
    unsafe { wasm::deinterleave_4(sums, channels, offset) }
}

/// Elsewhere the scalar loop does everything.
///
/// # Safety
///
/// None; the function is unsafe as its other versions.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "wasm32", target_feature = "simd128"))))]
#[expect(unsafe_code, reason = "as its other versions")]
unsafe fn deinterleave_wide(_: InstructionSet, _: &[f32], _: &[SharedMut], _: [usize; 2]) -> usize {
    0
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::scratch::{LANES, SharedMut};
    use std::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_permutexvar_ps,
        _mm512_setr_epi32, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd,
        _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    /// Transposes a 16×16 matrix.
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

    /// Up to sixteen positions of [`super::interleave`].
    ///
    /// # Safety
    ///
    /// Sixteen floats must be readable at `source` and at each of the first `used` multiples of `plane` after it.
    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "vector instructions")]
    pub(super) unsafe fn interleave_16(source: *const f32, plane: usize, used: usize, target: &mut [f32]) {
        let mut channels = [_mm512_setzero_ps(); 16];
        for (index, channel) in channels.iter_mut().enumerate().take(used) {
            // SAFETY: the caller guarantees the floats.
            *channel = unsafe { _mm512_loadu_ps(source.add(index * plane)) };
        }
        for (target, position) in target.as_chunks_mut::<LANES>().0.iter_mut().zip(transpose(channels)) {
            // SAFETY: `target` is an array of sixteen floats.
            unsafe { _mm512_storeu_ps(target.as_mut_ptr(), position) };
        }
    }

    /// Up to sixteen positions of [`super::deinterleave`], with a step of 1 or 2.
    ///
    /// # Safety
    ///
    /// As [`super::deinterleave`].
    #[target_feature(enable = "avx512f")]
    #[expect(unsafe_code, reason = "vector instructions")]
    pub(super) unsafe fn deinterleave_16(sums: &[f32], channels: &[SharedMut], offset: usize, step: usize) {
        let mut positions = [_mm512_setzero_ps(); 16];
        let count = (sums.len() / LANES).min(16);
        for (position, sums) in positions.iter_mut().zip(sums.as_chunks::<LANES>().0) {
            // SAFETY: `sums` is an array of sixteen floats.
            *position = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
        }
        let rows = transpose(positions);
        if step == 1 {
            let mask = ((1u32 << count) - 1) as u16;
            for (channel, row) in channels.iter().zip(rows) {
                // SAFETY: the mask selects the elements that the caller guarantees.
                unsafe { _mm512_mask_storeu_ps(channel.pointer().add(offset), mask, row) };
            }
            return;
        }
        // Every second element: each half of a row is spread over one register.
        let spread = ((1u64 << (2 * count)) - 1) & 0x5555_5555;
        let (first, second) = (spread as u16, (spread >> 16) as u16);
        let low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        let high = _mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
        for (channel, row) in channels.iter().zip(rows) {
            // SAFETY: the masks select the elements that the caller guarantees. The address of the second store is formed only
            // when its mask is not empty, since it may otherwise lie outside the channel.
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

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use crate::scratch::{LANES, SharedMut};
    use std::arch::wasm32::{i32x4_shuffle, i64x2_shuffle, v128, v128_load, v128_store};

    /// Transposes a 4×4 matrix.
    #[inline(always)]
    fn transpose([a, b, c, d]: [v128; 4]) -> [v128; 4] {
        let (low, high) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
        let (next_low, next_high) = (i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
        [
            i64x2_shuffle::<0, 2>(low, next_low),
            i64x2_shuffle::<1, 3>(low, next_low),
            i64x2_shuffle::<0, 2>(high, next_high),
            i64x2_shuffle::<1, 3>(high, next_high),
        ]
    }

    /// The positions of [`super::deinterleave`] in whole groups of four, with a step of 1; returns their number.
    ///
    /// # Safety
    ///
    /// As [`super::deinterleave`].
    #[expect(unsafe_code, reason = "vector instructions")]
    pub(super) unsafe fn deinterleave_4(sums: &[f32], channels: &[SharedMut], offset: usize) -> usize {
        let (fours, _) = sums.as_chunks::<{ 4 * LANES }>();
        for (group, channels) in channels.chunks(4).enumerate() {
            for (index, sums) in fours.iter().enumerate() {
                let at = |position: usize| sums[position * LANES + 4 * group..].as_ptr().cast::<v128>();
                // SAFETY: each position has sixteen sums, four of each group.
                let positions = unsafe { [0, 1, 2, 3].map(|position| v128_load(at(position))) };
                for (channel, values) in channels.iter().zip(transpose(positions)) {
                    // SAFETY: the caller guarantees the elements of four positions. Registers are stored to any address.
                    unsafe { v128_store(channel.pointer().add(offset + 4 * index).cast(), values) };
                }
            }
        }
        4 * fours.len()
    }
}
