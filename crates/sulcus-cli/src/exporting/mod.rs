//! From a run to a model file that is known to compute the same. Training and inference meet only here.

mod reduced;
pub(crate) mod triton;

use std::path::Path;

use sulcus_model::{ModelSpec, Precision, QuantizationReport};
use sulcus_pipeline::{Parity, Predictor, Tensor, compare_predictors};
use sulcus_runtime::ort::{OnnxRuntime, OrtLibrary, OrtPredictor};
use sulcus_runtime::{Device, TractPredictor};
use sulcus_train::{DeviceChoice, NetworkPredictor, Run, Weights, export_onnx};

use crate::error::{CliError, Context};
use crate::files;
use crate::ui::{Ui, human_bytes};

/// Logits of the trainer and of the file may differ by this much: engines sum in other orders, and what is left of
/// that in single precision is a hundred times smaller.
const TOLERANCE: f32 = 1e-4;
/// Real patches that are compared.
const PATCHES: usize = 4;

/// What is to be exported of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) weights: Weights,
    pub(crate) precision: Precision,
    /// Where the run's data set lies, if not where it was.
    pub(crate) data: Option<&'a Path>,
}

/// A model that was checked and is not written yet.
pub(crate) struct Exported {
    pub(crate) bytes: Vec<u8>,
    /// Its size, and how near which engine came to the trainer, for people.
    about: String,
}

/// Writes a run's model file, once it is [`checked`].
///
/// # Errors
/// When it is refused, or can't be written.
pub(crate) fn write(
    folder: &Path,
    wanted: &Wanted<'_>,
    output: &Path,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    checked(folder, wanted, library, ui)?.write(output, ui)
}

impl Exported {
    /// Writes the model file.
    ///
    /// # Errors
    /// When that can't be done.
    pub(crate) fn write(&self, output: &Path, ui: Ui) -> Result<(), CliError> {
        files::ensure_writable(&files::folder_of(output))?;
        files::write(output, &self.bytes)?;
        ui.note(format_args!("model: {} {}", output.display(), self.about));
        Ok(())
    }
}

/// A run's model, after every engine at hand has computed the same with it as the trainer does, and, in fewer bits,
/// after it has shown that it costs next to nothing.
///
/// # Errors
/// When the run cannot be read, an engine fails, one of them is off by more than [`TOLERANCE`], or fewer bits cost too
/// much.
pub(crate) fn checked(
    folder: &Path,
    wanted: &Wanted<'_>,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<Exported, CliError> {
    let run = Run::open(folder).context("opening the run")?;
    let (runtime, _) = sulcus_runtime::ort::find_onnx_runtime(library).context("looking for ONNX Runtime")?;
    let (bytes, checked) = whole(&run, wanted.weights, runtime.as_ref())?;
    let whole_size = bytes.len();
    let bytes = match wanted.precision {
        Precision::Fp32 => bytes,
        // The argument parser offers no bf16; `reduce` refuses it.
        Precision::Bf16 | Precision::Fp16 | Precision::Int8 => {
            let (bytes, reduction) = reduced::reduce(&run, wanted, &bytes, runtime.as_ref(), library, ui)?;
            ui.note(reduction_line(&reduction));
            bytes
        }
    };
    let size = match wanted.precision {
        Precision::Fp32 => human_bytes(bytes.len() as u64),
        precision => format!(
            "{precision}, {} instead of {}",
            human_bytes(bytes.len() as u64),
            human_bytes(whole_size as u64)
        ),
    };
    let about = format!("({size}); logits against the trainer's: {}", checked.join(", "));
    Ok(Exported { bytes, about })
}

/// What fewer bits cost, for people.
pub(crate) fn reduction_line(reduction: &QuantizationReport) -> String {
    let ranges =
        reduction.calibration.map(|c| format!("; ranges from {} tiles of {} training cases", c.tiles, c.cases));
    format!(
        "mean Dice {:.4} in {}, {:.4} in fp32, over {} held-out cases{}",
        reduction.dice,
        reduction.kind,
        reduction.dice_fp32,
        reduction.cases,
        ranges.unwrap_or_default()
    )
}

/// The model in single precision, and how near which engine came to the trainer.
fn whole(run: &Run, weights: Weights, runtime: Option<&OnnxRuntime>) -> Result<(Vec<u8>, Vec<String>), CliError> {
    let folder = run.folder();
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
