use std::path::{Path, PathBuf};

use sulcus_model::ModelSpec;
use sulcus_onnx::{MAX_NETWORK_BYTES, doc_string};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::error::ImportError;
use crate::folder::{CheckpointChoice, Fold, ModelFolder, read_text};
use crate::network::{FoldWriter, Folds, GraphWriter};
use crate::plans::{Dataset, Plans, PlansError, Previous, postprocessing};
use crate::spec::{Networks, mask_labels, model_spec};

/// What is imported of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// The configuration, where a folder or archive has several.
    pub configuration: Option<String>,
    /// The folds. If there are none: every numbered fold, or else the training on all cases, as nnU-Net does.
    pub folds: Vec<Fold>,
    /// The checkpoint of each fold.
    pub checkpoint: CheckpointChoice,
    /// A `postprocessing.json` that nnU-Net wrote. Without it masks are kept as they are, as nnU-Net's predictor does.
    pub postprocessing: Option<PathBuf>,
}

/// An imported model.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedModel {
    /// The model file. It has no golden case, because that needs an engine.
    pub bytes: Vec<u8>,
    /// Its specification.
    pub spec: ModelSpec,
    /// The folder of the model, inside the archive if it is one.
    pub source: PathBuf,
}

/// Far more stages than a cascade has. Plans with more are damaged.
const MAX_STAGES: usize = 4;

/// Imports a model from its folder or from an exported archive. For the second stage of a cascade, the first one is imported into the same
/// file.
///
/// # Errors
/// When there is no model, or it asks for something that is not supported; the error names it.
pub fn import(path: &Path, options: &ImportOptions) -> Result<ImportedModel, ImportError> {
    let folder = ModelFolder::open(path, options.configuration.as_deref())?;
    let source = folder.path();
    let mut file = FileWriter { options, graph: GraphWriter::new("nnunet"), bytes: 0, stages: Vec::new() };
    let mut spec = file.add(folder, options.configuration.as_deref(), None)?;
    if let Some(file) = &options.postprocessing {
        let in_file = |error| ImportError::Plans { source: error, path: file.clone() };
        spec.postprocessing = postprocessing(&read_text(file)?).map_err(in_file)?;
        spec.check().map_err(|e| in_file(PlansError::Contradiction { reason: e.to_string() }))?;
    }
    let origin = spec.nnunet.clone().unwrap_or_default();
    let before = spec.previous_networks().map(|network| format!(", with the mask of {}", network.name));
    let doc = doc_string(format_args!(
        "{}: {} of nnU-Net v2 (configuration {}{}, trainer {}, fold {})",
        spec.name,
        spec.network.name,
        origin.configuration,
        before.collect::<String>(),
        origin.trainer,
        origin.folds.join(", ")
    ));
    let bytes = file.graph.finish().finish(&spec, &doc, env!("CARGO_PKG_VERSION"))?;
    Ok(ImportedModel { bytes, spec, source })
}

/// The model file as it is written.
struct FileWriter<'a> {
    options: &'a ImportOptions,
    graph: GraphWriter,
    /// Bytes of the weights so far.
    bytes: u64,
    /// The configurations so far; each needs the mask of the next.
    stages: Vec<String>,
}

