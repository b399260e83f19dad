//! `sulcus train --fold all`: trains every fold of a data set, one after the other, and summarises their scores.

use std::time::Instant;

use sulcus_dataset::Dataset;
use sulcus_model::ModelSpec;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::{CrossValidation, Run, TrainOutcome};

use super::progress::{self, TrainingProgress};
use super::{config, other_settings, read_plan};
use crate::args::TrainArgs;
use crate::args::values::FoldChoice;
use crate::commands::export;
use crate::error::{CliError, Context};
use crate::folder_lock::FolderLock;
use crate::interrupt::Interrupt;
use crate::output::{Ui, count, human_secs};
use crate::scores::{self, score};
use crate::{files, report};

/// Whether the options request all folds: by `--fold all`, or by resuming a cross-validation.
pub(super) fn is_requested(args: &TrainArgs) -> bool {
    args.split.fold == Some(FoldChoice::All)
        || (args.resume && args.split.fold.is_none() && !args.split.all && CrossValidation::is_in(&args.output))
}

pub(super) fn run(args: &TrainArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let mut dataset = config::open_dataset(&args.dataset, &args.split)?;
    let (mut all, lock) = if args.resume { resume(args, &dataset)? } else { start(args, &dataset, ui)? };
    if args.resume {
        dataset = dataset.with_recorded_patients(all.manifest().patients.clone());
    }
    let interrupt = Interrupt::listen()?;
    let total = all.folds().len();
    let mut passed = None;
    for fold in 0..total {
        let folder = all.fold_folder(fold);
        let finished = all.is_finished(fold).context("checking the folds")?;
        let recorded = all.manifest().folds.get(fold).is_some_and(|f| f.result.is_some());
        if finished && recorded && folder.join(export::MODEL).is_file() {
            ui.note(format_args!("fold {fold} ({total} in all) is done: {}", folder.display()));
            continue;
        }
        ui.note(format_args!("fold {fold} ({total} in all): {}", folder.display()));
        if !finished
            && let Err(error) = train_fold(&mut all, &dataset, fold, &mut passed, (&interrupt, library), ui)
        {
            // The folder is removed only if it is empty.
            drop(lock);
            all.abandon_unless_begun();
            return Err(error);
        }
        let exporting = Instant::now();
        export::write_trained(&folder, &folder.join(export::MODEL), library, ui)?;
        report::write_run(&folder)?;
        all.record_finished(fold, exporting.elapsed().as_secs_f64()).context("recording the fold's scores")?;
        if let Some(result) = all.manifest().folds.get(fold).and_then(|f| f.result.as_ref()) {
            ui.note(format_args!(
                "fold {fold}: mean Dice {} after {} in {}",
                score(result.mean_dice),
                count(result.epochs, "epoch"),
                human_secs(result.seconds)
            ));
        }
    }
    summarise(all, ui)
}

fn start(args: &TrainArgs, dataset: &Dataset, ui: Ui) -> Result<(CrossValidation, FolderLock), CliError> {
    let plan = read_plan(args)?;
    let config = config::of_plan_or_options(args, plan.as_ref())?;
    let folds = dataset.folds(args.split.splits.as_deref()).context("training")?;
    // Each fold reports the patients that a file of splits has on both sides.
    for note in dataset.patient_notes(&config::split_choice(&args.split), &[]) {
        progress::report_patients(&note, ui);
    }
    for (names, what) in [
        (&folds.in_no_fold, "in no fold and not used"),
        (&folds.never_held_out, "held out by no fold and not scored"),
    ] {
        if !names.is_empty() {
            ui.warn(format_args!("{} {what}: {}", count(names.len(), "case"), names.join(", ")));
        }
    }
    let is_new = !args.output.exists();
    files::ensure_writable(&args.output)?;
    let lock = FolderLock::exclusive(&args.output, FolderLock::RUN)?;
    match CrossValidation::begin(dataset, &folds, &config, plan.as_ref(), &args.output).context("training") {
        Ok(all) => Ok((all, lock)),
        Err(error) => {
            drop(lock);
            if is_new {
                // Succeeds only if the folder is empty.
                std::fs::remove_dir(&args.output).ok();
            }
            Err(error)
        }
    }
}

/// A cross-validation keeps its settings when it is resumed, like a single run.
fn resume(args: &TrainArgs, dataset: &Dataset) -> Result<(CrossValidation, FolderLock), CliError> {
    let mut all = CrossValidation::open(&args.output).context("resuming")?;
    let other_folds = match (args.split.splits.as_deref(), &args.split.patients) {
        (None, None) => false,
        (splits, _) => dataset.folds(splits).context("resuming")?.folds != all.folds(),
    };
    let other_plan = read_plan(args)?.is_some_and(|file| {
        all.plan().is_none_or(|started| file.plan != started.plan)
            || config::differs_from_plan(args, &file, &all.manifest().config)
    });
    if config::differs(args, &all.manifest().config) || other_folds || other_plan {
        return Err(other_settings(&args.output));
    }
    let lock = FolderLock::exclusive(&args.output, FolderLock::RUN)?;
    all.change(&config::changes(args)).context("resuming")?;
    Ok((all, lock))
}

/// Trains a fold. `passed` is the model that passed the pre-flight check of an earlier fold.
fn train_fold(
    all: &mut CrossValidation,
    dataset: &Dataset,
    fold: usize,
    passed: &mut Option<ModelSpec>,
    (interrupt, library): (&Interrupt, &OrtLibrary),
    ui: Ui,
) -> Result<(), CliError> {
    let mut progress = TrainingProgress::new(ui, interrupt).with_preflight(library);
    progress.passed = passed.take();
    let outcome = all.train_fold(dataset, fold, &mut progress);
    *passed = progress.passed.take();
    progress.finish();
    match progress::check_outcome(outcome, format_args!("training fold {fold}"))? {
        TrainOutcome::Finished { .. } => Ok(()),
        TrainOutcome::Stopped { epochs, .. } => Err(CliError::Stopped {
            message: format!(
                "stopped in fold {fold} after {}: {}",
                count(epochs, "complete epoch"),
                all.folder().display()
            ),
            hint: progress::CONTINUE.to_owned(),
        }),
        other => Err(CliError::failed(format_args!("training fold {fold} ended as {other:?}"))),
    }
}

fn summarise(mut all: CrossValidation, ui: Ui) -> Result<(), CliError> {
    let summary = all.summarise().context("summarising the folds' scores")?;
    let run = Run::open(all.fold_folder(0)).context("reading the run")?;
    scores::print(&summary, &run.manifest().plan.structures())?;
    let spread = all.manifest().scores.and_then(|s| Some((s.fold_mean?, s.fold_sd?)));
    let spread = spread.map(|(mean, sd)| format!(" (folds {mean:.4} ± {sd:.4})")).unwrap_or_default();
    ui.note(format_args!(
        "mean Dice {}{spread} over {}, each predicted by the fold that held it out: {}",
        score(summary.mean_dice()),
        count(summary.metric_per_case.len(), "case"),
        all.folder().join("summary.json").display()
    ));
    let models: Vec<String> = (0..all.folds().len())
        .map(|fold| format!("-m {}", all.fold_folder(fold).join(export::MODEL).display()))
        .collect();
    ui.note("next:");
    ui.note(format_args!("  sulcus predict {} SCAN.nii.gz -o mask.nii.gz", models.join(" ")));
    ui.note(format_args!("  sulcus info {}", all.folder().display()));
    Ok(())
}
