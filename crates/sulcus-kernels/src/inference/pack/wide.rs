//! Packs cells of two bfloat16 or four 8-bit channels with the extensions of AVX-512 that come with AMX.

use std::arch::x86_64::*;

use super::{ByteTable, CellFormat, PaddedInput, Region};
use crate::amx::Amx;
use crate::inference::rows::{bf16_row, load_row, quantize_row};
use crate::inference::tensor::{ChannelTransform, Quantization, Values};
use crate::instruction_set::InstructionSet;
use crate::scratch::LANES;
use crate::simd::{Kernel, Simd, dispatch_on};

/// The rows of a plane, for some channels.
struct Rows<'a> {
    region: &'a Region,
    /// The first value of each row of the target in a channel; `None` for rows of padding.
    lines: &'a dyn Fn(usize) -> Option<usize>,
    /// The number of columns.
    columns: usize,
}

/// A channel of the input.
#[derive(Clone, Copy)]
struct Channel<'a> {
    values: Values<'a>,
    transform: Option<ChannelTransform>,
    /// What becomes of each of its values, if they are 8-bit integers.
    table: Option<&'a ByteTable>,
}

/// Packs the rows of a plane as [`PaddedInput::pack`], if there are instructions for its input; returns whether it did.
pub(super) fn pack(
    _: Amx,
    input: &PaddedInput<'_>,
    region: &Region,
    [sample, d, from]: [usize; 3],
    target: &mut [f32],
) -> bool {
    let [_, height, width] = input.size;
    let line = |row: usize| {
        let h = region.first_row + from + row;
        let line = ((d - input.padding[0]) * height + h.wrapping_sub(input.padding[1])) * width;
        (!input.is_padding(1, h)).then_some(line + region.first_column)
    };
    let rows = Rows { region, lines: &line, columns: region.columns.min(width - region.first_column) };
    let members = input.format.channels();
    let channel = |channel: usize| {
        let (values, transform) = input.channel(sample, channel)?;
        Some(Channel { values, transform, table: input.tables.get(sample * input.total() + channel) })
    };
    let needs_table = |channel: &Channel<'_>| matches!(channel.values, Values::U8(_)) && channel.table.is_none();
    match input.format {
        CellFormat::Bf16 => {
            let mut row = ConvertedRow::new(rows.columns);
            for group in 0..region.groups {
                let channels = [0, 1].map(|member| channel(group * members + member));
                #[expect(unsafe_code, reason = "vector instructions")]
                // SAFETY: the token proves the instructions.
                unsafe {
                    pack_pairs(&rows, channels, group, &mut row, target);
                }
            }
            true
        }
        CellFormat::U8(_) if (0..input.total()).filter_map(channel).any(|channel| needs_table(&channel)) => false,
        CellFormat::U8(quantization) => {
            let mut row = ConvertedRow::new(rows.columns);
            for group in 0..region.groups {
                let channels = [0, 1, 2, 3].map(|member| channel(group * members + member));
                #[expect(unsafe_code, reason = "vector instructions")]
                // SAFETY: the token proves the instructions.
                unsafe {
                    pack_quads(&rows, channels, quantization, group, &mut row, target);
                }
            }
            true
        }
        CellFormat::F32 => false,
    }
}

/// Rows of values in another storage, which are transformed and rounded before they are packed.
struct ConvertedRow<T> {
    values: Vec<f32>,
    rounded: [Vec<T>; 4],
}

impl<T: Copy + Default> ConvertedRow<T> {
    fn new(columns: usize) -> Self {
        Self { values: vec![0.0; columns], rounded: std::array::from_fn(|_| Vec::new()) }
    }

    /// Transforms a row and rounds it.
    fn convert(
        &mut self,
        member: usize,
        source: Values<'_>,
        transform: Option<ChannelTransform>,
        rounding: impl for<'r> FnOnce(&'r mut [T]) -> Rounding<'r>,
    ) {
        let rounded = &mut self.rounded[member];
        rounded.resize(self.values.len(), T::default());
        let row = ConvertRow { source, transform, values: &mut self.values, rounding: rounding(rounded) };
        dispatch_on(InstructionSet::Amx, row);
    }
}

