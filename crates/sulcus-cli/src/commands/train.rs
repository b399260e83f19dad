//! `sulcus train`: a data set in, a run and its model file out.

use std::path::Path;

use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::{Changes, CrossValidation, Dataset, NetworkChoice, Outcome, PlanFile, Run, TrainConfig};

use crate::args::TrainArgs;
use crate::commands::cross_validation;
use crate::commands::plan::{self, choose, split_choice};
use crate::error::{CliError, Context};
use crate::exporting::{self, Wanted};
use crate::interrupt::Interrupt;
use crate::scores::{self, score};
use crate::training::Watcher;
use crate::ui::{Ui, count, human_secs};
use crate::{files, report};

pub(crate) fn run(args: &TrainArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    crate::allocator::keep_freed_memory();
    if cross_validation::is_meant(args) {
        return cross_validation::run(args, library, ui);
    }
    if CrossValidation::is_in(&args.output) {
        return Err(CliError::usage(format_args!(
            "this folder holds a cross-validation; one fold's run goes elsewhere: {}",
            args.output.display()
        ))
        .hint("`--fold all --resume` goes on with it, another -o starts a new run"));
    }
    let dataset = Dataset::open(&args.dataset).context("opening the data set")?;
    let interrupt = Interrupt::listen()?;
    let mut watcher = Watcher::new(ui, &interrupt);
    let outcome = if args.resume {
        check_same(args, &dataset)?;
        sulcus_train::resume(&dataset, &args.output, &changes(args), &mut watcher)
    } else {
        let plan = read_plan(args)?;
        let config = match &plan {
            Some(plan) => {
                let mut config = plan.config.clone();
                apply(args, &mut config);
                config
            }
            None => config(args)?,
        };
        let split = split_choice(&args.split);
        let made = !args.output.exists();
        files::ensure_writable(&args.output)?;
        let outcome = match &plan {
            Some(file) => {
                sulcus_train::train_by_plan(&dataset, &split, &config, &file.plan, &args.output, &mut watcher)
            }
            None => sulcus_train::train(&dataset, &split, &config, &args.output, &mut watcher),
        };
        if made && outcome.is_err() {
            // Goes only when it is empty, that is when training was refused before it began.
            std::fs::remove_dir(&args.output).ok();
        }
        outcome
    };
    watcher.finish();
    finish(outcome.context("training")?, &args.output, &args.dataset, library, ui)
}

/// How to train, by the preset and what was said besides it.
pub(crate) fn config(args: &TrainArgs) -> Result<TrainConfig, CliError> {
    let mut config = plan::config(&args.choices)?;
    apply(args, &mut config);
    Ok(config)
}

fn read_plan(args: &TrainArgs) -> Result<Option<PlanFile>, CliError> {
    args.plan.as_deref().map(PlanFile::read).transpose().context("reading the plan")
}

/// What may change when a training goes on.
pub(crate) fn changes(args: &TrainArgs) -> Changes {
    Changes {
        epochs: args.epochs,
        time_budget_secs: args.time_budget.map(|t| t.as_secs_f64()),
        device: args.choices.device.clone(),
        workers: args.workers,
        cache: args.cache.clone(),
    }
}

/// What was said on the command line; the rest stays.
fn apply(args: &TrainArgs, config: &mut TrainConfig) {
    fn set<T>(target: &mut T, said: Option<T>) {
        if let Some(value) = said {
            *target = value;
        }
    }
    config.epochs = args.epochs.or(config.epochs);
    config.time_budget_secs = args.time_budget.map(|t| t.as_secs_f64()).or(config.time_budget_secs);
    choose(&args.choices, config);
    config.init = args.init.clone().or(config.init.take());
    set(&mut config.seed, args.seed);
    set(&mut config.precision, args.precision);
    set(&mut config.learning_rate, args.learning_rate);
    set(&mut config.optimiser, args.optimizer.map(Into::into));
    set(&mut config.loss, args.loss.map(Into::into));
    set(&mut config.workers, args.workers);
    config.cache = args.cache.clone().or(config.cache.take());
    config.early_stopping = args.early_stopping.or(config.early_stopping);
}

