//! The epilogue of sums that are planar already, `[channel][column]`: those of tiles.

use std::arch::x86_64::*;

use super::{Epilogue, Run, Target};
use crate::amx::Amx;
use crate::inference::moments::SegmentSums;
use crate::inference::rows::Quantizer;
use crate::inference::tensor::{ChannelTransform, LayerInput, Quantization, Values};
use crate::scratch::LANES;

/// The largest number of sums that are added for an output: the taps along W.
pub(in crate::inference) const MAX_TAPS: usize = 7;

/// The sums of a run for one panel.
pub(in crate::inference) struct PlanarSums<'a> {
    /// The sums of each tap for the first column and channel of the run, in floats or 32-bit integers.
    taps: [&'a [f32]; MAX_TAPS],
    count: usize,
    /// Floats from one channel to the next.
    pitch: usize,
    /// Whether the taps are neighbouring columns of the output, and not added.
    alternates: bool,
}

impl<'a> PlanarSums<'a> {
    /// Sums without taps.
    pub(in crate::inference) fn new(pitch: usize, alternates: bool) -> Self {
        Self { taps: [&[]; MAX_TAPS], count: 0, pitch, alternates }
    }

    /// Adds a tap, with its sums from the first column of the first channel on.
    pub(in crate::inference) fn push(&mut self, sums: &'a [f32]) {
        if let Some(tap) = self.taps.get_mut(self.count) {
            *tap = sums;
            self.count += 1;
        }
    }
}

/// The running sums of a segment for one panel: sixteen partial sums for each channel. Of values that are stored in integers they are in
/// units of their scale, which are exact, and from [`Quantizer::ROUND`].
#[repr(align(64))]
pub(in crate::inference) struct PlanarMoments {
    sum: [[f32; LANES]; LANES],
    squares: [[f32; LANES]; LANES],
    shift: [f32; LANES],
    count: usize,
}

impl PlanarMoments {
    pub(in crate::inference) const EMPTY: Self =
        Self { sum: [[0.0; LANES]; LANES], squares: [[0.0; LANES]; LANES], shift: [0.0; LANES], count: 0 };
}

/// How the sums of an output are added.
mod adding {
    pub(super) const ONE: u8 = 0;
    pub(super) const THREE: u8 = 1;
    pub(super) const ANY: u8 = 2;
    /// Two taps alternate.
    pub(super) const TWO: u8 = 3;
}

/// The storage of the output.
mod storage {
    pub(super) const F32: u8 = 0;
    pub(super) const BF16: u8 = 1;
    pub(super) const U8: u8 = 2;
}

impl Epilogue<'_> {
    /// Writes one panel of a run of one row.
    ///
    /// # Safety
    ///
    /// The run lies within the output, and no other thread writes it. Each tap has sixteen channels of as many columns as the run, or half
    /// as many if the taps alternate, and can be read fifteen columns further.
    #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
    pub(in crate::inference) unsafe fn write_planar(
        &self,
        _: Amx,
        run: Run,
        panel: usize,
        sums: &PlanarSums<'_>,
        moments: &mut PlanarMoments,
    ) {
        let row = Row { epilogue: self, run, panel: run.first_panel + panel, sums };
        // SAFETY: the token proves the instructions; the rest is guaranteed by the caller.
        unsafe {
            match self.target {
                Target::F32(_) => row.write_storage::<{ storage::F32 }>(moments),
                Target::Bf16(_) => row.write_storage::<{ storage::BF16 }>(moments),
                Target::U8(..) => row.write_storage::<{ storage::U8 }>(moments),
            }
        }
        if let Some(writer) = self.moments
            && run.is_last
        {
            // SAFETY: the token proves the instructions.
            let [sum, squares] = unsafe { [lane_sums(&moments.sum), lane_sums(&moments.squares)] };
            let segment = match self.target {
                Target::U8(_, Quantization { scale, .. }) => {
                    let shift = moments.shift.map(|rounded| (rounded - Quantizer::ROUND) * scale);
                    let (sum, squares) = (sum.map(|sum| sum * scale), squares.map(|sum| sum * (scale * scale)));
                    SegmentSums::new(shift, [sum, squares], moments.count)
                }
                _ => SegmentSums::new(moments.shift, [sum, squares], moments.count),
            };
            // SAFETY: the caller guarantees that the row belongs to this thread.
            unsafe {
                writer.write(run.sample, row.panel, run.segment, &segment);
            }
            *moments = PlanarMoments::EMPTY;
        }
    }
}

