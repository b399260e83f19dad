use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sulcus_metrics::Summary;

use crate::manifest::{now_utc, write_atomically};
use crate::{
    Changes, Dataset, DatasetRecord, Folds, Manifest, Outcome, Run, Split, SplitChoice, Status, TrainConfig,
    TrainError, TrainObserver, Weights, resume, train,
};

/// A folder in which every fold of a data set is trained, one after the other:
///
/// | file | what |
/// | --- | --- |
/// | `crossvalidation.json` | the [`CrossManifest`]: settings, and each fold's scores |
/// | `splits_final.json` | the folds, in nnU-Net's form |
/// | `fold_0`, `fold_1`, … | a [`Run`] each |
/// | `summary.json` | scores of all cases, each predicted by the fold that held it out; when all folds are done |
#[derive(Debug, Clone)]
pub struct CrossValidation {
    folder: PathBuf,
    folds: Vec<Split>,
    manifest: CrossManifest,
}

/// `crossvalidation.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossManifest {
    /// Version of this structure.
    pub format_version: u32,
    /// `sulcus` and its version.
    pub tool_version: String,
    /// The data set.
    pub dataset: DatasetRecord,
    /// How every fold is to be trained; a time budget is that of all folds together.
    pub config: TrainConfig,
    /// When it began, UTC.
    pub started: String,
    /// When it was last written, UTC.
    pub updated: String,
    /// The folds, in order.
    pub folds: Vec<FoldRecord>,
    /// Scores over all folds, once all are done.
    pub scores: Option<CrossScores>,
}

/// One fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldRecord {
    /// Its run, in the folder of the cross-validation.
    pub folder: String,
    /// Cases trained on.
    pub training_cases: usize,
    /// Cases held out.
    pub validation_cases: usize,
    /// What came of it, once it is done.
    pub result: Option<FoldResult>,
}

/// What came of one fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldResult {
    /// Epochs trained.
    pub epochs: usize,
    /// The epoch whose weights are the best.
    pub best_epoch: usize,
    /// Seconds it took, interruptions left out.
    pub seconds: f64,
    /// Mean foreground Dice over its held-out cases.
    pub mean_dice: Option<f64>,
    /// Mean Dice over them, by structure.
    pub dice: BTreeMap<String, Option<f64>>,
}

/// Scores over all folds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossScores {
    /// Held-out cases of all folds.
    pub cases: usize,
    /// Mean foreground Dice over all of them, as in `summary.json`.
    pub mean_dice: Option<f64>,
    /// Mean of the folds' means.
    pub fold_mean: Option<f64>,
    /// Sample standard deviation of the folds' means; `None` for fewer than two.
    pub fold_sd: Option<f64>,
}

impl CrossValidation {
    /// The version of `crossvalidation.json` that this program reads and writes.
    pub const FORMAT_VERSION: u32 = 1;
    /// The manifest's file name.
    pub const FILE: &'static str = "crossvalidation.json";
    const SPLITS: &'static str = "splits_final.json";
    const SUMMARY: &'static str = "summary.json";
    /// A budget that is used up still gives each fold a network, of a step.
    const LEAST_BUDGET_SECS: f64 = 1.0;

