//! Resumes an interrupted training from its last checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use sulcus_dataset::{CaseFacts, Dataset};
use sulcus_model::Training;
use sulcus_plan::{DeviceList, TrainConfig};

use super::begin::{find_devices, preflight, remove_incomplete_files};
use super::case_memory::check_grids;
use super::cases::sampler;
use super::checkpoint::Checkpoint;
use super::history;
use super::manifest::{DatasetRecord, Manifest};
use super::observer::{TrainObserver, TrainOutcome};
use super::preflight::PreflightInput;
use super::state::TrainingState;
use super::survey::survey;
use super::trainer::{Session, SessionParts};
use super::weights::Weights;
use crate::error::TrainError;
use crate::network::UNet;
use crate::step::learner::check_divisible;
use crate::step::optimizer::{OptimizerState, WeightAverage};

/// The settings that may change when a run is resumed. Settings that are `None` stay as they were.
///
/// ```
/// use sulcus_train::ResumeOptions;
///
/// let options = ResumeOptions::default().with(|options| options.epochs = Some(100));
/// assert_eq!(options.workers, None);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ResumeOptions {
    /// Number of epochs of the whole training.
    pub epochs: Option<usize>,
    /// Time budget of the whole training in seconds.
    pub time_budget_secs: Option<f64>,
    /// The devices to train on.
    pub device: Option<DeviceList>,
    /// Number of threads that draw patches.
    pub workers: Option<usize>,
    /// A folder in which prepared cases are cached.
    pub cache: Option<PathBuf>,
}

impl ResumeOptions {
    /// Changes some options and returns them.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Changes a configuration, and checks it.
    pub(crate) fn apply(&self, config: &mut TrainConfig) -> Result<(), TrainError> {
        config.epochs = self.epochs.or(config.epochs);
        config.time_budget_secs = self.time_budget_secs.or(config.time_budget_secs);
        if let Some(device) = &self.device {
            config.device = device.clone();
        }
        config.workers = self.workers.unwrap_or(config.workers);
        config.cache = self.cache.clone().or(config.cache.take());
        Ok(config.check()?)
    }
}

/// Resumes a run from its last checkpoint. Without a time budget the resulting weights are identical to those of an
/// uninterrupted run.
///
/// # Errors
/// As [`train`](crate::train()), and when the folder holds no run, or the data changed since it began.
pub fn resume(
    dataset: &Dataset,
    folder: &Path,
    options: &ResumeOptions,
    observer: &mut dyn TrainObserver,
) -> Result<TrainOutcome, TrainError> {
    let began = Instant::now();
    let mut manifest = Manifest::read(folder)?;
    remove_incomplete_files(folder)?;
    options.apply(&mut manifest.config)?;
    let placement = find_devices(&manifest.config)?;
    check_divisible(manifest.plan.batch_size, manifest.config.device.count())?;
    manifest.device = placement.description.clone();
    let facts = check_data(dataset, &manifest, folder, observer)?;
    manifest.dataset.folder = DatasetRecord::of(dataset).folder;

    let spec = manifest.plan.model_spec(manifest.dataset.name.clone(), Training::default());
    check_grids(&facts, &spec, observer.memory_limit())?;
    let Manifest { split, data_sha256, plan, config, .. } = &manifest;
    let sampler = sampler(dataset, &spec, &split.training, &facts, data_sha256, plan, config)?;
    let device = placement.first()?.autodiff();
    let Saved { network, optimizer, average, state } = if Weights::Last.file(folder).is_file() {
        load(&manifest, folder, &device)?
    } else {
        restart(&manifest, folder, &device)?
    };
    preflight(&PreflightInput { dataset, folder, spec: &spec, network: &network, sampler: &sampler }, observer)?;
    let parts = SessionParts { network, optimizer, average, placement, state, sampler, spec };
    Session::new(dataset, folder, manifest, parts, began, observer)?.run(observer)
}

/// What a checkpoint restores.
struct Saved {
    network: UNet,
    optimizer: OptimizerState,
    average: Option<WeightAverage>,
    state: TrainingState,
}

/// Loads the last checkpoint, and removes the history after it.
fn load(manifest: &Manifest, folder: &Path, device: &Device) -> Result<Saved, TrainError> {
    let file = Weights::Last.file(folder);
    let checkpoint = Checkpoint::load(&file)?;
    let state: TrainingState = serde_json::from_value(checkpoint.state().clone())
        .map_err(|e| TrainError::File { what: format!("its state cannot be used: {e}"), file: file.clone() })?;
    let history_file = folder.join(history::FILE);
    let mut records = history::read_history(&history_file)?;
    records.retain(|r| r.epoch <= state.epoch);
    history::rewrite(&history_file, &records)?;
    let average = match manifest.config.ema {
        Some(decay) => {
            let average = checkpoint.average(device)?.ok_or_else(|| TrainError::File {
                what: "it holds no mean of the weights, though the run averages them (`ema`)".into(),
                file,
            })?;
            Some(WeightAverage::new(&average, decay))
        }
        None => None,
    };
    Ok(Saved {
        network: checkpoint.network(device)?,
        optimizer: checkpoint.optimizer(manifest.config.optimizer)?,
        average,
        state,
    })
}

/// Starts again a run that was killed in its first epoch.
fn restart(manifest: &Manifest, folder: &Path, device: &Device) -> Result<Saved, TrainError> {
    if manifest.init.is_some() {
        return Err(TrainError::File {
            what: "it is gone, and with it the weights that the run started from; begin a new run".into(),
            file: Weights::Last.file(folder),
        });
    }
    let (plan, config) = (&manifest.plan, &manifest.config);
    let classes = plan.model_spec(String::new(), Training::default()).classes();
    let network = UNet::new(&plan.network, plan.channels.len(), classes, config.seed, device)?;
    history::rewrite(&folder.join(history::FILE), &[])?;
    Ok(Saved {
        optimizer: OptimizerState::new(config.optimizer),
        average: config.ema.map(|decay| WeightAverage::new(&network, decay)),
        network,
        state: TrainingState::default(),
    })
}

/// Checks that the files of all cases are those with which the run began. Returns what was measured of the cases.
fn check_data(
    dataset: &Dataset,
    manifest: &Manifest,
    folder: &Path,
    observer: &mut dyn TrainObserver,
) -> Result<Vec<CaseFacts>, TrainError> {
    let names: Vec<String> = manifest.data_sha256.keys().cloned().collect();
    let facts = survey(dataset, &names, observer)?;
    let now: BTreeMap<&String, &String> = facts.iter().map(|f| (&f.name, &f.sha256)).collect();
    let changed = manifest.data_sha256.iter().filter(|(name, hash)| now.get(name) != Some(hash));
    let cases: Vec<String> = changed.map(|(name, _)| name.clone()).collect();
    if cases.is_empty() { Ok(facts) } else { Err(TrainError::DataChanged { cases, folder: folder.to_path_buf() }) }
}
