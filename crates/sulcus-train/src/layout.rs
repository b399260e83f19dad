use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dataset::{FileProblem, count};
use crate::description::{labels, numbered_names};
use crate::{Case, Dataset, DatasetError, folders};

/// In which form a data set's files lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Medical Segmentation Decathlon: `dataset.json` lists pairs; 4-D files hold channels.
    Decathlon,
    /// nnU-Net raw: `imagesTr/CASE_0000.nii.gz` a channel, `labelsTr/CASE.nii.gz`. Version 1 describes itself as the
    /// Decathlon does, version 2 has `channel_names`.
    NnUnet,
    /// `images/` and `labels/` with equal names; `CASE_0000`, `CASE_0001` are channels.
    Folders,
}

pub(crate) fn open(root: &Path) -> Result<Dataset, DatasetError> {
    let description = root.join("dataset.json");
    if !description.is_file() {
        if root.join("images").is_dir() && root.join("labels").is_dir() {
            return finish(folders::open(root)?);
        }
        return Err(DatasetError::NotADataset { root: root.to_path_buf() });
    }
    let unusable = |what: String| DatasetError::Description { what, file: description.clone() };
    let text = std::fs::read_to_string(&description).map_err(|e| unusable(format!("it cannot be read: {e}")))?;
    let json: Value = serde_json::from_str(&text).map_err(|e| unusable(format!("it is not JSON: {e}")))?;
    let described = labels(&text).map_err(&unusable)?;
    let name = match json.get("name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => folder_name(root),
    };
    let (layout, channels, cases) = if json.get("channel_names").is_some() {
        let channels = numbered_names(&json, "channel_names").map_err(&unusable)?;
        let cases = match json.get("dataset") {
            Some(listed) => listed_cases(root, listed).map_err(&unusable)?,
            None => {
                let ending = json.get("file_ending").and_then(Value::as_str).unwrap_or(".nii.gz");
                check_ending(ending).map_err(&unusable)?;
                nnunet_cases(root, ending, channels.len())?
            }
        };
        (Layout::NnUnet, channels, cases)
    } else if json.get("training").is_some() {
        let channels = numbered_names(&json, "modality").map_err(&unusable)?;
        let (layout, cases) = training_cases(root, &json, channels.len()).map_err(&unusable)?;
        (layout, channels, cases)
    } else {
        return Err(unusable(
            "expected `training` (Medical Segmentation Decathlon) or `channel_names` (nnU-Net), found neither"
                .into(),
        ));
    };
    let mut notes = strays(&cases);
    let stated = json.get("numTraining").and_then(Value::as_u64);
    if let Some(stated) = stated.filter(|n| *n != cases.len() as u64) {
        let what = format!(
            "`numTraining` is {stated}, but the data set has {}; correct it, or look for what is missing or too many",
            count(cases.len(), "case")
        );
        notes.push(FileProblem { file: description, what });
    }
    finish(Dataset {
        root: root.to_path_buf(),
        layout,
        name,
        channels,
        labels: described.labels,
        regions: described.regions,
        ignore: described.ignore,
        cases,
        notes,
    })
}

fn finish(mut dataset: Dataset) -> Result<Dataset, DatasetError> {
    if dataset.cases.is_empty() {
        return Err(DatasetError::Empty { root: dataset.root });
    }
    dataset.cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(dataset)
}

pub(crate) fn folder_name(root: &Path) -> String {
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    absolute.file_name().map_or_else(|| "dataset".into(), |n| n.to_string_lossy().into_owned())
}

const ENDINGS: [&str; 4] = [".nii.gz", ".nii", ".img.gz", ".img"];

/// A file's name without its NIfTI ending, and that ending; `None` for any other file.
pub(crate) fn nifti_parts(path: &Path) -> Option<(&str, &str)> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let ending = ENDINGS.into_iter().find(|e| lower.ends_with(e))?;
    let (stem, ending) = name.split_at_checked(name.len() - ending.len())?;
    // macOS leaves `._name` files with resource forks beside the real ones.
    (!stem.is_empty() && !stem.starts_with("._")).then_some((stem, ending))
}

/// File name without a NIfTI ending, or `None` for any other file.
pub(crate) fn nifti_stem(path: &Path) -> Option<String> {
    nifti_parts(path).map(|(stem, _)| stem.to_owned())
}

/// `CASE_0001` is channel 1 of `CASE`.
pub(crate) fn channel_of(stem: &str) -> Option<(&str, usize)> {
    let (case, number) = stem.rsplit_once('_')?;
    let digits = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
    if digits && !case.is_empty() { Some((case, number.parse().ok()?)) } else { None }
}

/// The file of a channel, beside and named after the one without a number.
fn channel_file(file: &Path, channel: usize) -> Option<PathBuf> {
    let (stem, ending) = nifti_parts(file)?;
    Some(file.with_file_name(format!("{stem}_{channel:04}{ending}")))
}

fn check_ending(ending: &str) -> Result<(), String> {
    if nifti_stem(Path::new(&format!("case{ending}"))).as_deref() == Some("case") {
        return Ok(());
    }
    Err(format!(
        "its `file_ending` is `{ending}`, but only NIfTI files are read ({}); convert the files and change it",
        ENDINGS.join(", ")
    ))
}

