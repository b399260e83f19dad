use std::path::{Path, PathBuf};

use sulcus_dataset::{Dataset, Folds, Split, SplitChoice};
use sulcus_metrics::Summary;
use sulcus_plan::{PlanFile, TrainConfig};

use super::begin::{train, train_by_plan};
use super::cross_validation_manifest::{CrossManifest, CrossScores, FoldRecord, FoldResult};
use super::files::{now_utc, read_versioned_json, write_json};
use super::manifest::{DatasetRecord, Manifest, Status};
use super::observer::{TrainObserver, TrainOutcome};
use super::resume::{ResumeOptions, resume};
use super::run_folder::Run;
use super::weights::Weights;
use crate::error::TrainError;

/// A cross-validation: a folder in which every fold of a data set is trained, one after the other.
///
/// | file | content |
/// | --- | --- |
/// | `crossvalidation.json` | the [`CrossManifest`]: settings, and each fold's scores |
/// | `splits_final.json` | the folds, in nnU-Net's format |
/// | `plan.json` | the [`PlanFile`] of all folds, if they share one; otherwise each fold is planned from its own training cases |
/// | `fold_0`, `fold_1`, … | one [`Run`] each |
/// | `summary.json` | scores of all cases, each predicted by the fold that held it out; once all folds are finished |
#[derive(Debug, Clone)]
pub struct CrossValidation {
    folder: PathBuf,
    folds: Vec<Split>,
    plan: Option<PlanFile>,
    manifest: CrossManifest,
}

impl CrossValidation {
    /// The version of `crossvalidation.json` that this program reads and writes.
    pub const FORMAT_VERSION: u32 = 1;
    /// The manifest's file name.
    pub const FILE: &'static str = "crossvalidation.json";
    const SPLITS: &'static str = "splits_final.json";
    const SUMMARY: &'static str = "summary.json";
    /// The minimum time budget of a fold: one step is still trained when the budget is used up.
    const MIN_BUDGET_SECS: f64 = 1.0;

