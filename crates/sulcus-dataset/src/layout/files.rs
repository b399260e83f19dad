//! File names of a data set, and the files of a folder.

use std::path::{Path, PathBuf};

use crate::error::DatasetError;

pub(crate) const NIFTI_ENDINGS: [&str; 4] = [".nii.gz", ".nii", ".img.gz", ".img"];
/// NIfTI and pictures.
pub(crate) const ENDINGS: [&str; 9] =
    [".nii.gz", ".nii", ".img.gz", ".img", ".png", ".tif", ".tiff", ".jpg", ".jpeg"];

/// A file's name without the ending of a scan or picture, and the ending. `None` for any other file.
pub(crate) fn volume_parts(path: &Path) -> Option<(&str, &str)> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let ending = ENDINGS.into_iter().find(|e| lower.ends_with(e))?;
    let (stem, ending) = name.split_at_checked(name.len() - ending.len())?;
    // macOS leaves `._name` files with resource forks beside the real ones.
    (!stem.is_empty() && !stem.starts_with("._")).then_some((stem, ending))
}

/// File name without the ending of a scan or picture, or `None` for any other file.
pub(crate) fn volume_stem(path: &Path) -> Option<String> {
    volume_parts(path).map(|(stem, _)| stem.to_owned())
}

/// `CASE_0001` is channel 1 of `CASE`.
pub(crate) fn channel_of(stem: &str) -> Option<(&str, usize)> {
    let (case, number) = stem.rsplit_once('_')?;
    let digits = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
    if digits && !case.is_empty() { Some((case, number.parse().ok()?)) } else { None }
}

/// The file of a channel, in the same folder as `file`, which is named without a channel number.
pub(crate) fn channel_file(file: &Path, channel: usize) -> Option<PathBuf> {
    let (stem, ending) = volume_parts(file)?;
    Some(file.with_file_name(format!("{stem}_{channel:04}{ending}")))
}

/// The files of a folder, sorted, without hidden files and folders. A broken link is included, so that the check
/// finds it.
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

/// The name of a folder, also for paths such as `.`.
pub(crate) fn folder_name(root: &Path) -> String {
    let absolute = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    absolute.file_name().map_or_else(|| "dataset".into(), |n| n.to_string_lossy().into_owned())
}
