//! Begins a training: checks the data, plans, builds the network and writes the folder of the run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use sulcus_dataset::{CaseFacts, Dataset, Split, SplitChoice};
use sulcus_model::{ModelSpec, Training};
use sulcus_plan::{DeviceKind, Fingerprint, Plan, PlanFile, TrainConfig, training_scans};

use super::case_memory::check_grids;
use super::cases::{default_steps, draw_samples, evenly_spaced, prepared_bytes, sampler};
use super::checkpoint::CheckpointParts;
use super::files::now_utc;
use super::init::{InitRecord, InitSource, initialise};
use super::manifest::{DatasetRecord, Manifest, RunProgress};
use super::observer::{Event, TrainObserver, TrainOutcome};
use super::preflight::PreflightInput;
use super::speed::Stopwatch;
use super::state::TrainingState;
use super::survey::{report_patients, survey, training_facts, warn_of_unused};
use super::trainer::{Session, SessionParts};
use super::weights::Weights;
use super::{history, samples};
use crate::error::TrainError;
use crate::network::UNet;
use crate::step::device::device_kind;
use crate::step::learner::check_divisible;
use crate::step::optimizer::{OptimizerState, WeightAverage};
use crate::step::placement::Placement;
use crate::step::precision::check_precision;

/// Reads and checks the training cases, and plans a training on them. With a time budget the speed of the devices is measured,
/// which takes a few seconds.
///
/// # Errors
/// When the data set has problems (the error lists all of them), or a setting does not fit the data.
pub fn plan(
    dataset: &Dataset,
    choice: &SplitChoice,
    config: &TrainConfig,
    observer: &mut dyn TrainObserver,
) -> Result<PlanFile, TrainError> {
    config.check()?;
    let split = dataset.split(choice)?;
    warn_of_unused(dataset, &split, observer);
    report_patients(dataset, choice, &split, observer);
    let facts = survey(dataset, &split.training, observer)?;
    let facts = training_facts(dataset, &split, &facts)?;
    // A plan for a device of another machine is made without its speed.
    let placement = Placement::find(&config.device).ok();
    let mut stopwatch = Stopwatch { placement: placement.as_ref(), config };
    Ok(PlanFile::decide(dataset, config, device_kind(&config.device), &facts, &mut stopwatch)?)
}

/// Trains a network from random weights, or from those of [`TrainConfig::init`], and writes a run into `folder`.
///
/// The cases of the split are read and checked first. The plan is made only from the training cases.
///
/// # Errors
/// When the data set has problems (the error lists all of them), a setting is invalid, the folder already holds a run or
/// cannot be written, or the loss diverges.
pub fn train(
    dataset: &Dataset,
    choice: &SplitChoice,
    config: &TrainConfig,
    folder: &Path,
    observer: &mut dyn TrainObserver,
) -> Result<TrainOutcome, TrainError> {
    begin(dataset, choice, config, None, folder, observer)
}

/// As [`train`], by a plan that was made before and perhaps edited. `config` supplies the settings that a plan does not
/// decide.
///
/// # Errors
/// As [`train`], and when the parts of the plan do not fit each other or the data set.
pub fn train_by_plan(
    dataset: &Dataset,
    choice: &SplitChoice,
    config: &TrainConfig,
    plan: &Plan,
    folder: &Path,
    observer: &mut dyn TrainObserver,
) -> Result<TrainOutcome, TrainError> {
    plan.check()?;
    plan.check_data(dataset.channels(), dataset.labels(), dataset.regions())?;
    begin(dataset, choice, &config.open_choices(), Some(plan), folder, observer)
}

