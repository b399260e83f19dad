//! `sulcus info`: what a file or folder is.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use sulcus_io::VolumeInfo;
use sulcus_model::{ModelSpec, Postprocess, Region, SpacingRule};
use sulcus_train::{CrossValidation, Run};
use sulcus_volume::LabelTable;

use crate::args::InfoArgs;
use crate::commands::plan::{normalisation, place};
use crate::commands::{cross_validation, dicom_folder, info_dataset};
use crate::error::{CliError, Context, with_causes};
use crate::exporting;
use crate::output;
use crate::scores::score;
use crate::ui::{Ui, count, human_bytes, human_secs};

pub(crate) fn run(args: &InfoArgs, ui: Ui) -> Result<(), CliError> {
    let path = args.path.as_path();
    if path.is_dir() {
        return folder(path, args, ui);
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        return model(path, args.json);
    }
    volume(path, args.json)
}

fn folder(path: &Path, args: &InfoArgs, ui: Ui) -> Result<(), CliError> {
    let json = args.json;
    if path.join("run.json").is_file() {
        run_folder(path, json)
    } else if CrossValidation::is_in(path) {
        cross_validation::info(path, json)
    } else if path.join("dataset.json").is_file() || path.join("images").is_dir() {
        info_dataset::run(path, json, ui)
    } else if sulcus_io::dicom::holds_dicom(path) {
        dicom_folder::info(path, args, ui)
    } else {
        Err(CliError::failed(format_args!(
            "this folder is neither a run (run.json), a data set (dataset.json, or images/ and labels/) nor does it hold \
             DICOM: {}",
            path.display()
        )))
    }
}

fn volume(path: &Path, json: bool) -> Result<(), CliError> {
    let info = sulcus_io::read_info(path).map_err(|error| CliError::failed(with_causes(&error)))?;
    if json {
        return output::json(&info);
    }
    output::fields(&volume_rows(path, &info))
}

/// What a person wants to know of a volume.
pub(super) fn volume_rows(path: &Path, info: &VolumeInfo) -> Vec<(&'static str, String)> {
    let number = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |v| format!("{v}"));
    let matrix: Vec<String> = info
        .ras_from_voxel
        .iter()
        .map(|row| row.iter().map(|v| format!("{v:>10.4}")).collect::<Vec<_>>().join(" "))
        .collect();
    let mut orientation = info.orientation.to_string();
    if info.orientation_source.is_some() {
        orientation.push_str(" (a guess: the file does not say how the patient lies)");
    }
    let mut rows = vec![
        ("volume", path.display().to_string()),
        ("format", info.format.as_ref().map(text_of).unwrap_or_default()),
        ("shape", join(&info.shape, " × ")),
        ("type", info.dtype.to_owned()),
        ("spacing", format!("{} mm", info.spacing_mm.map(|v| format!("{v}")).join(" × "))),
        ("orientation", orientation),
        ("RAS from voxel", matrix.join("\n")),
        ("minimum", number(info.min)),
        ("maximum", number(info.max)),
        ("mean", number(info.mean)),
    ];
    if info.non_finite > 0 {
        rows.push(("not finite", format!("{} voxels, left out of the statistics", info.non_finite)));
    }
    rows
}

#[derive(Serialize)]
struct ModelInfo {
    kind: &'static str,
    file_bytes: usize,
    #[serde(flatten)]
    spec: Value,
}

fn model(path: &Path, json: bool) -> Result<(), CliError> {
    let bytes = std::fs::read(path).context(format_args!("reading the model {}", path.display()))?;
    let spec = sulcus_onnx::read_spec(&bytes)
        .map_err(|error| CliError::failed(format_args!("{}: {}", with_causes(&error), path.display())))?;
    if json {
        let mut value = serde_json::to_value(&spec).context("describing the model")?;
        // The voxels themselves tell nobody anything.
        if let Some(golden) = value.get_mut("golden_case").and_then(Value::as_object_mut) {
            golden.remove("data_base64");
        }
        return output::json(&ModelInfo { kind: "model", file_bytes: bytes.len(), spec: value });
    }
    output::fields(&model_rows(path, bytes.len(), &spec))
}

