//! From the options of `plan` and `train` to the settings of a training.

use std::path::Path;

use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_plan::{DeviceKind, NetworkChoice, PlanFile, TrainConfig};
use sulcus_train::{ResumeOptions, device_kind};

use crate::args::values::FoldChoice;
use crate::args::{PlanChoices, SplitArgs, TrainArgs};
use crate::error::{CliError, Context};
use crate::memory;

/// The preset where none is given.
const DEFAULT_PRESET: &str = "auto";

/// The preset with the options that replace its settings.
///
/// # Errors
/// When the preset is unknown.
pub(crate) fn of_choices(choices: &PlanChoices) -> Result<TrainConfig, CliError> {
    let preset = choices.preset.as_deref().unwrap_or(DEFAULT_PRESET);
    let mut config = TrainConfig::from_preset(preset).map_err(CliError::usage)?;
    apply_choices(choices, &mut config);
    if config.memory_bytes.is_none() && device_kind(&config.device) == DeviceKind::Processor {
        config.memory_bytes = memory::for_training();
    }
    Ok(config)
}

/// The settings of a training: those of its plan file if there is one, with the options that replace them.
///
/// # Errors
/// As [`of_choices`].
pub(super) fn of_plan_or_options(args: &TrainArgs, plan: Option<&PlanFile>) -> Result<TrainConfig, CliError> {
    let mut config = plan.map_or_else(|| of_choices(&args.choices), |plan| Ok(plan.config.clone()))?;
    apply(args, &mut config);
    Ok(config)
}

/// Replaces the settings for which an option is given.
fn apply_choices(choices: &PlanChoices, config: &mut TrainConfig) {
    config.orientation = choices.orientation.or(config.orientation);
    config.patch = choices.patch.clone().or(config.patch.take());
    config.batch_size = choices.batch_size.or(config.batch_size);
    config.normalisation = choices.normalisation.map(Into::into).or(config.normalisation);
    config.memory_bytes = choices.memory.or(config.memory_bytes);
    if let Some(device) = &choices.device {
        config.device = device.clone();
    }
}

/// Replaces the settings for which an option is given.
fn apply(args: &TrainArgs, config: &mut TrainConfig) {
    fn set<T>(target: &mut T, given: Option<T>) {
        if let Some(value) = given {
            *target = value;
        }
    }
    config.epochs = args.epochs.or(config.epochs);
    config.time_budget_secs = args.time_budget.map(|t| t.as_secs_f64()).or(config.time_budget_secs);
    apply_choices(&args.choices, config);
    config.init = args.init.clone().or(config.init.take());
    set(&mut config.seed, args.seed);
    set(&mut config.precision, args.precision);
    set(&mut config.learning_rate, args.learning_rate);
    set(&mut config.optimizer, args.optimizer.map(Into::into));
    set(&mut config.loss, args.loss.map(Into::into));
    set(&mut config.workers, args.workers);
    config.cache = args.cache.clone().or(config.cache.take());
    config.early_stopping = args.early_stopping.or(config.early_stopping);
}

/// Opens the data set with the patients that the options name.
///
/// # Errors
/// When the data set or the table of patients cannot be used.
pub(crate) fn open_dataset(path: &Path, split: &SplitArgs) -> Result<Dataset, CliError> {
    let dataset = Dataset::open(path).context("opening the data set")?;
    match &split.patients {
        Some(choice) => dataset.with_patients(choice).context("reading the patients"),
        None => Ok(dataset),
    }
}

/// Which cases are held out.
pub(crate) fn split_choice(args: &SplitArgs) -> SplitChoice {
    if args.all {
        SplitChoice::All
    } else {
        let fold = match args.fold {
            Some(FoldChoice::One(fold)) => fold,
            // Cross-validations replace this by each of their folds.
            Some(FoldChoice::All) | None => 0,
        };
        SplitChoice::HoldOut { splits: args.splits.clone(), fold }
    }
}

/// The settings that may change when a training continues.
pub(super) fn changes(args: &TrainArgs) -> ResumeOptions {
    ResumeOptions::default().with(|options| {
        options.epochs = args.epochs;
        options.time_budget_secs = args.time_budget.map(|t| t.as_secs_f64());
        options.device = args.choices.device.clone();
        options.workers = args.workers;
        options.cache = args.cache.clone();
    })
}

/// Whether an option contradicts the settings with which a training was started.
pub(super) fn differs(args: &TrainArgs, started: &TrainConfig) -> bool {
    let mut given = started.clone();
    if let Some(network) = args.choices.preset.as_deref().and_then(NetworkChoice::from_preset) {
        given.network = network;
    }
    apply(args, &mut given);
    keep_changeable(&mut given, started);
    given != *started
}

/// Whether a plan file with the options contradicts the settings with which a training was started.
pub(super) fn differs_from_plan(args: &TrainArgs, file: &PlanFile, started: &TrainConfig) -> bool {
    let mut given = file.config.clone();
    apply(args, &mut given);
    keep_changeable(&mut given, started);
    given.open_choices() != started.open_choices()
}

/// Ignores the settings that may change when a training continues: they affect when and where it runs, not its result.
fn keep_changeable(given: &mut TrainConfig, started: &TrainConfig) {
    (given.epochs, given.time_budget_secs) = (started.epochs, started.time_budget_secs);
    (given.device, given.workers) = (started.device.clone(), started.workers);
    given.cache.clone_from(&started.cache);
}
