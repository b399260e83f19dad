//! The description of a data set that a person reads before training.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sulcus_model::AxisRange;
use sulcus_pipeline::quantile;
use sulcus_volume::GridUnit;

use crate::dataset::{Dataset, Layout};
use crate::facts::CaseFacts;
use crate::outliers::{Outlier, find_outliers};
use crate::patients::Patients;
use crate::statistics::{Intensities, LabelVolumes, RegionVolumes, intensities, label_volumes, region_volumes};
use crate::survey::Survey;

/// A description of a data set, made from a [`Survey`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DatasetSummary {
    /// Always `dataset`.
    pub kind: String,
    /// Name of the data set.
    pub name: String,
    /// Layout of its files.
    pub layout: Layout,
    /// Number of cases.
    pub cases: usize,
    /// The patients, if some have several cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patients: Option<Patients>,
    /// Image channels.
    pub channels: Vec<String>,
    /// The labels, in how many cases they occur and how large they are.
    pub labels: Vec<LabelVolumes>,
    /// The regions, if the structures are unions of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionVolumes>,
    /// Voxels along right, anterior, superior.
    pub shape: AxisRange,
    /// Voxel size along right, anterior, superior, in millimetres.
    pub spacing_mm: AxisRange,
    /// The unit of the voxel size: pixels, if that of any case is.
    #[serde(default, skip_serializing_if = "is_millimetre")]
    pub unit: GridUnit,
    /// Orientation codes of the files.
    pub orientations: Vec<String>,
    /// Number of cases with each orientation.
    pub orientation_cases: BTreeMap<String, usize>,
    /// Minimum and maximum intensity.
    pub intensity: [f32; 2],
    /// Intensities of each channel.
    pub intensities: Vec<ChannelSummary>,
    /// Whether the folder has `splits_final.json`.
    pub splits: bool,
    /// The cases that could be read.
    pub per_case: Vec<CaseSummary>,
    /// Cases that differ from the others; they are not necessarily wrong.
    pub outliers: Vec<Outlier>,
    /// Problems that must be corrected before training.
    pub problems: Vec<String>,
    /// Findings that may be intended.
    pub warnings: Vec<String>,
}

/// Intensities of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChannelSummary {
    /// Name of the channel.
    pub name: String,
    /// Each percentile of the finite voxels is computed per case; the triple is its minimum, median and maximum over the
    /// cases.
    pub percentiles: Percentiles<[f64; 3]>,
    /// Intensities in the foreground of all cases together; `None` if no case has foreground.
    pub foreground: Option<Intensities>,
}

/// The 0.5th, 5th, 50th, 95th and 99.5th percentile.
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

/// One case of a [`DatasetSummary`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CaseSummary {
    /// The case's name.
    pub name: String,
    /// The first image file.
    pub file: PathBuf,
    /// Voxels along the axes of the file.
    pub shape: [usize; 3],
    /// Voxel size along the axes of the file, in millimetres.
    pub spacing_mm: [f64; 3],
    /// The orientation code of the file.
    pub orientation: String,
    /// Percentiles of each channel.
    pub intensities: Vec<Percentiles<f64>>,
    /// Volume of each label that the case has, in millilitres, by label value.
    pub ml: BTreeMap<String, f64>,
}

fn is_millimetre(unit: &GridUnit) -> bool {
    *unit == GridUnit::Millimetre
}

impl Dataset {
    /// Describes the data set from a survey of it.
    pub fn summary(&self, survey: &Survey) -> DatasetSummary {
        let facts = &survey.facts;
        let along: Vec<_> = facts.iter().map(|f| f.oriented(sulcus_volume::Orientation::RAS)).collect();
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
            patients: self.grouped_patients(),
            channels: self.channels().to_vec(),
            labels: self.labels().entries().iter().map(|e| label_volumes(e.value, &e.name, facts)).collect(),
            regions: self.regions().iter().map(|region| region_volumes(region, facts)).collect(),
            shape: AxisRange::of(along.iter().map(|(shape, _)| shape.map(|n| n as f64))),
            spacing_mm: AxisRange::of(along.iter().map(|(_, spacing)| *spacing)),
            unit: if facts.iter().any(|f| f.unit == GridUnit::Pixel) {
                GridUnit::Pixel
            } else {
                GridUnit::Millimetre
            },
            orientations: orientations.keys().cloned().collect(),
            orientation_cases: orientations,
            intensity: intensity.map(|v| if v.is_finite() { v } else { 0.0 }),
            intensities: self.channels().iter().enumerate().map(|(i, name)| channel(i, name, facts)).collect(),
            splits: self.splits_file().is_some(),
            per_case: facts.iter().map(|f| self.case_summary(f)).collect(),
            outliers: find_outliers(self, facts),
            problems: survey.problems.iter().map(ToString::to_string).collect(),
            warnings: survey.warnings.iter().map(ToString::to_string).collect(),
        }
    }

    fn case_summary(&self, facts: &CaseFacts) -> CaseSummary {
        let ml = |value: &u16| Some((value.to_string(), facts.volume_ml(*value)?));
        CaseSummary {
            name: facts.name.clone(),
            file: self.case(&facts.name).and_then(|c| c.images.first()).cloned().unwrap_or_default(),
            shape: facts.shape,
            spacing_mm: facts.spacing.mm(),
            orientation: facts.orientation.to_string(),
            intensities: facts.measures.channels.iter().map(|c| Percentiles::from(c.percentiles)).collect(),
            ml: facts.label_voxels.keys().filter_map(ml).collect(),
        }
    }
}

fn channel(index: usize, name: &str, facts: &[CaseFacts]) -> ChannelSummary {
    let of_cases: Vec<[f64; 5]> =
        facts.iter().filter_map(|f| f.measures.channels.get(index)).map(|c| c.percentiles).collect();
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