/// To what a row is rounded, and where it goes.
enum Rounding<'a> {
    Bf16(&'a mut [u16]),
    U8(&'a mut [u8], Quantization),
}

/// Transforms a row and rounds it.
struct ConvertRow<'a> {
    source: Values<'a>,
    transform: Option<ChannelTransform>,
    values: &'a mut [f32],
    rounding: Rounding<'a>,
}

impl Kernel for ConvertRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        load_row(simd, self.source, self.transform, self.values);
        match self.rounding {
            Rounding::Bf16(halves) => bf16_row(self.values, halves),
            Rounding::U8(bytes, quantization) => quantize_row(self.values, quantization, bytes),
        }
    }
}

/// A mask of the first `count` of 16, 32 or 64 elements.
#[inline(always)]
fn first(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

/// The factors of a transform.
struct Factors {
    scale: __m512,
    shift: __m512,
    slope: __m512,
}

impl Factors {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(transform: Option<ChannelTransform>) -> Self {
        let ChannelTransform { scale, shift, slope } =
            transform.unwrap_or(ChannelTransform { scale: 1.0, shift: 0.0, slope: 1.0 });
        Self { scale: _mm512_set1_ps(scale), shift: _mm512_set1_ps(shift), slope: _mm512_set1_ps(slope) }
    }

    /// `leaky_relu(x · scale + shift)`, as `rows::load_row` computes it.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn apply(&self, bits: __m512i) -> __m512 {
        let value = _mm512_fmadd_ps(_mm512_castsi512_ps(bits), self.scale, self.shift);
        let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, _mm512_setzero_ps());
        _mm512_mask_mul_ps(value, !positive, value, self.slope)
    }
}

/// Rounds two channels to bfloat16 and joins them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn join_pairs(low: __m512, high: __m512, order: __m512i) -> __m512i {
    #[expect(unsafe_code, reason = "a change of type")]
    // SAFETY: the types have the same size, and any bits are valid.
    let halves = unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) };
    _mm512_permutexvar_epi16(order, halves)
}

/// A row of one channel in the storage that [`pack_pairs`] reads.
#[derive(Clone, Copy)]
enum PairSource<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
    /// There is no such channel.
    None,
}

impl PairSource<'_> {
    /// Up to sixteen neighbouring values from `at` on, of those that the mask selects.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn neighbours(self, at: usize, mask: u16) -> __m512i {
        #[expect(unsafe_code, reason = "vector instructions")]
        // SAFETY: the mask selects values of the row.
        unsafe {
            match self {
                Self::F32(row) => _mm512_castps_si512(_mm512_maskz_loadu_ps(mask, row.as_ptr().add(at))),
                Self::Bf16(row) => {
                    let halves = _mm256_maskz_loadu_epi16(mask, row.as_ptr().add(at).cast());
                    _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))
                }
                Self::None => _mm512_setzero_si512(),
            }
        }
    }

    /// Up to sixteen values at even and at odd places from `at` on, of `left` values.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn every_second(self, at: usize, left: usize) -> [__m512i; 2] {
        #[expect(unsafe_code, reason = "vector instructions")]
        // SAFETY: the masks select values of the row. The second half begins within it or is not read.
        unsafe {
            match self {
                Self::F32(row) => {
                    let low = _mm512_maskz_loadu_epi32(first(left) as u16, row.as_ptr().add(at).cast());
                    let high = match left.checked_sub(LANES) {
                        Some(left) if left > 0 => {
                            _mm512_maskz_loadu_epi32(first(left) as u16, row.as_ptr().add(at + LANES).cast())
                        }
                        _ => _mm512_setzero_si512(),
                    };
                    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
                    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
                    [even, odd].map(|order| _mm512_permutex2var_epi32(low, order, high))
                }
                Self::Bf16(row) => {
                    let halves = _mm512_maskz_loadu_epi16(first(left) as u32, row.as_ptr().add(at).cast());
                    let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
                    [_mm512_slli_epi32::<16>(halves), _mm512_and_si512(halves, upper)]
                }
                Self::None => [_mm512_setzero_si512(); 2],
            }
        }
    }
}

