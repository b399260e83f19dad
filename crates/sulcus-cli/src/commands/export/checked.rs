//! From a run to a model file that gives the same results as the trainer. Only this folder uses both training and inference.

use std::path::Path;

use sulcus_pipeline::{ModelSpec, Parity, Precision, Predictor, Tensor, compare_predictors};
use sulcus_runtime::{Device, OnnxRuntime, OrtLibrary, OrtPredictor, TractPredictor};
use sulcus_train::{DeviceChoice, NetworkPredictor, Run, Weights, export_onnx};

use super::reduced;
use super::request::{ExportRequest, reduction_line};
use crate::error::{CliError, Context};
use crate::files;
use crate::output::{Ui, human_bytes};

/// Maximum difference between the logits of the trainer and of the file. Engines sum in different orders, which in single
/// precision gives differences a hundred times smaller.
const TOLERANCE: f32 = 1e-4;
/// Number of patches of training cases that are compared.
const PATCHES: usize = 4;

/// A model that has passed the checks and is not written yet.
pub(crate) struct CheckedModel {
    pub(crate) bytes: Vec<u8>,
    /// Its size, and the difference between each engine and the trainer, for people.
    about: String,
}

/// Writes the model file of a run after the checks of [`checked`].
///
/// # Errors
/// When a check fails, or the file cannot be written.
pub(crate) fn write(
    folder: &Path,
    request: &ExportRequest<'_>,
    output: &Path,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    checked(folder, request, library, ui)?.write(output, ui)
}

impl CheckedModel {
    /// Writes the model file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, output: &Path, ui: Ui) -> Result<(), CliError> {
        files::ensure_writable(&files::folder_of(output))?;
        files::write(output, &self.bytes)?;
        ui.note(format_args!("model: {} {}", output.display(), self.about));
        Ok(())
    }
}

/// The model of a run, after two checks: every available engine gives the logits of the trainer, and a reduced precision
/// loses almost no Dice.
///
/// # Errors
/// When the run cannot be read, an engine fails or differs by more than [`TOLERANCE`], or a reduced precision loses too much.
pub(crate) fn checked(
    folder: &Path,
    request: &ExportRequest<'_>,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<CheckedModel, CliError> {
    let run = Run::open(folder).context("opening the run")?;
    let (runtime, _) = sulcus_runtime::find_onnx_runtime(library).context("looking for ONNX Runtime")?;
    let (bytes, checked) = single_precision(&run, request.weights, runtime.as_ref())?;
    let fp32_size = bytes.len();
    let bytes = match request.precision {
        Precision::Fp32 => bytes,
        Precision::Fp16 | Precision::Int8 => {
            let (bytes, reduction) = reduced::reduce(&run, request, &bytes, runtime.as_ref(), library, ui)?;
            ui.note(reduction_line(&reduction));
            bytes
        }
    };
    let size = match request.precision {
        Precision::Fp32 => human_bytes(bytes.len() as u64),
        precision => format!(
            "{precision}, {} instead of {}",
            human_bytes(bytes.len() as u64),
            human_bytes(fp32_size as u64)
        ),
    };
    let about = format!("({size}); logits against the trainer's: {}", checked.join(", "));
    Ok(CheckedModel { bytes, about })
}

/// The model in single precision, and the difference between each engine and the trainer.
fn single_precision(
    run: &Run,
    weights: Weights,
    runtime: Option<&OnnxRuntime>,
) -> Result<(Vec<u8>, Vec<String>), CliError> {
    let folder = run.folder();
    let (device, _) = DeviceChoice::Cpu.resolve().context("exporting")?;
    let network = run.load_network(weights, &device).context("loading the weights").map_err(|error| {
        let exists = |file: &str| folder.join("checkpoints").join(file).is_file();
        if weights != Weights::Best || exists("best.ckpt") || !exists("last.ckpt") {
            return error;
        }
        error.hint(format_args!(
            "the run was stopped in its first epoch; `--checkpoint last` exports its latest weights, and \
             `sulcus train {} -o {} --resume` continues it",
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
    if let Some(runtime) = runtime {
        let ort = OrtPredictor::new(runtime, &bytes, Device::Cpu, None).context("loading the exported file")?;
        checked.push(check("ONNX Runtime", &spec, &trainer, &ort, &inputs)?);
    }
    Ok((bytes, checked))
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
        return Err(CliError::failed("the exported file cannot be checked: the run has no patches to compare"));
    }
    let difference = parity.max_abs_difference;
    if difference > TOLERANCE {
        return Err(CliError::failed(format_args!(
            "the exported file gives other results in {engine}: logits differ by up to {difference:e} (expected at most \
             {TOLERANCE:e}), {} of {} voxels get another label; no file was written",
            parity.class_disagreements, parity.voxels
        )));
    }
    Ok(format!("{engine} within {difference:.1e}"))
}
