//! What happens to the sums of the micro-kernels before they are written: residual, activation, statistics and storage.

#[cfg(target_arch = "x86_64")]
mod planar;

#[cfg(target_arch = "x86_64")]
pub(super) use planar::{MAX_TAPS, PlanarMoments, PlanarSums};

use super::moments::{SegmentSums, SegmentWriter};
use super::prefetch::prefetch_write_range;
use super::rows::{Quantizer, bf16_row, load_row, quantize_row};
use super::tensor::{ChannelTransform, LayerInput, Quantization, ValuesMut};
use crate::conv::channel_layout::{deinterleave, interleave};
use crate::instruction_set::InstructionSet;
use crate::scratch::{LANES, SharedMut};
use crate::simd::{Kernel, Simd, dispatch_on};

/// The largest number of columns that go through the epilogue at a time.
pub(super) const MAX_COLUMNS: usize = 96;

/// The largest number of rows of a tile times its panels.
pub(super) const MAX_ROWS: usize = 8;

/// The largest number of positions of all rows and panels that go through the epilogue at a time.
pub(super) const MAX_SUMS: usize = 2 * MAX_COLUMNS;

/// Sums in memory, aligned to cache lines.
#[repr(align(64))]
pub(super) struct Sums(pub(super) [f32; MAX_SUMS * LANES]);

/// The storage that the threads write to.
#[derive(Clone, Copy)]
pub(super) enum Target {
    F32(SharedMut<f32>),
    Bf16(SharedMut<u16>),
    U8(SharedMut<u8>, Quantization),
}

impl Target {
    pub(super) fn new(values: ValuesMut<'_>) -> Self {
        match values {
            ValuesMut::F32(values) => Self::F32(SharedMut::new(values)),
            ValuesMut::Bf16(values) => Self::Bf16(SharedMut::new(values)),
            ValuesMut::U8 { values, quantization } => Self::U8(SharedMut::new(values), quantization),
        }
    }
}

/// The epilogue of a layer, shared by all threads.
pub(super) struct Epilogue<'a> {
    pub(super) instruction_set: InstructionSet,
    pub(super) target: Target,
    pub(super) moments: Option<SegmentWriter>,
    pub(super) residual: Option<LayerInput<'a>>,
    pub(super) slope: f32,
    /// The factors that turn 32-bit integer sums into values, `[panel][16]`; `None` for sums in single precision.
    pub(super) dequantize: Option<&'a [f32]>,
    /// The biases, `[panel][16]`, which sums of tiles are without.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "there are none on this architecture"))]
    pub(super) initial: &'a [f32],
    pub(super) outputs: usize,
    /// The number of values in a channel of the output.
    pub(super) plane: usize,
}

/// A run of columns in some rows and panels: where its sums are and where they go.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) sample: usize,
    pub(super) first_panel: usize,
    pub(super) panels: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// The offset of the first column of the first row in a channel, and the step to the next row.
    pub(super) offset: usize,
    pub(super) row_step: usize,
    /// The statistics segment of the first row, and the step to the next row.
    pub(super) segment: usize,
    pub(super) segment_step: usize,
    /// Whether the segment ends with this run.
    pub(super) is_last: bool,
}

impl Epilogue<'_> {
    /// Prefetches the memory of some columns of a run that will be written.
    pub(super) fn prefetch(&self, run: Run, first_column: usize, columns: usize) {
        let first = run.first_panel * LANES;
        for channel in first..self.outputs.min(first + run.panels * LANES) {
            for row in 0..run.rows {
                let offset = run.offset + row * run.row_step + first_column;
                let at = (run.sample * self.outputs + channel) * self.plane + offset;
                let (address, size) = match self.target {
                    Target::F32(values) => (values.offset(at).pointer().cast::<u8>(), size_of::<f32>()),
                    Target::Bf16(values) => (values.offset(at).pointer().cast::<u8>(), size_of::<u16>()),
                    Target::U8(values, _) => (values.offset(at).pointer(), size_of::<u8>()),
                };
                prefetch_write_range(address, columns * size);
            }
        }
    }

    /// Writes a run. `sums` is `[panel][row][column][16]`, `moments` `[panel][row]`.
    ///
    /// # Safety
    ///
    /// The run lies within the output, and no other thread writes it.
    #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
    pub(super) unsafe fn write(&self, run: Run, sums: &mut [f32], moments: &mut [SegmentSums; MAX_ROWS]) {
        // SAFETY (of the pointers that the kernel writes through): guaranteed by the caller.
        dispatch_on(self.instruction_set, WriteRun { epilogue: self, run, sums, moments });
    }
}

/// Writes one run. May be constructed only by [`Epilogue::write`], whose caller guarantees the elements.
struct WriteRun<'a> {
    epilogue: &'a Epilogue<'a>,
    run: Run,
    sums: &'a mut [f32],
    moments: &'a mut [SegmentSums; MAX_ROWS],
}