/// A run goes on as it was begun: the same options are fine, others would be ignored, so they are refused.
fn check_same(args: &TrainArgs, dataset: &Dataset) -> Result<(), CliError> {
    let run = Run::open(&args.output).context("resuming")?;
    let manifest = run.manifest();
    let split = &args.split;
    let split_said = split.all || split.fold.is_some() || split.splits.is_some();
    let other_split = split_said && dataset.split(&split_choice(split)).context("resuming")? != manifest.split;
    let other_plan = read_plan(args)?.is_some_and(|file| {
        let mut said = file.config;
        apply(args, &mut said);
        keep_changeable(&mut said, &manifest.config);
        file.plan != manifest.plan || said.open_choices() != manifest.config.open_choices()
    });
    if differs(args, &manifest.config)? || other_plan || other_split {
        return Err(begun_otherwise(&args.output));
    }
    Ok(())
}

/// Whether something was said that contradicts how a training was begun.
pub(crate) fn differs(args: &TrainArgs, begun: &TrainConfig) -> Result<bool, CliError> {
    let mut said = begun.clone();
    if let Some(network) = args.choices.preset.as_deref().and_then(NetworkChoice::from_preset) {
        said.network = network;
    }
    apply(args, &mut said);
    keep_changeable(&mut said, begun);
    Ok(said != *begun)
}

/// What may change when a training goes on: when and where it trains, not what.
fn keep_changeable(said: &mut TrainConfig, begun: &TrainConfig) {
    (said.epochs, said.time_budget_secs) = (begun.epochs, begun.time_budget_secs);
    (said.device, said.workers) = (begun.device.clone(), begun.workers);
    said.cache.clone_from(&begun.cache);
}

pub(crate) fn begun_otherwise(folder: &Path) -> CliError {
    CliError::usage(format_args!(
        "the run was begun with other settings, and a resumed run keeps its own: {}",
        folder.display()
    ))
    .hint(
        "leave the options out that differ (only --epochs, --time-budget, --device, --workers and --cache may change), \
         or start a new run with another -o",
    )
}

/// Exports what was trained, and says how good it is and what to do with it.
fn finish(outcome: Outcome, folder: &Path, dataset: &Path, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let (epochs, best_epoch, seconds) = match outcome {
        Outcome::Finished { epochs, best_epoch, seconds, .. } => (epochs, best_epoch, seconds),
        Outcome::Stopped { epochs, hint } => {
            return Err(CliError::Stopped {
                message: format!("stopped after {}: {}", count(epochs, "whole epoch"), folder.display()),
                hint,
            });
        }
    };
    ui.note(format_args!(
        "trained {} in {}; the best one is {best_epoch}",
        count(epochs, "epoch"),
        human_secs(seconds)
    ));
    let model = folder.join("model.onnx");
    exporting::write(folder, &Wanted::default(), &model, library, ui)?;

    let run = Run::open(folder).context("reading the run")?;
    if let Some(summary) = run.summary().context("reading the scores")? {
        scores::print(&summary, &run.manifest().plan.structures())?;
        ui.note(format_args!(
            "mean Dice {} over {}; masks and summary.json: {}",
            score(summary.mean_dice()),
            count(summary.metric_per_case.len(), "held-out case"),
            folder.join("validation").display()
        ));
    }
    report::write_run(folder)?;
    ui.note(format_args!("report: {}", folder.join("report.html").display()));
    ui.note("next:");
    ui.note(format_args!("  sulcus predict -m {} SCAN.nii.gz -o mask.nii.gz", model.display()));
    ui.note(format_args!("  sulcus info {}", folder.display()));
    ui.note(format_args!("  sulcus train {} -o ANOTHER --fold all", dataset.display()));
    Ok(())
}
