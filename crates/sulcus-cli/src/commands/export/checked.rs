//! From a run to a model file that gives the same results as the trainer. Only this folder uses both training and inference.

use std::path::Path;

use sulcus_model::Precision;
use sulcus_plan::DeviceChoice;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::{NetworkPredictor, Run, Weights, export_onnx, find_device};

use super::engines::{Engines, ModelFile};
use super::reduced;
use super::request::{ExportRequest, reduction_line};
use crate::error::{CliError, Context};
use crate::files;
use crate::output::{Ui, human_bytes};

/// Number of patches of training cases that are compared.
const PATCHES: usize = 4;

/// A model that is not written yet.
pub(crate) struct ExportedModel {
    pub(crate) bytes: Vec<u8>,
    /// Its size, and the difference between each engine and the trainer, for people.
    about: String,
    /// Why it failed its check; `None` for a model that passed.
    pub(super) failure: Option<CliError>,
}

/// Writes the model file of a run after the checks of [`checked`].
///
/// # Errors
/// When a check fails and that is not allowed, or the file cannot be written.
pub(crate) fn write(
    folder: &Path,
    request: &ExportRequest<'_>,
    output: &Path,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    checked(folder, request, library, ui)?.write(output, ui)
}

/// Writes the model of a run that was just trained. Where only its check failed, a marked model is written.
///
/// # Errors
/// If there is no model, or an unchecked one. The error names the checkpoints, which are kept, and the command that
/// repeats the export.
pub(crate) fn write_trained(folder: &Path, output: &Path, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let request = ExportRequest { allow_unchecked: true, ..ExportRequest::default() };
    keep_trained(folder, checked(folder, &request, library, ui), output, ui)
}

/// Writes the model of a run, marked where it failed its check, and reports the failure.
pub(super) fn keep_trained(
    folder: &Path,
    model: Result<ExportedModel, CliError>,
    output: &Path,
    ui: Ui,
) -> Result<(), CliError> {
    let written = model.and_then(|model| {
        model.write_file(output, ui)?;
        model.failure.map_or(Ok(()), Err)
    });
    written.map_err(|error| {
        let kept = format!("the trained weights are kept: {}", folder.join("checkpoints").display());
        let again = format!("`sulcus export {} -o {}` tries again", folder.display(), output.display());
        error.and(kept).or_hint(again)
    })
}

impl ExportedModel {
    /// Writes the model file, with a warning where the model failed its check.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, output: &Path, ui: Ui) -> Result<(), CliError> {
        self.write_file(output, ui)?;
        if let Some(failure) = &self.failure {
            ui.warn(format_args!("{}; the model is marked as unchecked", failure.message()));
        }
        Ok(())
    }

    fn write_file(&self, output: &Path, ui: Ui) -> Result<(), CliError> {
        files::ensure_writable(&files::folder_of(output))?;
        files::write(output, &self.bytes)?;
        ui.note(format_args!("model: {} {}", output.display(), self.about));
        Ok(())
    }
}

/// The model of a run, after its checks: every available engine gives the logits of the trainer and the golden mask, and a reduced
/// precision loses almost no Dice.
///
/// # Errors
/// When the run cannot be read, a reduced precision loses too much, or the model fails its check and that is not allowed.
pub(crate) fn checked(
    folder: &Path,
    request: &ExportRequest<'_>,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<ExportedModel, CliError> {
    let run = Run::open(folder).context("opening the run")?;
    let engines = Engines::find(library)?;
    let model = single_precision(&run, request, &engines)?;
    accepted(&run, model, request, &engines, ui)
}

/// The model in the requested precision, if it passed its check or need not.
///
/// # Errors
/// As [`checked`].
pub(super) fn accepted(
    run: &Run,
    SinglePrecision { bytes, check }: SinglePrecision,
    request: &ExportRequest<'_>,
    engines: &Engines,
    ui: Ui,
) -> Result<ExportedModel, CliError> {
    let fp32_size = bytes.len();
    let checked = match check {
        Ok(checked) => checked,
        Err(failure) if request.allow_unchecked && request.precision == Precision::Fp32 => {
            return unchecked(&bytes, failure);
        }
        Err(failure) => {
            return Err(failure.or_hint("`--allow-unchecked` writes the model nevertheless, with a mark"));
        }
    };
    let bytes = match request.precision {
        Precision::Fp32 => bytes,
        precision => {
            let (bytes, reduction) = reduced::reduce(run, precision, request, &bytes, engines, ui)?;
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
    Ok(ExportedModel { bytes, about, failure: None })
}

/// Marks a model that failed its check.
fn unchecked(bytes: &[u8], failure: CliError) -> Result<ExportedModel, CliError> {
    let mut spec = sulcus_onnx::read_spec(bytes).context("reading the exported file")?;
    spec.unchecked = Some(failure.message().to_owned());
    spec.format_version = spec.min_format_version();
    let bytes = sulcus_onnx::with_spec(bytes, &spec).context("exporting")?;
    let about = format!("({}); it did NOT pass its check, and is marked", human_bytes(bytes.len() as u64));
    Ok(ExportedModel { bytes, about, failure: Some(failure) })
}

/// The model in single precision, and the result of its check: the difference between each engine and the trainer, for people.
pub(super) struct SinglePrecision {
    pub(super) bytes: Vec<u8>,
    pub(super) check: Result<Vec<String>, CliError>,
}

pub(super) fn single_precision(
    run: &Run,
    request: &ExportRequest<'_>,
    engines: &Engines,
) -> Result<SinglePrecision, CliError> {
    let weights = request.weights;
    let folder = run.folder();
    let (device, _) = find_device(DeviceChoice::Cpu).context("exporting")?;
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
    let mut bytes = export_onnx(&network, &spec).context("exporting")?;
    if request.conv_transpose_to_conv {
        bytes = sulcus_onnx::conv_transpose_to_conv(&bytes).context("exporting")?;
    }

    let inputs = run.parity_inputs(PATCHES).context("reading the patches for the check")?;
    let model = ModelFile {
        bytes: &bytes,
        spec: &spec,
        trainer: &trainer,
        inputs: &inputs,
        // It has no permutations.
        native: !request.conv_transpose_to_conv,
    };
    let check = engines.check(&model);
    Ok(SinglePrecision { bytes, check })
}
