//! Cases that differ from the others, which a person looks at before training.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sulcus_pipeline::quantile;
use sulcus_volume::{GridUnit, Orientation};

use crate::dataset::Dataset;
use crate::facts::CaseFacts;

/// A property of one case that is far from that of the other cases. It is not necessarily wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outlier {
    /// The case's name.
    pub case: String,
    /// The image file, or the mask file if the property is one of the mask.
    pub file: PathBuf,
    /// The property, such as `spacing along S in mm`.
    pub what: String,
    /// The value of this case.
    pub found: String,
    /// The usual value of the other cases.
    pub usual: String,
    /// Distance from the median in robust standard deviations; `None` if the property is not a number.
    pub robust_sds: Option<f64>,
}

/// With fewer cases no outliers are reported.
const MIN_CASES: usize = 8;
/// A number farther from the median than this is an outlier: the modified z-score of Iglewicz & Hoaglin (1993), How to Detect and
/// Handle Outliers.
pub const MAX_ROBUST_SDS: f64 = 3.5;

/// Whether a value that `cases` of all `of` cases have is rare.
fn is_rare(cases: usize, of: usize) -> bool {
    const RARE_SHARE: f64 = 0.05;
    cases == 1 || cases as f64 <= RARE_SHARE * of as f64
}

/// Finds the outliers of a survey: first those that are not numbers, then the others by descending distance.
pub(crate) fn find_outliers(dataset: &Dataset, facts: &[CaseFacts]) -> Vec<Outlier> {
    if facts.len() < MIN_CASES {
        return Vec::new();
    }
    let mut found = odd_orientations(dataset, facts);
    found.extend(missing_structures(dataset, facts));
    let mut numbers = Vec::new();
    for (axis, letter) in ["R", "A", "S"].into_iter().enumerate() {
        let along = move |f: &CaseFacts| f.oriented(Orientation::RAS);
        numbers.extend(far_from_median(
            dataset,
            facts,
            OfFile::Image,
            &format!("number of voxels along {letter}"),
            Scale::Ratios,
            |f| Some(along(f).0[axis] as f64),
        ));
        numbers.extend(far_from_median(
            dataset,
            facts,
            OfFile::Image,
            &format!("spacing along {letter} in mm"),
            Scale::Ratios,
            |f| Some(along(f).1[axis]),
        ));
    }
    for (index, name) in dataset.channels().iter().enumerate() {
        for (what, pick) in [("median", 2_usize), ("99.5th percentile", 4)] {
            numbers.extend(far_from_median(
                dataset,
                facts,
                OfFile::Image,
                &format!("{what} of channel {name}"),
                Scale::Differences,
                |f| f.measures.channels.get(index).map(|c| c.percentiles[pick]),
            ));
        }
    }
    for entry in dataset.labels().entries() {
        let is_measured = facts.iter().all(|f| f.unit == GridUnit::Millimetre);
        let (quantity, unit) = if is_measured { ("volume", "ml") } else { ("area", "pixels") };
        let what = format!("{quantity} of label {} ({}) in {unit}", entry.value, entry.name);
        numbers.extend(far_from_median(dataset, facts, OfFile::Mask, &what, Scale::Ratios, |f| {
            if is_measured {
                return f.volume_ml(entry.value);
            }
            f.label_voxels.get(&entry.value).map(|pixels| *pixels as f64)
        }));
    }
    let distance = |outlier: &Outlier| outlier.robust_sds.unwrap_or(f64::INFINITY);
    numbers.sort_by(|a, b| distance(b).total_cmp(&distance(a)));
    found.extend(numbers);
    found
}

/// The file of a case that a property belongs to.
#[derive(Clone, Copy)]
enum OfFile {
    Image,
    Mask,
}

fn file_of(dataset: &Dataset, case: &str, which: OfFile) -> PathBuf {
    let Some(case) = dataset.case(case) else { return PathBuf::new() };
    match which {
        OfFile::Image => case.images.first().unwrap_or(&case.label).clone(),
        OfFile::Mask => case.label.clone(),
    }
}

fn odd_orientations(dataset: &Dataset, facts: &[CaseFacts]) -> Vec<Outlier> {
    let mut cases: BTreeMap<String, usize> = BTreeMap::new();
    facts.iter().for_each(|f| *cases.entry(f.orientation.to_string()).or_default() += 1);
    let Some((usual, _)) = cases.iter().max_by_key(|(_, n)| **n) else { return Vec::new() };
    let is_odd = |f: &&CaseFacts| {
        let code = f.orientation.to_string();
        code != *usual && cases.get(&code).is_some_and(|n| is_rare(*n, facts.len()))
    };
    let outlier = |f: &CaseFacts| Outlier {
        case: f.name.clone(),
        file: file_of(dataset, &f.name, OfFile::Image),
        what: "orientation".into(),
        found: f.orientation.to_string(),
        usual: usual.clone(),
        robust_sds: None,
    };
    facts.iter().filter(is_odd).map(outlier).collect()
}

