//! Runs as a model folder of nnU-Net v2, which its own predictor loads.

use std::fs;
use std::path::{Path, PathBuf};

use sulcus_model::OutputActivation;
use sulcus_nnunet::{Fold, ImportOptions, NamedTensor, NnunetModel, import};
use sulcus_pipeline::{PipelineError, Predictor, PredictorError, Tensor};
use sulcus_plan::DeviceChoice;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::{NetworkPredictor, NetworkWeights, Run, Weights, find_device, network_weights};

use super::engines::{Engines, ModelFile};
use super::new_folder::{check_empty, rename_to, temporary_folder, write_error};
use crate::error::{CliError, Context};
use crate::files;
use crate::output::Ui;

/// Number of patches of training cases that are compared.
const PATCHES: usize = 4;

/// Writes one run, or the folds of a cross-validation.
///
/// # Errors
/// When a model does something that nnU-Net cannot do, or the written folder, read back, gives other logits than the trainer.
pub(super) fn write(
    runs: &[PathBuf],
    weights: Weights,
    target: &Path,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    check_empty(target, "--nnunet")?;
    let engines = Engines::find(library)?;
    let made = temporary_folder(&files::folder_of(target))?;
    let mut first = None;
    let mut checked = Vec::new();
    for (fold, folder) in runs.iter().enumerate() {
        let (model, of_fold) = write_fold(folder, weights, (made.path(), fold), first.as_ref(), &engines)?;
        checked = of_fold;
        first.get_or_insert(model);
    }
    rename_to(made, target)?;
    let folds: Vec<String> = (0..runs.len()).map(|fold| fold.to_string()).collect();
    ui.note(format_args!(
        "nnU-Net model: {}, fold {}; logits against the trainer's: {}",
        target.display(),
        folds.join(", "),
        checked.join(", ")
    ));
    for difference in first.iter().flat_map(NnunetModel::differences) {
        ui.note(format_args!("not the same in nnU-Net: {difference}"));
    }
    ui.note(format_args!(
        "to predict with nnU-Net: nnUNetv2_predict_from_modelfolder -m {} -i INPUT -o OUTPUT -f {}",
        target.display(),
        folds.join(" ")
    ));
    Ok(())
}

/// Writes the checkpoint of a run, reads it back, and compares its logits with the trainer's. The first fold also writes the plan, which
/// the others must have too.
fn write_fold(
    folder: &Path,
    weights: Weights,
    (target, fold): (&Path, usize),
    first: Option<&NnunetModel>,
    engines: &Engines,
) -> Result<(NnunetModel, Vec<String>), CliError> {
    let exporting = "exporting for nnU-Net";
    let run = Run::open(folder).context("opening the run")?;
    let (device, _) = find_device(DeviceChoice::Cpu).context(exporting)?;
    let network = run.load_network(weights, &device).context("loading the weights")?;
    let trainer = NetworkPredictor::new(&network, &device);
    let spec = run.model_spec(weights, &trainer).context("describing the model")?;
    let model = NnunetModel::new(&spec).context(exporting)?;
    if first.is_some_and(|first| first.plans_json() != model.plans_json()) {
        return Err(CliError::failed(format_args!(
            "the folds of a model of nnU-Net share one plan, but this one was planned in another way than the first: {}",
            folder.display()
        ))
        .hint(
            "train the folds by one plan (`sulcus plan DATASET --fold all -o plan.json`, then `sulcus train DATASET -o RUN --fold all \
             --plan plan.json`), or export each fold into a folder of its own",
        ));
    }
    let tensors = network_weights(&network).context(exporting)?;
    let named =
        |tensor: NetworkWeights| NamedTensor { name: tensor.name, shape: tensor.shape, values: tensor.values };
    let checkpoint = model.checkpoint(&spec, fold, tensors.into_iter().map(named).collect()).context(exporting)?;
    let path = target.join(format!("fold_{fold}"));
    fs::create_dir(&path).map_err(|error| write_error(&error, &path))?;
    files::write(&path.join(NnunetModel::CHECKPOINT), &checkpoint)?;
    if first.is_none() {
        files::write(&target.join("plans.json"), model.plans_json().as_bytes())?;
        files::write(&target.join("dataset.json"), model.dataset_json().as_bytes())?;
    }

    let options =
        ImportOptions { folds: vec![Fold::Number(u16::try_from(fold).unwrap_or(u16::MAX))], ..Default::default() };
    let imported = import(target, &options).context("reading the written model")?;
    let trainer = WithBackground { network: &trainer, adds: spec.activation == OutputActivation::Sigmoid };
    let inputs = run.parity_inputs(PATCHES).context("reading the patches for the check")?;
    let checked = engines.check(&ModelFile {
        bytes: &imported.bytes,
        spec: &imported.spec,
        trainer: &trainer,
        inputs: &inputs,
        native: true,
    })?;
    Ok((model, checked))
}

/// A network of one label, with a background whose logit is 0, if it `adds` one.
struct WithBackground<'a> {
    network: &'a dyn Predictor,
    adds: bool,
}

impl Predictor for WithBackground<'_> {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let (mut shape, values) = self.network.logits(input)?.into_parts();
        if !self.adds {
            return Tensor::new(shape, values).map_err(failed);
        }
        let voxels = shape.iter().skip(2).product::<usize>().max(1);
        if let Some(channels) = shape.get_mut(1) {
            *channels = 2;
        }
        let background = vec![0.0; voxels];
        let values =
            values.chunks_exact(voxels).flat_map(|label| background.iter().chain(label)).copied().collect();
        Tensor::new(shape, values).map_err(failed)
    }
}

fn failed(error: PipelineError) -> PredictorError {
    PredictorError { engine: "the trainer's", message: error.to_string() }
}
