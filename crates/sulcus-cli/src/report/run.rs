//! The report of a training run.

use std::path::Path;

use serde::Serialize;
use sulcus_metrics::Summary;
use sulcus_train::{Manifest, Run};

use super::{Report, document, worst_and_median};
use crate::error::{CliError, Context};
use crate::files;
use crate::output::{count, human_secs, rules};

/// Name of the report in the folder of a run.
const FILE: &str = "report.html";

/// Writes `report.html` into the folder of a run: curves, scores of the held-out cases with figures, plan and manifest.
///
/// # Errors
/// When the folder contains no run, its scores cannot be read, or the file cannot be written.
pub(crate) fn write_run(folder: &Path) -> Result<(), CliError> {
    let run = Run::open(folder).context("reading the run")?;
    let summary = run.summary().context("reading the scores")?;
    let mut report = of_run(&run, summary.as_ref());
    if let Some(summary) = &summary {
        report.pictures = worst_and_median(summary, &run.manifest().plan.labels);
    }
    files::write(&folder.join(FILE), document(&report).as_bytes())
}

/// The report of a run with the scores of its held-out cases, without pictures.
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
            ("Complete plan", json(&manifest.plan)),
            ("Requested settings", json(&manifest.config)),
            ("Training and held-out cases", json(&manifest.split)),
            ("SHA-256 of the files of each case", json(&manifest.data_sha256)),
        ],
    }
}

fn facts(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let Manifest { dataset, plan, split, progress, .. } = manifest;
    let rows = vec![
        ("data", format!("{}, {}", dataset.name, dataset.folder.display())),
        ("cases", format!("{} for training, {} held out", split.training.len(), split.validation.len())),
        ("patients", manifest.patients.as_ref().map(rules::patients).unwrap_or_default()),
        ("network", format!("{}, {:.1} M parameters", plan.network.name, manifest.parameters as f64 / 1e6)),
        (
            "training",
            format!(
                "{} of {} in {}, on the {}; best weights after epoch {}",
                count(progress.epochs, "epoch"),
                count(manifest.steps_per_epoch, "step"),
                human_secs(progress.seconds),
                manifest.device,
                progress.best_epoch
            ),
        ),
        ("postprocessing", progress.postprocessing_why.join("; ")),
        ("seed", manifest.config.seed.to_string()),
        ("started", manifest.started.clone()),
        ("tool version", manifest.tool_version.clone()),
    ];
    // Patients are recorded if some have several cases. Without held-out cases no postprocessing was selected.
    rows.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

/// A value as JSON, or the reason why it has none: the rest of the report is useful without it.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("not available: {error}"))
}
