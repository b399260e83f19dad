//! Opens each layout of a data set.

mod description;
mod files;
mod folders;
mod listed;
mod unused_volumes;

use std::path::Path;

use serde_json::Value;

use crate::case::Case;
use crate::dataset::{Dataset, Layout};
use crate::error::DatasetError;
use crate::finding::FileFinding;
use crate::patients::Patients;
use crate::text::count;

use description::{labels, numbered_names};
use files::folder_name;
pub(crate) use files::volume_stem;
pub(crate) use folders::labels_folder;
use listed::{check_ending, listed_cases, nnunet_cases, training_cases};
use unused_volumes::unused_volumes;

impl Dataset {
    /// Opens a Medical Segmentation Decathlon task folder, an nnU-Net raw folder (of version 1 or 2), or a folder with
    /// `images/` and `labels/` (or `masks/`) whose files have equal names.
    ///
    /// Channels are indices of the fourth axis of one file, or files `CASE_0000`, `CASE_0001` and so on.
    ///
    /// Scans are NIfTI files, pictures PNG, JPEG or TIFF. A colour picture has its three channels in one file, also in nnU-Net's
    /// layout (`imagesTr/CASE_0000.png`).
    ///
    /// A folder with `images/` and `labels/` has no description. Its masks are read here to find the label values.
    ///
    /// Folds keep the cases of a patient together. The patient of each case is read from the object `patients` of
    /// `dataset.json`, such as `{"case_01": "patient 7"}`, or from the columns `case` and `patient` of `patients.csv` in the
    /// folder; without either it is guessed from the names of the cases where these are clear.
    ///
    /// # Errors
    /// When the folder has none of these layouts, or its `dataset.json` cannot be used.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let root = root.as_ref();
        let (mut dataset, description) = if root.join("dataset.json").is_file() {
            let (dataset, json) = open_described(root)?;
            (dataset, Some(json))
        } else if root.join("images").is_dir() && labels_folder(root).is_dir() {
            (folders::open(root)?, None)
        } else {
            return Err(DatasetError::NotADataset { root: root.to_path_buf() });
        };
        if dataset.cases.is_empty() {
            return Err(DatasetError::Empty { root: dataset.root });
        }
        dataset.cases.sort_by(|a, b| a.name.cmp(&b.name));
        dataset.find_patients(description.as_ref())?;
        Ok(dataset)
    }
}

/// Opens a folder with a `dataset.json`. Returns its content too.
fn open_described(root: &Path) -> Result<(Dataset, Value), DatasetError> {
    let description = root.join("dataset.json");
    let unusable = |what: String| DatasetError::Description { what, file: description.clone() };
    let text = std::fs::read_to_string(&description).map_err(|e| unusable(format!("it cannot be read: {e}")))?;
    let json: Value = serde_json::from_str(&text).map_err(|e| unusable(format!("it is not JSON: {e}")))?;
    let described = labels(&text).map_err(&unusable)?;
    let name = match json.get("name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => folder_name(root),
    };
    let (layout, channels, cases) = described_cases(root, &json, &unusable)?;
    let mut notes = unused_volumes(&cases);
    let stated = json.get("numTraining").and_then(Value::as_u64);
    if let Some(stated) = stated.filter(|n| *n != cases.len() as u64) {
        let what = format!(
            "`numTraining` is {stated}, but the data set has {}; correct it, or look for missing or additional cases",
            count(cases.len(), "case")
        );
        notes.push(FileFinding { file: description, what });
    }
    let dataset = Dataset {
        root: root.to_path_buf(),
        layout,
        name,
        channels,
        labels: described.labels,
        regions: described.regions,
        ignore: described.ignore,
        cases,
        notes,
        patients: Patients::each_case(),
        unclear_patients: None,
    };
    Ok((dataset, json))
}

/// The layout, the channels' names and the cases of a `dataset.json`.
fn described_cases(
    root: &Path,
    json: &Value,
    unusable: &dyn Fn(String) -> DatasetError,
) -> Result<(Layout, Vec<String>, Vec<Case>), DatasetError> {
    if json.get("channel_names").is_some() {
        let channels = numbered_names(json, "channel_names").map_err(unusable)?;
        let cases = match json.get("dataset") {
            Some(listed) => listed_cases(root, listed).map_err(unusable)?,
            None => {
                let ending = json.get("file_ending").and_then(Value::as_str).unwrap_or(".nii.gz");
                check_ending(ending).map_err(unusable)?;
                nnunet_cases(root, ending, channels.len())?
            }
        };
        return Ok((Layout::NnUnet, channels, cases));
    }
    if json.get("training").is_some() {
        let channels = numbered_names(json, "modality").map_err(unusable)?;
        let (layout, cases) = training_cases(root, json, channels.len()).map_err(unusable)?;
        return Ok((layout, channels, cases));
    }
    Err(unusable(
        "expected `training` (Medical Segmentation Decathlon) or `channel_names` (nnU-Net), found neither".into(),
    ))
}
