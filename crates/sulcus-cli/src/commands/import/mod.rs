//! `sulcus import`: trained models of other programs as model files.

mod check;
mod synthetic;
mod totalsegmentator;

use std::path::Path;

use serde::Serialize;
use sulcus_nnunet::{ImportOptions, ImportedModel, import};
use sulcus_runtime::ort::OrtLibrary;

use super::export::engines::Engines;
use crate::args::NnunetArgs;
use crate::error::{CliError, Context};
use crate::files;
use crate::output::{self, Ui, human_bytes};
use check::{Checked, agreement, check};
pub(crate) use totalsegmentator::totalsegmentator;

/// The result as JSON.
#[derive(Serialize)]
struct ImportRecord<'a> {
    model: &'a Path,
    output: &'a Path,
    file_bytes: usize,
    network: &'a str,
    dataset: &'a str,
    configuration: &'a str,
    /// The configurations whose masks it needs, the nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    previous: Vec<&'a str>,
    trainer: &'a str,
    folds: &'a [String],
    checkpoint: &'a str,
    /// How far the logits of other engines are from tract's.
    checked: &'a [String],
}

/// Writes a model of nnU-Net as one file, after a check that every engine that can run it computes the same with it.
pub(crate) fn nnunet(args: &NnunetArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    check_output(&args.output)?;
    let options = ImportOptions {
        configuration: args.configuration.clone(),
        folds: args.fold.clone(),
        checkpoint: args.checkpoint.into(),
        postprocessing: args.postprocessing.clone(),
    };
    let ImportedModel { bytes, spec, source } =
        import(&args.model, &options).map_err(|error| CliError::caused_by(&error))?;
    let engines = Engines::find(library)?;
    let Checked { spec, lines: checked, native } = check(&engines, &bytes, spec)?;
    let bytes = sulcus_onnx::with_spec(&bytes, &spec).context("importing")?;
    engines.replay_all(&bytes, &spec, native)?;
    files::write(&args.output, &bytes)?;
    let origin = spec.nnunet.clone().unwrap_or_default();
    let agreement = agreement(&checked);
    let before: String = spec
        .previous_networks()
        .map(|network| format!(" after {} {}", network.spec.network.name, network.name))
        .collect();
    ui.note(format_args!(
        "model: {} ({}); {} {}{before}, trained by {} on {}, fold {}; {agreement}",
        args.output.display(),
        human_bytes(bytes.len() as u64),
        spec.network.name,
        origin.configuration,
        origin.trainer,
        origin.dataset,
        origin.folds.join(", ")
    ));
    if !args.json {
        return Ok(());
    }
    output::json(&ImportRecord {
        model: &source,
        output: &args.output,
        file_bytes: bytes.len(),
        network: &spec.network.name,
        dataset: &origin.dataset,
        configuration: &origin.configuration,
        previous: spec.previous_networks().map(|network| network.name.as_str()).collect(),
        trainer: &origin.trainer,
        folds: &origin.folds,
        checkpoint: &origin.checkpoint,
        checked: &checked,
    })
}

/// Refuses a path that is no model file or that cannot be written.
///
/// # Errors
/// Wrong usage, or a folder that cannot be written.
pub(in crate::commands) fn check_output(output: &Path) -> Result<(), CliError> {
    if !output.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        return Err(CliError::usage(format_args!(
            "the model is an ONNX file, so -o must end in .onnx: {}",
            output.display()
        )));
    }
    files::ensure_writable(&files::folder_of(output))
}
