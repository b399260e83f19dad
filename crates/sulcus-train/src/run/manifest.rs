use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sulcus_dataset::{Dataset, Layout, Patients, Split};
use sulcus_model::Postprocess;
use sulcus_plan::{Plan, TrainConfig};

use super::files::{now_utc, read_versioned_json, write_json};
use super::init::InitRecord;
use crate::error::TrainError;

/// `run.json`: the settings, the data and the progress of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of this structure.
    pub format_version: u32,
    /// `sulcus` and its version.
    pub tool_version: String,
    /// The data set.
    pub dataset: DatasetRecord,
    /// The configuration.
    pub config: TrainConfig,
    /// The plan.
    pub plan: Plan,
    /// The training and validation cases.
    pub split: Split,
    /// The patients of the data set, if some have several cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patients: Option<Patients>,
    /// SHA-256 of the files of each case in the split.
    pub data_sha256: BTreeMap<String, String>,
    /// A description of the devices.
    pub device: String,
    /// The number of trainable parameters.
    pub parameters: usize,
    /// The pretrained weights from which it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitRecord>,
    /// Steps per epoch.
    pub steps_per_epoch: usize,
    /// When the run began, UTC.
    pub started: String,
    /// When this file was last written, UTC.
    pub updated: String,
    /// The progress.
    pub progress: RunProgress,
}

/// The data set of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRecord {
    /// Its name.
    pub name: String,
    /// Its folder when the run was trained.
    pub folder: PathBuf,
    /// Layout of its files.
    pub layout: Layout,
}

impl DatasetRecord {
    /// Describes a data set.
    pub(crate) fn of(dataset: &Dataset) -> Self {
        let root = dataset.root();
        let folder = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
        Self { name: dataset.name().to_owned(), folder, layout: dataset.layout() }
    }
}

/// The progress of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RunProgress {
    /// Whether it trains, was stopped or is finished.
    pub status: Status,
    /// Completed epochs.
    pub epochs: usize,
    /// The epoch with the best weights.
    pub best_epoch: usize,
    /// Training time in seconds, without interruptions.
    pub seconds: f64,
    /// Mean foreground Dice of the best weights over all validation cases, on the scans' own grids.
    pub validation_dice: Option<f64>,
    /// Postprocessing that improved the scores of the validation cases. It is applied to every mask of the model.
    #[serde(default)]
    pub postprocessing: Vec<Postprocess>,
    /// A sentence for each candidate that changed a score, whether it was chosen or not.
    #[serde(default)]
    pub postprocessing_why: Vec<String>,
}

impl RunProgress {
    pub(super) fn at_start() -> Self {
        Self {
            status: Status::Training,
            epochs: 0,
            best_epoch: 0,
            seconds: 0.0,
            validation_dice: None,
            postprocessing: Vec::new(),
            postprocessing_why: Vec::new(),
        }
    }
}

/// The status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// It is training, or was killed during training.
    Training,
    /// It was stopped and can be resumed.
    Stopped,
    /// It is finished.
    Finished,
}

impl Manifest {
    /// The version of this structure that this program reads and writes.
    pub const FORMAT_VERSION: u32 = 2;
    /// The file's name.
    pub const FILE: &'static str = "run.json";

    /// Reads the manifest of a run.
    ///
    /// # Errors
    /// When it is missing, invalid or of an unknown version.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        let missing = || TrainError::NotARun { folder: folder.to_path_buf() };
        let file = folder.join(Self::FILE);
        let manifest: Self = read_versioned_json(&file, "the run's manifest", Self::FORMAT_VERSION, missing)?;
        let checked = manifest.plan.check();
        checked.map_err(|e| TrainError::File { what: format!("the run's manifest is broken: {e}"), file })?;
        Ok(manifest)
    }

    pub(crate) fn write(&mut self, folder: &Path) -> Result<(), TrainError> {
        self.updated = now_utc();
        let file = folder.join(Self::FILE);
        write_json(&file, self)
    }
}