/// Packs the rows of two channels, with a stride of 1 or 2.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pack_pairs(
    rows: &Rows<'_>,
    channels: [Option<Channel<'_>>; 2],
    group: usize,
    converted: &mut ConvertedRow<u16>,
    target: &mut [f32],
) {
    let region = rows.region;
    let (phase, step) = (region.phase(), region.group_step());
    let factors = channels.map(|channel| match channel {
        Some(Channel { values: Values::Bf16(_) | Values::F32(_), transform, .. }) => Factors::new(transform),
        _ => Factors::new(None),
    });
    // The halves of sixteen low and of sixteen high values alternate.
    let order: [u16; 32] = std::array::from_fn(|half| (half / 2 + half % 2 * 16) as u16);
    #[expect(unsafe_code, reason = "vector instructions")]
    // SAFETY: the array has 64 bytes.
    let order = unsafe { _mm512_loadu_epi16(order.as_ptr().cast()) };
    for (row, target) in target.chunks_exact_mut(region.row_step()).enumerate() {
        let target = &mut target[group * step..][..step];
        let Some(line) = (rows.lines)(row) else {
            target.fill(0.0);
            continue;
        };
        for (member, channel) in channels.iter().enumerate() {
            if let Some(Channel { values: values @ Values::U8(_), transform, .. }) = channel {
                converted
                    .convert(member, values.part(line, rows.columns), *transform, |halves| Rounding::Bf16(halves));
            }
        }
        let sources: [PairSource<'_>; 2] =
            std::array::from_fn(|member| match channels[member].map(|channel| channel.values) {
                Some(Values::F32(values)) => PairSource::F32(&values[line..][..rows.columns]),
                Some(Values::Bf16(values)) => PairSource::Bf16(&values[line..][..rows.columns]),
                Some(Values::U8(_)) => PairSource::Bf16(&converted.rounded[member][..]),
                None => PairSource::None,
            });
        let is_present = channels.map(|channel| channel.is_some());
        let value = |member: usize, bits: __m512i| {
            if is_present[member] { factors[member].apply(bits) } else { _mm512_setzero_ps() }
        };
        if region.phases() == 1 {
            for (index, target) in target.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let at = index * LANES;
                if at >= rows.columns {
                    break;
                }
                let mask = first(rows.columns - at) as u16;
                let [low, high] = [0, 1].map(|member| value(member, sources[member].neighbours(at, mask)));
                let cells = join_pairs(low, high, order);
                #[expect(unsafe_code, reason = "vector instructions")]
                // SAFETY: the chunk has sixteen cells.
                unsafe {
                    _mm512_storeu_si512(target.as_mut_ptr().cast(), _mm512_maskz_mov_epi32(mask, cells));
                }
            }
            continue;
        }
        let (even, odd) = target.split_at_mut(phase);
        let targets = even.as_chunks_mut::<LANES>().0.iter_mut().zip(odd.as_chunks_mut::<LANES>().0);
        for (index, (even, odd)) in targets.enumerate() {
            let at = index * 2 * LANES;
            if at >= rows.columns {
                break;
            }
            let left = (rows.columns - at).min(2 * LANES);
            let [low, high] = [0, 1].map(|member| sources[member].every_second(at, left));
            let even_cells = join_pairs(value(0, low[0]), value(1, high[0]), order);
            let odd_cells = join_pairs(value(0, low[1]), value(1, high[1]), order);
            #[expect(unsafe_code, reason = "vector instructions")]
            // SAFETY: the chunks have sixteen cells each.
            unsafe {
                let even_mask = first(left.div_ceil(2)) as u16;
                let odd_mask = first(left / 2) as u16;
                _mm512_storeu_si512(even.as_mut_ptr().cast(), _mm512_maskz_mov_epi32(even_mask, even_cells));
                _mm512_storeu_si512(odd.as_mut_ptr().cast(), _mm512_maskz_mov_epi32(odd_mask, odd_cells));
            }
        }
    }
}

/// A [`ByteTable`] in registers.
#[derive(Clone, Copy)]
struct Table([__m512i; 4]);

impl Table {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn load(table: &ByteTable) -> Self {
        let (quarters, _) = table.as_chunks::<64>();
        #[expect(unsafe_code, reason = "vector instructions")]
        // SAFETY: a quarter has 64 bytes.
        Self([0, 1, 2, 3].map(|index: usize| unsafe { _mm512_loadu_si512(quarters[index].as_ptr().cast()) }))
    }

    /// What becomes of 64 integers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn of(&self, bytes: __m512i) -> __m512i {
        let [a, b, c, d] = self.0;
        let low = _mm512_permutex2var_epi8(a, bytes, b);
        let high = _mm512_permutex2var_epi8(c, bytes, d);
        _mm512_mask_blend_epi8(_mm512_movepi8_mask(bytes), low, high)
    }
}

