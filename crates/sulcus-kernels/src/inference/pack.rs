//! Packs the input of a convolution: conversion, transform, zero padding and the cells that the micro-kernels broadcast.

#[cfg(target_arch = "x86_64")]
mod wide;

use super::rows::{Quantizer, load_row, quantize_row, to_bf16};
use super::tensor::{ChannelTransform, LayerInput, Quantization, Values};
use super::winograd;
use crate::amx::Amx;
use crate::instruction_set::InstructionSet;
use crate::scratch::LANES;
use crate::simd::{Kernel, Simd, dispatch_on};

/// What a cell, the 32 bits that a micro-kernel broadcasts, holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CellFormat {
    /// One channel in single precision.
    F32,
    /// Two channels in bfloat16, the first in the lower half.
    Bf16,
    /// Four channels in unsigned 8-bit integers, the first in the lowest byte.
    U8(Quantization),
}

impl CellFormat {
    /// The number of channels in a cell.
    pub(super) fn channels(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::U8(_) => 4,
        }
    }

    /// The cell of zero padding.
    fn padding(self) -> f32 {
        match self {
            Self::F32 | Self::Bf16 => 0.0,
            Self::U8(quantization) => f32::from_bits(u32::from(quantization.zero_point) * 0x0101_0101),
        }
    }

    /// Whether the cell of zero padding contributes nothing to a sum, so that padding need not be read.
    pub(super) fn padding_is_zero(self) -> bool {
        self.padding().to_bits() == 0
    }
}

/// The inputs of a convolution with their zero padding.
pub(super) struct PaddedInput<'a> {
    /// One or two tensors whose channels are concatenated.
    pub(super) tensors: &'a [LayerInput<'a>],
    /// The number of channels of each tensor.
    pub(super) channels: [usize; 2],
    /// D, H and W without padding.
    pub(super) size: [usize; 3],
    /// The number of zeros before the first element of each axis.
    pub(super) padding: [usize; 3],
    pub(super) format: CellFormat,
    /// What becomes of each 8-bit integer of a channel, `[N·C]`, where that is faster than computing it for each value.
    pub(super) tables: Vec<ByteTable>,
}

/// What becomes of each 8-bit integer.
pub(super) type ByteTable = [u8; 256];

/// Channels of fewer voxels are converted one by one.
const MIN_TABLE_VOXELS: usize = 1024;

/// Computes a table: transform and quantization of each integer.
struct FillTable {
    transform: Option<ChannelTransform>,
    quantization: Quantization,
}

impl Kernel for FillTable {
    type Output = ByteTable;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> ByteTable {
        let mut table = std::array::from_fn(|index| index as u8);
        let mut values = [0.0; 256];
        load_row(simd, Values::U8(&table), self.transform, &mut values);
        quantize_row(&values, self.quantization, &mut table);
        table
    }
}

/// How the columns of a packed row lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnLayout {
    /// As many phases as the stride along W has: with a stride of 2, even columns come before odd ones.
    Phases(usize),
    /// The same, with every phase at the beginning of a cache line. The region has no columns of padding.
    Aligned(usize),
    /// A phase for each frequency, with one value per tile.
    Winograd,
}

/// The part of the padded input that is packed in memory: `[plane][row][group][phase][column]`, in cells. A *group* is the
/// channels of one cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    /// The number of planes in memory. Plane `d` is at index `d` modulo this number.
    pub(super) planes: usize,
    /// The first padded row and column, and their numbers.
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) first_column: usize,
    pub(super) columns: usize,
    pub(super) groups: usize,
    pub(super) layout: ColumnLayout,
    /// The proof of AMX, if it reads the cells.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "there is none on this architecture"))]
    pub(super) amx: Option<Amx>,
}

impl Region {
    /// The number of column phases.
    pub(super) fn phases(&self) -> usize {
        match self.layout {
            ColumnLayout::Phases(phases) | ColumnLayout::Aligned(phases) => phases,
            ColumnLayout::Winograd => winograd::FREQUENCIES,
        }
    }

    /// Cells per column phase of a row.
    pub(super) fn phase(&self) -> usize {
        match self.layout {
            ColumnLayout::Phases(phases) => self.columns.div_ceil(phases),
            // An odd number of cache lines, so that the rows of a tile are spread over the sets of the cache.
            ColumnLayout::Aligned(phases) => (self.columns.div_ceil(phases).div_ceil(LANES) | 1) * LANES,
            ColumnLayout::Winograd => (self.columns - winograd::HALO) / winograd::TILE,
        }
    }

    /// Cells from one group to the next.
    pub(super) fn group_step(&self) -> usize {
        self.phases() * self.phase()
    }

    /// Cells from one row to the next.
    pub(super) fn row_step(&self) -> usize {
        self.groups * self.group_step()
    }

    /// Cells from one plane to the next.
    pub(super) fn plane_step(&self) -> usize {
        self.rows * self.row_step()
    }

