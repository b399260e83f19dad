use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use sulcus_model::{Dimensions, GoldenCase, ModelSpec, Norm, SpacingRule, Training};
use sulcus_pipeline::{preprocess_labels, preprocess_owned};
use sulcus_volume::Reorientation;

use crate::cache::{CacheKey, load_or_prepare};
use crate::dataset::{FileProblem, count};
use crate::learner::check_share;
use crate::manifest::{DatasetRecord, Manifest, RunProgress, Status, now_utc};
use crate::sampler::{Sampler, Sampling, TrainingCase};
use crate::score::broken;
use crate::trainer::{Clock, Position, Session};
use crate::{
    Case, CaseFacts, Checkpoint, CheckpointParts, Computing, Dataset, DatasetError, Descent, DeviceKind,
    DeviceList, DiceScope, Event, Fingerprint, InitSource, Learner, Objective, Outcome, Placement, Plan, PlanFile,
    Problem, Split, SplitChoice, TrainConfig, TrainError, TrainObserver, UNet, WeightAverage, Weights, history,
    initialise, parallel, regions, samples,
};

/// Reads and checks the cases that would be trained on, and plans for them.
///
/// # Errors
/// When the data set has problems (all of them are in the error), or a setting does not fit the data.
pub fn plan(
    dataset: &Dataset,
    choice: &SplitChoice,
    config: &TrainConfig,
    observer: &mut dyn TrainObserver,
) -> Result<PlanFile, TrainError> {
    config.check()?;
    let split = dataset.split(choice)?;
    warn_of_unused(dataset, &split, observer);
    let facts = survey(dataset, &split.training, observer)?;
    PlanFile::decide(dataset, config, &trained_on(dataset, &split, &facts)?)
}

/// Trains a network from random weights, or those of [`TrainConfig::init`], and leaves a run in `folder`.
///
/// The cases of the split are read and checked first; a plan is made from the training cases alone.
///
/// # Errors
/// When the data set has problems (all of them are in the error), a setting makes no sense, the folder holds a run
/// already or cannot be written, or the loss diverges.
pub fn train(
    dataset: &Dataset,
    choice: &SplitChoice,
    config: &TrainConfig,
    folder: &Path,
    observer: &mut dyn TrainObserver,
) -> Result<Outcome, TrainError> {
    begin(dataset, choice, config, None, folder, observer)
}

