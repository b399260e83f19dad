//! `sulcus train --fold all`: every fold of a data set, one after the other, and one summary.

use std::path::Path;
use std::time::Instant;

use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::{CrossValidation, Dataset, Outcome, Run};

use crate::args::TrainArgs;
use crate::commands::train;
use crate::error::{CliError, Context};
use crate::exporting::{self, Wanted};
use crate::files;
use crate::interrupt::Interrupt;
use crate::report;
use crate::scores::{self, score};
use crate::training::Watcher;
use crate::ui::{Ui, count, human_secs};
use crate::{output, values::FoldChoice};

/// The model file of a run.
const MODEL: &str = "model.onnx";

/// Whether a command line means all folds: it says so, or goes on with such a folder.
pub(crate) fn is_meant(args: &TrainArgs) -> bool {
    args.split.fold == Some(FoldChoice::All)
        || (args.resume && args.split.fold.is_none() && !args.split.all && CrossValidation::is_in(&args.output))
}

pub(crate) fn run(args: &TrainArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let dataset = Dataset::open(&args.dataset).context("opening the data set")?;
    let mut all = if args.resume { go_on(args, &dataset)? } else { begin(args, &dataset, ui)? };
    let interrupt = Interrupt::listen()?;
    let total = all.folds().len();
    for fold in 0..total {
        let folder = all.fold_folder(fold);
        let finished = all.is_finished(fold).context("checking the folds")?;
        let noted = all.manifest().folds.get(fold).is_some_and(|f| f.result.is_some());
        if finished && noted && folder.join(MODEL).is_file() {
            ui.note(format_args!("fold {fold} ({total} in all) is done: {}", folder.display()));
            continue;
        }
        ui.note(format_args!("fold {fold} ({total} in all): {}", folder.display()));
        if !finished && let Err(error) = train_fold(&mut all, &dataset, fold, &interrupt, ui) {
            all.abandon_unless_begun();
            return Err(error);
        }
        let exporting = Instant::now();
        exporting::write(&folder, &Wanted::default(), &folder.join(MODEL), library, ui)?;
        report::write_run(&folder)?;
        all.note_finished(fold, exporting.elapsed().as_secs_f64()).context("noting the fold's scores")?;
        if let Some(result) = all.manifest().folds.get(fold).and_then(|f| f.result.as_ref()) {
            ui.note(format_args!(
                "fold {fold}: mean Dice {} after {} in {}",
                score(result.mean_dice),
                count(result.epochs, "epoch"),
                human_secs(result.seconds)
            ));
        }
    }
    report(all, ui)
}

fn refuse_plan(args: &TrainArgs) -> Result<(), CliError> {
    if args.plan.is_some() {
        return Err(CliError::usage(
            "`--plan` goes with one fold: every fold of `--fold all` is planned from its own cases",
        )
        .hint("train the folds one by one, with `--fold K --plan F` and an -o each"));
    }
    Ok(())
}

fn begin(args: &TrainArgs, dataset: &Dataset, ui: Ui) -> Result<CrossValidation, CliError> {
    refuse_plan(args)?;
    let config = train::config(args)?;
    let folds = dataset.folds(args.split.splits.as_deref()).context("training")?;
    for (names, what) in [
        (&folds.in_no_fold, "in no fold and not used"),
        (&folds.never_held_out, "held out by no fold and not scored"),
    ] {
        if !names.is_empty() {
            ui.warn(format_args!("{} {what}: {}", count(names.len(), "case"), names.join(", ")));
        }
    }
    let made = !args.output.exists();
    files::ensure_writable(&args.output)?;
    let begun = CrossValidation::begin(dataset, &folds, &config, &args.output).context("training");
    if made && begun.is_err() {
        // Goes only when it is empty.
        std::fs::remove_dir(&args.output).ok();
    }
    begun
}