    /// The number of floats of working memory that packing needs.
    pub(super) fn temporary(&self, format: CellFormat) -> usize {
        match self.layout {
            ColumnLayout::Phases(1) if format == CellFormat::F32 => 0,
            ColumnLayout::Phases(_) | ColumnLayout::Aligned(_) => format.channels() * self.group_step(),
            ColumnLayout::Winograd => self.columns + winograd::row_memory(self.phase()),
        }
    }
}

impl<'a> PaddedInput<'a> {
    /// An input for a layer that is computed with AMX or without. The tables are computed here.
    pub(super) fn new(
        tensors: &'a [LayerInput<'a>],
        channels: [usize; 2],
        size: [usize; 3],
        padding: [usize; 3],
        (format, amx): (CellFormat, Option<Amx>),
    ) -> Self {
        // AMX reads no columns of padding.
        let padding = if amx.is_some() { [padding[0], padding[1], 0] } else { padding };
        let mut input = Self { tensors, channels, size, padding, format, tables: Vec::new() };
        let voxels: usize = size.iter().product();
        let has_bytes = tensors.iter().any(|tensor| matches!(tensor.values, Values::U8(_)));
        if let (CellFormat::U8(quantization), Some(_)) = (format, amx)
            && has_bytes
            && voxels >= MIN_TABLE_VOXELS
        {
            let batch = tensors.first().map_or(0, |tensor| tensor.values.len() / (channels[0] * voxels));
            let transforms =
                (0..batch).flat_map(|sample| (0..input.total()).map(move |channel| (sample, channel)));
            input.tables = transforms
                .map(|(sample, channel)| {
                    let transform = input.channel(sample, channel).and_then(|(_, transform)| transform);
                    dispatch_on(InstructionSet::Amx, FillTable { transform, quantization })
                })
                .collect();
        }
        input
    }

    /// The number of channels of all tensors.
    pub(super) fn total(&self) -> usize {
        self.channels[0] + self.channels[1]
    }

    /// The number of channel groups.
    pub(super) fn groups(&self) -> usize {
        self.total().div_ceil(self.format.channels())
    }

    /// Whether a padded coordinate of an axis lies in the padding.
    pub(super) fn is_padding(&self, axis: usize, at: usize) -> bool {
        at < self.padding[axis] || at >= self.padding[axis] + self.size[axis]
    }

    /// The values of a channel of a sample and what is applied to them; `None` beyond the last channel.
    pub(super) fn channel(&self, sample: usize, channel: usize) -> Option<(Values<'a>, Option<ChannelTransform>)> {
        let (tensor, local) =
            if channel < self.channels[0] { (0, channel) } else { (1, channel - self.channels[0]) };
        if local >= self.channels[tensor] {
            return None;
        }
        let index = sample * self.channels[tensor] + local;
        let voxels: usize = self.size.iter().product();
        let input = &self.tensors[tensor];
        Some((input.values.part(index * voxels, voxels), input.channel_transform(index)))
    }

    /// The values of a channel of a sample; `None` beyond the last channel.
    pub(super) fn channel_values(&self, sample: usize, channel: usize) -> Option<Values<'a>> {
        self.channel(sample, channel).map(|(values, _)| values)
    }

    /// Packs the rows of a padded plane `d` of a sample from the region's row `from` on. The target holds these rows and gives
    /// their number.
    pub(super) fn pack(
        &self,
        instruction_set: InstructionSet,
        region: &Region,
        [sample, d, from]: [usize; 3],
        target: &mut [f32],
        temporary: &mut [f32],
    ) {
        if self.is_padding(0, d) {
            target.fill(self.format.padding());
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(amx) = region.amx
            && wide::pack(amx, self, region, [sample, d, from], target)
        {
            return;
        }
        dispatch_on(instruction_set, PackPlane { input: self, region, sample, d, from, target, temporary });
    }
}

/// Packs rows of a plane.
struct PackPlane<'a> {
    input: &'a PaddedInput<'a>,
    region: &'a Region,
    sample: usize,
    /// The padded plane.
    d: usize,
    /// The region's row of the first row of the target.
    from: usize,
    target: &'a mut [f32],
    temporary: &'a mut [f32],
}

/// How a packed row is made of a source row: zeros, values from `start` on, zeros.
#[derive(Clone, Copy)]
struct RowSpan {
    zeros: usize,
    start: usize,
    count: usize,
}

