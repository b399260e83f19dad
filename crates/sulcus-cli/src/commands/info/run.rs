//! `sulcus info` of a run or a cross-validation.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use sulcus_train::{CrossValidation, Run};

use super::json_text;
use crate::error::{CliError, Context};
use crate::output::{self, count, human_secs, rules};
use crate::scores::score;

#[derive(Serialize)]
struct RunInfo {
    kind: &'static str,
    #[serde(flatten)]
    manifest: Value,
    validation: Option<Value>,
}

/// Describes a run.
///
/// # Errors
/// When its manifest or its scores cannot be read.
pub(super) fn info(path: &Path, json: bool) -> Result<(), CliError> {
    let run = Run::open(path).context("reading the run")?;
    let summary = run.summary().context("reading the run's scores")?;
    let manifest = run.manifest();
    if json {
        let validation = summary.map(|s| {
            serde_json::json!({"cases": s.metric_per_case.len(), "mean": s.mean, "foreground_mean": s.foreground_mean})
        });
        let manifest = serde_json::to_value(manifest).context("describing the run")?;
        return output::json(&RunInfo { kind: "run", manifest, validation });
    }
    let progress = &manifest.progress;
    let mut rows = vec![
        ("run", path.display().to_string()),
        ("status", json_text(&progress.status)),
        ("data set", format!("{} ({})", manifest.dataset.name, manifest.dataset.folder.display())),
        (
            "cases",
            format!(
                "{} for training, {} held out",
                manifest.split.training.len(),
                manifest.split.validation.len()
            ),
        ),
        (
            "network",
            format!("{}, {:.1} M parameters", manifest.plan.network.name, manifest.parameters as f64 / 1e6),
        ),
        ("device", manifest.device.clone()),
        ("seed", manifest.config.seed.to_string()),
        (
            "epochs",
            format!(
                "{} in {}, best weights after epoch {}",
                progress.epochs,
                human_secs(progress.seconds),
                progress.best_epoch
            ),
        ),
        ("validation Dice", score(progress.validation_dice)),
        ("started", manifest.started.clone()),
        ("tool version", manifest.tool_version.clone()),
    ];
    if let Some(patients) = &manifest.patients {
        rows.push(("patients", rules::patients(patients)));
    }
    if let Some(summary) = &summary {
        let labels: Vec<String> = manifest
            .plan
            .structures()
            .iter()
            .map(|l| {
                let mean = summary.mean.get(&l.key());
                format!("{} {}", l.name, score(mean.and_then(|m| m.Dice)))
            })
            .collect();
        rows.push(("Dice by label", labels.join("\n")));
    }
    if summary.is_some() {
        rows.push(("postprocessing", progress.postprocessing_why.join("\n")));
    }
    rows.push(("plan", manifest.plan.why.join("\n")));
    output::fields(&rows)
}

/// Describes a cross-validation.
///
/// # Errors
/// When its manifest cannot be read.
pub(super) fn cross_validation_info(folder: &Path, json: bool) -> Result<(), CliError> {
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
        None => "not measured: not all folds are done".to_owned(),
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
        ("tool version", manifest.tool_version.clone()),
    ])
}