/// The sum of the lanes of each of sixteen registers, always in the same order.
#[target_feature(enable = "avx512f,avx512dq")]
fn lane_sums(registers: &[[f32; LANES]; LANES]) -> [f32; LANES] {
    let mut left = [_mm512_setzero_ps(); LANES];
    for (register, values) in left.iter_mut().zip(registers) {
        #[expect(unsafe_code, reason = "vector instructions")]
        // SAFETY: the array has sixteen floats.
        {
            *register = unsafe { _mm512_loadu_ps(values.as_ptr()) };
        }
    }
    // Pairs of channels share a register, then fours, then eights.
    for index in 0..8 {
        let (a, b) = (left[2 * index], left[2 * index + 1]);
        left[index] = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    }
    for index in 0..4 {
        let [a, b] = [left[2 * index], left[2 * index + 1]].map(|lanes| _mm512_castps_pd(lanes));
        let (low, high) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
        left[index] = _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
    }
    for index in 0..2 {
        let (a, b) = (left[2 * index], left[2 * index + 1]);
        let (even, odd) =
            (_mm512_shuffle_f32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b));
        left[index] = _mm512_add_ps(even, odd);
    }
    let (even, odd) = (
        _mm512_shuffle_f32x4::<0b10_00_10_00>(left[0], left[1]),
        _mm512_shuffle_f32x4::<0b11_01_11_01>(left[0], left[1]),
    );
    let mut sums = [0.0; LANES];
    #[expect(unsafe_code, reason = "vector instructions")]
    // SAFETY: the array has sixteen floats.
    unsafe {
        _mm512_storeu_ps(sums.as_mut_ptr(), _mm512_add_ps(even, odd));
    }
    sums
}

/// One panel of a run.
struct Row<'a> {
    epilogue: &'a Epilogue<'a>,
    run: Run,
    panel: usize,
    sums: &'a PlanarSums<'a>,
}

/// What is done to the values of a channel.
struct Channel {
    bias: __m512,
    /// The factor of integer sums.
    factor: __m512,
    /// The first value of the channel in its sample.
    first: usize,
    residual: Option<ChannelTransform>,
    /// The sums of each tap.
    taps: [*const f32; MAX_TAPS],
}

/// The running sums of a channel.
struct Gathered {
    shift: __m512,
    sum: __m512,
    squares: __m512,
}