/// Joins 64 columns of four channels to 64 cells. The groups of four columns of each channel are in the order that unpacking needs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn join_quads([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (next_low, next_high) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    [
        _mm512_unpacklo_epi16(low, next_low),
        _mm512_unpackhi_epi16(low, next_low),
        _mm512_unpacklo_epi16(high, next_high),
        _mm512_unpackhi_epi16(high, next_high),
    ]
}

/// The table that changes nothing.
static IDENTITY: ByteTable = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        table[index] = index as u8;
        index += 1;
    }
    table
};

/// Packs the rows of four channels, with a stride of 1 or 2.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn pack_quads(
    rows: &Rows<'_>,
    channels: [Option<Channel<'_>>; 4],
    quantization: Quantization,
    group: usize,
    converted: &mut ConvertedRow<u8>,
    target: &mut [f32],
) {
    let region = rows.region;
    let (phase, phases, step) = (region.phase(), region.phases(), region.group_step());
    let zero_point = quantization.zero_point;
    let zero = _mm512_set1_epi8(zero_point.cast_signed());
    let tables = channels.map(|channel| match channel {
        Some(Channel { values: Values::U8(_), table, .. }) => Table::load(table.unwrap_or(&IDENTITY)),
        _ => Table::load(&IDENTITY),
    });
    // Unpacking works within quarters of a register, each of which has to hold every fourth group of four columns.
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    let bytes: [u8; 64] = std::array::from_fn(|index| 2 * index as u8);
    #[expect(unsafe_code, reason = "vector instructions")]
    // SAFETY: the array has 64 bytes.
    let even = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    let odd = _mm512_or_si512(even, _mm512_set1_epi8(1));
    for (row, target) in target.chunks_exact_mut(region.row_step()).enumerate() {
        let target = &mut target[group * step..][..step];
        let Some(line) = (rows.lines)(row) else {
            target.fill(f32::from_bits(u32::from(zero_point) * 0x0101_0101));
            continue;
        };
        for (member, channel) in channels.iter().enumerate() {
            if let Some(Channel { values: values @ (Values::F32(_) | Values::Bf16(_)), transform, .. }) = channel {
                let row = values.part(line, rows.columns);
                converted.convert(member, row, *transform, |bytes| Rounding::U8(bytes, quantization));
            }
        }
        let sources: [Option<&[u8]>; 4] = std::array::from_fn(|member| match channels[member]?.values {
            Values::U8(values) => Some(&values[line..][..rows.columns]),
            _ => Some(&converted.rounded[member][..]),
        });
        for first_cell in (0..rows.columns.div_ceil(phases)).step_by(64) {
            let at = first_cell * phases;
            let load = |member: usize, offset: usize| {
                let Some(source) = sources[member] else { return zero };
                let from = at + offset;
                if from >= rows.columns {
                    return zero;
                }
                let mask = first(rows.columns - from);
                #[expect(unsafe_code, reason = "vector instructions")]
                // SAFETY: the mask selects values of the row.
                let values = unsafe { _mm512_maskz_loadu_epi8(mask, source.as_ptr().add(from).cast()) };
                _mm512_mask_mov_epi8(zero, mask, tables[member].of(values))
            };
            let mut store = |first_target: usize, columns: [__m512i; 4]| {
                let cells = join_quads(columns.map(|columns| _mm512_permutexvar_epi32(order, columns)));
                let target = target[first_target..][..phase - first_cell].as_chunks_mut::<LANES>().0;
                for (target, cells) in target.iter_mut().zip(cells) {
                    #[expect(unsafe_code, reason = "vector instructions")]
                    // SAFETY: the chunk has sixteen cells.
                    unsafe {
                        _mm512_storeu_si512(target.as_mut_ptr().cast(), cells);
                    }
                }
            };
            if phases == 1 {
                store(first_cell, [load(0, 0), load(1, 0), load(2, 0), load(3, 0)]);
                continue;
            }
            let [a, b, c, d] = [0, 1, 2, 3].map(|member| [load(member, 0), load(member, 64)]);
            let every_second = |order| [a, b, c, d].map(|[low, high]| _mm512_permutex2var_epi8(low, order, high));
            store(first_cell, every_second(even));
            store(phase + first_cell, every_second(odd));
        }
    }
}