fn begin(
    dataset: &Dataset,
    choice: &SplitChoice,
    config: &TrainConfig,
    plan: Option<&Plan>,
    folder: &Path,
    observer: &mut dyn TrainObserver,
) -> Result<TrainOutcome, TrainError> {
    let began = Instant::now();
    config.check()?;
    let placement = find_devices(config)?;
    if folder.join(Manifest::FILE).exists() {
        return Err(TrainError::RunExists { folder: folder.to_path_buf() });
    }
    // Read before the scans, so that an unusable file is reported at once.
    let init = config.init.as_deref().map(InitSource::read).transpose()?;
    let split = dataset.split(choice)?;
    check_early_stopping(config, &split)?;
    warn_of_unused(dataset, &split, observer);
    report_patients(dataset, choice, &split, observer);
    let facts = survey(dataset, &[split.training.clone(), split.validation.clone()].concat(), observer)?;
    let plan_file = make_plan(dataset, config, plan, &split, &facts, &placement)?;
    let plan = &plan_file.plan;
    check_divisible(plan.batch_size, config.device.count())?;
    report_memory(config, plan, &split, &facts, observer);
    let spec = plan.model_spec(dataset.name().to_owned(), Training::default());
    check_grids(&facts, &spec, observer.memory_limit())?;
    let (network, init) = build_network(plan, &spec, config.seed, init, &placement, observer)?;

    let is_new_folder = !folder.exists();
    make_folders(folder)?;
    plan_file.write(&folder.join(PlanFile::FILE))?;
    let sampled = if split.validation.is_empty() { &split.training } else { &split.validation };
    samples::write(&folder.join(samples::FILE), &draw_samples(dataset, &spec, sampled)?)?;
    let data_sha256: BTreeMap<String, String> = facts.iter().map(|f| (f.name.clone(), f.sha256.clone())).collect();
    let sampler = sampler(dataset, &spec, &split.training, &facts, &data_sha256, plan, config)?;
    let mut manifest = Manifest {
        format_version: Manifest::FORMAT_VERSION,
        tool_version: concat!("sulcus ", env!("CARGO_PKG_VERSION")).into(),
        dataset: DatasetRecord::of(dataset),
        config: config.clone(),
        steps_per_epoch: config.steps_per_epoch.unwrap_or_else(|| default_steps(&sampler, plan)),
        plan: plan_file.plan,
        data_sha256,
        device: placement.description.clone(),
        parameters: network.parameters(),
        init,
        started: now_utc(),
        updated: now_utc(),
        progress: RunProgress::at_start(),
        split,
        patients: dataset.grouped_patients(),
    };
    let input = PreflightInput { dataset, folder, spec: &spec, network: &network, sampler: &sampler };
    preflight(&input, observer).inspect_err(|_| remove_files(folder, is_new_folder))?;
    let optimizer = OptimizerState::new(config.optimizer);
    let average = config.ema.map(|decay| WeightAverage::new(&network, decay));
    if manifest.init.is_some() {
        // If the run is killed in its first epoch, a resume can draw random weights again, but not these. They are saved
        // before the manifest, without which nothing can be resumed.
        save_initial_weights(&manifest, &network, &optimizer, average.as_ref(), folder)?;
    }
    manifest.write(folder)?;
    history::rewrite(&folder.join(history::FILE), &[])?;
    let parts =
        SessionParts { network, optimizer, average, placement, state: TrainingState::default(), sampler, spec };
    Session::new(dataset, folder, manifest, parts, began, observer)?.run(observer)
}

/// Finds the devices, and checks that they support the precision.
pub(super) fn find_devices(config: &TrainConfig) -> Result<Placement, TrainError> {
    let placement = Placement::find(&config.device)?;
    for device in &placement.devices {
        check_precision(config.precision, device, &placement.description)?;
    }
    Ok(placement)
}

fn check_early_stopping(config: &TrainConfig, split: &Split) -> Result<(), TrainError> {
    if config.early_stopping.is_some() && split.validation.is_empty() {
        return Err(TrainError::Config(
            "`early_stopping` needs validation scores, but there are no validation cases; change one of these settings"
                .into(),
        ));
    }
    Ok(())
}

/// Decides a plan from the training cases, or takes the given one.
fn make_plan(
    dataset: &Dataset,
    config: &TrainConfig,
    plan: Option<&Plan>,
    split: &Split,
    facts: &[CaseFacts],
    placement: &Placement,
) -> Result<PlanFile, TrainError> {
    let facts = training_facts(dataset, split, facts)?;
    Ok(match plan {
        None => {
            let mut stopwatch = Stopwatch { placement: Some(placement), config };
            PlanFile::decide(dataset, config, device_kind(&config.device), &facts, &mut stopwatch)?
        }
        Some(plan) => {
            let fingerprint = Fingerprint::new(dataset.channels(), dataset.labels(), dataset.regions(), &facts);
            let mut plan = plan.clone();
            // The plan may have been made from other cases.
            plan.training_scans = training_scans(&facts, plan.crop);
            PlanFile::new(dataset, config, fingerprint, plan)
        }
    })
}

