//! `sulcus info` of a model file.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use sulcus_model::{AxisRange, FileSpec, ModelSpec, Postprocess, PreviousNetwork, Region, TrainingScans};
use sulcus_volume::LabelTable;

use super::pack;
use crate::commands::export::reduction_line;
use crate::error::{CliError, Context};
use crate::output::rules::{normalisation, orientation, spacing};
use crate::output::{self, count, human_bytes, join, significant};
use crate::scores::score;

#[derive(Serialize)]
struct ModelInfo {
    kind: &'static str,
    file_bytes: usize,
    #[serde(flatten)]
    spec: Value,
}

pub(super) fn info(path: &Path, json: bool) -> Result<(), CliError> {
    let bytes = std::fs::read(path).context(format_args!("reading the model {}", path.display()))?;
    let spec =
        sulcus_onnx::read_file_spec(&bytes).context(format_args!("reading the model {}", path.display()))?;
    let size = bytes.len();
    match (&spec, json) {
        (FileSpec::Model(spec), true) => {
            let mut value = serde_json::to_value(spec).context("describing the model")?;
            shorten(&mut value);
            output::json(&ModelInfo { kind: "model", file_bytes: size, spec: value })
        }
        (FileSpec::Pack(pack), true) => {
            let mut value = serde_json::to_value(pack).context("describing the model")?;
            let networks = value.get_mut("networks").and_then(Value::as_array_mut).into_iter().flatten();
            networks.filter_map(|network| network.get_mut("spec")).for_each(shorten);
            output::json(&ModelInfo { kind: "pack", file_bytes: size, spec: value })
        }
        (FileSpec::Model(spec), false) => output::fields(&rows(path, size, spec)),
        (FileSpec::Pack(pack), false) => output::fields(&pack::rows(path, size, pack)),
    }
}

/// The voxels of a golden case are too long to be read.
fn shorten(spec: &mut Value) {
    if let Some(golden) = spec.get_mut("golden_case").and_then(Value::as_object_mut) {
        golden.remove("data_base64");
    }
}

fn rows(path: &Path, bytes: usize, spec: &ModelSpec) -> Vec<(&'static str, String)> {
    let channels: Vec<String> =
        spec.channels.iter().map(|c| format!("{} ({})", c.name, normalisation(&c.normalisation))).collect();
    let labels: Vec<String> = spec.labels.entries().iter().map(|l| format!("{} {}", l.value, l.name)).collect();
    let features: Vec<usize> = spec.network.stages.iter().map(|stage| stage.channels).collect();
    let training = &spec.training;
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
        ("after", spec.previous_networks().map(previous).collect::<Vec<_>>().join("\n")),
        ("channels", channels.join(", ")),
        ("labels", labels.join("\n")),
        ("regions", regions(&spec.regions)),
        ("orientation", orientation(spec.orientation, spec.crop)),
        ("spacing", spacing(&spec.spacing)),
        (
            "scans count as",
            spec.assumed_mm.map(|mm| format!("{} mm", mm.mm().map(significant).join(" × "))).unwrap_or_default(),
        ),
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
        ("training scans", spec.training_scans.as_ref().map(training_scans).unwrap_or_default()),
        (
            "validation Dice",
            match training.validation_dice {
                Some(_) => format!(
                    "{} over {}",
                    score(training.validation_dice),
                    count(training.validation_cases, "case")
                ),
                None => "not measured".to_owned(),
            },
        ),
        ("precision", spec.precision.as_ref().map_or_else(|| "fp32".to_owned(), reduction_line)),
        ("data SHA-256", training.data_sha256.clone()),
        ("postprocessing", postprocessing(&spec.postprocessing, &spec.labels)),
        ("unchecked", spec.unchecked.clone().unwrap_or_default()),
        ("golden case", if spec.golden_case.is_some() { "yes" } else { "no" }.to_owned()),
    ];
    // Rows without content, such as regions, are left out.
    rows.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

/// A network that segments the scan before the model.
fn previous(network: &PreviousNetwork) -> String {
    let PreviousNetwork { name, spec, mask } = network;
    let features: Vec<usize> = spec.network.stages.iter().map(|stage| stage.channels).collect();
    format!(
        "{name} ({}, features {}, {}, patch {}), whose mask becomes {}",
        spec.network.name,
        join(&features, "–"),
        spacing(&spec.spacing),
        join(&spec.patch, " × "),
        count(mask.input_channels(), "input channel")
    )
}

/// Voxel size and field of view along right, anterior, superior.
fn training_scans(scans: &TrainingScans) -> String {
    let range = |range: &AxisRange| {
        let along = |axis: usize| match (significant(range.min[axis]), significant(range.max[axis])) {
            (min, max) if min == max => min,
            (min, max) => format!("{min}–{max}"),
        };
        [0, 1, 2].map(along).join(" × ")
    };
    format!("voxels of {} mm, field of view {} mm (R × A × S)", range(&scans.spacing_mm), range(&scans.extent_mm))
}

/// The postprocessing steps, one per line.
fn postprocessing(steps: &[Postprocess], labels: &LabelTable) -> String {
    let line = |step: &Postprocess| {
        let what = match step {
            Postprocess::KeepLargestComponent { .. } => "largest component",
            Postprocess::KeepLargestComponents { .. } => "largest component (all that tie)",
        };
        let name = |value: &u16| labels.get(*value).map_or_else(|| value.to_string(), |entry| entry.name.clone());
        format!("{what} of {}", step.labels().iter().map(name).collect::<Vec<_>>().join(" and "))
    };
    if steps.is_empty() { "none".to_owned() } else { steps.iter().map(line).collect::<Vec<_>>().join("\n") }
}

/// The regions, one per line: their label values, and the value that is written to masks.
fn regions(regions: &[Region]) -> String {
    let line = |r: &Region| format!("{}: values {}, written as {}", r.name, join(&r.values, ", "), r.writes);
    regions.iter().map(line).collect::<Vec<_>>().join("\n")
}
