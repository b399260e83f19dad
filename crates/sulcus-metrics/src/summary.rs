use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sulcus_volume::{GridUnit, LabelMap, VolumeError};

use crate::{Counts, SurfaceDistances, count_structures, mean_defined, structure_distances};
use sulcus_model::Structure;

/// Scores of a set of predictions, in the form of nnU-Net's `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The cases.
    pub metric_per_case: Vec<CaseScores>,
    /// Means over the cases, by [`Structure::key`].
    pub mean: BTreeMap<String, MeanScores>,
    /// Mean of the means over all labels.
    pub foreground_mean: MeanScores,
    /// Tolerance of NSD in millimetres; absent in files that were written before NSD was measured.
    #[serde(default)]
    pub nsd_mm: Option<f64>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseScores {
    /// File of the predicted mask.
    pub prediction_file: String,
    /// File of the reference.
    pub reference_file: String,
    /// The unit of distances: not millimetres if a mask does not state the size of its pixels.
    #[serde(default, skip_serializing_if = "is_millimetre")]
    pub unit: GridUnit,
    /// By [`Structure::key`].
    pub metrics: BTreeMap<String, LabelScores>,
}

fn is_millimetre(unit: &GridUnit) -> bool {
    *unit == GridUnit::Millimetre
}

/// Scores of one label in one case. Undefined scores (both masks are empty) are `null`. In files that were written before
/// a score existed, that score is undefined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[allow(non_snake_case, missing_docs, reason = "the names are nnU-Net's, a file format")]
pub struct LabelScores {
    pub Dice: Option<f64>,
    pub IoU: Option<f64>,
    pub TP: u64,
    pub FP: u64,
    pub FN: u64,
    pub TN: u64,
    pub n_pred: u64,
    pub n_ref: u64,
    /// 95th percentile of the distances between the surfaces in millimetres; infinite (`"inf"` in the file) if one mask
    /// is empty.
    #[serde(default, with = "infinity_as_text")]
    pub HD95: Option<f64>,
    /// Normalised surface Dice at the tolerance of the summary; 0 if one mask is empty.
    #[serde(default)]
    pub NSD: Option<f64>,
    /// Volume of the prediction in millilitres.
    #[serde(default)]
    pub volume_ml_pred: Option<f64>,
    /// Volume of the reference in millilitres.
    #[serde(default)]
    pub volume_ml_ref: Option<f64>,
    /// Volume of the prediction minus that of the reference, in millilitres.
    #[serde(default)]
    pub volume_error_ml: Option<f64>,
}

/// Means over cases.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[allow(non_snake_case, missing_docs, reason = "the names are nnU-Net's, a file format")]
pub struct MeanScores {
    pub Dice: Option<f64>,
    pub IoU: Option<f64>,
    pub TP: f64,
    pub FP: f64,
    pub FN: f64,
    pub TN: f64,
    pub n_pred: f64,
    pub n_ref: f64,
    /// Number of cases in the means of Dice, IoU, NSD and volumes. For the foreground mean: cases with at least one
    /// defined label.
    pub cases: usize,
    /// Number of cases without these scores, because both masks are empty.
    pub undefined: usize,
    /// Mean of the finite values, in millimetres. It should be reported together with the number of infinite values.
    #[serde(default)]
    pub HD95: Option<f64>,
    /// Number of cases in the mean of HD95. For the foreground mean: cases with at least one finite value.
    #[serde(default)]
    pub HD95_cases: usize,
    /// Number of cases without a finite HD95, because one mask is empty. For the foreground mean: cases in which that is
    /// true for at least one label.
    #[serde(default)]
    pub HD95_infinite: usize,
    #[serde(default)]
    pub NSD: Option<f64>,
    #[serde(default)]
    pub volume_ml_pred: Option<f64>,
    #[serde(default)]
    pub volume_ml_ref: Option<f64>,
    /// Mean of prediction minus reference. Volumes that are too large and too small cancel.
    #[serde(default)]
    pub volume_error_ml: Option<f64>,
    /// Mean of the absolute differences, which do not cancel.
    #[serde(default)]
    pub volume_abs_error_ml: Option<f64>,
}