impl Row<'_> {
    /// Writes the run and adds to the statistics.
    ///
    /// # Safety
    ///
    /// The processor has AMX and its extensions of AVX-512; the rest as [`Epilogue::write_planar`].
    #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
    unsafe fn write_storage<const STORAGE: u8>(&self, moments: &mut PlanarMoments) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match self.epilogue.dequantize {
                Some(factors) => self.write_sums::<STORAGE, true>(Some(factors), moments),
                None => self.write_sums::<STORAGE, false>(None, moments),
            }
        }
    }

    /// # Safety
    ///
    /// As [`Row::write_storage`].
    #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
    unsafe fn write_sums<const STORAGE: u8, const INTEGERS: bool>(
        &self,
        factors: Option<&[f32]>,
        moments: &mut PlanarMoments,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match self.sums.count {
                1 => self.write::<STORAGE, INTEGERS, { adding::ONE }>(factors, moments),
                2 if self.sums.alternates => self.write::<STORAGE, INTEGERS, { adding::TWO }>(factors, moments),
                3 => self.write::<STORAGE, INTEGERS, { adding::THREE }>(factors, moments),
                _ => self.write::<STORAGE, INTEGERS, { adding::ANY }>(factors, moments),
            }
        }
    }

    /// # Safety
    ///
    /// As [`Row::write_storage`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
    unsafe fn write<const STORAGE: u8, const INTEGERS: bool, const ADDING: u8>(
        &self,
        factors: Option<&[f32]>,
        moments: &mut PlanarMoments,
    ) {
        let Self { epilogue, run, panel, .. } = *self;
        let gathers = epilogue.moments.is_some();
        let whole = run.columns / LANES * LANES;
        let rest = (1 << (run.columns - whole)) - 1;
        for lane in 0..LANES.min(epilogue.outputs - panel * LANES) {
            let index = run.sample * epilogue.outputs + panel * LANES + lane;
            let taps = self.sums.taps.map(|sums| sums.as_ptr().wrapping_add(lane * self.sums.pitch));
            let channel = Channel {
                bias: _mm512_set1_ps(epilogue.initial[self.bias_panel() * LANES + lane]),
                factor: _mm512_set1_ps(factors.map_or(1.0, |factors| factors[panel * LANES + lane])),
                first: index * epilogue.plane + run.offset,
                residual: epilogue.residual.as_ref().and_then(|residual| residual.channel_transform(index)),
                taps,
            };
            // SAFETY: the arrays have sixteen floats each.
            let (sum, squares) = unsafe {
                (_mm512_loadu_ps(moments.sum[lane].as_ptr()), _mm512_loadu_ps(moments.squares[lane].as_ptr()))
            };
            let mut gathered = Gathered { shift: _mm512_set1_ps(moments.shift[lane]), sum, squares };
            // SAFETY: guaranteed by the caller; the masks select columns of the run.
            unsafe {
                if gathers && moments.count == 0 {
                    let value = self.value::<INTEGERS, ADDING>(&channel, 0, 1);
                    let first = _mm512_castps512_ps128(self.gathered_value::<STORAGE>(value));
                    gathered.shift = _mm512_broadcastss_ps(first);
                    _mm_store_ss(&raw mut moments.shift[lane], first);
                }
                for column in (0..whole).step_by(LANES) {
                    self.columns::<STORAGE, INTEGERS, ADDING>(&channel, column, u16::MAX, &mut gathered);
                }
                if rest != 0 {
                    self.columns::<STORAGE, INTEGERS, ADDING>(&channel, whole, rest, &mut gathered);
                }
            }
            if gathers {
                // SAFETY: the arrays have sixteen floats each.
                unsafe {
                    _mm512_storeu_ps(moments.sum[lane].as_mut_ptr(), gathered.sum);
                    _mm512_storeu_ps(moments.squares[lane].as_mut_ptr(), gathered.squares);
                }
            }
        }
        moments.count += run.columns;
    }

    /// Writes the columns that a mask selects from a column on.
    ///
    /// # Safety
    ///
    /// As [`Row::write_storage`]; the mask selects columns of the run.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
    unsafe fn columns<const STORAGE: u8, const INTEGERS: bool, const ADDING: u8>(
        &self,
        channel: &Channel,
        column: usize,
        mask: u16,
        gathered: &mut Gathered,
    ) {
        // SAFETY: guaranteed by the caller.
        let value = unsafe { self.value::<INTEGERS, ADDING>(channel, column, mask) };
        let value = self.gathered_value::<STORAGE>(value);
        if self.epilogue.moments.is_some() {
            let deviation = _mm512_maskz_sub_ps(mask, value, gathered.shift);
            gathered.sum = _mm512_add_ps(gathered.sum, deviation);
            gathered.squares = _mm512_fmadd_ps(deviation, deviation, gathered.squares);
        }
        let at = channel.first + column;
        // SAFETY: guaranteed by the caller; the mask selects columns of the run.
        unsafe {
            match self.epilogue.target {
                Target::F32(values) if STORAGE == storage::F32 => {
                    _mm512_mask_storeu_ps(values.offset(at).pointer(), mask, value);
                }
                Target::Bf16(values) if STORAGE == storage::BF16 => {
                    let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
                    _mm256_mask_storeu_epi16(values.offset(at).pointer().cast(), mask, halves);
                }
                Target::U8(values, quantization) if STORAGE == storage::U8 => {
                    let zero_point = _mm512_set1_epi32(i32::from(quantization.zero_point));
                    let integers = _mm512_add_epi32(_mm512_castps_si512(value), zero_point);
                    let bytes = _mm512_cvtepi32_epi8(integers);
                    _mm_mask_storeu_epi8(values.offset(at).pointer().cast(), mask, bytes);
                }
                _ => {}
            }
        }
    }

    /// A value as it is gathered: steps of the quantization for values that are stored in integers, as [`Quantizer`] rounds them.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn gathered_value<const STORAGE: u8>(&self, value: __m512) -> __m512 {
        let Target::U8(_, quantization) = self.epilogue.target else { return value };
        if STORAGE != storage::U8 {
            return value;
        }
        let Quantizer { inverse, low, high, .. } = Quantizer::new(quantization);
        let steps = _mm512_mul_ps(value, _mm512_set1_ps(inverse));
        // Of a NaN, both give the second operand.
        let steps = _mm512_min_ps(_mm512_max_ps(steps, _mm512_set1_ps(low)), _mm512_set1_ps(high));
        _mm512_add_ps(steps, _mm512_set1_ps(Quantizer::ROUND))
    }

    /// The panel of the biases. A transposed convolution has one for each position of a block, all equal.
    #[inline]
    fn bias_panel(&self) -> usize {
        let per_panel = self.epilogue.initial.len() / LANES / self.epilogue.outputs.div_ceil(LANES);
        self.panel * per_panel
    }

    /// Sixteen values from a column on.
    ///
    /// # Safety
    ///
    /// As [`Row::write`]; the mask selects columns of the run.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
    #[expect(unsafe_code, reason = "vector instructions")]
    unsafe fn value<const INTEGERS: bool, const ADDING: u8>(
        &self,
        channel: &Channel,
        column: usize,
        mask: u16,
    ) -> __m512 {
        // SAFETY: the caller guarantees fifteen columns after the last.
        let load = |tap: usize| unsafe { _mm512_loadu_ps(channel.taps[tap].add(column)) };
        let add = |a: __m512, b: __m512| {
            if INTEGERS {
                _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)))
            } else {
                _mm512_add_ps(a, b)
            }
        };
        let sum = match ADDING {
            adding::ONE => load(0),
            adding::THREE => add(add(load(0), load(1)), load(2)),
            adding::TWO => {
                let order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                // SAFETY: as above.
                let half = |tap: usize| unsafe {
                    _mm512_castps256_ps512(_mm256_loadu_ps(channel.taps[tap].add(column / 2)))
                };
                _mm512_permutex2var_ps(half(0), order, half(1))
            }
            _ => (1..self.sums.count).fold(load(0), |sum, tap| add(sum, load(tap))),
        };
        let mut value = add(sum, channel.bias);
        if INTEGERS {
            value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(value)), channel.factor);
        }
        if let Some(residual) = &self.epilogue.residual {
            // SAFETY: the residual has the output's shape.
            value = unsafe {
                _mm512_add_ps(value, residual_values(residual, channel.residual, channel.first + column, mask))
            };
        }
        if self.epilogue.slope == 1.0 { value } else { leaky(value, self.epilogue.slope) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn leaky(value: __m512, slope: f32) -> __m512 {
    let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, _mm512_setzero_ps());
    _mm512_mask_mul_ps(value, !positive, value, _mm512_set1_ps(slope))
}

/// Sixteen values of a residual.
///
/// # Safety
///
/// The mask selects values of the tensor from `at` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
#[expect(unsafe_code, reason = "vector instructions")]
unsafe fn residual_values(
    residual: &LayerInput<'_>,
    transform: Option<ChannelTransform>,
    at: usize,
    mask: u16,
) -> __m512 {
    // SAFETY: guaranteed by the caller.
    let value = unsafe {
        match residual.values {
            Values::F32(values) => _mm512_maskz_loadu_ps(mask, values.as_ptr().add(at)),
            Values::Bf16(values) => {
                let halves = _mm256_maskz_loadu_epi16(mask, values.as_ptr().add(at).cast());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
            }
            Values::U8(values) => {
                let bytes = _mm_maskz_loadu_epi8(mask, values.as_ptr().add(at).cast());
                _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
            }
        }
    };
    match transform {
        Some(ChannelTransform { scale, shift, slope }) => {
            leaky(_mm512_fmadd_ps(value, _mm512_set1_ps(scale), _mm512_set1_ps(shift)), slope)
        }
        None => value,
    }
}
