use serde::{Deserialize, Serialize};

/// What the scans looked like that a model was trained on. A scan unlike them is reported when it is segmented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingScans {
    /// Number of scans.
    pub cases: usize,
    /// Voxel size along right, anterior, superior, in millimetres.
    pub spacing_mm: AxisRange,
    /// Field of view along right, anterior, superior, in millimetres: of the part of a scan that the model sees.
    pub extent_mm: AxisRange,
    /// The intensities of each channel in that part.
    pub channels: Vec<ChannelRange>,
}

/// Minimum, median and maximum of a triple over scans, for each axis.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AxisRange {
    /// Minimum.
    pub min: [f64; 3],
    /// Median.
    pub median: [f64; 3],
    /// Maximum.
    pub max: [f64; 3],
}

/// The intensities of one channel: ranges over the training scans.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRange {
    /// Minimum and maximum of the scans' 0.5th percentiles.
    pub percentile_00_5: [f64; 2],
    /// Minimum and maximum of the scans' 99.5th percentiles.
    pub percentile_99_5: [f64; 2],
    /// Maximum of the fraction of a scan's voxels that share its most frequent value.
    pub max_mode_fraction: f64,
}

impl AxisRange {
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

impl TrainingScans {
    /// Checks the values, for a model with this many channels.
    ///
    /// # Errors
    /// With the first value that makes no sense.
    pub fn check(&self, channels: usize) -> Result<(), String> {
        for (name, range) in [("spacing_mm", &self.spacing_mm), ("extent_mm", &self.extent_mm)] {
            let positive = range.min.iter().all(|v| *v > 0.0);
            let ordered = (0..3).all(|a| range.min[a] <= range.median[a] && range.median[a] <= range.max[a]);
            if !positive || !ordered || !range.max.iter().all(|v| v.is_finite()) {
                return Err(format!("`{name}` of its training scans must rise from above 0, found {range:?}"));
            }
        }
        if self.channels.len() != channels {
            return Err(format!("it has {channels} channel(s), its training scans have {}", self.channels.len()));
        }
        for channel in &self.channels {
            let ordered = [channel.percentile_00_5, channel.percentile_99_5]
                .iter()
                .all(|[min, max]| min.is_finite() && max.is_finite() && min <= max);
            if !ordered || !(0.0..=1.0).contains(&channel.max_mode_fraction) {
                return Err(format!("the intensities of its training scans make no sense: {channel:?}"));
            }
        }
        if self.cases == 0 {
            return Err("its training scans are described, but there are 0 of them".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scans() -> TrainingScans {
        let range = AxisRange { min: [1.0; 3], median: [1.0; 3], max: [2.0; 3] };
        let channel = ChannelRange {
            percentile_00_5: [-1000.0, -900.0],
            percentile_99_5: [200.0, 300.0],
            max_mode_fraction: 0.25,
        };
        TrainingScans { cases: 3, spacing_mm: range, extent_mm: range, channels: vec![channel] }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        assert_eq!(scans().check(1), Ok(()));
        let refused = |change: &dyn Fn(&mut TrainingScans)| {
            let mut changed = scans();
            change(&mut changed);
            changed.check(1).unwrap_err()
        };
        assert!(refused(&|s| s.spacing_mm.min[1] = 0.0).contains("`spacing_mm`"));
        assert!(refused(&|s| s.extent_mm.median[2] = 3.0).contains("`extent_mm`"));
        assert!(refused(&|s| s.extent_mm.max[0] = f64::NAN).contains("`extent_mm`"));
        assert!(refused(&|s| s.extent_mm.max[0] = f64::INFINITY).contains("`extent_mm`"));
        assert!(refused(&|s| s.channels.clear()).contains("have 0"));
        assert!(refused(&|s| s.channels[0].percentile_99_5 = [3.0, 2.0]).contains("intensities"));
        assert!(refused(&|s| s.channels[0].percentile_00_5[0] = f64::NAN).contains("intensities"));
        assert!(refused(&|s| s.channels[0].max_mode_fraction = 1.5).contains("intensities"));
        assert!(refused(&|s| s.cases = 0).contains("0 of them"));
    }
}
