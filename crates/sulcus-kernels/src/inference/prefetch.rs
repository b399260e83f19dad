//! Prefetches cache lines while the multiply-adds run.

use super::pack::{PaddedInput, Region};
use super::tensor::Values;

/// The size of a cache line.
const LINE: usize = 64;

/// Prefetches the cache line of an address into the L2 cache. Any address is allowed.
#[inline(always)]
fn prefetch_read(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "an instruction of the processor")]
    // SAFETY: a prefetch is only a hint: it neither reads for the program nor faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Prefetches the cache line of an address into the L1 cache for writing. Any address is allowed.
#[inline(always)]
pub(super) fn prefetch_write(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "an instruction of the processor")]
    // SAFETY: as above.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Prefetches `bytes` bytes into the L1 cache for writing.
#[inline(always)]
pub(super) fn prefetch_write_range(address: *const u8, bytes: usize) {
    for offset in (0..bytes).step_by(LINE) {
        prefetch_write(address.wrapping_add(offset));
    }
}

/// Prefetches the plane that a block packs next, a few lines at a time.
pub(super) struct PlanePrefetch<'a> {
    input: &'a PaddedInput<'a>,
    sample: usize,
    /// The first value of the rows in a channel, their number, and the lines that they occupy.
    start: usize,
    values: usize,
    lines: usize,
    /// The channel and the line that come next.
    channel: usize,
    line: usize,
    /// The number of lines per step.
    quota: usize,
}

impl<'a> PlanePrefetch<'a> {
    /// The rows of a region in the padded plane `d`, to be prefetched in `steps` steps.
    pub(super) fn new(input: &'a PaddedInput<'a>, region: &Region, sample: usize, d: usize, steps: usize) -> Self {
        let [depth, height, width] = input.size;
        let first = region.first_row.saturating_sub(input.padding[1]).min(height);
        let end = (region.first_row + region.rows).saturating_sub(input.padding[1]).min(height);
        let plane = d.wrapping_sub(input.padding[0]);
        // There is nothing to prefetch in the padding.
        let values = if plane < depth { (end - first) * width } else { 0 };
        let channels = input.channels[0] + input.channels[1];
        let bytes = input.tensors.iter().map(|tensor| tensor.values.bytes_each()).max().unwrap_or(1);
        // With another tensor of smaller values, the lines after those are skipped.
        let lines = (values * bytes).div_ceil(LINE);
        let quota = (channels * lines).div_ceil(steps.max(1));
        let start = plane.wrapping_mul(height).wrapping_add(first).wrapping_mul(width);
        Self { input, sample, start, values, lines, channel: 0, line: 0, quota }
    }

    /// Prefetches the next lines.
    pub(super) fn step(&mut self) {
        let mut left = self.quota;
        while left > 0 && self.lines > 0 {
            let Some(values) = self.input.channel_values(self.sample, self.channel) else { return };
            let count = left.min(self.lines - self.line);
            let values = values.part(self.start, self.values);
            let (address, bytes) = match values {
                Values::F32(values) => (values.as_ptr().cast::<u8>(), size_of_val(values)),
                Values::Bf16(values) => (values.as_ptr().cast::<u8>(), size_of_val(values)),
                Values::U8(values) => (values.as_ptr(), values.len()),
            };
            for line in self.line..self.line + count {
                let offset = line * LINE;
                if offset < bytes {
                    prefetch_read(address.wrapping_add(offset));
                }
            }
            left -= count;
            self.line += count;
            if self.line == self.lines {
                (self.line, self.channel) = (0, self.channel + 1);
            }
        }
    }
}
