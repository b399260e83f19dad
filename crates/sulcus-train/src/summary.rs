//! What a person wants to know of a data set before training on it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::outliers::{self, Outlier};
use crate::plan::{Intensities, LabelVolumes, RegionVolumes, intensities, quantile, region_volumes, volumes};
use crate::survey::{Range, Survey};
use crate::{CaseFacts, Dataset, Layout};

/// What `sulcus info DATASET` tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetSummary {
    /// Always `dataset`.
    pub kind: String,
    /// Name of the data set.
    pub name: String,
    /// Form of its files.
    pub layout: Layout,
    /// Number of cases.
    pub cases: usize,
    /// Image channels.
    pub channels: Vec<String>,
    /// Labels, how often they occur and how large they are.
    pub labels: Vec<LabelVolumes>,
    /// The structures where these are unions of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionVolumes>,
    /// Voxels along right, anterior, superior.
    pub shape: Range,
    /// Voxel size along right, anterior, superior, in millimetres.
    pub spacing_mm: Range,
    /// Orientation codes of the files.
    pub orientations: Vec<String>,
    /// How many cases have each.
    pub orientation_cases: BTreeMap<String, usize>,
    /// Least and greatest intensity.
    pub intensity: [f32; 2],
    /// Intensities, channel by channel.
    pub intensities: Vec<ChannelSummary>,
    /// Whether it brings `splits_final.json`.
    pub splits: bool,
    /// Each case that could be read.
    pub per_case: Vec<CaseSummary>,
    /// What is far from what the other cases have; it need not be wrong.
    pub outliers: Vec<Outlier>,
    /// What must be put right before training.
    pub problems: Vec<String>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
}

/// Intensities of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelSummary {
    /// Name of the channel.
    pub name: String,
    /// The cases' 0.5th, 5th, 50th, 95th and 99.5th percentiles of all finite voxels: of each the least, the median and
    /// the greatest over the cases.
    pub percentiles: Percentiles<[f64; 3]>,
    /// Inside the structures of all cases together; nothing when no case has any.
    pub foreground: Option<Intensities>,
}

/// Five percentiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Percentiles<T> {
    pub p00_5: T,
    pub p05: T,
    pub p50: T,
    pub p95: T,
    pub p99_5: T,
}

impl<T> From<[T; 5]> for Percentiles<T> {
    fn from([p00_5, p05, p50, p95, p99_5]: [T; 5]) -> Self {
        Self { p00_5, p05, p50, p95, p99_5 }
    }
}

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseSummary {
    /// Its name.
    pub name: String,
    /// Its first image file.
    pub file: PathBuf,
    /// Voxels along the axes of the file.
    pub shape: [usize; 3],
    /// Voxel size along the axes of the file, in millimetres.
    pub spacing_mm: [f64; 3],
    /// How the axes of the file lie in the patient.
    pub orientation: String,
    /// Percentiles of each channel.
    pub intensities: Vec<Percentiles<f64>>,
    /// Volume of each structure that it has, in millilitres, by label value.
    pub ml: BTreeMap<String, f64>,
}

impl Dataset {
    /// What `sulcus info` tells about a data set, from a survey of it.
    pub fn summary(&self, survey: &Survey) -> DatasetSummary {
        let facts = &survey.facts;
        let along: Vec<_> = facts.iter().map(|f| f.along(sulcus_volume::Orientation::RAS)).collect();
        let mut orientations: BTreeMap<String, usize> = BTreeMap::new();
        facts.iter().for_each(|f| *orientations.entry(f.orientation.to_string()).or_default() += 1);
        let extreme = |start: f32, pick: fn(f32, f32) -> f32, which: usize| {
            facts.iter().map(|f| f.intensity[which]).fold(start, pick)
        };
        let intensity = [extreme(f32::INFINITY, f32::min, 0), extreme(f32::NEG_INFINITY, f32::max, 1)];
        DatasetSummary {
            kind: "dataset".into(),
            name: self.name().to_owned(),
            layout: self.layout(),
            cases: self.cases().len(),
            channels: self.channels().to_vec(),
            labels: self.labels().entries().iter().map(|e| volumes(e.value, &e.name, facts)).collect(),
            regions: self.regions().iter().map(|region| region_volumes(region, facts)).collect(),
            shape: Range::of(along.iter().map(|(shape, _)| shape.map(|n| n as f64))),
            spacing_mm: Range::of(along.iter().map(|(_, spacing)| *spacing)),
            orientations: orientations.keys().cloned().collect(),
            orientation_cases: orientations,
            intensity: intensity.map(|v| if v.is_finite() { v } else { 0.0 }),
            intensities: self.channels().iter().enumerate().map(|(i, name)| channel(i, name, facts)).collect(),
            splits: self.splits_file().is_some(),
            per_case: facts.iter().map(|f| self.case_summary(f)).collect(),
            outliers: outliers::find(self, facts),
            problems: survey.problems.iter().map(ToString::to_string).collect(),
            warnings: survey.warnings.iter().map(ToString::to_string).collect(),
        }
    }

    fn case_summary(&self, facts: &CaseFacts) -> CaseSummary {
        let ml = |value: &u16| Some((value.to_string(), facts.ml(*value)?));
        CaseSummary {
            name: facts.name.clone(),
            file: self.case(&facts.name).and_then(|c| c.images.first()).cloned().unwrap_or_default(),
            shape: facts.shape,
            spacing_mm: facts.spacing.mm(),
            orientation: facts.orientation.to_string(),
            intensities: facts.measures.percentiles.iter().map(|p| Percentiles::from(*p)).collect(),
            ml: facts.label_voxels.keys().filter_map(ml).collect(),
        }
    }
}

fn channel(index: usize, name: &str, facts: &[CaseFacts]) -> ChannelSummary {
    let of_cases: Vec<[f64; 5]> =
        facts.iter().filter_map(|f| f.measures.percentiles.get(index).copied()).collect();
    let over_cases = |which: usize| {
        let mut values: Vec<f64> = of_cases.iter().map(|p| p[which]).collect();
        values.sort_unstable_by(f64::total_cmp);
        [0.0, 0.5, 1.0].map(|share| quantile(&values, share))
    };
    ChannelSummary {
        name: name.to_owned(),
        percentiles: std::array::from_fn(over_cases).into(),
        foreground: intensities(facts.iter().filter_map(|f| f.measures.foreground.get(index))),
    }
}