/// The same by a plan that was made before, and perhaps changed by hand. What it decides, `config` leaves open.
///
/// # Errors
/// As [`train`], and when the parts of the plan don't fit each other or the data set.
pub fn train_by_plan(
    dataset: &Dataset,
    choice: &SplitChoice,
    config: &TrainConfig,
    plan: &Plan,
    folder: &Path,
    observer: &mut dyn TrainObserver,
) -> Result<Outcome, TrainError> {
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
) -> Result<Outcome, TrainError> {
    let began = Instant::now();
    config.check()?;
    let placement = place(config)?;
    if folder.join(Manifest::FILE).exists() {
        return Err(TrainError::RunExists { folder: folder.to_path_buf() });
    }
    // A file that can't be used is told at once, not after all scans were read.
    let init = config.init.as_deref().map(InitSource::read).transpose()?;
    let split = dataset.split(choice)?;
    if config.early_stopping.is_some() && split.validation.is_empty() {
        return Err(TrainError::Config(
            "`early_stopping` goes by the scores of held-out cases, and no case is held out; leave one of the two"
                .into(),
        ));
    }
    warn_of_unused(dataset, &split, observer);
    let facts = survey(dataset, &[split.training.clone(), split.validation.clone()].concat(), observer)?;
    let trained_on = trained_on(dataset, &split, &facts)?;
    let plan_file = match plan {
        None => PlanFile::decide(dataset, config, &trained_on)?,
        Some(plan) => {
            let fingerprint =
                Fingerprint::new(dataset.channels(), dataset.labels(), dataset.regions(), &trained_on);
            PlanFile::new(dataset, config, fingerprint, plan.clone())
        }
    };
    drop(trained_on);
    let plan = plan_file.plan.clone();
    check_share(plan.batch_size, config.device.count())?;
    let spec = plan.model_spec(dataset.name().to_owned(), Training::default());
    let watched = evenly(&split.validation, config.cases_scored_per_epoch.max(1));
    observer.event(Event::Memory {
        data_bytes: prepared_bytes(&facts, &plan, &split, &watched),
        step_bytes: match DeviceKind::of(&config.device)? {
            DeviceKind::Processor => plan.memory_bytes(config, DeviceKind::Processor),
            // Of its own memory.
            DeviceKind::Gpu => 0,
        },
    });
    let device = placement.first()?.autodiff();
    let mut network = UNet::new(&plan.network, plan.channels.len(), spec.classes(), config.seed, &device)?;
    let init = match init {
        Some(source) => {
            let report = initialise(&mut network, source, &device)?;
            observer.event(Event::Initialised(&report));
            Some(report.record)
        }
        None => None,
    };

    for part in ["checkpoints", "validation"] {
        let part = folder.join(part);
        std::fs::create_dir_all(&part)
            .map_err(|e| TrainError::File { what: format!("the run's folder cannot be made: {e}"), file: part })?;
    }
    plan_file.write(&folder.join(PlanFile::FILE))?;
    let source = if split.validation.is_empty() { &split.training } else { &split.validation };
    samples::write(&folder.join(samples::FILE), &draw_samples(dataset, &spec, source)?)?;
    let data_sha256: BTreeMap<String, String> = facts.into_iter().map(|f| (f.name, f.sha256)).collect();
    let sampler = sampler(dataset, &spec, &split.training, &data_sha256, &plan, config)?;
    let steps_per_epoch = config.steps_per_epoch.unwrap_or_else(|| default_steps(&sampler, &plan));
    let mut manifest = Manifest {
        format_version: Manifest::FORMAT_VERSION,
        tool_version: concat!("sulcus ", env!("CARGO_PKG_VERSION")).into(),
        dataset: DatasetRecord::of(dataset),
        config: config.clone(),
        plan,
        data_sha256,
        device: placement.description.clone(),
        parameters: network.parameters(),
        init,
        steps_per_epoch,
        started: now_utc(),
        updated: now_utc(),
        progress: RunProgress {
            status: Status::Training,
            epochs: 0,
            best_epoch: 0,
            seconds: 0.0,
            validation_dice: None,
            postprocessing: Vec::new(),
            postprocessing_why: Vec::new(),
        },
        split,
    };
    let optimiser = Descent::new(config.optimiser);
    let average = config.ema.map(|decay| WeightAverage::new(&network, decay));
    if manifest.init.is_some() {
        // A run that is killed before its first epoch ends can draw random weights again, but not these. Before the
        // manifest, without which nobody can go on.
        let state = serde_json::to_value(Position::default())
            .map_err(|e| TrainError::File { what: e.to_string(), file: Weights::Last.file(folder) })?;
        let parts = CheckpointParts {
            spec: &manifest.plan.network,
            network: &network,
            optimiser: Some(&optimiser),
            average: average.as_ref().map(WeightAverage::network),
            state: &state,
        };
        parts.save(&Weights::Last.file(folder))?;
    }
    manifest.write(folder)?;
    history::rewrite(&folder.join(history::FILE), &[])?;
    let parts = Parts { network, optimiser, average, placement, at: Position::default(), sampler, spec };
    session(dataset, folder, manifest, parts, began, observer)?.run(observer)
}

/// What may be changed when a run goes on; everything else stays as it was begun.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Epochs in all.
    pub epochs: Option<usize>,
    /// Seconds in all, those of the earlier parts included.
    pub time_budget_secs: Option<f64>,
    /// Where to train.
    pub device: Option<DeviceList>,
    /// Threads that draw patches.
    pub workers: Option<usize>,
    /// Folder where prepared cases are kept.
    pub cache: Option<PathBuf>,
}

