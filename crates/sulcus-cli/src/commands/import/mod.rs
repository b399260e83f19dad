//! `sulcus import`: trained models of other programs as model files.

mod synthetic;

use std::path::Path;

use serde::Serialize;
use sulcus_model::ModelSpec;
use sulcus_nnunet::{ImportOptions, ImportedModel, import};
use sulcus_onnx::split_networks;
use sulcus_pipeline::Predictor;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::golden_case_in_turn;

use super::export::engines::{Engines, tile_shape};
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
    let checking = "checking the imported file";
    let sample = synthetic::sample(&spec).context(checking)?;
    let networks = split_networks(bytes.clone(), &spec).context(checking)?;
    let specs: Vec<ModelSpec> =
        [spec.clone()].into_iter().chain(spec.previous_networks().map(|network| network.spec.clone())).collect();
    spec.golden_case = {
        let load = |(spec, bytes): (&ModelSpec, &Vec<u8>)| engines.reference(bytes, &tile_shape(spec));
        let predictors: Vec<Box<dyn Predictor>> =
            specs.iter().zip(&networks).map(load).collect::<Result<_, _>>()?;
        let predictors: Vec<&dyn Predictor> = predictors.iter().map(|predictor| &**predictor).collect();
        golden_case_in_turn(&spec, &[sample], &predictors).context(checking)?
    };
    let bytes = sulcus_onnx::with_spec(&bytes, &spec).context("importing")?;
    let (mut checked, mut native) = (Vec::new(), true);
    for (i, (spec_of_network, network)) in specs.iter().zip(&networks).enumerate() {
        let input = synthetic::input(spec_of_network).context(checking)?;
        let (of_network, has_operators) = engines.agree(network, spec_of_network, &[input])?;
        native &= has_operators;
        let name = spec.previous_networks().nth(i.wrapping_sub(1)).map(|network| format!("{}: ", network.name));
        checked.extend(of_network.into_iter().map(|line| format!("{}{line}", name.clone().unwrap_or_default())));
    }
    engines.replay_all(&bytes, &spec, native)?;
    files::write(&args.output, &bytes)?;
    let origin = spec.nnunet.clone().unwrap_or_default();
    let agreement = match checked.as_slice() {
        [] => "without ONNX Runtime, no engines were compared".to_owned(),
        checked => format!("logits against tract's: {}", checked.join(", ")),
    };
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
