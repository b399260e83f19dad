use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sulcus_model::Postprocess;

use crate::{Dataset, InitRecord, Layout, Plan, Split, TrainConfig, TrainError};

/// `run.json`: how a run came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this structure.
    pub format_version: u32,
    /// `sulcus` and its version.
    pub tool_version: String,
    /// The data set.
    pub dataset: DatasetRecord,
    /// How it was asked to train.
    pub config: TrainConfig,
    /// What was decided from the data.
    pub plan: Plan,
    /// Which cases were trained on and held out.
    pub split: Split,
    /// SHA-256 over the files of each case in the split.
    pub data_sha256: BTreeMap<String, String>,
    /// The device that trained it.
    pub device: String,
    /// Numbers that training moves.
    pub parameters: usize,
    /// Trained weights that it started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitRecord>,
    /// Steps in each epoch.
    pub steps_per_epoch: usize,
    /// When it began, UTC.
    pub started: String,
    /// When it was last written, UTC.
    pub updated: String,
    /// How far it is.
    pub progress: RunProgress,
}

/// Where the data came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRecord {
    /// Its name.
    pub name: String,
    /// Its folder at the time.
    pub folder: PathBuf,
    /// Form of its files.
    pub layout: Layout,
}

impl DatasetRecord {
    /// Of a data set as it lies now.
    pub(crate) fn of(dataset: &Dataset) -> Self {
        let root = dataset.root();
        let folder = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
        Self { name: dataset.name().to_owned(), folder, layout: dataset.layout() }
    }
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunProgress {
    /// What is going on.
    pub status: Status,
    /// Whole epochs done.
    pub epochs: usize,
    /// The epoch whose weights are the best.
    pub best_epoch: usize,
    /// Seconds spent, interruptions left out.
    pub seconds: f64,
    /// Mean foreground Dice of the best weights over all held-out cases, on the scans' own grids.
    pub validation_dice: Option<f64>,
    /// What raised the scores of the held-out cases, and is done to every mask of the model.
    #[serde(default)]
    pub postprocessing: Vec<Postprocess>,
    /// A sentence for each step that changed a score, whether it was taken or not.
    #[serde(default)]
    pub postprocessing_why: Vec<String>,
}

/// What is going on with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It trains, or was killed while it did.
    Training,
    /// It was asked to stop and can be resumed.
    Stopped,
    /// It is done.
    Finished,
}

impl Manifest {
    /// The version of this structure that this program reads and writes.
    pub const FORMAT_VERSION: u32 = 2;
    /// Its file's name.
    pub const FILE: &'static str = "run.json";

    /// Reads the manifest of a run.
    ///
    /// # Errors
    /// When it is missing, broken or of an unknown version.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let file = folder.join(Self::FILE);
        let failed = |what: String| TrainError::File { what, file: file.clone() };
        let text = std::fs::read_to_string(&file).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => TrainError::NotARun { folder: folder.to_path_buf() },
            _ => failed(format!("the run's manifest cannot be read: {e}")),
        })?;
        let version: Version =
            serde_json::from_str(&text).map_err(|e| failed(format!("the run's manifest is broken: {e}")))?;
        if version.format_version != Self::FORMAT_VERSION {
            return Err(failed(format!(
                "the run's manifest has format version {}, this program knows {}",
                version.format_version,
                Self::FORMAT_VERSION
            )));
        }
        serde_json::from_str(&text).map_err(|e| failed(format!("the run's manifest is broken: {e}")))
    }

    pub(crate) fn write(&mut self, folder: &Path) -> Result<(), TrainError> {
        self.updated = now_utc();
        let file = folder.join(Self::FILE);
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| TrainError::File { what: e.to_string(), file: file.clone() })?;
        write_atomically(&file, &json)
    }
}

/// Writes under a temporary name in the same folder, then renames: readers see the old file or the new one.
pub(crate) fn write_atomically(file: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    sulcus_io::write_atomically(file, |out| out.write_all(bytes))
        .map_err(|e| TrainError::File { what: e.problem().to_string(), file: file.to_path_buf() })
}

/// Such as `2026-11-23T08:15:00Z`.
pub(crate) fn now_utc() -> String {
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    utc(secs)
}

fn utc(unix_secs: u64) -> String {
    let (days, secs) = (unix_secs / 86_400, unix_secs % 86_400);
    // Days to civil date in the proleptic Gregorian calendar, years from March (Hinnant 2013, days_from_civil).
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", secs / 3600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(super::utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(super::utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(super::utc(1_795_421_826), "2026-11-23T08:17:06Z");
    }
}