/// Goes on with a run from its last checkpoint. Without a time budget it ends with the same weights as if it had
/// never been interrupted.
///
/// # Errors
/// As [`train`], and when the folder holds no run, or the data changed since it began.
pub fn resume(
    dataset: &Dataset,
    folder: &Path,
    changes: &Changes,
    observer: &mut dyn TrainObserver,
) -> Result<Outcome, TrainError> {
    let began = Instant::now();
    let mut manifest = Manifest::read(folder)?;
    let config = &mut manifest.config;
    config.epochs = changes.epochs.or(config.epochs);
    config.time_budget_secs = changes.time_budget_secs.or(config.time_budget_secs);
    if let Some(device) = &changes.device {
        config.device = device.clone();
    }
    config.workers = changes.workers.unwrap_or(config.workers);
    config.cache = changes.cache.clone().or(config.cache.take());
    config.check()?;
    let placement = place(config)?;
    check_share(manifest.plan.batch_size, manifest.config.device.count())?;
    manifest.device = placement.description.clone();
    check_data(dataset, &manifest, folder, observer)?;
    manifest.dataset.folder = DatasetRecord::of(dataset).folder;

    let device = placement.first()?.autodiff();
    let last = Weights::Last.file(folder);
    let spec = manifest.plan.model_spec(manifest.dataset.name.clone(), Training::default());
    let Manifest { split, data_sha256, plan, config, .. } = &manifest;
    let sampler = sampler(dataset, &spec, &split.training, data_sha256, plan, config)?;
    let history_file = folder.join(history::FILE);
    if !last.is_file() {
        if manifest.init.is_some() {
            return Err(TrainError::File {
                what: "it is gone, and with it the weights that the run started from; begin a new run".into(),
                file: last,
            });
        }
        // Killed in its first epoch: it begins again.
        let seed = manifest.config.seed;
        let network = UNet::new(&manifest.plan.network, spec.channels.len(), spec.classes(), seed, &device)?;
        history::rewrite(&history_file, &[])?;
        let optimiser = Descent::new(manifest.config.optimiser);
        let average = manifest.config.ema.map(|decay| WeightAverage::new(&network, decay));
        let parts = Parts { network, optimiser, average, placement, at: Position::default(), sampler, spec };
        return session(dataset, folder, manifest, parts, began, observer)?.run(observer);
    }
    let checkpoint = Checkpoint::load(&last)?;
    let at: Position = serde_json::from_value(checkpoint.state().clone())
        .map_err(|e| TrainError::File { what: format!("its state cannot be used: {e}"), file: last.clone() })?;
    let mut records = history::read_history(&history_file)?;
    records.retain(|r| r.epoch <= at.epoch);
    history::rewrite(&history_file, &records)?;
    let network = checkpoint.network(&device)?;
    let optimiser = checkpoint.optimiser(manifest.config.optimiser)?;
    let average = match manifest.config.ema {
        Some(decay) => {
            let mean = checkpoint.average(&device)?.ok_or_else(|| TrainError::File {
                what: "it holds no mean of the weights, though the run averages them (`ema`)".into(),
                file: last.clone(),
            })?;
            Some(WeightAverage::new(&mean, decay))
        }
        None => None,
    };
    // The file's bytes are as many as weights and moments together.
    drop(checkpoint);
    let parts = Parts { network, optimiser, average, placement, at, sampler, spec };
    session(dataset, folder, manifest, parts, began, observer)?.run(observer)
}

/// Finds the devices, and checks that they compute in the precision asked for.
fn place(config: &TrainConfig) -> Result<Placement, TrainError> {
    let placement = config.device.resolve()?;
    for device in &placement.devices {
        config.precision.check(device, &placement.description)?;
    }
    Ok(placement)
}

/// A file of splits may leave cases out, by a slip perhaps.
fn warn_of_unused(dataset: &Dataset, split: &Split, observer: &mut dyn TrainObserver) {
    let unused = dataset.left_out_by(split);
    if !unused.is_empty() {
        let what = format!(
            "{} on neither side of the split and not used: {}",
            count(unused.len(), "case"),
            unused.join(", ")
        );
        observer.event(Event::Warning(&what));
    }
}

fn survey(
    dataset: &Dataset,
    names: &[String],
    observer: &mut dyn TrainObserver,
) -> Result<Vec<CaseFacts>, TrainError> {
    observer.event(Event::Checking { cases: names.len() });
    let survey = dataset.survey(names);
    for warning in &survey.warnings {
        observer.event(Event::Warning(&warning.to_string()));
    }
    Ok(survey.into_facts()?)
}

/// Facts of the cases that weights are fitted to, one of which at least must have foreground.
fn trained_on(dataset: &Dataset, split: &Split, facts: &[CaseFacts]) -> Result<Vec<CaseFacts>, TrainError> {
    let training: BTreeSet<&String> = split.training.iter().collect();
    let trained_on: Vec<CaseFacts> = facts.iter().filter(|f| training.contains(&f.name)).cloned().collect();
    if trained_on.iter().all(|f| f.label_voxels.is_empty()) {
        let empty = cases(dataset, &split.training).into_iter().map(Problem::no_foreground);
        return Err(DatasetError::Problems(empty.collect()).into());
    }
    Ok(trained_on)
}