fn model_rows(path: &Path, bytes: usize, spec: &ModelSpec) -> Vec<(&'static str, String)> {
    let channels: Vec<String> =
        spec.channels.iter().map(|c| format!("{} ({})", c.name, normalisation(&c.normalisation))).collect();
    let labels: Vec<String> = spec.labels.entries().iter().map(|l| format!("{} {}", l.value, l.name)).collect();
    let features: Vec<usize> = spec.network.stages.iter().map(|stage| stage.channels).collect();
    let training = &spec.training;
    let spacing = match spec.spacing {
        SpacingRule::Native => "the scan's own".to_owned(),
        SpacingRule::Resample { mm, .. } => format!("{} mm", mm.mm().map(|v| format!("{v}")).join(" × ")),
    };
    let rows = vec![
        ("model", path.display().to_string()),
        ("name", spec.name.clone()),
        ("size", human_bytes(bytes as u64)),
        (
            "network",
            format!(
                "{}, {}-D, features {}",
                spec.network.name,
                spec.network.dimensions.count(),
                join(&features, "–")
            ),
        ),
        ("channels", channels.join(", ")),
        ("labels", labels.join("\n")),
        ("regions", regions(&spec.regions)),
        ("orientation", place(spec.orientation, spec.crop)),
        ("spacing", spacing),
        ("patch", join(&spec.patch, " × ")),
        (
            "trained",
            format!(
                "{} on {} of {} by {}",
                count(training.epochs, "epoch"),
                count(training.training_cases, "case"),
                training.dataset,
                training.tool_version
            ),
        ),
        (
            "validation Dice",
            match training.validation_dice {
                Some(_) => format!(
                    "{} over {}",
                    score(training.validation_dice),
                    count(training.validation_cases, "case")
                ),
                None => "not taken".to_owned(),
            },
        ),
        ("precision", spec.precision.as_ref().map_or_else(|| "fp32".to_owned(), exporting::reduction_line)),
        ("data SHA-256", training.data_sha256.clone()),
        ("postprocessing", postprocessing(&spec.postprocessing, &spec.labels)),
        ("golden case", if spec.golden_case.is_some() { "yes" } else { "no" }.to_owned()),
    ];
    // What a model does not have is not listed.
    rows.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

/// A line a step that is done to every mask.
fn postprocessing(steps: &[Postprocess], labels: &LabelTable) -> String {
    let line = |step: &Postprocess| {
        let Postprocess::KeepLargestComponent { labels: kept } = step;
        let name = |value: &u16| labels.get(*value).map_or_else(|| value.to_string(), |entry| entry.name.clone());
        format!("largest component of {}", kept.iter().map(name).collect::<Vec<_>>().join(" and "))
    };
    if steps.is_empty() { "none".to_owned() } else { steps.iter().map(line).collect::<Vec<_>>().join("\n") }
}

/// A line a region: what it is of, and what it writes to a mask.
fn regions(regions: &[Region]) -> String {
    let line = |r: &Region| format!("{}: values {}, written as {}", r.name, join(&r.values, ", "), r.writes);
    regions.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[derive(Serialize)]
struct RunInfo {
    kind: &'static str,
    #[serde(flatten)]
    manifest: Value,
    validation: Option<Value>,
}

fn run_folder(path: &Path, json: bool) -> Result<(), CliError> {
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
        ("status", text_of(&progress.status)),
        ("data set", format!("{} ({})", manifest.dataset.name, manifest.dataset.folder.display())),
        (
            "cases",
            format!("{} trained on, {} held out", manifest.split.training.len(), manifest.split.validation.len()),
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
                "{} in {}, the best one is {}",
                progress.epochs,
                human_secs(progress.seconds),
                progress.best_epoch
            ),
        ),
        ("validation Dice", score(progress.validation_dice)),
        ("started", manifest.started.clone()),
        ("by", manifest.tool_version.clone()),
    ];
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

/// The name that a value has in JSON.
pub(super) fn text_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

fn join<T: ToString>(values: &[T], separator: &str) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(separator)
}
