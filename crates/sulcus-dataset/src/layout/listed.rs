//! The cases that `dataset.json` describes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{ENDINGS, NIFTI_ENDINGS, channel_file, channel_of, files, volume_stem};
use crate::case::Case;
use crate::dataset::Layout;
use crate::error::DatasetError;

pub(super) fn check_ending(ending: &str) -> Result<(), String> {
    if volume_stem(Path::new(&format!("case{ending}"))).as_deref() == Some("case") {
        return Ok(());
    }
    Err(format!(
        "its `file_ending` is `{ending}`, but only NIfTI files and pictures are read ({}); convert the files and change it",
        ENDINGS.join(", ")
    ))
}

/// The pairs of `training`, which the Decathlon and nnU-Net version 1 both use. Version 1 lists images without the number
/// of their channel; it is recognised by its files.
pub(super) fn training_cases(root: &Path, json: &Value, channels: usize) -> Result<(Layout, Vec<Case>), String> {
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
        let name = volume_stem(&image)
            .ok_or(format!("an image of `training` is neither a NIfTI file nor a picture: {pair}"))?;
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

/// nnU-Net's `"dataset": {"CASE": {"images": [one file per channel], "label": file}}`.
pub(super) fn listed_cases(root: &Path, listed: &Value) -> Result<Vec<Case>, String> {
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

/// The cases that the file names in `imagesTr` and `labelsTr` give (nnU-Net version 2).
pub(super) fn nnunet_cases(root: &Path, ending: &str, channels: usize) -> Result<Vec<Case>, DatasetError> {
    let mut names = BTreeSet::new();
    // Both folders are listed, so that the check finds a mask without an image and an image without a mask.
    for file in files(&root.join("labelsTr"))? {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        names.extend(name.strip_suffix(ending).map(str::to_owned));
    }
    for file in files(&root.join("imagesTr"))? {
        let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        names.extend(name.strip_suffix(ending).and_then(channel_of).map(|(case, _)| case.to_owned()));
    }
    let image = |name: &str, channel: usize| root.join("imagesTr").join(format!("{name}_{channel:04}{ending}"));
    // The channels of a colour picture are in one file.
    let is_picture = !NIFTI_ENDINGS.contains(&ending);
    let is_alone = |name: &str| is_picture && channels > 1 && !(1..channels).any(|c| image(name, c).exists());
    let case = |name: String| Case {
        images: (0..if is_alone(&name) { 1 } else { channels }).map(|c| image(&name, c)).collect(),
        label: root.join("labelsTr").join(format!("{name}{ending}")),
        name,
    };
    Ok(names.into_iter().filter(|name| !name.is_empty()).map(case).collect())
}
