//! The rows of taps that contribute to some outputs.

use super::Execution;
use crate::conv::micro_kernel::TapSegment;
use crate::inference::pack::Region;
use crate::inference::winograd::FREQUENCIES;
use crate::scratch::LANES;

/// The largest number of tap rows: 7³ single taps.
pub(super) const MAX_TAP_ROWS: usize = 343;

/// The tap rows of the outputs of one plane.
pub(super) struct TapRows<'a> {
    pub(super) execution: &'a Execution<'a>,
    pub(super) d: usize,
    pub(super) region: &'a Region,
}

impl TapRows<'_> {
    /// The tap rows that some output rows read. Those that read only padding are skipped.
    pub(super) fn segments<'s>(
        &self,
        h: usize,
        rows: usize,
        segments: &'s mut [TapSegment; MAX_TAP_ROWS],
    ) -> &'s [TapSegment] {
        let Execution { weights, input, kernel, stride, .. } = self.execution;
        let skips_padding = input.format.padding_is_zero();
        let [kd, kh, kw] = *kernel;
        // With Winograd's filtering, these are the tap rows of the first frequency.
        let (per_row, taps, used) = if self.execution.uses_winograd {
            (FREQUENCIES, 1, 1)
        } else {
            (kw / weights.taps, weights.taps, kw / weights.taps)
        };
        let row_cells = self.region.groups * taps * LANES;
        let mut count = 0;
        for a in 0..kd {
            let plane = self.d * stride[0] + a;
            if skips_padding && input.is_padding(0, plane) {
                continue;
            }
            for b in 0..kh {
                let is_padding = |h: usize| input.is_padding(1, h * stride[1] + b);
                if skips_padding && (h..h + rows).all(is_padding) {
                    continue;
                }
                for c in 0..used {
                    let column = c * taps;
                    let phases = self.region.phases();
                    let phase = column % phases * self.region.phase() + column / phases;
                    segments[count] = TapSegment {
                        input: plane % self.region.planes * self.region.plane_step()
                            + b * self.region.row_step()
                            + phase,
                        weights: ((a * kh + b) * per_row + c) * row_cells,
                    };
                    count += 1;
                }
            }
        }
        &segments[..count]
    }
}
