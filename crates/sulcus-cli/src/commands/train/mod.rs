//! `sulcus train`: trains a network on a data set and exports its model file.

pub(crate) mod config;
mod cross_validation;
pub(crate) mod progress;

use std::path::Path;

use sulcus_dataset::Dataset;
use sulcus_plan::PlanFile;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::{CrossValidation, Run, TrainOutcome};

use super::export;
use crate::args::TrainArgs;
use crate::error::{CliError, Context};
use crate::folder_lock::FolderLock;
use crate::interrupt::Interrupt;
use crate::output::{Ui, count, human_secs};
use crate::scores::{self, score};
use crate::{allocator, files, report};
use progress::{TrainingProgress, check_outcome};

pub(crate) fn run(args: &TrainArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    allocator::keep_freed_memory();
    if cross_validation::is_requested(args) {
        return cross_validation::run(args, library, ui);
    }
    if CrossValidation::is_in(&args.output) {
        return Err(CliError::usage(format_args!(
            "this folder contains a cross-validation, so the run of one fold needs another folder: {}",
            args.output.display()
        ))
        .hint("`--fold all --resume` continues the cross-validation, another -o starts a new run"));
    }
    let dataset = config::open_dataset(&args.dataset, &args.split)?;
    let interrupt = Interrupt::listen()?;
    // Held until the model and the report are written.
    let (outcome, _locks) = if args.resume {
        resume(args, &dataset, (&interrupt, library), ui)?
    } else {
        start(args, &dataset, (&interrupt, library), ui)?
    };
    finish(outcome, args, library, ui)
}

fn start(
    args: &TrainArgs,
    dataset: &Dataset,
    (interrupt, library): (&Interrupt, &OrtLibrary),
    ui: Ui,
) -> Result<(TrainOutcome, Vec<FolderLock>), CliError> {
    let plan = read_plan(args)?;
    let config = config::of_plan_or_options(args, plan.as_ref())?;
    let split = config::split_choice(&args.split);
    let is_new = !args.output.exists();
    files::ensure_writable(&args.output)?;
    let locks = lock(&args.output)?;
    let mut progress = TrainingProgress::new(ui, interrupt).with_preflight(library);
    let outcome = match &plan {
        Some(file) => {
            sulcus_train::train_by_plan(dataset, &split, &config, &file.plan, &args.output, &mut progress)
        }
        None => sulcus_train::train(dataset, &split, &config, &args.output, &mut progress),
    };
    progress.finish();
    if is_new && outcome.is_err() {
        drop(locks);
        // Succeeds only if the folder is empty, that is if the training was refused before it started.
        std::fs::remove_dir(&args.output).ok();
        return check_outcome(outcome, "training").map(|outcome| (outcome, Vec::new()));
    }
    Ok((check_outcome(outcome, "training")?, locks))
}

fn resume(
    args: &TrainArgs,
    dataset: &Dataset,
    (interrupt, library): (&Interrupt, &OrtLibrary),
    ui: Ui,
) -> Result<(TrainOutcome, Vec<FolderLock>), CliError> {
    check_settings(args, dataset)?;
    let locks = lock(&args.output)?;
    let mut progress = TrainingProgress::new(ui, interrupt).with_preflight(library);
    let outcome = sulcus_train::resume(dataset, &args.output, &config::changes(args), &mut progress);
    progress.finish();
    Ok((check_outcome(outcome, "training")?, locks))
}

/// Locks the folder of a run, and the cross-validation of which it is a fold.
fn lock(folder: &Path) -> Result<Vec<FolderLock>, CliError> {
    let parent = files::folder_of(folder);
    let parent = CrossValidation::is_in(&parent).then_some(parent);
    parent.iter().map(|p| p.as_path()).chain([folder]).map(|f| FolderLock::exclusive(f, FolderLock::RUN)).collect()
}

fn read_plan(args: &TrainArgs) -> Result<Option<PlanFile>, CliError> {
    args.plan.as_deref().map(PlanFile::read).transpose().context("reading the plan")
}

/// Refuses options that contradict the settings with which a run was started; a resumed run would ignore them.
fn check_settings(args: &TrainArgs, dataset: &Dataset) -> Result<(), CliError> {
    let run = Run::open(&args.output).context("resuming")?;
    let manifest = run.manifest();
    let split = &args.split;
    let split_given = split.all || split.fold.is_some() || split.splits.is_some() || split.patients.is_some();
    let other_split =
        split_given && dataset.split(&config::split_choice(split)).context("resuming")? != manifest.split;
    let other_plan = read_plan(args)?.is_some_and(|file| {
        let other_config = config::differs_from_plan(args, &file, &manifest.config);
        let mut plan = file.plan;
        // A run describes its own training cases, whichever cases the plan was made from.
        plan.training_scans.clone_from(&manifest.plan.training_scans);
        plan != manifest.plan || other_config
    });
    if config::differs(args, &manifest.config) || other_plan || other_split {
        return Err(other_settings(&args.output));
    }
    Ok(())
}

fn other_settings(folder: &Path) -> CliError {
    CliError::usage(format_args!(
        "the run was started with other settings, which a resumed run keeps: {}",
        folder.display()
    ))
    .hint(
        "leave out the options that differ (only --epochs, --time-budget, --device, --workers and --cache may change), \
         or start a new run with another -o",
    )
}

/// Exports the trained network, and prints its scores and the next commands.
fn finish(outcome: TrainOutcome, args: &TrainArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let folder = args.output.as_path();
    let (epochs, best_epoch, seconds) = match outcome {
        TrainOutcome::Finished { epochs, best_epoch, seconds, .. } => (epochs, best_epoch, seconds),
        TrainOutcome::Stopped { epochs, .. } => {
            return Err(CliError::Stopped {
                message: format!("stopped after {}: {}", count(epochs, "complete epoch"), folder.display()),
                hint: progress::CONTINUE.to_owned(),
            });
        }
        other => {
            return Err(CliError::failed(format_args!("the training ended as {other:?}: {}", folder.display())));
        }
    };
    ui.note(format_args!(
        "trained {} in {}; best weights after epoch {best_epoch}",
        count(epochs, "epoch"),
        human_secs(seconds)
    ));
    let model = folder.join(export::MODEL);
    // Scores and report are written even if the export fails.
    let exported = export::write_trained(folder, &model, library, ui);

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
    exported?;
    ui.note("next:");
    ui.note(format_args!("  sulcus predict -m {} SCAN.nii.gz -o mask.nii.gz", model.display()));
    ui.note(format_args!("  sulcus info {}", folder.display()));
    ui.note(format_args!("  sulcus train {} -o ANOTHER --fold all", args.dataset.display()));
    Ok(())
}