fn report_memory(
    config: &TrainConfig,
    plan: &Plan,
    split: &Split,
    facts: &[CaseFacts],
    observer: &mut dyn TrainObserver,
) {
    let scored_each_epoch = evenly_spaced(&split.validation, config.cases_scored_per_epoch.max(1));
    observer.event(Event::Memory {
        data_bytes: prepared_bytes(facts, plan, split, &scored_each_epoch),
        step_bytes: match device_kind(&config.device) {
            DeviceKind::Processor => plan.memory_bytes(config, DeviceKind::Processor),
            // A GPU has memory of its own.
            DeviceKind::Gpu => 0,
        },
    });
}

/// Builds the network on the first device, with random weights or the pretrained ones.
fn build_network(
    plan: &Plan,
    spec: &ModelSpec,
    seed: u64,
    init: Option<InitSource>,
    placement: &Placement,
    observer: &mut dyn TrainObserver,
) -> Result<(UNet, Option<InitRecord>), TrainError> {
    let device = placement.first()?.autodiff();
    let mut network = UNet::new(&plan.network, plan.channels.len(), spec.classes(), seed, &device)?;
    let Some(source) = init else { return Ok((network, None)) };
    let report = initialise(&mut network, source, &device)?;
    observer.event(Event::Initialised(&report));
    Ok((network, Some(report.record)))
}

/// The folders of a run.
const PARTS: [&str; 2] = ["checkpoints", "validation"];

fn make_folders(folder: &Path) -> Result<(), TrainError> {
    for part in PARTS {
        let part = folder.join(part);
        std::fs::create_dir_all(&part)
            .map_err(|e| TrainError::File { what: format!("the run's folder cannot be made: {e}"), file: part })?;
    }
    remove_incomplete_files(folder)
}

/// Removes the files that a training left incomplete when it was killed. The caller sees to it that no other process writes into the
/// folder.
pub(super) fn remove_incomplete_files(folder: &Path) -> Result<(), TrainError> {
    for part in std::iter::once(folder.to_path_buf()).chain(PARTS.map(|part| folder.join(part))) {
        sulcus_io::remove_temporary_files(&part)
            .map_err(|e| TrainError::File { what: e.kind().to_string(), file: part })?;
    }
    Ok(())
}

/// Lets the observer check the model.
///
/// # Errors
/// When the network cannot be exported, or the observer refuses the model.
pub(super) fn preflight(input: &PreflightInput<'_>, observer: &mut dyn TrainObserver) -> Result<(), TrainError> {
    let failed = |source| TrainError::Preflight { source };
    let model = input.model().map_err(|error| failed(error.into()))?;
    observer.preflight(&model).map_err(failed)
}

/// Removes the files that were written before the pre-flight check failed, so that the training can be started again.
/// Folders are removed only if they are empty.
fn remove_files(folder: &Path, is_new_folder: bool) {
    for file in [PlanFile::FILE, samples::FILE] {
        std::fs::remove_file(folder.join(file)).ok();
    }
    PARTS.iter().for_each(|part| drop(std::fs::remove_dir(folder.join(part))));
    if is_new_folder {
        std::fs::remove_dir(folder).ok();
    }
}

fn save_initial_weights(
    manifest: &Manifest,
    network: &UNet,
    optimizer: &OptimizerState,
    average: Option<&WeightAverage>,
    folder: &Path,
) -> Result<(), TrainError> {
    let file = Weights::Last.file(folder);
    let state = serde_json::to_value(TrainingState::default())
        .map_err(|e| TrainError::File { what: e.to_string(), file: file.clone() })?;
    let parts = CheckpointParts {
        spec: &manifest.plan.network,
        network,
        optimizer: Some(optimizer),
        average: average.map(WeightAverage::network),
        state: &state,
    };
    Ok(parts.save(&file)?)
}
