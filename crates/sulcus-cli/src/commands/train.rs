//! `sulcus train`: a data set in, a run and its model file out.

use std::path::Path;

use sulcus_runtime::OrtLibrary;
use sulcus_train::{Changes, Dataset, Outcome, Run, SplitChoice, TrainConfig, Weights};

use crate::args::TrainArgs;
use crate::error::{CliError, Context};
use crate::interrupt::Interrupt;
use crate::scores::{self, score};
use crate::training::Watcher;
use crate::ui::{Ui, count, human_secs};
use crate::{exporting, files, report};

const DEFAULT_PRESET: &str = "unet2d-lite";

pub(crate) fn run(args: &TrainArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let dataset = Dataset::open(&args.dataset).context("opening the data set")?;
    let interrupt = Interrupt::listen()?;
    let mut watcher = Watcher::new(ui, &interrupt);
    let outcome = if args.resume {
        check_same(args, &dataset)?;
        let changes = Changes {
            epochs: args.epochs,
            time_budget_secs: args.time_budget.map(|t| t.as_secs_f64()),
            device: args.device,
            workers: args.workers,
        };
        sulcus_train::resume(&dataset, &args.output, &changes, &mut watcher)
    } else {
        let preset = args.preset.as_deref().unwrap_or(DEFAULT_PRESET);
        let mut config = TrainConfig::from_preset(preset).map_err(CliError::usage)?;
        apply(args, &mut config);
        let made = !args.output.exists();
        files::ensure_writable(&args.output)?;
        let outcome = sulcus_train::train(&dataset, &split_choice(args), &config, &args.output, &mut watcher);
        if made && outcome.is_err() {
            // Goes only when it is empty, that is when training was refused before it began.
            std::fs::remove_dir(&args.output).ok();
        }
        outcome
    };
    watcher.finish();
    finish(outcome.context("training")?, &args.output, &args.dataset, library, ui)
}

fn split_choice(args: &TrainArgs) -> SplitChoice {
    if args.all {
        SplitChoice::All
    } else {
        SplitChoice::HoldOut { splits: args.splits.clone(), fold: args.fold.unwrap_or(0) }
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
    config.orientation = args.orientation.or(config.orientation);
    config.patch = args.patch.clone().or(config.patch.take());
    set(&mut config.device, args.device);
    set(&mut config.seed, args.seed);
    set(&mut config.batch_size, args.batch_size);
    set(&mut config.learning_rate, args.learning_rate);
    set(&mut config.optimiser, args.optimizer.map(Into::into));
    set(&mut config.loss, args.loss.map(Into::into));
    set(&mut config.normalisation, args.normalisation.map(Into::into));
    set(&mut config.workers, args.workers);
}

/// A run goes on as it was begun: the same options are fine, others would be ignored, so they are refused.
fn check_same(args: &TrainArgs, dataset: &Dataset) -> Result<(), CliError> {
    let run = Run::open(&args.output).context("resuming")?;
    let manifest = run.manifest();
    let begun = &manifest.config;
    let mut said = begun.clone();
    if let Some(preset) = &args.preset {
        said.network = TrainConfig::from_preset(preset).map_err(CliError::usage)?.network;
    }
    apply(args, &mut said);
    // These may change: they decide when and where it trains, not what.
    (said.epochs, said.time_budget_secs) = (begun.epochs, begun.time_budget_secs);
    (said.device, said.workers) = (begun.device, begun.workers);
    let split_said = args.all || args.fold.is_some() || args.splits.is_some();
    let other_split = split_said && dataset.split(&split_choice(args)).context("resuming")? != manifest.split;
    if said != *begun || other_split {
        return Err(CliError::usage(format_args!(
            "the run was begun with other settings, and a resumed run keeps its own: {}",
            args.output.display()
        ))
        .hint(
            "leave the options out that differ (only --epochs, --time-budget, --device and --workers may change), \
             or start a new run with another -o",
        ));
    }
    Ok(())
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
    exporting::write(folder, Weights::Best, &model, library, ui)?;

    let run = Run::open(folder).context("reading the run")?;
    if let Some(summary) = run.summary().context("reading the scores")? {
        scores::print(&summary, &run.manifest().plan.labels)?;
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
    ui.note(format_args!("  sulcus train {} -o ANOTHER --preset unet2d-classic", dataset.display()));
    Ok(())
}