impl Kernel for WriteRun<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { epilogue, run, sums, moments } = self;
        let row_floats = run.columns * LANES;
        for panel in 0..run.panels {
            for row in 0..run.rows {
                let index = panel * run.rows + row;
                let sums = &mut sums[index * row_floats..][..row_floats];
                let place = Place {
                    sample: run.sample,
                    panel: run.first_panel + panel,
                    offset: run.offset + row * run.row_step,
                };
                epilogue.apply(simd, place, sums);
                if let Some(writer) = epilogue.moments {
                    moments[index].add(sums.as_chunks().0);
                    if run.is_last {
                        #[expect(unsafe_code, reason = "several threads write disjoint records")]
                        // SAFETY: the caller of `Epilogue::write` guarantees that the rows of the run belong to this thread.
                        unsafe {
                            writer.write(
                                run.sample,
                                place.panel,
                                run.segment + row * run.segment_step,
                                &moments[index],
                            );
                        }
                        moments[index] = SegmentSums::EMPTY;
                    }
                }
                epilogue.store(place, sums);
            }
        }
    }
}

/// A row of a run: the panel and the offset of its first column in each channel.
#[derive(Clone, Copy)]
struct Place {
    sample: usize,
    panel: usize,
    offset: usize,
}

impl Epilogue<'_> {
    /// The number of channels of a panel.
    #[inline(always)]
    fn channels(&self, panel: usize) -> usize {
        LANES.min(self.outputs - panel * LANES)
    }

    /// Turns sums into values: dequantization, residual, activation, and the rounding to integers.
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, place: Place, sums: &mut [f32]) {
        if let Some(factors) = self.dequantize {
            let factors = &factors[place.panel * LANES..][..LANES];
            for position in sums.as_chunks_mut::<LANES>().0 {
                for (sum, factor) in position.iter_mut().zip(factors) {
                    *sum = sum.to_bits().cast_signed() as f32 * factor;
                }
            }
        }
        if let Some(residual) = &self.residual {
            self.add_residual(simd, residual, place, sums);
        }
        if self.slope != 1.0 {
            for sum in &mut *sums {
                *sum = if *sum > 0.0 { *sum } else { *sum * self.slope };
            }
        }
        if let (Target::U8(_, quantization), Some(_)) = (self.target, self.moments) {
            let quantizer = Quantizer::new(quantization);
            for sum in &mut *sums {
                *sum = quantizer.nearest(*sum);
            }
        }
    }

    #[inline(always)]
    fn add_residual<S: Simd>(&self, simd: S, residual: &LayerInput<'_>, place: Place, sums: &mut [f32]) {
        let columns = sums.len() / LANES;
        let channels = self.channels(place.panel);
        let mut rows = Sums([0.0; MAX_SUMS * LANES]);
        let (rows, blocked) = rows.0.split_at_mut(MAX_COLUMNS * LANES);
        for lane in 0..channels {
            let index = place.sample * self.outputs + place.panel * LANES + lane;
            let source = residual.values.part(index * self.plane + place.offset, columns);
            let transform: Option<ChannelTransform> = residual.channel_transform(index);
            load_row(simd, source, transform, &mut rows[lane * MAX_COLUMNS..][..columns]);
        }
        let blocked = &mut blocked[..sums.len()];
        interleave(self.instruction_set, rows, MAX_COLUMNS, channels, blocked);
        for (sum, residual) in sums.iter_mut().zip(blocked) {
            *sum += *residual;
        }
    }

    /// Writes the values of one row to the planar output.
    #[inline(always)]
    fn store(&self, place: Place, sums: &[f32]) {
        let columns = sums.len() / LANES;
        let channels = self.channels(place.panel);
        let first = (place.sample * self.outputs + place.panel * LANES) * self.plane;
        if let Target::F32(values) = self.target {
            let pointers: [SharedMut; LANES] =
                std::array::from_fn(|lane| values.offset(first + lane * self.plane));
            #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
            // SAFETY: the instruction set was detected, the first `channels` pointers are channels of the output, and the caller
            // of `Epilogue::write` guarantees that the columns lie within them and belong to this thread.
            unsafe {
                deinterleave(self.instruction_set, sums, &pointers[..channels], place.offset, 1);
            }
            return;
        }
        let mut rows = [0.0; MAX_COLUMNS * LANES];
        let base = SharedMut::new(&mut rows);
        let pointers: [SharedMut; LANES] = std::array::from_fn(|lane| base.offset(lane * MAX_COLUMNS));
        #[expect(unsafe_code, reason = "the rows are written through pointers")]
        // SAFETY: the instruction set was detected, and each of the sixteen rows has room for `MAX_COLUMNS` columns.
        unsafe {
            deinterleave(self.instruction_set, sums, &pointers[..channels], 0, 1);
        }
        for lane in 0..channels {
            let row = &rows[lane * MAX_COLUMNS..][..columns];
            let at = first + lane * self.plane + place.offset;
            #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
            // SAFETY: the caller of `Epilogue::write` guarantees that the columns lie within the output and belong to this
            // thread.
            unsafe {
                match self.target {
                    Target::F32(_) => {}
                    Target::Bf16(values) => {
                        bf16_row(row, std::slice::from_raw_parts_mut(values.offset(at).pointer(), columns));
                    }
                    Target::U8(values, quantization) => {
                        let target = std::slice::from_raw_parts_mut(values.offset(at).pointer(), columns);
                        quantize_row(row, quantization, target);
                    }
                }
            }
        }
    }
}
