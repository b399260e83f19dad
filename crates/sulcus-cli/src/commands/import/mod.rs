//! `sulcus import`: trained models of other programs as model files.

mod synthetic;

use std::path::Path;

use serde::Serialize;
use sulcus_nnunet::{ImportOptions, ImportedModel, import};
use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::golden_case;

use super::export::engines::Engines;
use crate::args::NnunetArgs;
use crate::error::{CliError, Context};
use crate::files;
use crate::output::{self, Ui, human_bytes};

/// The result as JSON.
#[derive(Serialize)]
struct ImportRecord<'a> {
    model: &'a Path,
    output: &'a Path,
    file_bytes: usize,
    network: &'a str,
    dataset: &'a str,
    configuration: &'a str,
    trainer: &'a str,
    folds: &'a [String],
    checkpoint: &'a str,
    /// How far the logits of other engines are from tract's.
    checked: &'a [String],
}

/// Writes a model of nnU-Net as one file, after a check that every engine that can run it computes the same with it.
pub(crate) fn nnunet(args: &NnunetArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    if !args.output.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        return Err(CliError::usage(format_args!(
            "the model is an ONNX file, so -o must end in .onnx: {}",
            args.output.display()
        )));
    }
    files::ensure_writable(&files::folder_of(&args.output))?;
    let options = ImportOptions {
        configuration: args.configuration.clone(),
        folds: args.fold.clone(),
        checkpoint: args.checkpoint.into(),
        postprocessing: args.postprocessing.clone(),
    };
    let ImportedModel { bytes, mut spec, source } =
        import(&args.model, &options).map_err(|error| CliError::caused_by(&error))?;
    let engines = Engines::find(library)?;
    let shape = [&[1, spec.channels.len()], spec.patch.as_slice()].concat();
    let checking = "checking the imported file";
    let sample = synthetic::sample(&spec).context(checking)?;
    spec.golden_case = {
        let predictor = engines.reference(&bytes, &shape)?;
        golden_case(&spec, &[sample], &*predictor).context(checking)?
    };
    let bytes = sulcus_onnx::with_spec(&bytes, &spec).context("importing")?;
    let input = synthetic::input(&spec).context(checking)?;
    let checked = engines.agree(&bytes, &spec, &[input])?;
    files::write(&args.output, &bytes)?;
    let origin = spec.nnunet.clone().unwrap_or_default();
    let agreement = match checked.as_slice() {
        [] => "without ONNX Runtime, no engines were compared".to_owned(),
        checked => format!("logits against tract's: {}", checked.join(", ")),
    };
    ui.note(format_args!(
        "model: {} ({}); {} {}, trained by {} on {}, fold {}; {agreement}",
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
        trainer: &origin.trainer,
        folds: &origin.folds,
        checkpoint: &origin.checkpoint,
        checked: &checked,
    })
}
