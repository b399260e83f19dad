//! Mean and variance of the output channels, gathered while the output is written.
//!
//! A *segment* is the part of an output row that is gathered at a time; its bounds depend on the shape alone. For each
//! segment the mean and the sum of squared deviations are computed in single precision, shifted by the segment's first value
//! so that a large offset costs no precision. The segments are then merged in their order, in double precision.

use rayon::prelude::*;

use super::tensor::MomentsMut;
use crate::scratch::{LANES, Scratch, SharedMut};

/// The statistics of a segment for one panel in memory: 16 means, then 16 sums of squared deviations.
const RECORD: usize = 2 * LANES;

/// The running sums of a segment for one panel.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct SegmentSums {
    shift: [f32; LANES],
    sum: [f32; LANES],
    squares: [f32; LANES],
    count: usize,
}

impl SegmentSums {
    pub(super) const EMPTY: Self =
        Self { shift: [0.0; LANES], sum: [0.0; LANES], squares: [0.0; LANES], count: 0 };

    /// Sums that were gathered elsewhere: of the deviations from `shift` and of their squares.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "all are gathered here"))]
    pub(super) fn new(shift: [f32; LANES], [sum, squares]: [[f32; LANES]; 2], count: usize) -> Self {
        Self { shift, sum, squares, count }
    }

    /// Adds positions, `[positions][16]`. Must be compiled for the instruction set of its caller.
    #[inline(always)]
    pub(super) fn add(&mut self, positions: &[[f32; LANES]]) {
        let Some(first) = positions.first() else { return };
        if self.count == 0 {
            self.shift = *first;
        }
        self.count += positions.len();
        let shift = self.shift;
        let (mut sum, mut squares) = (self.sum, self.squares);
        for position in positions {
            for lane in 0..LANES {
                let deviation = position[lane] - shift[lane];
                sum[lane] += deviation;
                squares[lane] += deviation * deviation;
            }
        }
        (self.sum, self.squares) = (sum, squares);
    }

    /// The means and the sums of squared deviations.
    #[inline(always)]
    fn finish(&self) -> [[f32; LANES]; 2] {
        let factor = 1.0 / self.count.max(1) as f32;
        let mean = |lane: usize| self.shift[lane] + self.sum[lane] * factor;
        let squares = |lane: usize| self.squares[lane] - self.sum[lane] * (self.sum[lane] * factor);
        [std::array::from_fn(mean), std::array::from_fn(squares)]
    }
}

/// The statistics of all segments: `[N][panel][segment][2][16]`.
pub(super) struct SegmentMoments {
    records: Scratch,
    panels: usize,
    segments: usize,
}

/// The segments of one row: how many there are, and the lengths of all but the last and of the last.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowSegments {
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) length: usize,
}

impl RowSegments {
    pub(super) fn per_row(&self) -> usize {
        self.width.div_ceil(self.length)
    }

    fn count(&self, segment: usize) -> usize {
        let index = segment % self.per_row();
        self.length.min(self.width - index * self.length)
    }
}

impl SegmentMoments {
    pub(super) fn new(batch: usize, panels: usize, segments: usize) -> Self {
        Self { records: Scratch::take(batch * panels * segments * RECORD), panels, segments }
    }

    /// A view through which the threads write.
    pub(super) fn writer(&mut self) -> SegmentWriter {
        SegmentWriter { records: SharedMut::new(&mut self.records), panels: self.panels, segments: self.segments }
    }

    /// Merges the segments of each channel.
    pub(super) fn finish(self, channels: usize, row: RowSegments, moments: MomentsMut<'_>) {
        let (mean, variance) = (SharedMut::new(moments.mean), SharedMut::new(moments.variance));
        let batch = moments.mean.len() / channels;
        (0..batch * self.panels).into_par_iter().for_each(|index| {
            let (sample, panel) = (index / self.panels, index % self.panels);
            let records = self.records[index * self.segments * RECORD..][..self.segments * RECORD].as_chunks().0;
            let [means, variances] = merge(records, row);
            let first = panel * LANES;
            let used = LANES.min(channels - first);
            for (lane, (of_mean, of_variance)) in means.iter().zip(variances).take(used).enumerate() {
                let at = sample * channels + first + lane;
                #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
                // SAFETY: the channel exists, and no other task has its sample and panel.
                unsafe {
                    mean.offset(at).pointer().write(*of_mean as f32);
                    variance.offset(at).pointer().write(of_variance as f32);
                }
            }
        });
    }
}

/// The means and biased variances of one panel.
fn merge(records: &[[f32; RECORD]], row: RowSegments) -> [[f64; LANES]; 2] {
    let total = (row.rows * row.width) as f64;
    let mut mean = [0.0; LANES];
    for (segment, record) in records.iter().enumerate() {
        let weight = row.count(segment) as f64;
        for lane in 0..LANES {
            mean[lane] += weight * f64::from(record[lane]);
        }
    }
    let mean = mean.map(|sum| sum / total);
    let mut squares = [0.0; LANES];
    for (segment, record) in records.iter().enumerate() {
        let weight = row.count(segment) as f64;
        for lane in 0..LANES {
            let difference = f64::from(record[lane]) - mean[lane];
            squares[lane] += f64::from(record[LANES + lane]) + weight * difference * difference;
        }
    }
    [mean, squares.map(|sum| (sum / total).max(0.0))]
}

/// Writes the statistics of segments.
#[derive(Clone, Copy)]
pub(super) struct SegmentWriter {
    records: SharedMut,
    panels: usize,
    segments: usize,
}

impl SegmentWriter {
    /// Writes the statistics of one segment for one panel.
    ///
    /// # Safety
    ///
    /// The sample, panel and segment exist, and no other thread writes them.
    #[inline(always)]
    #[expect(unsafe_code, reason = "several threads write disjoint records")]
    pub(super) unsafe fn write(&self, sample: usize, panel: usize, segment: usize, sums: &SegmentSums) {
        let at = ((sample * self.panels + panel) * self.segments + segment) * RECORD;
        // SAFETY: the caller guarantees that the record exists and belongs to this thread.
        unsafe { self.records.offset(at).pointer().cast::<[[f32; LANES]; 2]>().write(sums.finish()) };
    }
}