fn check_data(
    dataset: &Dataset,
    manifest: &Manifest,
    folder: &Path,
    observer: &mut dyn TrainObserver,
) -> Result<(), TrainError> {
    let names: Vec<String> = manifest.data_sha256.keys().cloned().collect();
    let now: BTreeMap<String, String> =
        survey(dataset, &names, observer)?.into_iter().map(|f| (f.name, f.sha256)).collect();
    let changed = manifest.data_sha256.iter().filter(|(name, hash)| now.get(*name) != Some(hash));
    let cases: Vec<String> = changed.map(|(name, _)| name.clone()).collect();
    if cases.is_empty() { Ok(()) } else { Err(TrainError::DataChanged { cases, folder: folder.to_path_buf() }) }
}

fn cases<'a>(dataset: &'a Dataset, names: &[String]) -> Vec<&'a Case> {
    names.iter().filter_map(|name| dataset.case(name)).collect()
}

/// Reads and prepares cases by the code that prediction uses, or takes them from the cache.
fn prepared(
    dataset: &Dataset,
    spec: &ModelSpec,
    names: &[String],
    data_sha256: &BTreeMap<String, String>,
    config: &TrainConfig,
) -> Result<Vec<TrainingCase>, TrainError> {
    let structures = regions::classes_of_structures(spec);
    let prepare_one = |case: &&Case| -> Result<TrainingCase, TrainError> {
        let fresh = || {
            let scan = case.read().map_err(broken(case))?;
            let labels = preprocess_labels(spec, &scan.image, &scan.labels, dataset.ignore())?;
            Ok((preprocess_owned(spec, scan.image)?.0, labels))
        };
        let (image, labels) = match data_sha256.get(&case.name) {
            Some(sha256) => {
                load_or_prepare(config.cache.as_deref(), &CacheKey::new(sha256, spec, dataset.ignore())?, fresh)?
            }
            None => fresh()?,
        };
        TrainingCase::new(case.name.clone(), image, labels, &structures)
    };
    parallel::map(&cases(dataset, names), prepare_one).into_iter().collect()
}

fn sampler(
    dataset: &Dataset,
    spec: &ModelSpec,
    training: &[String],
    data_sha256: &BTreeMap<String, String>,
    plan: &Plan,
    config: &TrainConfig,
) -> Result<Sampler, TrainError> {
    let patch = match *plan.patch.as_slice() {
        [height, width] => [1, height, width],
        [depth, height, width] => [depth, height, width],
        _ => return Err(TrainError::Config(format!("a patch has (D,) H and W, found {:?}", plan.patch))),
    };
    let [x, y, z] = match plan.spacing {
        SpacingRule::Resample { mm, .. } => mm.mm(),
        // Each case has its own.
        SpacingRule::Native => [1.0; 3],
    };
    let spacing_mm = [z, y, x];
    let mut augmentation = config.augmentation;
    augmentation.flips = plan.flips;
    let sampling = Sampling {
        patch,
        spacing_mm,
        batch_size: plan.batch_size,
        foreground_share: config.foreground_share,
        augmentation,
        seed: config.seed,
    };
    let mut cases = prepared(dataset, spec, training, data_sha256, config)?;
    if plan.spacing == SpacingRule::Native {
        let native = |case: TrainingCase| {
            let [x, y, z] = native_spacing(dataset, case.name(), plan)?;
            Ok(case.with_spacing([z, y, x]))
        };
        cases = cases.into_iter().map(native).collect::<Result<_, TrainError>>()?;
    }
    let sampler = Sampler::new(cases, sampling)?;
    Ok(sampler.in_regions(regions::of_loss(spec)?))
}

/// Voxel size of a scan along the plan's x, y, z.
fn native_spacing(dataset: &Dataset, name: &str, plan: &Plan) -> Result<[f64; 3], TrainError> {
    let found = dataset.case(name).and_then(|case| Some((case, case.images.first()?)));
    let Some((case, file)) = found else { return Ok([1.0; 3]) };
    let source = sulcus_io::read_source(file)
        .map_err(|e| broken(case)(FileProblem { file: file.clone(), what: e.problem().to_string() }))?;
    let geometry = source.geometry();
    let turn = Reorientation::between(geometry.orientation(), plan.orientation);
    Ok(turn.triple(geometry.spacing().mm()))
}

