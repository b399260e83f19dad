use std::path::{Path, PathBuf};

use burn::tensor::Device;
use sha2::{Digest, Sha256};
use sulcus_metrics::Summary;
use sulcus_model::{ModelSpec, Training};
use sulcus_pipeline::{Predictor, Tensor};

use super::checkpoint::Checkpoint;
use super::files::hex;
use super::golden_case::golden_case;
use super::history::{self, EpochRecord};
use super::manifest::Manifest;
use super::samples;
use super::state::TrainingState;
use super::weights::Weights;
use crate::error::TrainError;
use crate::network::UNet;

/// The folder of a training:
///
/// | file | content |
/// | --- | --- |
/// | `run.json` | the [`Manifest`] |
/// | `history.jsonl` | one [`EpochRecord`] per line |
/// | `curves.svg` | loss and Dice by epoch |
/// | `checkpoints/best.ckpt`, `last.ckpt` | weights; `last.ckpt` also holds the optimizer's moments |
/// | `checkpoints/samples.json` | pieces of scans for the parity check and the golden case |
/// | `validation/` | predicted masks of the validation cases and `summary.json` |
#[derive(Debug, Clone)]
pub struct Run {
    folder: PathBuf,
    manifest: Manifest,
}

impl Run {
    /// Opens a run.
    ///
    /// # Errors
    /// When the folder holds no run, or its manifest cannot be used.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, TrainError> {
        let folder = folder.as_ref().to_path_buf();
        let manifest = Manifest::read(&folder)?;
        Ok(Self { folder, manifest })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The epochs.
    ///
    /// # Errors
    /// When `history.jsonl` cannot be read.
    pub fn history(&self) -> Result<Vec<EpochRecord>, TrainError> {
        history::read_history(&self.folder.join(history::FILE))
    }

    /// The scores of the validation cases; `None` before the run is finished or without validation cases.
    ///
    /// # Errors
    /// When `validation/summary.json` is invalid.
    pub fn summary(&self) -> Result<Option<Summary>, TrainError> {
        let file = self.folder.join("validation").join("summary.json");
        let Ok(text) = std::fs::read_to_string(&file) else { return Ok(None) };
        let broken = |e: serde_json::Error| TrainError::File { what: format!("the scores are broken: {e}"), file };
        serde_json::from_str(&text).map(Some).map_err(broken)
    }

    /// Builds the network with the run's weights on `device`.
    ///
    /// # Errors
    /// When the checkpoint is missing or damaged.
    pub fn load_network(&self, weights: Weights, device: &Device) -> Result<UNet, TrainError> {
        Ok(Checkpoint::load(&weights.file(&self.folder))?.trained_network(device)?)
    }

    /// The specification of a model with these weights. `predictor` computes the mask of its golden case.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or the prediction fails.
    pub fn model_spec(&self, weights: Weights, predictor: &dyn Predictor) -> Result<ModelSpec, TrainError> {
        let file = weights.file(&self.folder);
        let at: TrainingState = serde_json::from_value(Checkpoint::load(&file)?.state().clone())
            .map_err(|e| TrainError::File { what: format!("its state cannot be used: {e}"), file })?;
        let Manifest { plan, split, config, progress, .. } = &self.manifest;
        let training = Training {
            tool_version: self.manifest.tool_version.clone(),
            dataset: self.manifest.dataset.name.clone(),
            data_sha256: self.training_data_sha256(),
            training_cases: split.training.len(),
            validation_cases: split.validation.len(),
            // Only the best weights were scored.
            validation_dice: progress.validation_dice.filter(|_| weights == Weights::Best),
            // The best weights are saved at the end of their epoch.
            epochs: at.epoch,
            seed: config.seed,
        };
        let mut spec = plan.model_spec(self.manifest.dataset.name.clone(), training);
        // Postprocessing was chosen for the best weights.
        if weights == Weights::Best {
            spec.postprocessing.clone_from(&progress.postprocessing);
        }
        let samples = samples::read(&self.folder.join(samples::FILE))?;
        spec.golden_case = golden_case(&spec, &samples, predictor)?;
        spec.check()?;
        Ok(spec)
    }

    /// Up to `n` real network inputs, for the parity check of an exported file.
    ///
    /// # Shapes
    /// Each `[N, C, (D,) H, W]`, of different N, (D,) H and W.
    ///
    /// # Errors
    /// When the run's samples cannot be read.
    pub fn parity_inputs(&self, n: usize) -> Result<Vec<Tensor>, TrainError> {
        let spec = self.manifest.plan.model_spec(String::new(), Training::default());
        let samples = samples::read(&self.folder.join(samples::FILE))?;
        Ok(samples::inputs(&spec, &samples, n)?)
    }

    /// A hash over the hashes of the training cases, in the order of their names.
    fn training_data_sha256(&self) -> String {
        let mut sha = Sha256::new();
        let mut names: Vec<&String> = self.manifest.split.training.iter().collect();
        names.sort();
        for name in names {
            sha.update(name.as_bytes());
            sha.update(self.manifest.data_sha256.get(name).map(String::as_bytes).unwrap_or_default());
        }
        hex(&sha.finalize())
    }
}