/// JSON has no number for infinity.
mod infinity_as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    const INFINITE: &str = "inf";

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(f64),
        Text(String),
    }

    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(number) if number.is_infinite() => INFINITE.serialize(serializer),
            other => other.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        match Option::<NumberOrText>::deserialize(deserializer)? {
            None => Ok(None),
            Some(NumberOrText::Number(number)) => Ok(Some(number)),
            Some(NumberOrText::Text(text)) if text == INFINITE => Ok(Some(f64::INFINITY)),
            Some(NumberOrText::Text(text)) => {
                Err(D::Error::custom(format!("expected a number or \"{INFINITE}\", found \"{text}\"")))
            }
        }
    }
}

impl LabelScores {
    /// Scores of a label that neither mask contains, for masks of `voxels` voxels.
    pub fn absent(voxels: u64) -> Self {
        let counts = Counts { tn: voxels, ..Counts::default() };
        Self { volume_ml_pred: Some(0.0), volume_ml_ref: Some(0.0), volume_error_ml: Some(0.0), ..counts.into() }
    }
}

impl From<Counts> for LabelScores {
    /// Scores that can be computed from counts; the others are undefined.
    fn from(counts: Counts) -> Self {
        Self {
            Dice: counts.dice(),
            IoU: counts.iou(),
            TP: counts.tp,
            FP: counts.fp,
            FN: counts.fn_,
            TN: counts.tn,
            n_pred: counts.n_pred(),
            n_ref: counts.n_ref(),
            HD95: None,
            NSD: None,
            volume_ml_pred: None,
            volume_ml_ref: None,
            volume_error_ml: None,
        }
    }
}

impl CaseScores {
    /// Scores each of `structures`. `files` are the names of the files of prediction and reference. NSD is computed at
    /// `nsd_mm` millimetres.
    ///
    /// # Errors
    /// If the masks lie on different grids.
    pub fn measure(
        files: [String; 2],
        prediction: &LabelMap,
        reference: &LabelMap,
        structures: &[Structure],
        nsd_mm: f64,
    ) -> Result<Self, VolumeError> {
        let counts = count_structures(prediction, reference, structures)?;
        let distances = structure_distances(prediction, reference, structures)?;
        let ml = |voxels: u64| reference.geometry().ml(usize::try_from(voxels).unwrap_or(usize::MAX));
        let scores = |(counts, distances): (Counts, SurfaceDistances)| {
            let (predicted, truth) = (ml(counts.n_pred()), ml(counts.n_ref()));
            LabelScores {
                HD95: distances.hd95_mm(),
                NSD: distances.surface_dice(nsd_mm),
                volume_ml_pred: predicted,
                volume_ml_ref: truth,
                volume_error_ml: predicted.zip(truth).map(|(predicted, truth)| predicted - truth),
                ..counts.into()
            }
        };
        let scores = counts.into_iter().zip(distances).map(scores);
        let metrics = structures.iter().map(Structure::key).zip(scores).collect();
        let [prediction_file, reference_file] = files;
        Ok(Self { prediction_file, reference_file, unit: reference.geometry().unit(), metrics })
    }

    /// Mean Dice over the labels whose Dice is defined in this case.
    pub fn mean_dice(&self) -> Option<f64> {
        mean_defined(self.metrics.values().map(|m| m.Dice))
    }
}

impl MeanScores {
    fn over(scores: &[LabelScores]) -> Self {
        let mean = |f: fn(&LabelScores) -> Option<f64>| mean_defined(scores.iter().map(f));
        let count = |f: fn(&LabelScores) -> u64| mean_defined(scores.iter().map(|s| Some(f(s) as f64)));
        let defined = scores.iter().filter(|s| s.Dice.is_some()).count();
        // A structure that is in neither mask is not counted as a correct volume.
        let volume = |f: fn(&LabelScores) -> Option<f64>| {
            mean_defined(scores.iter().filter(|s| s.n_pred + s.n_ref > 0).map(f))
        };
        let distances: Vec<f64> = scores.iter().filter_map(|s| s.HD95).collect();
        let finite: Vec<Option<f64>> = distances.iter().copied().filter(|d| d.is_finite()).map(Some).collect();
        Self {
            Dice: mean(|s| s.Dice),
            IoU: mean(|s| s.IoU),
            TP: count(|s| s.TP).unwrap_or_default(),
            FP: count(|s| s.FP).unwrap_or_default(),
            FN: count(|s| s.FN).unwrap_or_default(),
            TN: count(|s| s.TN).unwrap_or_default(),
            n_pred: count(|s| s.n_pred).unwrap_or_default(),
            n_ref: count(|s| s.n_ref).unwrap_or_default(),
            cases: defined,
            undefined: scores.len() - defined,
            HD95_cases: finite.len(),
            HD95_infinite: distances.len() - finite.len(),
            HD95: mean_defined(finite),
            NSD: mean(|s| s.NSD),
            volume_ml_pred: volume(|s| s.volume_ml_pred),
            volume_ml_ref: volume(|s| s.volume_ml_ref),
            volume_error_ml: volume(|s| s.volume_error_ml),
            volume_abs_error_ml: volume(|s| s.volume_error_ml.map(f64::abs)),
        }
    }