impl FileWriter<'_> {
    /// Adds the networks of a configuration, and of the one whose mask it needs. `name` comes before the names of its values in the graph.
    fn add(
        &mut self,
        mut folder: ModelFolder,
        wanted: Option<&str>,
        name: Option<&str>,
    ) -> Result<ModelSpec, ImportError> {
        let source = folder.path();
        let in_plans = |error| ImportError::Plans { source: error, path: source.join("plans.json") };
        let plans = Plans::parse(&folder.text("plans.json")?).map_err(in_plans)?;
        let dataset = Dataset::parse(&folder.text("dataset.json")?)
            .map_err(|error| ImportError::Plans { source: error, path: source.join("dataset.json") })?;
        let choice = self.options.checkpoint;
        let folds = folder.folds(&self.options.folds, choice)?;

        // Like nnU-Net, the first fold says what holds for all.
        let Some(first) = folds.first().copied() else {
            return Err(ImportError::Layout { reason: "there is no fold".to_owned(), path: source });
        };
        let in_checkpoint = |error, path: PathBuf| ImportError::Checkpoint { source: error, path };
        let first_path = folder.checkpoint_path(first, choice);
        let (opened, _) = folder.checkpoint(first, choice)?;
        let info = Checkpoint::open(opened)
            .and_then(|checkpoint| checkpoint.info())
            .map_err(|error| in_checkpoint(error, first_path))?;
        if let Some(wanted) = wanted.filter(|wanted| *wanted != info.configuration) {
            return Err(ImportError::Layout {
                reason: format!("its configuration is `{}`, not `{wanted}`", info.configuration),
                path: source,
            });
        }
        let configuration = plans.configuration(&info.configuration, dataset.channels.len()).map_err(in_plans)?;
        let of_mask = configuration.previous.as_ref().map_or(0, |_| mask_labels(&dataset).len());
        let classes = match dataset.labels.regions.len() {
            0 => dataset.labels.labels.entries().len() + 1,
            regions => regions,
        };
        let mut writer = self.graph.folds(Folds {
            architecture: &configuration.architecture,
            input_channels: dataset.channels.len() + of_mask,
            classes,
            name,
        });
        let mut networks =
            Networks { info: &info, folds: &folds, choice, sha256: Vec::new(), has_batch_norm: false };
        for fold in &folds {
            let path = folder.checkpoint_path(*fold, choice);
            let (opened, sha256) = folder.checkpoint(*fold, choice)?;
            let of_fold = (folds.len() > 1).then(|| format!("fold_{fold}"));
            let added = add_network(&mut writer, opened, &info.configuration, of_fold.as_deref());
            let (has_batch_norm, added) = added.map_err(|error| in_checkpoint(error, path))?;
            networks.has_batch_norm |= has_batch_norm;
            networks.sha256.push(sha256);
            self.bytes = self.bytes.saturating_add(added);
            if self.bytes > MAX_NETWORK_BYTES {
                return Err(in_plans(PlansError::unsupported(
                    format!("a file with {} folds", folds.len()),
                    "its weights would take more than 2 GB, which ONNX files cannot hold; import fewer folds",
                )));
            }
        }
        writer.finish();
        let previous = match &configuration.previous {
            None => None,
            Some(Previous { configuration, .. }) => {
                self.stages.push(info.configuration.clone());
                if self.stages.contains(configuration) || self.stages.len() == MAX_STAGES {
                    return Err(in_plans(PlansError::Contradiction {
                        reason: format!(
                            "its configurations need each other's masks: {} → {configuration}",
                            self.stages.join(" → ")
                        ),
                    }));
                }
                Some(self.add(folder.beside(configuration)?, Some(configuration), Some(configuration))?)
            }
        };
        model_spec(&configuration, &dataset, &networks, previous).map_err(in_plans)
    }
}

/// Adds the network of a checkpoint. Returns whether it has batch normalisation, and the bytes of its weights.
fn add_network(
    writer: &mut FoldWriter<'_>,
    opened: Box<dyn crate::checkpoint::Source>,
    configuration: &str,
    name: Option<&str>,
) -> Result<(bool, u64), CheckpointError> {
    let checkpoint = Checkpoint::open(opened)?;
    let found = checkpoint.info()?.configuration;
    if found != configuration {
        return Err(CheckpointError::Weights {
            reason: format!("its configuration is `{found}`, that of the first fold is `{configuration}`"),
        });
    }
    let weights = checkpoint.into_weights()?;
    let has_batch_norm = weights.any_ends_with(".running_mean");
    let bytes = writer.add(weights, name)?;
    Ok((has_batch_norm, bytes))
}
