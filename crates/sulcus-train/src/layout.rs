use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sulcus_volume::{Label, LabelTable};

use crate::{Case, Dataset, DatasetError, parallel};

/// In which form a data set's files lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Medical Segmentation Decathlon: `dataset.json` lists pairs; 4-D files hold channels.
    Decathlon,
    /// nnU-Net raw: `imagesTr/CASE_0000.nii.gz` a channel, `labelsTr/CASE.nii.gz`.
    NnUnet,
    /// `images/` and `labels/` with equal names.
    Folders,
}

pub(crate) fn open(root: &Path) -> Result<Dataset, DatasetError> {
    let description = root.join("dataset.json");
    if !description.is_file() {
        if root.join("images").is_dir() && root.join("labels").is_dir() {
            return open_folders(root);
        }
        return Err(DatasetError::NotADataset { root: root.to_path_buf() });
    }
    let unusable = |what: String| DatasetError::Description { what, file: description.clone() };
    let text = std::fs::read_to_string(&description).map_err(|e| unusable(format!("it cannot be read: {e}")))?;
    let json: Value = serde_json::from_str(&text).map_err(|e| unusable(format!("it is not JSON: {e}")))?;
    let labels = label_table(&json).map_err(&unusable)?;
    let name = match json.get("name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => folder_name(root),
    };
    let (layout, channels, cases) = if json.get("channel_names").is_some() {
        let channels = numbered_names(&json, "channel_names").map_err(&unusable)?;
        let ending = json.get("file_ending").and_then(Value::as_str).unwrap_or(".nii.gz");
        let cases = nnunet_cases(root, ending, &json)?;
        (Layout::NnUnet, channels, cases)
    } else if json.get("training").is_some() {
        let channels = numbered_names(&json, "modality").map_err(&unusable)?;
        (Layout::Decathlon, channels, decathlon_cases(root, &json).map_err(&unusable)?)
    } else {
        return Err(unusable(
            "expected `training` (Medical Segmentation Decathlon) or `channel_names` (nnU-Net), found neither"
                .into(),
        ));
    };
    finish(Dataset { root: root.to_path_buf(), layout, name, channels, labels, cases })
}

fn finish(mut dataset: Dataset) -> Result<Dataset, DatasetError> {
    if dataset.cases.is_empty() {
        return Err(DatasetError::Empty { root: dataset.root });
    }
    dataset.cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(dataset)
}

fn folder_name(root: &Path) -> String {
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    absolute.file_name().map_or_else(|| "dataset".into(), |n| n.to_string_lossy().into_owned())
}

/// The Decathlon writes `"1": "Anterior"`, nnU-Net `"Anterior": 1`.
fn label_table(json: &Value) -> Result<LabelTable, String> {
    let labels = json.get("labels").and_then(Value::as_object).ok_or("it has no object `labels`")?;
    let mut names = Vec::new();
    for (key, value) in labels {
        let number = |v: Option<u64>| v.and_then(|v| Label::try_from(v).ok());
        let (value, name) = match value {
            Value::String(name) => (key.parse().ok(), name.clone()),
            Value::Number(n) => (number(n.as_u64()), key.clone()),
            Value::Array(_) => {
                return Err(format!(
                    "label `{key}` is a region made of several values, which this program does not train; \
                     give each structure a value of its own"
                ));
            }
            other => return Err(format!("label `{key}` has value {other}, expected a whole number")),
        };
        let value: Label = value.ok_or(format!("label `{name}` has no whole number from 0 to {}", Label::MAX))?;
        if value != 0 {
            names.push((value, name));
        }
    }
    if names.is_empty() {
        return Err("its `labels` name no structure besides the background".into());
    }
    LabelTable::from_names(names).map_err(|e| e.to_string())
}

/// `{"0": "MRI", "1": "CT"}`, in the order of the numbers.
fn numbered_names(json: &Value, key: &str) -> Result<Vec<String>, String> {
    let object = json.get(key).and_then(Value::as_object).ok_or(format!("it has no object `{key}`"))?;
    let mut names = BTreeMap::new();
    for (number, name) in object {
        let index: usize = number.parse().map_err(|_| format!("`{key}` has key `{number}`, expected 0, 1, …"))?;
        names.insert(index, name.as_str().unwrap_or("unnamed").to_owned());
    }
    if names.is_empty() || names.keys().enumerate().any(|(i, k)| i != *k) {
        return Err(format!(
            "`{key}` must number its channels 0, 1, …, found {:?}",
            names.keys().collect::<Vec<_>>()
        ));
    }
    Ok(names.into_values().collect())
}