    /// The mean of the means of the labels, over `cases`.
    fn of_means(means: &[Self], cases: &[CaseScores]) -> Self {
        let mean = |f: fn(&Self) -> Option<f64>| mean_defined(means.iter().map(f));
        let count = |f: fn(&Self) -> f64| mean_defined(means.iter().map(|m| Some(f(m)))).unwrap_or_default();
        let with = |f: fn(&LabelScores) -> bool| cases.iter().filter(|case| case.metrics.values().any(f)).count();
        let defined = with(|s| s.Dice.is_some());
        Self {
            Dice: mean(|m| m.Dice),
            IoU: mean(|m| m.IoU),
            TP: count(|m| m.TP),
            FP: count(|m| m.FP),
            FN: count(|m| m.FN),
            TN: count(|m| m.TN),
            n_pred: count(|m| m.n_pred),
            n_ref: count(|m| m.n_ref),
            cases: defined,
            undefined: cases.len() - defined,
            HD95: mean(|m| m.HD95),
            HD95_cases: with(|s| s.HD95.is_some_and(f64::is_finite)),
            HD95_infinite: with(|s| s.HD95.is_some_and(f64::is_infinite)),
            NSD: mean(|m| m.NSD),
            volume_ml_pred: mean(|m| m.volume_ml_pred),
            volume_ml_ref: mean(|m| m.volume_ml_ref),
            volume_error_ml: mean(|m| m.volume_error_ml),
            volume_abs_error_ml: mean(|m| m.volume_abs_error_ml),
        }
    }
}

impl Summary {
    /// Computes the means of cases whose NSD was computed at `nsd_mm` millimetres. A label is counted only for the cases
    /// that list it.
    pub fn new(metric_per_case: Vec<CaseScores>, nsd_mm: f64) -> Self {
        let mut by_label: BTreeMap<String, Vec<LabelScores>> = BTreeMap::new();
        for case in &metric_per_case {
            for (label, scores) in &case.metrics {
                by_label.entry(label.clone()).or_default().push(*scores);
            }
        }
        let mean: BTreeMap<String, MeanScores> =
            by_label.into_iter().map(|(label, scores)| (label, MeanScores::over(&scores))).collect();
        let foreground_mean = MeanScores::of_means(&mean.values().copied().collect::<Vec<_>>(), &metric_per_case);
        Self { metric_per_case, mean, foreground_mean, nsd_mm: Some(nsd_mm) }
    }

    /// The unit of the distances: pixels if that is the unit of any case.
    pub fn distance_unit(&self) -> GridUnit {
        let is_in_pixels = |case: &CaseScores| case.unit == GridUnit::Pixel;
        if self.metric_per_case.iter().any(is_in_pixels) { GridUnit::Pixel } else { GridUnit::Millimetre }
    }

