//! The report of a training run.

use std::path::Path;

use serde::Serialize;
use sulcus_metrics::Summary;
use sulcus_train::{Manifest, Run};

use super::{Report, html, worst_and_median};
use crate::error::{CliError, Context};
use crate::files;
use crate::ui::{count, human_secs};

/// Its name in a run's folder.
const FILE: &str = "report.html";

/// Writes `report.html` into a run's folder: curves, scores of the held-out cases with figures, plan and manifest.
///
/// # Errors
/// When the folder holds no run, its scores cannot be read, or the file cannot be written.
pub(crate) fn write_run(folder: &Path) -> Result<(), CliError> {
    let run = Run::open(folder).context("reading the run")?;
    let summary = run.summary().context("reading the scores")?;
    let mut report = of_run(&run, summary.as_ref());
    if let Some(summary) = &summary {
        report.pictures = worst_and_median(summary, &run.manifest().plan.labels);
    }
    files::write(&folder.join(FILE), html(&report).as_bytes())
}

/// What a run says about itself, with the scores of its held-out cases and no picture yet.
pub(crate) fn of_run<'a>(run: &'a Run, summary: Option<&'a Summary>) -> Report<'a> {
    let manifest = run.manifest();
    Report {
        title: "Sulcus: training run",
        facts: facts(manifest),
        summary,
        structures: manifest.plan.structures(),
        failures: &[],
        pictures: Vec::new(),
        curves_svg: std::fs::read_to_string(run.folder().join("curves.svg")).ok(),
        reasons: manifest.plan.why.clone(),
        details: vec![
            ("The whole plan", json(&manifest.plan)),
            ("The settings that were asked for", json(&manifest.config)),
            ("Cases that were trained on and held out", json(&manifest.split)),
            ("SHA-256 of each case's files", json(&manifest.data_sha256)),
        ],
    }
}

fn facts(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let Manifest { dataset, plan, split, progress, .. } = manifest;
    let rows = vec![
        ("data", format!("{}, {}", dataset.name, dataset.folder.display())),
        ("cases", format!("{} trained on, {} held out", split.training.len(), split.validation.len())),
        ("network", format!("{}, {:.1} M parameters", plan.network.name, manifest.parameters as f64 / 1e6)),
        (
            "training",
            format!(
                "{} of {} in {}, on the {}; the best weights are of epoch {}",
                count(progress.epochs, "epoch"),
                count(manifest.steps_per_epoch, "step"),
                human_secs(progress.seconds),
                manifest.device,
                progress.best_epoch
            ),
        ),
        ("postprocessing", progress.postprocessing_why.join("; ")),
        ("seed", manifest.config.seed.to_string()),
        ("begun", manifest.started.clone()),
        ("made with", manifest.tool_version.clone()),
    ];
    // Without held-out cases nothing was chosen.
    rows.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

/// What cannot be written as JSON is said to be so; the report has more to show.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("cannot be shown: {error}"))
}