/// A cross-validation goes on as it was begun, like a single run.
fn go_on(args: &TrainArgs, dataset: &Dataset) -> Result<CrossValidation, CliError> {
    refuse_plan(args)?;
    let mut all = CrossValidation::open(&args.output).context("resuming")?;
    let other_folds = match &args.split.splits {
        Some(file) => dataset.folds(Some(file)).context("resuming")?.folds != all.folds(),
        None => false,
    };
    if train::differs(args, &all.manifest().config)? || other_folds {
        return Err(train::begun_otherwise(&args.output));
    }
    all.change(&train::changes(args)).context("resuming")?;
    Ok(all)
}

fn train_fold(
    all: &mut CrossValidation,
    dataset: &Dataset,
    fold: usize,
    interrupt: &Interrupt,
    ui: Ui,
) -> Result<(), CliError> {
    let mut watcher = Watcher::new(ui, interrupt);
    let outcome = all.train_fold(dataset, fold, &mut watcher);
    watcher.finish();
    match outcome.context(format_args!("training fold {fold}"))? {
        Outcome::Finished { .. } => Ok(()),
        Outcome::Stopped { epochs, hint } => Err(CliError::Stopped {
            message: format!(
                "stopped in fold {fold} after {}: {}",
                count(epochs, "whole epoch"),
                all.folder().display()
            ),
            hint,
        }),
    }
}

fn report(mut all: CrossValidation, ui: Ui) -> Result<(), CliError> {
    let summary = all.summarise().context("putting the folds' scores together")?;
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
    let models: Vec<String> =
        (0..all.folds().len()).map(|fold| format!("-m {}", all.fold_folder(fold).join(MODEL).display())).collect();
    ui.note("next:");
    ui.note(format_args!("  sulcus predict {} SCAN.nii.gz -o mask.nii.gz", models.join(" ")));
    ui.note(format_args!("  sulcus info {}", all.folder().display()));
    Ok(())
}

/// Writes the models of all folds that have weights into a folder.
pub(crate) fn export(
    folder: &Path,
    wanted: &Wanted<'_>,
    output: &Path,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    let all = CrossValidation::open(folder).context("opening the cross-validation")?;
    for fold in 0..all.folds().len() {
        let run = all.fold_folder(fold);
        exporting::write(&run, wanted, &output.join(format!("fold_{fold}.onnx")), library, ui)?;
    }
    Ok(())
}

/// What `sulcus info` prints, in JSON's words.
pub(crate) fn info(folder: &Path, json: bool) -> Result<(), CliError> {
    let all = CrossValidation::open(folder).context("reading the cross-validation")?;
    let manifest = all.manifest();
    if json {
        let mut value = serde_json::to_value(manifest).context("describing the cross-validation")?;
        if let Some(object) = value.as_object_mut() {
            object.insert("kind".into(), "cross-validation".into());
        }
        return output::json(&value);
    }
    let done = manifest.folds.iter().filter(|f| f.result.is_some()).count();
    let folds: Vec<String> = manifest
        .folds
        .iter()
        .map(|fold| match &fold.result {
            None => format!("{} not done", fold.folder),
            Some(result) => format!(
                "{} Dice {} over {}, {} in {}",
                fold.folder,
                score(result.mean_dice),
                count(fold.validation_cases, "case"),
                count(result.epochs, "epoch"),
                human_secs(result.seconds)
            ),
        })
        .collect();
    let dice = match manifest.scores {
        None => "not taken: not all folds are done".to_owned(),
        Some(scores) => format!("{} over {}", score(scores.mean_dice), count(scores.cases, "case")),
    };
    output::fields(&[
        ("cross-validation", folder.display().to_string()),
        ("status", format!("{done} of {} folds done", manifest.folds.len())),
        ("data set", format!("{} ({})", manifest.dataset.name, manifest.dataset.folder.display())),
        ("network", manifest.config.network.name().to_owned()),
        ("folds", folds.join("\n")),
        ("Dice", dice),
        ("started", manifest.started.clone()),
        ("by", manifest.tool_version.clone()),
    ])
}
