//! Distributions of numbers over the cases of a data set.

use serde::{Deserialize, Serialize};
use sulcus_model::Region;
use sulcus_pipeline::quantile;
use sulcus_volume::Label;

use crate::facts::CaseFacts;
use crate::measures::ForegroundSample;

/// A distribution of intensities. Minimum and maximum are exact; the other values are computed from at most 10,000
/// voxels per case, so that one large structure does not dominate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Intensities {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub sd: f64,
    /// Median.
    pub median: f64,
    /// Minimum.
    pub min: f64,
    /// Maximum.
    pub max: f64,
    /// The 0.5th percentile.
    pub percentile_00_5: f64,
    /// The 99.5th percentile.
    pub percentile_99_5: f64,
}

/// The size of a label over the cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LabelVolumes {
    /// The label value.
    pub value: Label,
    /// The name.
    pub name: String,
    /// Number of cases that have it.
    pub cases: usize,
    /// Voxels in all cases.
    pub voxels: usize,
    /// Minimum, median and maximum volume in millilitres, over the cases that have it; `None` for pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ml: Option<[f64; 3]>,
    /// Minimum, median and maximum number of pixels, over the cases that have it; `None` for scans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<[f64; 3]>,
}

/// The size of a region over the cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RegionVolumes {
    /// The label values of the region.
    pub values: Vec<Label>,
    /// The name.
    pub name: String,
    /// Number of cases that have any of the values.
    pub cases: usize,
    /// Voxels in all cases.
    pub voxels: usize,
    /// Minimum, median and maximum volume in millilitres, over the cases that have it; `None` for pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ml: Option<[f64; 3]>,
    /// Minimum, median and maximum number of pixels, over the cases that have it; `None` for scans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<[f64; 3]>,
}

/// The distribution of all samples together; `None` without samples.
pub fn intensities<'a>(samples: impl Iterator<Item = &'a ForegroundSample>) -> Option<Intensities> {
    let mut values = Vec::new();
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for sample in samples {
        values.extend(sample.values.iter().map(|v| f64::from(*v)));
        if let Some([low, high]) = sample.range {
            (min, max) = (min.min(f64::from(low)), max.max(f64::from(high)));
        }
    }
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let values = sorted(values);
    let at = |share| quantile(&values, share);
    Some(Intensities {
        mean,
        sd,
        median: at(0.5),
        min,
        max,
        percentile_00_5: at(0.005),
        percentile_99_5: at(0.995),
    })
}

/// The size of a label over the cases.
pub fn label_volumes(value: Label, name: &str, facts: &[CaseFacts]) -> LabelVolumes {
    let found = || facts.iter().filter(|f| f.label_voxels.contains_key(&value));
    let voxels = |f: &CaseFacts| f.label_voxels.get(&value).copied().unwrap_or_default();
    let (ml, pixels) = sizes(found(), |f| f.volume_ml(value), voxels);
    LabelVolumes {
        value,
        name: name.to_owned(),
        cases: found().count(),
        voxels: found().map(voxels).sum(),
        ml,
        pixels,
    }
}

/// The size of a region over the cases.
pub fn region_volumes(region: &Region, facts: &[CaseFacts]) -> RegionVolumes {
    let voxels = |f: &CaseFacts| region.values.iter().filter_map(|value| f.label_voxels.get(value)).sum::<usize>();
    let of_value =
        |f: &CaseFacts| region.values.iter().filter_map(|value| f.volume_ml(*value)).collect::<Vec<_>>();
    let ml = |f: &CaseFacts| Some(of_value(f)).filter(|ml| !ml.is_empty()).map(|ml| ml.iter().sum());
    let found = || facts.iter().filter(|f| voxels(f) > 0);
    let (ml, pixels) = sizes(found(), ml, voxels);
    RegionVolumes {
        values: region.values.clone(),
        name: region.name.clone(),
        cases: found().count(),
        voxels: found().map(voxels).sum(),
        ml,
        pixels,
    }
}

/// Minimum, median and maximum: volumes if every case has one, otherwise pixels.
fn sizes<'a>(
    cases: impl Iterator<Item = &'a CaseFacts> + Clone,
    ml: impl Fn(&CaseFacts) -> Option<f64>,
    voxels: impl Fn(&CaseFacts) -> usize,
) -> (Option<[f64; 3]>, Option<[f64; 3]>) {
    let spread = |values: Vec<f64>| {
        let values = sorted(values);
        [0.0, 0.5, 1.0].map(|share| quantile(&values, share))
    };
    match cases.clone().map(ml).collect::<Option<Vec<f64>>>() {
        Some(volumes) => (Some(spread(volumes)), None),
        None => (None, Some(spread(cases.map(|f| voxels(f) as f64).collect()))),
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values
}