/// Finds cases without a structure that nearly all others have.
fn missing_structures(dataset: &Dataset, facts: &[CaseFacts]) -> Vec<Outlier> {
    let mut found = Vec::new();
    for entry in dataset.labels().entries() {
        let missing: Vec<&CaseFacts> =
            facts.iter().filter(|f| !f.label_voxels.contains_key(&entry.value)).collect();
        if !is_rare(missing.len(), facts.len()) {
            continue;
        }
        found.extend(missing.into_iter().map(|f| Outlier {
            case: f.name.clone(),
            file: file_of(dataset, &f.name, OfFile::Mask),
            what: format!("label {} ({})", entry.value, entry.name),
            found: "absent".into(),
            usual: "there".into(),
            robust_sds: None,
        }));
    }
    found
}

/// What makes two values of a property far from each other.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// Their difference: intensities.
    Differences,
    /// Their ratio: sizes and volumes, which are distributed evenly on a logarithmic scale. A lesion may be a hundred times as
    /// large as another.
    Ratios,
}

impl Scale {
    fn position(self, value: f64) -> f64 {
        match self {
            Self::Differences => value,
            Self::Ratios => value.ln(),
        }
    }

    fn value(self, position: f64) -> f64 {
        match self {
            Self::Differences => position,
            Self::Ratios => position.exp(),
        }
    }

    /// Header fields are single precision: smaller distances are ignored.
    fn rounding(self, median: f64) -> f64 {
        const ROUNDING: f64 = 1e-5;
        match self {
            Self::Differences => ROUNDING * median.abs(),
            Self::Ratios => ROUNDING,
        }
    }
}

fn far_from_median(
    dataset: &Dataset,
    facts: &[CaseFacts],
    which: OfFile,
    what: &str,
    scale: Scale,
    value: impl Fn(&CaseFacts) -> Option<f64>,
) -> Vec<Outlier> {
    let position = |f: &CaseFacts| Some(scale.position(value(f)?)).filter(|v| v.is_finite());
    let positions: Vec<(&CaseFacts, f64)> = facts.iter().filter_map(|f| Some((f, position(f)?))).collect();
    if positions.len() < MIN_CASES {
        return Vec::new();
    }
    let numbers: Vec<f64> = positions.iter().map(|(_, v)| *v).collect();
    let (median, spread) = robust_scale(&numbers, scale);
    let outlier = |(f, v): (&CaseFacts, f64)| {
        let sds = (v - median).abs() / spread;
        (sds > MAX_ROBUST_SDS).then(|| Outlier {
            case: f.name.clone(),
            file: file_of(dataset, &f.name, which),
            what: what.to_owned(),
            found: rounded(scale.value(v)),
            usual: rounded(scale.value(median)),
            robust_sds: Some(sds),
        })
    };
    positions.into_iter().filter_map(outlier).collect()
}

/// The median, and an estimate of the standard deviation without outliers: from the median absolute deviation, or from
/// the mean absolute deviation if more than half of the values are equal (Iglewicz & Hoaglin 1993). The estimate is infinite
/// if all values are equal.
fn robust_scale(values: &[f64], scale: Scale) -> (f64, f64) {
    /// For a normal distribution: sd / MAD, and sd / mean absolute deviation.
    const OF_MEDIAN: f64 = 1.482_602;
    const OF_MEAN: f64 = 1.253_314;
    let median_of = |mut values: Vec<f64>| {
        values.sort_unstable_by(f64::total_cmp);
        quantile(&values, 0.5)
    };
    let median = median_of(values.to_vec());
    let deviations: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
    let mean = deviations.iter().sum::<f64>() / deviations.len().max(1) as f64;
    let negligible = scale.rounding(median);
    let from_median = median_of(deviations);
    let spread = if from_median > negligible { OF_MEDIAN * from_median } else { OF_MEAN * mean };
    (median, if spread > negligible { spread } else { f64::INFINITY })
}

/// Rounds to four significant digits.
fn rounded(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { 3 - value.abs().log10().floor() as i32 };
    let factor = 10.0_f64.powi(digits.clamp(0, 12));
    format!("{}", (value * factor).round() / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn robust_scale_ignores_one_extreme_value() {
        // For 1 … 99 evenly: a quarter of the range lies within the median absolute deviation.
        let mut values: Vec<f64> = (1..100).map(f64::from).collect();
        let (median, scale) = robust_scale(&values, Scale::Differences);
        assert_eq!(median, 50.0);
        assert!((scale - 25.0 * 1.482_602).abs() < 1e-9, "{scale}");
        values[98] = 1e9;
        assert_eq!(robust_scale(&values, Scale::Differences), (median, scale));
    }

    #[test]
    fn robust_scale_finds_value_that_differs_from_equal_ones() {
        let mut values = vec![1.0; 45];
        assert_eq!(robust_scale(&values, Scale::Differences), (1.0, f64::INFINITY));
        values.push(2.0);
        let (median, scale) = robust_scale(&values, Scale::Differences);
        assert!((2.0 - median) / scale > MAX_ROBUST_SDS);
        // A difference from rounding to single precision is ignored.
        values[45] = f64::from(1.000_000_2_f32);
        assert_eq!(robust_scale(&values, Scale::Differences).1, f64::INFINITY);
    }

    #[test]
    fn numbers_are_rounded_to_four_digits() {
        let texts = [0.0, 1.0, 0.430_000_02, 2_748_712.5, -12.345_67, 0.000_123_456].map(rounded);
        assert_eq!(texts, ["0", "1", "0.43", "2748713", "-12.35", "0.0001235"]);
    }
}
