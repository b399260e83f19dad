//! Packs cells of two bfloat16 or four 8-bit channels with the extensions of AVX-512 that come with AMX.

use std::arch::x86_64::*;

use super::{ByteTable, CellFormat, PaddedInput, Region};
use crate::amx::Amx;
use crate::inference::tensor::{ChannelTransform, Values};
use crate::scratch::LANES;

/// The rows of a plane, for some channels.
struct Rows<'a> {
    region: &'a Region,
    /// The first value of each row of the target in a channel; `None` for rows of padding.
    lines: &'a dyn Fn(usize) -> Option<usize>,
    /// The number of columns.
    columns: usize,
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
    match input.format {
        CellFormat::Bf16 => {
            let of = |group: usize, member: usize| match input.channel(sample, group * members + member) {
                Some((Values::Bf16(values), transform)) => Some(Some((values, transform))),
                Some(_) => None,
                None => Some(None),
            };
            for group in 0..region.groups {
                let (Some(low), Some(high)) = (of(group, 0), of(group, 1)) else { return false };
                #[expect(unsafe_code, reason = "vector instructions")]
                // SAFETY: the token proves the instructions.
                unsafe {
                    pack_pairs(&rows, [low, high], group, target);
                }
            }
            true
        }
        CellFormat::U8(quantization) if !input.tables.is_empty() => {
            let of = |channel: usize| match input.channel(sample, channel) {
                Some((Values::U8(values), _)) => {
                    Some(Some((values, &input.tables[sample * input.total() + channel])))
                }
                Some(_) => None,
                None => Some(None),
            };
            for group in 0..region.groups {
                let mut sources = [None; 4];
                for (member, source) in sources.iter_mut().enumerate() {
                    let Some(found) = of(group * members + member) else { return false };
                    *source = found;
                }
                #[expect(unsafe_code, reason = "vector instructions")]
                // SAFETY: the token proves the instructions.
                unsafe {
                    pack_quads(&rows, sources, quantization.zero_point, group, target);
                }
            }
            true
        }
        _ => false,
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

type Bf16Source<'a> = Option<(&'a [u16], Option<ChannelTransform>)>;

/// Packs the rows of two channels, with a stride of 1 or 2.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn pack_pairs(rows: &Rows<'_>, sources: [Bf16Source<'_>; 2], group: usize, target: &mut [f32]) {
    let region = rows.region;
    let (phase, step) = (region.phase(), region.group_step());
    let factors = sources.map(|source| Factors::new(source.and_then(|(_, transform)| transform)));
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
        let sources = sources.map(|source| source.map(|(values, _)| &values[line..][..rows.columns]));
        if region.phases() == 1 {
            for (index, target) in target.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let at = index * LANES;
                if at >= rows.columns {
                    break;
                }
                let mask = first(rows.columns - at) as u16;
                let value = |member: usize| match sources[member] {
                    #[expect(unsafe_code, reason = "vector instructions")]
                    // SAFETY: the mask selects values of the row.
                    Some(source) => unsafe {
                        let bits = _mm256_maskz_loadu_epi16(mask, source.as_ptr().add(at).cast());
                        factors[member].apply(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
                    },
                    None => _mm512_setzero_ps(),
                };
                let cells = join_pairs(value(0), value(1), order);
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
            let load = |member: usize| match sources[member] {
                #[expect(unsafe_code, reason = "vector instructions")]
                // SAFETY: the mask selects values of the row.
                Some(source) => unsafe {
                    _mm512_maskz_loadu_epi16(first(left) as u32, source.as_ptr().add(at).cast())
                },
                None => _mm512_setzero_si512(),
            };
            let bits = [load(0), load(1)];
            let value = |member: usize, is_odd: bool| match (sources[member], is_odd) {
                (None, _) => _mm512_setzero_ps(),
                (_, false) => factors[member].apply(_mm512_slli_epi32::<16>(bits[member])),
                (_, true) => {
                    let upper = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
                    factors[member].apply(_mm512_and_si512(bits[member], upper))
                }
            };
            let even_cells = join_pairs(value(0, false), value(1, false), order);
            let odd_cells = join_pairs(value(0, true), value(1, true), order);
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

/// Joins 64 columns of four channels to 64 cells. The columns of each channel are in the order of [`CELL_ORDER`].
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

type ByteSource<'a> = Option<(&'a [u8], &'a ByteTable)>;

/// Packs the rows of four channels, with a stride of 1 or 2.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn pack_quads(rows: &Rows<'_>, sources: [ByteSource<'_>; 4], zero_point: u8, group: usize, target: &mut [f32]) {
    let region = rows.region;
    let (phase, phases, step) = (region.phase(), region.phases(), region.group_step());
    let zero = _mm512_set1_epi8(zero_point.cast_signed());
    let tables = sources.map(|source| source.map(|(_, table)| Table::load(table)));
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
        let sources = sources.map(|source| source.map(|(values, _)| &values[line..][..rows.columns]));
        for first_cell in (0..rows.columns.div_ceil(phases)).step_by(64) {
            let at = first_cell * phases;
            let load = |member: usize, offset: usize| {
                let (Some(source), Some(table)) = (sources[member], tables[member]) else { return zero };
                let from = at + offset;
                if from >= rows.columns {
                    return zero;
                }
                let mask = first(rows.columns - from);
                #[expect(unsafe_code, reason = "vector instructions")]
                // SAFETY: the mask selects values of the row.
                let values = unsafe { _mm512_maskz_loadu_epi8(mask, source.as_ptr().add(from).cast()) };
                _mm512_mask_mov_epi8(zero, mask, table.of(values))
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