    /// Whether a folder holds a cross-validation.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(Self::FILE).is_file()
    }

    /// Begins a cross-validation in `folder`, without training. With a `plan` all folds are trained by it, as in nnU-Net; otherwise each
    /// fold is planned from its own training cases.
    ///
    /// # Errors
    /// When a setting is invalid, the plan does not fit the data set, the folder already holds a run or a cross-validation, or it
    /// cannot be written.
    pub fn begin(
        dataset: &Dataset,
        folds: &Folds,
        config: &TrainConfig,
        plan: Option<&PlanFile>,
        folder: &Path,
    ) -> Result<Self, TrainError> {
        config.check()?;
        if let Some(PlanFile { plan, .. }) = plan {
            plan.check()?;
            plan.check_data(dataset.channels(), dataset.labels(), dataset.regions())?;
        }
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
            one_plan: plan.is_some(),
            patients: dataset.grouped_patients(),
            started: now_utc(),
            updated: now_utc(),
            folds: folds.folds.iter().enumerate().map(record).collect(),
            scores: None,
        };
        std::fs::create_dir_all(folder).map_err(|e| TrainError::File {
            what: format!("the folder cannot be made: {e}"),
            file: folder.to_path_buf(),
        })?;
        let mut begun =
            Self { folder: folder.to_path_buf(), folds: folds.folds.clone(), plan: plan.cloned(), manifest };
        if let Some(plan) = plan {
            plan.write(&folder.join(PlanFile::FILE))?;
        }
        write_json(&begun.splits_file(), &begun.folds)?;
        begun.write()?;
        Ok(begun)
    }

    /// Opens a cross-validation.
    ///
    /// # Errors
    /// When the folder holds none, or its files are invalid or of an unknown version.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        let file = folder.join(Self::FILE);
        let missing = || TrainError::NotACrossValidation { file: file.clone() };
        let manifest: CrossManifest =
            read_versioned_json(&file, "the cross-validation's manifest", Self::FORMAT_VERSION, missing)?;
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
        let plan = manifest.one_plan.then(|| PlanFile::read(&folder.join(PlanFile::FILE))).transpose()?;
        Ok(Self { folder: folder.to_path_buf(), folds, plan, manifest })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manifest, with the scores so far.
    pub fn manifest(&self) -> &CrossManifest {
        &self.manifest
    }

    /// The plan of all folds; `None` if each fold is planned from its own training cases.
    pub fn plan(&self) -> Option<&PlanFile> {
        self.plan.as_ref()
    }

    /// The folds.
    pub fn folds(&self) -> &[Split] {
        &self.folds
    }

    /// The folder of the run of a fold, from 0.
    pub fn fold_folder(&self, fold: usize) -> PathBuf {
        self.folder.join(format!("fold_{fold}"))
    }

    /// Changes the settings that may change on a resume.
    ///
    /// # Errors
    /// When the number of epochs would change after a fold is finished, or a setting is invalid.
    pub fn change(&mut self, options: &ResumeOptions) -> Result<(), TrainError> {
        if options.epochs.is_some_and(|epochs| Some(epochs) != self.manifest.config.epochs) {
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
        options.apply(&mut self.manifest.config)?;
        self.write()
    }

    /// Whether a fold is finished: its run says so, it is the run of this fold, and its weights and the scores of all its
    /// validation cases exist.
    ///
    /// # Errors
    /// When the run cannot be read, or was trained on other cases.
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

    /// Trains a fold, or resumes it. The remaining time budget is divided evenly over the folds that are not finished.
    ///
    /// # Errors
    /// As [`train`], [`train_by_plan`] and [`resume`].
    pub fn train_fold(
        &mut self,
        dataset: &Dataset,
        fold: usize,
        observer: &mut dyn TrainObserver,
    ) -> Result<TrainOutcome, TrainError> {
        // The results of a run that was deleted are no longer valid.
        self.manifest.scores = None;
        if let Some(record) = self.manifest.folds.get_mut(fold) {
            record.result = None;
        }
        self.write()?;
        let mut config = self.manifest.config.clone();
        config.time_budget_secs = self.fold_budget_secs();
        let folder = self.fold_folder(fold);
        if folder.join(Manifest::FILE).exists() {
            let options = ResumeOptions {
                epochs: config.epochs,
                time_budget_secs: config.time_budget_secs,
                device: Some(config.device.clone()),
                workers: Some(config.workers),
                cache: config.cache.clone(),
            };
            return resume(dataset, &folder, &options, observer);
        }
        let choice = SplitChoice::HoldOut { splits: Some(self.splits_file()), fold };
        match &self.plan {
            Some(file) => train_by_plan(dataset, &choice, &config, &file.plan, &folder, observer),
            None => train(dataset, &choice, &config, &folder, observer),
        }
    }

    /// Removes its own files if no fold was begun, for example because of problems in the data set.
    pub fn abandon_unless_begun(self) {
        if (0..self.folds.len()).any(|fold| self.fold_folder(fold).exists()) {
            return;
        }
        let plan = self.plan.as_ref().map(|_| PlanFile::FILE);
        for file in [Self::FILE, Self::SPLITS].into_iter().chain(plan) {
            if let Err(error) = std::fs::remove_file(self.folder.join(file)) {
                tracing::warn!("{file} could not be removed: {error}");
            }
        }
        // Removes the folder only if it is empty.
        std::fs::remove_dir(&self.folder).ok();
    }

    /// The time budget of the next fold in seconds.
    fn fold_budget_secs(&self) -> Option<f64> {
        let results = self.manifest.folds.iter().map(|f| f.result.as_ref());
        let spent: f64 = results.clone().flatten().map(|r| r.seconds).sum();
        let left = results.filter(Option::is_none).count().max(1);
        let fold_budget = |budget: f64| ((budget - spent) / left as f64).max(Self::MIN_BUDGET_SECS);
        self.manifest.config.time_budget_secs.map(fold_budget)
    }

    /// Records that a fold is finished. `seconds_after` is the time spent on it after its training, such as for exporting.
    ///
    /// # Errors
    /// When the fold's run cannot be read, or the manifest cannot be written.
    pub fn record_finished(&mut self, fold: usize, seconds_after: f64) -> Result<(), TrainError> {
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

    /// The scores of all cases, once all folds are finished.
    ///
    /// # Errors
    /// When `summary.json` is invalid.
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

    /// Combines the scores of all folds and writes `summary.json`.
    ///
    /// # Errors
    /// When a fold is not finished, or a file cannot be read or written.
    pub fn summarise(&mut self) -> Result<Summary, TrainError> {
        let mut cases = Vec::new();
        for fold in 0..self.folds.len() {
            let run = Run::open(self.fold_folder(fold))?;
            let summary = if self.is_finished(fold)? { run.summary()? } else { None };
            let unfinished = || TrainError::FoldNotFinished { fold, folder: run.folder().to_path_buf() };
            let summary = summary.ok_or_else(unfinished)?;
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

/// Mean and sample standard deviation, if they are defined.
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
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn budget_is_divided_over_unfinished_folds() {
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
            plan: None,
            manifest: CrossManifest {
                format_version: CrossValidation::FORMAT_VERSION,
                tool_version: String::new(),
                dataset: DatasetRecord {
                    name: String::new(),
                    folder: PathBuf::new(),
                    layout: sulcus_dataset::Layout::Folders,
                },
                config: TrainConfig::from_preset("unet2d-lite").unwrap(),
                one_plan: false,
                patients: None,
                started: String::new(),
                updated: String::new(),
                folds: vec![record(None), record(None), record(None), record(None), record(None)],
                scores: None,
            },
        };
        assert_eq!(cross.fold_budget_secs(), None);
        cross.manifest.config.time_budget_secs = Some(500.0);
        assert_eq!(cross.fold_budget_secs(), Some(100.0));
        cross.manifest.folds[0] = record(Some(140.0));
        assert_eq!(cross.fold_budget_secs(), Some(90.0));
        cross.manifest.folds[2] = record(Some(390.0));
        assert_eq!(cross.fold_budget_secs(), Some(CrossValidation::MIN_BUDGET_SECS));
    }

    #[test]
    fn spread_of_folds_is_the_sample_standard_deviation() {
        assert_eq!(mean_and_sd(&[]), (None, None));
        assert_eq!(mean_and_sd(&[0.5]), (Some(0.5), None));
        let (mean, sd) = mean_and_sd(&[0.25, 0.5, 0.75]);
        assert_eq!((mean, sd), (Some(0.5), Some(0.25)));
    }
}
