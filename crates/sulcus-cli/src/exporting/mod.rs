//! From a run to a model file that is known to compute the same. Training and inference meet only here.

mod engines;
pub(crate) mod preflight;
mod reduced;
#[cfg(test)]
mod tests;
pub(crate) mod triton;

use std::path::Path;

use sulcus_pipeline::{Precision, Reduction};
use sulcus_plan::DeviceChoice;
use sulcus_runtime::OrtLibrary;
use sulcus_train::{NetworkPredictor, Run, Weights, export_onnx, find_device};

use crate::error::{CliError, Context};
use crate::exporting::engines::{Engines, Exchange, TOLERANCE};
use crate::files;
use crate::ui::{Ui, human_bytes};

/// Real patches that are compared.
const PATCHES: usize = 4;

/// What is to be exported of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) weights: Weights,
    pub(crate) precision: Precision,
    /// Where the run's data set lies, if not where it was.
    pub(crate) data: Option<&'a Path>,
    /// Whether a model is made even if it fails its check: marked, so that programs refuse it by default.
    pub(crate) allow_unchecked: bool,
}

/// A model that is not written yet.
pub(crate) struct Exported {
    pub(crate) bytes: Vec<u8>,
    /// Its size, and how near which engine came to the trainer, for people.
    about: String,
    /// Why it did not pass its check.
    failure: Option<CliError>,
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
    keep(&checked(folder, wanted, library, ui)?, output, ui)
}

/// Writes a model file, and warns where it was only written because unchecked ones are allowed.
///
/// # Errors
/// When it can't be written.
pub(crate) fn keep(model: &Exported, output: &Path, ui: Ui) -> Result<(), CliError> {
    model.write(output, ui)?;
    if let Some(failure) = &model.failure {
        ui.warn(format_args!("{}; the model is marked as unchecked", failure.message()));
    }
    Ok(())
}

impl Exported {
    /// Writes the model file.
    ///
    /// # Errors
    /// When that can't be done.
    fn write(&self, output: &Path, ui: Ui) -> Result<(), CliError> {
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
/// When the run cannot be read, fewer bits cost too much, or the model fails its check and that is not allowed.
pub(crate) fn checked(
    folder: &Path,
    wanted: &Wanted<'_>,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<Exported, CliError> {
    let run = Run::open(folder).context("opening the run")?;
    let engines = Engines::find(library)?;
    let Whole { bytes, verdict } = whole(&run, wanted.weights, &engines)?;
    let whole_size = bytes.len();
    let checked = match verdict {
        Ok(checked) => checked,
        Err(failure) if wanted.allow_unchecked && wanted.precision == Precision::Fp32 => {
            return unchecked(&bytes, failure);
        }
        Err(failure) => return Err(failure.or_hint("`--allow-unchecked` writes the model all the same, marked")),
    };
    let bytes = match wanted.precision {
        Precision::Fp32 => bytes,
        Precision::Fp16 | Precision::Int8 => {
            let (bytes, reduction) = reduced::reduce(&run, wanted, &bytes, &engines, ui)?;
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
    Ok(Exported { bytes, about, failure: None })
}

/// The model with the mark of one that failed its check.
fn unchecked(bytes: &[u8], failure: CliError) -> Result<Exported, CliError> {
    let mut spec = sulcus_onnx::read_spec(bytes).context("reading the exported file")?;
    spec.unchecked = Some(failure.message().to_owned());
    spec.format_version = spec.least_version();
    let bytes = sulcus_onnx::with_spec(bytes, &spec).context("exporting")?;
    let about = format!("({}); it did NOT pass its check, and is marked", human_bytes(bytes.len() as u64));
    Ok(Exported { bytes, about, failure: Some(failure) })
}

/// Writes the model of a run that was just trained. Where only its check failed there is a model all the same, marked.
///
/// # Errors
/// When there is no model, or an unchecked one. What was trained is kept, and how to try again is said.
pub(crate) fn write_trained(folder: &Path, output: &Path, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let wanted = Wanted { allow_unchecked: true, ..Wanted::default() };
    let written = checked(folder, &wanted, library, ui).and_then(|model| {
        model.write(output, ui)?;
        model.failure.map_or(Ok(()), Err)
    });
    written.map_err(|error| {
        let kept = format!("the trained weights are kept: {}", folder.join("checkpoints").display());
        let again = format!("`sulcus export {} -o {}` tries again", folder.display(), output.display());
        error.and(kept).or_hint(again)
    })
}

/// What fewer bits cost, for people.
pub(crate) fn reduction_line(reduction: &Reduction) -> String {
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

/// The model in single precision, and how near which engine came to the trainer, or what is wrong with it.
struct Whole {
    bytes: Vec<u8>,
    verdict: Result<Vec<String>, CliError>,
}

fn whole(run: &Run, weights: Weights, engines: &Engines) -> Result<Whole, CliError> {
    let folder = run.folder();
    let (device, _) = find_device(DeviceChoice::Cpu).context("exporting")?;
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
    let exchange =
        Exchange { bytes: &bytes, spec: &spec, trainer: &trainer, inputs: &inputs, tolerance: TOLERANCE };
    let verdict = engines.check(&exchange);
    Ok(Whole { bytes, verdict })
}
