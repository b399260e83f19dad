//! Mean and variance of a group.

use super::SUM_REGISTERS;
use crate::simd::{Kernel, Simd, sum, sum_registers};

/// The count, the mean and the sum of squared deviations of some values.
#[derive(Clone, Copy, Default)]
pub(super) struct RunningMoments {
    pub(super) count: f64,
    pub(super) mean: f64,
    pub(super) squared_deviations: f64,
}

impl RunningMoments {
    /// The moments of both sets of values together (Chan et al. 1979).
    pub(super) fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let difference = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + difference * (other.count / count),
            squared_deviations: self.squared_deviations
                + other.squared_deviations
                + difference * difference * (self.count * other.count / count),
        }
    }
}

/// The moments of one block, which must not be empty. A first pass estimates the mean in single precision; a second pass sums
/// the deviations from the estimate and corrects it. A large offset therefore costs no precision.
pub(super) struct BlockMoments<'a>(pub(super) &'a [f32]);

impl Kernel for BlockMoments<'_> {
    type Output = RunningMoments;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> RunningMoments {
        let count = self.0.len() as f64;
        let estimate = (sum(simd, self.0) / count) as f32;

        let centre = simd.splat(estimate);
        let (chunks, rest) = simd.chunks(self.0);
        let mut sums = [simd.splat(0.0); SUM_REGISTERS];
        let mut squares = [simd.splat(0.0); SUM_REGISTERS];
        let mut fours = chunks.chunks_exact(SUM_REGISTERS);
        for four in &mut fours {
            for i in 0..SUM_REGISTERS {
                let deviation = simd.sub(simd.load(&four[i]), centre);
                sums[i] = simd.add(sums[i], deviation);
                squares[i] = simd.fma(deviation, deviation, squares[i]);
            }
        }
        let accumulate = |value: S::Vector, sums: &mut S::Vector, squares: &mut S::Vector| {
            let deviation = simd.sub(value, centre);
            *sums = simd.add(*sums, deviation);
            *squares = simd.fma(deviation, deviation, *squares);
        };
        for chunk in fours.remainder() {
            accumulate(simd.load(chunk), &mut sums[0], &mut squares[0]);
        }
        accumulate(simd.load_partial(rest, estimate), &mut sums[1], &mut squares[1]);
        let deviation = sum_registers(simd, sums);
        RunningMoments {
            count,
            mean: f64::from(estimate) + deviation / count,
            squared_deviations: (sum_registers(simd, squares) - deviation * deviation / count).max(0.0),
        }
    }
}
