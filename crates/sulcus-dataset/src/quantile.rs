use serde::{Deserialize, Serialize};

/// Minimum, median and maximum of a triple over cases, for each axis.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Range {
    /// Minimum.
    pub min: [f64; 3],
    /// Median.
    pub median: [f64; 3],
    /// Maximum.
    pub max: [f64; 3],
}

impl Range {
    /// The range over all triples; zeros if there are none.
    pub fn of(triples: impl Iterator<Item = [f64; 3]>) -> Self {
        let triples: Vec<[f64; 3]> = triples.collect();
        let pick = |share: f64| {
            std::array::from_fn(|axis| {
                let mut values: Vec<f64> = triples.iter().map(|t| t[axis]).collect();
                values.sort_by(f64::total_cmp);
                // The mean of the two middle values for an even number of values, as NumPy's median.
                let at = values.len().saturating_sub(1) as f64 * share;
                let value = |index: f64| values.get(index as usize).copied().unwrap_or_default();
                (value(at.floor()) + value(at.ceil())) / 2.0
            })
        };
        Self { min: pick(0.0), median: pick(0.5), max: pick(1.0) }
    }
}
pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The quantile `share` (0 to 1) of sorted values, interpolated linearly as NumPy does by default; 0 without values.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = share * sorted.len().saturating_sub(1) as f64;
    let at = |rank: f64| sorted.get(rank as usize).copied().unwrap_or_default();
    let (below, above) = (at(rank.floor()), at(rank.ceil()));
    below + (above - below) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_equal_numpys() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.5), 3.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0, 8.0], 0.75), 5.0);
        assert_eq!((quantile(&[3.0], 0.995), quantile(&[], 0.5)), (3.0, 0.0));
    }
}