    /// Whether a folder holds a cross-validation.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(Self::FILE).is_file()
    }

    /// Begins one in `folder`; nothing is trained yet.
    ///
    /// # Errors
    /// When a setting makes no sense, the folder holds a run or a cross-validation already, or it cannot be
    /// written.
    pub fn begin(
        dataset: &Dataset,
        folds: &Folds,
        config: &TrainConfig,
        folder: &Path,
    ) -> Result<Self, TrainError> {
        config.check()?;
        if folder.join(Manifest::FILE).exists() || Self::is_in(folder) {
            return Err(TrainError::RunExists { folder: folder.to_path_buf() });
        }
        let record = |(fold, split): (usize, &Split)| FoldRecord {
            folder: format!("fold_{fold}"),
            training_cases: split.training.len(),
            validation_cases: split.validation.len(),
            result: None,
        };
        let manifest = CrossManifest {
            format_version: Self::FORMAT_VERSION,
            tool_version: concat!("sulcus ", env!("CARGO_PKG_VERSION")).into(),
            dataset: DatasetRecord::of(dataset),
            config: config.clone(),
            started: now_utc(),
            updated: now_utc(),
            folds: folds.folds.iter().enumerate().map(record).collect(),
            scores: None,
        };
        std::fs::create_dir_all(folder).map_err(|e| TrainError::File {
            what: format!("the folder cannot be made: {e}"),
            file: folder.to_path_buf(),
        })?;
        let mut begun = Self { folder: folder.to_path_buf(), folds: folds.folds.clone(), manifest };
        write_json(&begun.splits_file(), &begun.folds)?;
        begun.write()?;
        Ok(begun)
    }

    /// Opens one that was begun.
    ///
    /// # Errors
    /// When the folder holds none, or its files are broken or of an unknown version.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let file = folder.join(Self::FILE);
        let failed = |what: String| TrainError::File { what, file: file.clone() };
        let text = std::fs::read_to_string(&file).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                failed("this folder holds no cross-validation (`--fold all`): it lacks this file".to_owned())
            }
            _ => failed(format!("the cross-validation's manifest cannot be read: {e}")),
        })?;
        let broken = |e: serde_json::Error| failed(format!("the cross-validation's manifest is broken: {e}"));
        let version: Version = serde_json::from_str(&text).map_err(broken)?;
        if version.format_version != Self::FORMAT_VERSION {
            return Err(failed(format!(
                "the cross-validation's manifest has format version {}, this program knows {}",
                version.format_version,
                Self::FORMAT_VERSION
            )));
        }
        let manifest: CrossManifest = serde_json::from_str(&text).map_err(broken)?;
        let splits = folder.join(Self::SPLITS);
        let unusable = |what: String| TrainError::File { what, file: splits.clone() };
        let text = std::fs::read_to_string(&splits)
            .map_err(|e| unusable(format!("the cross-validation's folds cannot be read: {e}")))?;
        let folds: Vec<Split> = serde_json::from_str(&text)
            .map_err(|e| unusable(format!("the cross-validation's folds are broken: {e}")))?;
        if folds.len() != manifest.folds.len() {
            return Err(unusable(format!(
                "the cross-validation was begun with {} folds, found {}",
                manifest.folds.len(),
                folds.len()
            )));
        }
        Ok(Self { folder: folder.to_path_buf(), folds, manifest })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How it came about, and its scores so far.
    pub fn manifest(&self) -> &CrossManifest {
        &self.manifest
    }

    /// The folds.
    pub fn folds(&self) -> &[Split] {
        &self.folds
    }

    /// The folder of a fold's run, from 0.
    pub fn fold_folder(&self, fold: usize) -> PathBuf {
        self.folder.join(format!("fold_{fold}"))
    }

    /// Takes over what may change when it goes on.
    ///
    /// # Errors
    /// When the epochs would change after a fold is done, which was trained for the earlier number, or a setting
    /// makes no sense.
    pub fn change(&mut self, changes: &Changes) -> Result<(), TrainError> {
        if changes.epochs.is_some_and(|epochs| Some(epochs) != self.manifest.config.epochs) {
            for fold in 0..self.folds.len() {
                if self.is_finished(fold)? {
                    let epochs = self.manifest.config.epochs;
                    return Err(TrainError::Config(format!(
                        "fold {fold} is done, with {}; all folds are trained alike",
                        epochs
                            .map_or_else(|| "the usual number of epochs".to_owned(), |n| format!("{n} epoch(s)"))
                    )));
                }
            }
        }
        let config = &mut self.manifest.config;
        config.epochs = changes.epochs.or(config.epochs);
        config.time_budget_secs = changes.time_budget_secs.or(config.time_budget_secs);
        if let Some(device) = &changes.device {
            config.device = device.clone();
        }
        config.workers = changes.workers.unwrap_or(config.workers);
        config.cache = changes.cache.clone().or(config.cache.take());
        config.check()?;
        self.write()
    }

    /// Whether a fold is done: its run says so, it is the run of this fold, and its weights and the scores of all
    /// its held-out cases are there.
    ///
    /// # Errors
    /// When there is a run that cannot be read, or it is the run of other cases.
    pub fn is_finished(&self, fold: usize) -> Result<bool, TrainError> {
        let folder = self.fold_folder(fold);
        if !folder.join(Manifest::FILE).exists() {
            return Ok(false);
        }
        let run = Run::open(&folder)?;
        if Some(&run.manifest().split) != self.folds.get(fold) {
            return Err(TrainError::File {
                what: format!("this run is not of fold {fold}: it was trained on other cases"),
                file: folder.join(Manifest::FILE),
            });
        }
        let scored = run.summary()?.map_or(0, |summary| summary.metric_per_case.len());
        Ok(run.manifest().progress.status == Status::Finished
            && scored == run.manifest().split.validation.len()
            && Weights::Best.file(&folder).is_file())
    }

    /// Trains a fold, or goes on with it where it was begun. A time budget is divided evenly over the folds that
    /// are not done, after what the others took.
    ///
    /// # Errors
    /// As [`train`] and [`resume`].
    pub fn train_fold(
        &mut self,
        dataset: &Dataset,
        fold: usize,
        observer: &mut dyn TrainObserver,
    ) -> Result<Outcome, TrainError> {
        // What may have been noted of a run that is gone does not hold any more.
        self.manifest.scores = None;
        if let Some(record) = self.manifest.folds.get_mut(fold) {
            record.result = None;
        }
        self.write()?;
        let mut config = self.manifest.config.clone();
        config.time_budget_secs = self.share_of_budget();
        let folder = self.fold_folder(fold);
        if folder.join(Manifest::FILE).exists() {
            let changes = Changes {
                epochs: config.epochs,
                time_budget_secs: config.time_budget_secs,
                device: Some(config.device.clone()),
                workers: Some(config.workers),
                cache: config.cache.clone(),
            };
            return resume(dataset, &folder, &changes, observer);
        }
        let choice = SplitChoice::HoldOut { splits: Some(self.splits_file()), fold };
        train(dataset, &choice, &config, &folder, observer)
    }

    /// Takes its own files away again when no fold was begun, such as after data that cannot be trained on.
    pub fn abandon_unless_begun(self) {
        if (0..self.folds.len()).any(|fold| self.fold_folder(fold).exists()) {
            return;
        }
        for file in [Self::FILE, Self::SPLITS] {
            if let Err(error) = std::fs::remove_file(self.folder.join(file)) {
                tracing::warn!("{file} could not be removed: {error}");
            }
        }
        // Goes only when it is empty: it may be the user's own.
        std::fs::remove_dir(&self.folder).ok();
    }

    /// Seconds for the next fold.
    fn share_of_budget(&self) -> Option<f64> {
        let results = self.manifest.folds.iter().map(|f| f.result.as_ref());
        let spent: f64 = results.clone().flatten().map(|r| r.seconds).sum();
        let left = results.filter(Option::is_none).count().max(1);
        let share = |budget: f64| ((budget - spent) / left as f64).max(Self::LEAST_BUDGET_SECS);
        self.manifest.config.time_budget_secs.map(share)
    }

    /// Notes that a fold is done. `seconds_after` is what was spent on it after its training, such as on exporting.
    ///
    /// # Errors
    /// When the fold's run cannot be read, or the manifest not be written.
    pub fn note_finished(&mut self, fold: usize, seconds_after: f64) -> Result<(), TrainError> {
        let run = Run::open(self.fold_folder(fold))?;
        let summary = run.summary()?;
        let Manifest { plan, progress, .. } = run.manifest();
        let mean = |key: &str| summary.as_ref()?.mean.get(key)?.Dice;
        let result = FoldResult {
            epochs: progress.epochs,
            best_epoch: progress.best_epoch,
            seconds: progress.seconds + seconds_after,
            mean_dice: summary.as_ref().and_then(Summary::mean_dice),
            dice: plan.structures().into_iter().map(|s| (s.name.clone(), mean(&s.key()))).collect(),
        };
        if let Some(record) = self.manifest.folds.get_mut(fold) {
            record.result = Some(result);
        }
        self.write()
    }

    /// Scores of all cases, once all folds are done.
    ///
    /// # Errors
    /// When `summary.json` is broken.
    pub fn summary(&self) -> Result<Option<Summary>, TrainError> {
        let file = self.folder.join(Self::SUMMARY);
        if self.manifest.scores.is_none() {
            return Ok(None);
        }
        let unusable = |what: String| TrainError::File { what, file: file.clone() };
        let text =
            std::fs::read_to_string(&file).map_err(|e| unusable(format!("the scores cannot be read: {e}")))?;
        serde_json::from_str(&text).map(Some).map_err(|e| unusable(format!("the scores are broken: {e}")))
    }

    /// Puts the scores of all folds together and writes `summary.json`.
    ///
    /// # Errors
    /// When a fold is not done, or a file cannot be read or written.
    pub fn summarise(&mut self) -> Result<Summary, TrainError> {
        let mut cases = Vec::new();
        for fold in 0..self.folds.len() {
            let run = Run::open(self.fold_folder(fold))?;
            let summary = if self.is_finished(fold)? { run.summary()? } else { None };
            let summary = summary.ok_or_else(|| TrainError::File {
                what: format!("fold {fold} is not done; `--resume` goes on with it"),
                file: run.folder().to_path_buf(),
            })?;
            cases.extend(summary.metric_per_case);
        }
        let summary = Summary::new(cases, sulcus_metrics::DEFAULT_NSD_MM);
        write_json(&self.folder.join(Self::SUMMARY), &summary)?;
        let results = self.manifest.folds.iter().filter_map(|f| f.result.as_ref());
        let means: Vec<f64> = results.filter_map(|r| r.mean_dice).collect();
        let (fold_mean, fold_sd) = mean_and_sd(&means);
        let (cases, mean_dice) = (summary.metric_per_case.len(), summary.mean_dice());
        self.manifest.scores = Some(CrossScores { cases, mean_dice, fold_mean, fold_sd });
        self.write()?;
        Ok(summary)
    }

    fn splits_file(&self) -> PathBuf {
        self.folder.join(Self::SPLITS)
    }

    fn write(&mut self) -> Result<(), TrainError> {
        self.manifest.updated = now_utc();
        write_json(&self.folder.join(Self::FILE), &self.manifest)
    }
}