impl Kernel for PackPlane<'_> {
    type Output = ();

    /// The outer loop is over the channels: the rows of a channel are contiguous in the source, which is read in long runs.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { input, region, sample, d, from, target, temporary } = self;
        let [_, height, width] = input.size;
        let (group_step, row_step) = (region.group_step(), region.row_step());
        let zeros = input.padding[2].saturating_sub(region.first_column).min(region.columns);
        let start = (region.first_column + zeros).saturating_sub(input.padding[2]);
        let span = RowSpan { zeros, start, count: width.saturating_sub(start).min(region.columns - zeros) };
        let members = input.format.channels();
        for group in 0..region.groups {
            let mut sources = [None; 4];
            for (member, source) in sources[..members].iter_mut().enumerate() {
                *source = input.channel(sample, group * members + member);
            }
            for (row, target) in target.chunks_exact_mut(row_step).enumerate() {
                let target = &mut target[group * group_step..][..group_step];
                let h = region.first_row + from + row;
                if input.is_padding(1, h) || span.count == 0 {
                    target.fill(input.format.padding());
                    continue;
                }
                let line = ((d - input.padding[0]) * height + h - input.padding[1]) * width;
                if region.layout == ColumnLayout::Phases(1) && input.format == CellFormat::F32 {
                    fill_row(simd, sources[0], line, span, target);
                    continue;
                }
                let phase = region.phase();
                if region.layout == ColumnLayout::Winograd {
                    let (values, memory) = temporary.split_at_mut(region.columns);
                    fill_row(simd, sources[0], line, span, values);
                    winograd::transform_row(values, phase, memory, target);
                    continue;
                }
                for (source, values) in sources.iter().zip(temporary.chunks_exact_mut(group_step)) {
                    fill_row(simd, *source, line, span, values);
                }
                match (input.format, region.layout) {
                    (CellFormat::F32, _) => split_phases(temporary, phase, target),
                    (CellFormat::Bf16, ColumnLayout::Phases(2) | ColumnLayout::Aligned(2)) => {
                        pair_cells::<2>(temporary, phase, target)
                    }
                    (CellFormat::Bf16, _) => pair_cells::<1>(temporary, phase, target),
                    (CellFormat::U8(quantization), ColumnLayout::Phases(2) | ColumnLayout::Aligned(2)) => {
                        quad_cells::<2>(temporary, phase, quantization, target);
                    }
                    (CellFormat::U8(quantization), _) => quad_cells::<1>(temporary, phase, quantization, target),
                }
            }
        }
    }
}

/// Writes a row in single precision: zeros, transformed values, zeros. A missing source gives zeros.
#[inline(always)]
fn fill_row<S: Simd>(
    simd: S,
    source: Option<(Values<'_>, Option<ChannelTransform>)>,
    line: usize,
    span: RowSpan,
    target: &mut [f32],
) {
    let Some((values, transform)) = source else {
        target.fill(0.0);
        return;
    };
    let (left, rest) = target.split_at_mut(span.zeros);
    let (middle, right) = rest.split_at_mut(span.count);
    for zero in left {
        *zero = 0.0;
    }
    load_row(simd, values.part(line + span.start, span.count), transform, middle);
    for zero in right {
        *zero = 0.0;
    }
}

/// Moves even columns before odd ones.
#[inline(always)]
fn split_phases(values: &[f32], phase: usize, target: &mut [f32]) {
    let (even, odd) = target.split_at_mut(phase);
    for ((pair, even), odd) in values.as_chunks::<2>().0.iter().zip(even).zip(odd) {
        (*even, *odd) = (pair[0], pair[1]);
    }
}

/// The cell of two values in bfloat16.
#[inline(always)]
fn pair_cell(low: f32, high: f32) -> f32 {
    f32::from_bits(u32::from(to_bf16(low)) | u32::from(to_bf16(high)) << 16)
}

/// Rounds two rows to bfloat16 and joins them.
#[inline(always)]
fn pair_cells<const PHASES: usize>(values: &[f32], phase: usize, target: &mut [f32]) {
    let (low, high) = values.split_at(PHASES * phase);
    let (low, high) = (low.as_chunks::<PHASES>().0, high.as_chunks::<PHASES>().0);
    for (offset, target) in target.chunks_exact_mut(phase).enumerate() {
        for ((target, low), high) in target.iter_mut().zip(low).zip(high) {
            *target = pair_cell(low[offset], high[offset]);
        }
    }
}

/// Quantizes four rows and joins them.
#[inline(always)]
fn quad_cells<const PHASES: usize>(values: &[f32], phase: usize, quantization: Quantization, target: &mut [f32]) {
    let row = PHASES * phase;
    let rows: [&[[f32; PHASES]]; 4] = std::array::from_fn(|member| values[member * row..][..row].as_chunks().0);
    let [a, b, c, d] = rows;
    let quantizer = Quantizer::new(quantization);
    for (offset, target) in target.chunks_exact_mut(phase).enumerate() {
        let rows = a.iter().zip(b).zip(c).zip(d);
        for (target, (((a, b), c), d)) in target.iter_mut().zip(rows) {
            let byte = |value: f32| quantizer.integer(value);
            let cell = byte(a[offset]) | byte(b[offset]) << 8 | byte(c[offset]) << 16 | byte(d[offset]) << 24;
            *target = f32::from_bits(cell);
        }
    }
}