/// Bytes of the cases that training holds in memory, prepared: those trained on and those scored after each epoch.
fn prepared_bytes(facts: &[CaseFacts], plan: &Plan, split: &Split, watched: &[String]) -> u64 {
    let held: BTreeSet<&String> = split.training.iter().chain(watched).collect();
    let bytes = |f: &CaseFacts| {
        let (shape, from_mm) = f.seen_along(plan.crop, plan.orientation);
        let voxels: f64 = match plan.spacing {
            SpacingRule::Native => shape.iter().map(|n| *n as f64).product(),
            SpacingRule::Resample { mm, .. } => {
                (0..3).map(|a| (shape[a] as f64 * from_mm[a] / mm.mm()[a]).round().max(1.0)).product()
            }
        };
        // Values of 4 bytes a channel, and a class.
        voxels as u64 * (4 * f.channels as u64 + 1)
    };
    facts.iter().filter(|f| held.contains(&f.name)).map(bytes).sum()
}

fn draw_samples(dataset: &Dataset, spec: &ModelSpec, names: &[String]) -> Result<Vec<GoldenCase>, TrainError> {
    let picked = evenly(names, samples::KEPT);
    let sample = |case: &&Case| -> Result<GoldenCase, TrainError> {
        Ok(samples::sample_of(spec, &case.read().map_err(broken(case))?, dataset.ignore())?)
    };
    parallel::map(&cases(dataset, &picked), sample).into_iter().collect()
}

/// At most `n` of the names, evenly spaced.
pub(crate) fn evenly(names: &[String], n: usize) -> Vec<String> {
    let count = n.min(names.len());
    (0..count).filter_map(|i| names.get(i * names.len() / count)).cloned().collect()
}

/// Steps of an epoch when nobody says: as many as draw about as many patches as the cases have slices with
/// foreground, of blocks four a case; at most nnU-Net's 250, since a state is saved after each epoch.
fn default_steps(sampler: &Sampler, plan: &Plan) -> usize {
    let cases = sampler.cases();
    match plan.network.dimensions {
        Dimensions::Two => {
            let slices: usize = cases.iter().map(TrainingCase::foreground_slices).sum();
            slices.div_ceil(plan.batch_size).clamp(1, 250)
        }
        Dimensions::Three => (4 * cases.len()).div_ceil(plan.batch_size).clamp(1, 250),
    }
}

/// Whether what a case's gradients are depends on the others of its batch.
fn sums_over_batches(plan: &Plan) -> bool {
    plan.dice_scope == DiceScope::Batch || plan.network.norm == Norm::Batch
}

/// What a session begins with.
struct Parts {
    network: UNet,
    optimiser: Descent,
    average: Option<WeightAverage>,
    placement: Placement,
    at: Position,
    sampler: Sampler,
    spec: ModelSpec,
}

fn session<'a>(
    dataset: &'a Dataset,
    folder: &Path,
    manifest: Manifest,
    parts: Parts,
    began: Instant,
    observer: &mut dyn TrainObserver,
) -> Result<Session<'a>, TrainError> {
    let Parts { network, optimiser, average, placement, at, sampler, spec } = parts;
    observer.event(Event::Planned {
        plan: &manifest.plan,
        device: &manifest.device,
        training: manifest.split.training.len(),
        validation: manifest.split.validation.len(),
    });
    if manifest.config.device.count() > 1 && sums_over_batches(&manifest.plan) {
        observer.event(Event::Warning(
            "with several devices, soft Dice and batch normalisation that sum over a batch sum over each device's part",
        ));
    }
    let watched = evenly(&manifest.split.validation, manifest.config.cases_scored_per_epoch.max(1));
    let Manifest { plan, config, .. } = &manifest;
    let objective = Objective { loss: config.loss, output: plan.output, dice_scope: plan.dice_scope };
    let computing = Computing { objective, precision: config.precision };
    let device = placement.first()?.autodiff();
    let learner = Learner::new(&plan.network, network, optimiser, computing, at.scaler, &placement)?;
    Ok(Session {
        folder: folder.to_path_buf(),
        watched: prepared(dataset, &spec, &watched, &manifest.data_sha256, &manifest.config)?,
        held_out: cases(dataset, &manifest.split.validation),
        ignore: dataset.ignore(),
        clock: Clock::start(began, at.seconds),
        sampler: Arc::new(sampler),
        spec,
        manifest,
        device,
        learner,
        average,
        at,
    })
}
