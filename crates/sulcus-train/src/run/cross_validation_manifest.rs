use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sulcus_dataset::Patients;
use sulcus_plan::TrainConfig;

use super::manifest::DatasetRecord;

/// `crossvalidation.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CrossManifest {
    /// Version of this structure.
    pub format_version: u32,
    /// `sulcus` and its version.
    pub tool_version: String,
    /// The data set.
    pub dataset: DatasetRecord,
    /// The configuration of every fold. The time budget is that of all folds together.
    pub config: TrainConfig,
    /// Whether all folds are trained by the plan in `plan.json`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_plan: bool,
    /// The patients of the data set, if some have several cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patients: Option<Patients>,
    /// When the cross-validation began, UTC.
    pub started: String,
    /// When this file was last written, UTC.
    pub updated: String,
    /// The folds, in order.
    pub folds: Vec<FoldRecord>,
    /// Scores over all folds, once all are finished.
    pub scores: Option<CrossScores>,
}

/// One fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FoldRecord {
    /// The name of its run's folder.
    pub folder: String,
    /// Number of training cases.
    pub training_cases: usize,
    /// Number of validation cases.
    pub validation_cases: usize,
    /// The result, once the fold is finished.
    pub result: Option<FoldResult>,
}

/// The result of one fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FoldResult {
    /// Number of trained epochs.
    pub epochs: usize,
    /// The epoch with the best weights.
    pub best_epoch: usize,
    /// Training time in seconds, without interruptions.
    pub seconds: f64,
    /// Mean foreground Dice over its validation cases.
    pub mean_dice: Option<f64>,
    /// Mean Dice over them, for each structure.
    pub dice: BTreeMap<String, Option<f64>>,
}

/// Scores over all folds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CrossScores {
    /// Number of validation cases of all folds.
    pub cases: usize,
    /// Mean foreground Dice over all of them, as in `summary.json`.
    pub mean_dice: Option<f64>,
    /// Mean of the folds' means.
    pub fold_mean: Option<f64>,
    /// Sample standard deviation of the folds' means; `None` for fewer than two.
    pub fold_sd: Option<f64>,
}
