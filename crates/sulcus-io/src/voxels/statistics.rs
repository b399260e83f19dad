use super::blocks::BLOCK;

/// Statistics of the finite values, after slope and intercept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) sum: f64,
    pub(crate) finite: usize,
    pub(crate) non_finite: usize,
}

impl Statistics {
    pub(crate) const EMPTY: Self =
        Self { min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0, finite: 0, non_finite: 0 };

    /// Adds a block of at most [`BLOCK`] values. Summing short blocks first keeps the rounding error small.
    pub(crate) fn add(&mut self, values: &[f64]) {
        if values.iter().fold(true, |all, v| all & v.is_finite()) {
            self.add_finite(values);
            return;
        }
        let mut finite = [0.0; BLOCK];
        let mut n = 0;
        for (slot, v) in finite.iter_mut().zip(values.iter().filter(|v| v.is_finite())) {
            *slot = *v;
            n += 1;
        }
        self.add_finite(finite.get(..n).unwrap_or_default());
        self.non_finite += values.len() - n;
    }

    /// Adds `count` integers, given their minimum, maximum and sum.
    pub(crate) fn add_integers(&mut self, min: f64, max: f64, sum: f64, count: usize) {
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        self.sum += sum;
        self.finite += count;
    }

    fn add_finite(&mut self, values: &[f64]) {
        // The compiler vectorises four lanes; more would exceed the registers.
        const LANES: usize = 4;
        let (mut min, mut max, mut sum) = ([self.min; LANES], [self.max; LANES], [0.0; LANES]);
        let (groups, rest) = values.as_chunks::<LANES>();
        for group in groups {
            for (lane, &v) in group.iter().enumerate() {
                min[lane] = if v < min[lane] { v } else { min[lane] };
                max[lane] = if v > max[lane] { v } else { max[lane] };
                sum[lane] += v;
            }
        }
        for (lane, &v) in rest.iter().enumerate() {
            min[lane] = v.min(min[lane]);
            max[lane] = v.max(max[lane]);
            sum[lane] += v;
        }
        self.min = min.into_iter().fold(self.min, f64::min);
        self.max = max.into_iter().fold(self.max, f64::max);
        self.sum += sum.iter().sum::<f64>();
        self.finite += values.len();
    }
}
