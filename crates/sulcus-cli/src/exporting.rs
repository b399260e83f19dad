//! From a run to a model file that is known to compute the same. Training and inference meet only here.

use std::path::Path;

use sulcus_pipeline::{ModelSpec, Parity, Predictor, Tensor, compare_predictors};
use sulcus_runtime::{Device, OrtLibrary, OrtPredictor, TractPredictor};
use sulcus_train::{DeviceChoice, NetworkPredictor, Run, Weights, export_onnx};

use crate::error::{CliError, Context};
use crate::files;
use crate::ui::{Ui, human_bytes};

/// Logits of the trainer and of the file may differ by this much: engines sum in other orders, and what is left of
/// that in single precision is a hundred times smaller.
const TOLERANCE: f32 = 1e-4;
/// Real patches that are compared.
const PATCHES: usize = 4;

/// Writes a run's model file, after every engine at hand has computed the same with it as the trainer does.
///
/// # Errors
/// When the run cannot be read, an engine fails or one of them is off by more than [`TOLERANCE`]; then nothing is
/// written.
pub(crate) fn write(
    folder: &Path,
    weights: Weights,
    output: &Path,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    let run = Run::open(folder).context("opening the run")?;
    let (device, _) = DeviceChoice::Cpu.resolve().context("exporting")?;
    let network = run.load_network(weights, &device).context("loading the weights").map_err(|error| {
        let is_there = |file: &str| folder.join("checkpoints").join(file).is_file();
        if weights != Weights::Best || is_there("best.ckpt") || !is_there("last.ckpt") {
            return error;
        }
        error.hint(format_args!(
            "the run was stopped before an epoch was whole; `--checkpoint last` exports what there is, or \
             `sulcus train {} -o {} --resume` goes on",
            run.manifest().dataset.folder.display(),
            folder.display()
        ))
    })?;
    let trainer = NetworkPredictor::new(&network, &device);
    let spec = run.model_spec(weights, &trainer).context("describing the model")?;
    let bytes = export_onnx(&network, &spec).context("exporting")?;

    let inputs = run.parity_inputs(PATCHES).context("reading the patches for the check")?;
    let mut checked = Vec::new();
    let shape = [&[1, spec.channels.len()], spec.patch.as_slice()].concat();
    let tract = TractPredictor::new(&bytes, &shape, None).context("loading the exported file")?;
    checked.push(check("tract", &spec, &trainer, &tract, &inputs)?);
    drop(tract);
    let (runtime, _) = sulcus_runtime::find_onnx_runtime(library).context("looking for ONNX Runtime")?;
    if let Some(runtime) = runtime {
        let ort = OrtPredictor::new(&runtime, &bytes, Device::Cpu, None).context("loading the exported file")?;
        checked.push(check("ONNX Runtime", &spec, &trainer, &ort, &inputs)?);
    }

    files::ensure_writable(&files::folder_of(output))?;
    files::write(output, &bytes)?;
    ui.note(format_args!(
        "model: {} ({}); logits against the trainer's: {}",
        output.display(),
        human_bytes(bytes.len() as u64),
        checked.join(", ")
    ));
    Ok(())
}

fn check(
    engine: &str,
    spec: &ModelSpec,
    trainer: &dyn Predictor,
    exported: &dyn Predictor,
    inputs: &[Tensor],
) -> Result<String, CliError> {
    let parity: Parity = compare_predictors(spec, trainer, exported, inputs)
        .context(format_args!("checking the exported file in {engine}"))?;
    if parity.values == 0 {
        return Err(CliError::failed(
            "the exported file cannot be checked: the run has no patches to compare with",
        ));
    }
    let difference = parity.max_abs_difference;
    if difference > TOLERANCE {
        return Err(CliError::failed(format_args!(
            "the exported file computes something else in {engine}: logits differ by up to {difference:e} \
             (expected at most {TOLERANCE:e}), {} of {} voxels get another label; nothing was written",
            parity.class_disagreements, parity.voxels
        )));
    }
    Ok(format!("{engine} within {difference:.1e}"))
}