fn write_json(file: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let json = serde_json::to_vec_pretty(value)
        .map_err(|e| TrainError::File { what: e.to_string(), file: file.to_path_buf() })?;
    write_atomically(file, &json)
}

/// Mean and sample standard deviation, where they are defined.
fn mean_and_sd(values: &[f64]) -> (Option<f64>, Option<f64>) {
    let n = values.len();
    if n == 0 {
        return (None, None);
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (Some(mean), (n > 1).then(|| (squares / (n - 1) as f64).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_divided_over_what_is_left() {
        let record = |seconds: Option<f64>| FoldRecord {
            folder: String::new(),
            training_cases: 1,
            validation_cases: 1,
            result: seconds.map(|seconds| FoldResult {
                epochs: 1,
                best_epoch: 1,
                seconds,
                mean_dice: None,
                dice: BTreeMap::new(),
            }),
        };
        let mut cross = CrossValidation {
            folder: PathBuf::new(),
            folds: Vec::new(),
            manifest: CrossManifest {
                format_version: CrossValidation::FORMAT_VERSION,
                tool_version: String::new(),
                dataset: DatasetRecord {
                    name: String::new(),
                    folder: PathBuf::new(),
                    layout: crate::Layout::Folders,
                },
                config: TrainConfig::from_preset("unet2d-lite").unwrap(),
                started: String::new(),
                updated: String::new(),
                folds: vec![record(None), record(None), record(None), record(None), record(None)],
                scores: None,
            },
        };
        assert_eq!(cross.share_of_budget(), None);
        cross.manifest.config.time_budget_secs = Some(500.0);
        assert_eq!(cross.share_of_budget(), Some(100.0));
        cross.manifest.folds[0] = record(Some(140.0));
        assert_eq!(cross.share_of_budget(), Some(90.0));
        cross.manifest.folds[2] = record(Some(390.0));
        assert_eq!(cross.share_of_budget(), Some(CrossValidation::LEAST_BUDGET_SECS));
    }

    #[test]
    fn the_spread_of_folds_is_the_sample_s() {
        assert_eq!(mean_and_sd(&[]), (None, None));
        assert_eq!(mean_and_sd(&[0.5]), (Some(0.5), None));
        let (mean, sd) = mean_and_sd(&[0.25, 0.5, 0.75]);
        assert_eq!((mean, sd), (Some(0.5), Some(0.25)));
    }
}