    /// Mean Dice over labels and cases; `None` if it is defined nowhere.
    pub fn mean_dice(&self) -> Option<f64> {
        self.foreground_mean.Dice
    }
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, Label, OrientationSource, RasFromVoxel, Volume};

    use super::*;

    /// Blocks of labels along x, 4 × 4 × (number of labels) voxels of 1 × 1 × 2 mm each.
    fn mask(labels: &[Label]) -> LabelMap {
        let map = RasFromVoxel::new([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]).unwrap();
        let shape = [labels.len(), 4, 4];
        let grid = Geometry::new(shape, map, OrientationSource::Sform).unwrap();
        Volume::new(grid, labels.iter().copied().cycle().take(grid.voxels()).collect()).unwrap()
    }

    fn case(name: &str, prediction: &[Label], reference: &[Label]) -> CaseScores {
        let files = [format!("p/{name}"), format!("t/{name}")];
        CaseScores::measure(files, &mask(prediction), &mask(reference), &[1, 2].map(Structure::label), 1.0)
            .unwrap()
    }

    #[test]
    fn missed_structure_is_counted_and_absent_structure_is_null() {
        let summary = Summary::new(
            vec![case("a", &[1, 1, 1, 0, 0], &[0, 1, 1, 1, 0]), case("b", &[0; 5], &[0, 1, 0, 0, 0])],
            1.0,
        );
        let one = summary.mean["1"];
        assert_eq!((one.Dice, one.cases, one.undefined), (Some(1.0 / 3.0), 2, 0));
        assert_eq!((one.HD95, one.HD95_cases, one.HD95_infinite), (Some(1.0), 1, 1));
        // Half of the surface in the data is within 1 mm: all of the first case, nothing of the second.
        assert_eq!(one.NSD, Some(0.5));
        // 48 voxels against 48, none against 16, of 2 mm³.
        assert_eq!((one.volume_error_ml, one.volume_abs_error_ml), (Some(-0.016), Some(0.016)));
        let two = summary.mean["2"];
        assert_eq!((two.Dice, two.HD95, two.NSD, two.cases, two.undefined), (None, None, None, 0, 2));
        assert_eq!((two.HD95_infinite, summary.foreground_mean.HD95_infinite), (0, 1));
        assert_eq!(summary.mean_dice(), Some(1.0 / 3.0));
    }

    #[test]
    fn means_over_labels_and_volumes_count_the_cases_with_the_structure() {
        // Both structures in the first case, one in the second, none in the third.
        let summary = Summary::new(
            vec![
                case("a", &[1, 1, 2, 0, 0], &[1, 0, 2, 2, 0]),
                case("b", &[1, 0, 0, 0, 0], &[1, 0, 0, 0, 0]),
                case("c", &[0; 5], &[0; 5]),
            ],
            1.0,
        );
        let all = summary.foreground_mean;
        assert_eq!((all.cases, all.undefined, all.HD95_cases, all.HD95_infinite), (2, 1, 2, 0));
        // Prediction has a column of 16 voxels of 2 mm³ too many; the mean is over the two cases that have the structure,
        // not over all three.
        let one = summary.mean["1"];
        assert_eq!((one.volume_error_ml, one.volume_ml_ref, one.cases), (Some(0.016), Some(0.032), 2));
        assert_eq!(summary.mean["2"].volume_error_ml, Some(-0.032));
    }

    #[test]
    fn undefined_and_infinite_scores_round_trip_through_the_file() {
        let summary = Summary::new(vec![case("a", &[0; 5], &[0, 1, 0, 0, 0])], 1.0);
        let json = serde_json::to_value(&summary).unwrap();
        let metrics = &json["metric_per_case"][0]["metrics"];
        assert_eq!((&metrics["1"]["HD95"], &metrics["1"]["Dice"]), (&"inf".into(), &0.0.into()));
        assert!(metrics["2"]["HD95"].is_null() && metrics["2"]["Dice"].is_null());
        assert_eq!((&metrics["1"]["n_ref"], &json["nsd_mm"]), (&16.into(), &1.0.into()));
        assert_eq!(serde_json::from_value::<Summary>(json).unwrap(), summary);
    }

    #[test]
    fn files_without_distances_are_read() {
        let old = r#"{"metric_per_case": [{"prediction_file": "p", "reference_file": "t", "metrics": {"1":
            {"Dice": 0.5, "IoU": 0.3, "TP": 1, "FP": 1, "FN": 1, "TN": 1, "n_pred": 2, "n_ref": 2}}}],
            "mean": {}, "foreground_mean": {"Dice": 0.5, "IoU": null, "TP": 1.0, "FP": 1.0, "FN": 1.0, "TN": 1.0,
            "n_pred": 2.0, "n_ref": 2.0, "cases": 1, "undefined": 0}}"#;
        let summary: Summary = serde_json::from_str(old).unwrap();
        assert_eq!((summary.nsd_mm, summary.metric_per_case[0].metrics["1"].HD95), (None, None));
        let wrong = old.replacen("\"Dice\": 0.5", "\"Dice\": 0.5, \"HD95\": \"far\"", 1);
        assert!(serde_json::from_str::<Summary>(&wrong).unwrap_err().to_string().contains("far"));
    }
}
