//! The check of an imported network.

use sulcus_model::ModelSpec;
use sulcus_onnx::split_networks;
use sulcus_pipeline::Predictor;
use sulcus_train::golden_case_in_turn;

use super::synthetic;
use crate::commands::export::engines::{Engines, tile_shape};
use crate::error::{CliError, Context};

/// A network that every engine computes alike.
pub(super) struct Checked {
    /// Its specification with a golden case.
    pub(super) spec: ModelSpec,
    /// How far the logits of each engine are from tract's.
    pub(super) lines: Vec<String>,
    /// Whether the native engine has all its operators.
    pub(super) native: bool,
}

/// Compares the engines on a network and those before it, and computes a golden case.
///
/// # Errors
/// When an engine refuses the file, or the logits differ by more than rounding explains.
pub(super) fn check(engines: &Engines, bytes: &[u8], mut spec: ModelSpec) -> Result<Checked, CliError> {
    let checking = "checking the imported file";
    let sample = synthetic::sample(&spec).context(checking)?;
    let networks = split_networks(bytes.to_vec(), &spec).context(checking)?;
    let specs: Vec<ModelSpec> =
        [spec.clone()].into_iter().chain(spec.previous_networks().map(|network| network.spec.clone())).collect();
    spec.golden_case = {
        let load = |(spec, bytes): (&ModelSpec, &Vec<u8>)| engines.reference(bytes, &tile_shape(spec));
        let predictors: Vec<Box<dyn Predictor>> =
            specs.iter().zip(&networks).map(load).collect::<Result<_, _>>()?;
        let predictors: Vec<&dyn Predictor> = predictors.iter().map(|predictor| &**predictor).collect();
        golden_case_in_turn(&spec, &[sample], &predictors).context(checking)?
    };
    let (mut lines, mut native) = (Vec::new(), true);
    for (i, (spec_of_network, network)) in specs.iter().zip(&networks).enumerate() {
        let input = synthetic::input(spec_of_network).context(checking)?;
        let (of_network, has_operators) = engines.agree(network, spec_of_network, &[input])?;
        native &= has_operators;
        let name = spec.previous_networks().nth(i.wrapping_sub(1)).map(|network| format!("{}: ", network.name));
        lines.extend(of_network.into_iter().map(|line| format!("{}{line}", name.clone().unwrap_or_default())));
    }
    Ok(Checked { spec, lines, native })
}

/// The lines for people.
pub(super) fn agreement(lines: &[String]) -> String {
    match lines {
        [] => "without ONNX Runtime, no engines were compared".to_owned(),
        lines => format!("logits against tract's: {}", lines.join(", ")),
    }
}
