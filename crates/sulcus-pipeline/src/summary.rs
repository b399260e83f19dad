use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sulcus_volume::Label;

use crate::Counts;

/// Scores of a set of predictions, in the shape of nnU-Net's `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Each case.
    pub metric_per_case: Vec<CaseScores>,
    /// Means over the cases, by label value.
    pub mean: BTreeMap<String, MeanScores>,
    /// Mean of the means over all labels.
    pub foreground_mean: MeanScores,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseScores {
    /// The predicted mask's file.
    pub prediction_file: String,
    /// The reference's file.
    pub reference_file: String,
    /// By label value.
    pub metrics: BTreeMap<String, LabelScores>,
}

/// One label in one case; undefined scores (both masks empty) are `null`.
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
    /// Cases (or, in the foreground mean, pairs of case and label) over which Dice and IoU are taken.
    pub cases: usize,
    /// Cases left out of them because both masks are empty.
    pub undefined: usize,
}

impl From<Counts> for LabelScores {
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
        }
    }
}

impl CaseScores {
    /// Names the files and puts the counts under their label values.
    pub fn new(prediction_file: String, reference_file: String, labels: &[Label], counts: &[Counts]) -> Self {
        let metrics = labels.iter().zip(counts).map(|(l, c)| (l.to_string(), LabelScores::from(*c))).collect();
        Self { prediction_file, reference_file, metrics }
    }

    /// Mean Dice over the labels that are defined in this case.
    pub fn mean_dice(&self) -> Option<f64> {
        mean(self.metrics.values().filter_map(|m| m.Dice))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0_usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

impl MeanScores {
    fn over(scores: &[LabelScores]) -> Self {
        let count = |f: fn(&LabelScores) -> u64| mean(scores.iter().map(|s| f(s) as f64)).unwrap_or(0.0);
        let defined = scores.iter().filter(|s| s.Dice.is_some()).count();
        Self {
            Dice: mean(scores.iter().filter_map(|s| s.Dice)),
            IoU: mean(scores.iter().filter_map(|s| s.IoU)),
            TP: count(|s| s.TP),
            FP: count(|s| s.FP),
            FN: count(|s| s.FN),
            TN: count(|s| s.TN),
            n_pred: count(|s| s.n_pred),
            n_ref: count(|s| s.n_ref),
            cases: defined,
            undefined: scores.len() - defined,
        }
    }

    fn of_means(means: &[Self]) -> Self {
        let average = |f: fn(&Self) -> f64| mean(means.iter().map(f)).unwrap_or(0.0);
        Self {
            Dice: mean(means.iter().filter_map(|m| m.Dice)),
            IoU: mean(means.iter().filter_map(|m| m.IoU)),
            TP: average(|m| m.TP),
            FP: average(|m| m.FP),
            FN: average(|m| m.FN),
            TN: average(|m| m.TN),
            n_pred: average(|m| m.n_pred),
            n_ref: average(|m| m.n_ref),
            cases: means.iter().map(|m| m.cases).sum(),
            undefined: means.iter().map(|m| m.undefined).sum(),
        }
    }
}

impl Summary {
    /// Takes the means. A label that a case does not list is not counted for that case.
    pub fn new(metric_per_case: Vec<CaseScores>) -> Self {
        let mut by_label: BTreeMap<String, Vec<LabelScores>> = BTreeMap::new();
        for case in &metric_per_case {
            for (label, scores) in &case.metrics {
                by_label.entry(label.clone()).or_default().push(*scores);
            }
        }
        let mean: BTreeMap<String, MeanScores> =
            by_label.into_iter().map(|(label, scores)| (label, MeanScores::over(&scores))).collect();
        let foreground_mean = MeanScores::of_means(&mean.values().copied().collect::<Vec<_>>());
        Self { metric_per_case, mean, foreground_mean }
    }

    /// Mean Dice over labels and cases; `None` when nowhere defined.
    pub fn mean_dice(&self) -> Option<f64> {
        self.foreground_mean.Dice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, one: Counts, two: Counts) -> CaseScores {
        CaseScores::new(format!("p/{name}"), format!("t/{name}"), &[1, 2], &[one, two])
    }

    #[test]
    fn undefined_scores_are_null_and_counted() {
        let full = Counts { tp: 3, fp: 1, fn_: 1, tn: 5 };
        let empty = Counts { tp: 0, fp: 0, fn_: 0, tn: 10 };
        let missed = Counts { tp: 0, fp: 0, fn_: 4, tn: 6 };
        let summary = Summary::new(vec![case("a", full, empty), case("b", missed, empty)]);
        assert_eq!(summary.mean["1"].Dice, Some(0.375));
        assert_eq!((summary.mean["2"].Dice, summary.mean["2"].cases, summary.mean["2"].undefined), (None, 0, 2));
        assert_eq!(summary.mean_dice(), Some(0.375));
        let json = serde_json::to_value(&summary).unwrap();
        assert!(json["metric_per_case"][0]["metrics"]["2"]["Dice"].is_null());
        assert_eq!(json["metric_per_case"][1]["metrics"]["1"]["Dice"], 0.0);
        assert_eq!(json["metric_per_case"][0]["metrics"]["1"]["n_ref"], 4);
    }
}