/// The pairs of `training`: the Decathlon's, or those of nnU-Net version 1, whose images are listed without the
/// numbers of their channels.
fn training_cases(root: &Path, json: &Value, channels: usize) -> Result<(Layout, Vec<Case>), String> {
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
    let numbered = |image: &Path| channel_file(image, 0).is_some_and(|file| file.exists());
    let version_1 =
        cases.iter().filter_map(|case| case.images.first()).any(|image| !image.exists() && numbered(image));
    if !version_1 {
        return Ok((Layout::Decathlon, cases));
    }
    for case in &mut cases {
        if let Some(image) = case.images.first().cloned() {
            case.images = (0..channels).filter_map(|c| channel_file(&image, c)).collect();
        }
    }
    Ok((Layout::NnUnet, cases))
}

/// nnU-Net's `"dataset": {"CASE": {"images": [a file a channel], "label": file}}`.
fn listed_cases(root: &Path, listed: &Value) -> Result<Vec<Case>, String> {
    let listed = listed.as_object().ok_or("its `dataset` is not an object of cases")?;
    let case = |(name, files): (&String, &Value)| -> Result<Case, String> {
        let wrong = || format!("case `{name}` of `dataset` has no list `images` and path `label`: {files}");
        let path = |value: &Value| value.as_str().map(|p| root.join(p.trim_start_matches("./")));
        let images = files.get("images").and_then(Value::as_array).ok_or_else(wrong)?;
        let images: Option<Vec<PathBuf>> = images.iter().map(path).collect();
        let label = files.get("label").and_then(path).ok_or_else(wrong)?;
        let images = images.filter(|images| !images.is_empty()).ok_or_else(wrong)?;
        if name.is_empty() || name.contains(['/', '\\']) {
            return Err(format!(
                "`{name}` of `dataset` cannot be a case's name, as results are files named after it"
            ));
        }
        Ok(Case { name: name.clone(), images, label })
    };
    listed.iter().map(case).collect()
}

fn nnunet_cases(root: &Path, ending: &str, channels: usize) -> Result<Vec<Case>, DatasetError> {
    let mut names = BTreeSet::new();
    // From both folders, so that a mask without an image and an image without a mask both come up in the check.
    for file in files(&root.join("labelsTr"))? {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        names.extend(name.strip_suffix(ending).map(str::to_owned));
    }
    for file in files(&root.join("imagesTr"))? {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        names.extend(name.strip_suffix(ending).and_then(channel_of).map(|(case, _)| case.to_owned()));
    }
    let case = |name: String| Case {
        images: (0..channels).map(|c| root.join("imagesTr").join(format!("{name}_{c:04}{ending}"))).collect(),
        label: root.join("labelsTr").join(format!("{name}{ending}")),
        name,
    };
    Ok(names.into_iter().filter(|name| !name.is_empty()).map(case).collect())
}

/// Files of a folder and links to such, without hidden ones, sorted. A link to nothing is among them, so that it
/// comes up in the check.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let failed = |source| DatasetError::Folder { folder: folder.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !path.is_dir() && !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Volumes that lie among the files of the cases and belong to none of them: one finding a folder. Most are cases that
/// somebody believes to train on.
pub(crate) fn strays(cases: &[Case]) -> Vec<FileProblem> {
    /// So many are named.
    const NAMED: usize = 5;
    let known: BTreeSet<&Path> =
        cases.iter().flat_map(|c| c.images.iter().chain([&c.label])).map(PathBuf::as_path).collect();
    let folders: BTreeSet<&Path> = known.iter().filter_map(|file| file.parent()).collect();
    let mut found = Vec::new();
    for folder in folders {
        // A folder that is not there has been missed by each of its files.
        let Ok(files) = files(folder) else { continue };
        let strange: Vec<String> = files
            .iter()
            .filter(|file| !known.contains(file.as_path()) && !partners(file).any(|p| known.contains(p.as_path())))
            .filter(|file| looks_like_a_volume(file))
            .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
            .collect();
        if strange.is_empty() {
            continue;
        }
        let more = match strange.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = strange.get(..NAMED).unwrap_or(&strange).join(", ");
        let belong = if strange.len() == 1 { "belongs" } else { "belong" };
        let what = format!(
            "{} here {belong} to no case (by name and ending, or by dataset.json) and will not be used: {named}{more}",
            count(strange.len(), "volume")
        );
        found.push(FileProblem { file: folder.to_path_buf(), what });
    }
    found
}

/// The voxels that a header may belong to.
fn partners(header: &Path) -> impl Iterator<Item = PathBuf> {
    let name = header.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(".hdr").or_else(|| name.strip_suffix(".hdr.gz")).map(str::to_owned);
    let header = header.to_path_buf();
    stem.into_iter()
        .flat_map(|stem| [".img", ".img.gz"].map(|end| format!("{stem}{end}")))
        .map(move |partner| header.with_file_name(partner))
}

/// By its name; one that is not UTF-8 may be anything, and is no case's.
fn looks_like_a_volume(file: &Path) -> bool {
    const OTHERS: [&str; 17] = [
        ".hdr", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz", ".dcm", ".ima", ".png", ".tif",
        ".tiff", ".jpg", ".bmp", ".npy", ".npz",
    ];
    let Some(name) = file.file_name().and_then(|n| n.to_str()) else { return true };
    let lower = name.to_ascii_lowercase();
    ENDINGS.iter().chain(&OTHERS).any(|ending| lower.ends_with(ending))
}