/// File name without a NIfTI ending, or `None` for any other file.
pub(crate) fn nifti_stem(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let ending = [".nii.gz", ".nii", ".img.gz", ".img"].into_iter().find(|e| lower.ends_with(e))?;
    // macOS leaves `._name` files with resource forks beside the real ones.
    let stem = &name[..name.len() - ending.len()];
    (!stem.is_empty() && !stem.starts_with("._")).then(|| stem.to_owned())
}

fn decathlon_cases(root: &Path, json: &Value) -> Result<Vec<Case>, String> {
    let pairs = json.get("training").and_then(Value::as_array).ok_or("its `training` is not a list")?;
    let mut cases = Vec::new();
    for pair in pairs {
        let file = |key: &str| {
            let path = pair.get(key).and_then(Value::as_str);
            path.map(|p| root.join(p.trim_start_matches("./")))
                .ok_or(format!("an entry of `training` has no `{key}`: {pair}"))
        };
        let (image, label) = (file("image")?, file("label")?);
        if image.file_name().is_some_and(|n| n.to_string_lossy().starts_with("._")) {
            continue;
        }
        let name = nifti_stem(&image).ok_or(format!("an image of `training` is not a NIfTI file: {pair}"))?;
        cases.push(Case { name, images: vec![image], label });
    }
    Ok(cases)
}

/// Files of a folder, without hidden ones, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let failed = |source| DatasetError::Folder { folder: folder.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() && !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn nnunet_cases(root: &Path, ending: &str, json: &Value) -> Result<Vec<Case>, DatasetError> {
    let channels = json.get("channel_names").and_then(Value::as_object).map_or(1, serde_json::Map::len);
    let mut names = BTreeSet::new();
    // From both folders, so that a mask without an image and an image without a mask both come up in the check.
    for file in files(&root.join("labelsTr"))? {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        names.extend(name.strip_suffix(ending).map(str::to_owned));
    }
    for file in files(&root.join("imagesTr"))? {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = name.strip_suffix(ending).and_then(|s| s.rsplit_once('_'));
        names.extend(
            stem.filter(|(_, n)| n.len() == 4 && n.bytes().all(|b| b.is_ascii_digit()))
                .map(|(case, _)| case.to_owned()),
        );
    }
    let case = |name: String| Case {
        images: (0..channels).map(|c| root.join("imagesTr").join(format!("{name}_{c:04}{ending}"))).collect(),
        label: root.join("labelsTr").join(format!("{name}{ending}")),
        name,
    };
    Ok(names.into_iter().map(case).collect())
}

fn open_folders(root: &Path) -> Result<Dataset, DatasetError> {
    let (images, labels) = (root.join("images"), root.join("labels"));
    let mut cases = Vec::new();
    let mut paired = BTreeSet::new();
    for image in files(&images)? {
        let (Some(name), Some(file)) = (nifti_stem(&image), image.file_name()) else { continue };
        let label = labels.join(file);
        paired.insert(label.clone());
        cases.push(Case { name, images: vec![image], label });
    }
    for label in files(&labels)? {
        let (Some(name), Some(file)) = (nifti_stem(&label), label.file_name()) else { continue };
        if !paired.contains(&label) {
            cases.push(Case { name, images: vec![images.join(file)], label });
        }
    }
    // Unreadable masks come up in the check, with their names.
    let values: BTreeSet<Label> = parallel::map(&cases, |case| case.read_labels().ok().map(|l| l.counts()))
        .into_iter()
        .flatten()
        .flat_map(BTreeMap::into_keys)
        .filter(|value| *value != 0)
        .collect();
    let names = match values.len() {
        1 => values.into_iter().map(|v| (v, "Foreground".to_owned())).collect(),
        _ => values.into_iter().map(|v| (v, format!("Label {v}"))).collect::<Vec<_>>(),
    };
    let labels = LabelTable::from_names(names)
        .map_err(|e| DatasetError::Description { what: e.to_string(), file: root.join("labels") })?;
    // The first readable image says how many channels there are; the check holds the others to it.
    let channels = cases.iter().find_map(|case| case.read_image().ok()).map_or(1, |(image, _)| image.channels());
    let channels = match channels {
        1 => vec!["image".to_owned()],
        n => (0..n).map(|c| format!("image {c}")).collect(),
    };
    finish(Dataset {
        root: root.to_path_buf(),
        layout: Layout::Folders,
        name: folder_name(root),
        channels,
        labels,
        cases,
    })
}
