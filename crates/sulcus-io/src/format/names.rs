//! File names of volumes.

use std::path::Path;
#[cfg(feature = "fs")]
use std::path::PathBuf;

use super::{Ending, FORMATS, FileRole};

/// The part of a file name before its ending, and the ending. The longest matching ending is used.
pub(crate) fn split_ending(name: &str) -> Option<(&str, &'static Ending)> {
    let endings = FORMATS.iter().flat_map(|format| format.endings());
    let matching = endings.filter_map(|ending| {
        let at = name.len().checked_sub(ending.text.len())?;
        let (stem, end) = (name.get(..at)?, name.get(at..)?);
        (!stem.is_empty() && end.eq_ignore_ascii_case(ending.text)).then_some((stem, ending))
    });
    matching.min_by_key(|(stem, _)| stem.len())
}

/// All endings that a volume can be written with, as a list for people.
#[cfg(feature = "fs")]
pub(crate) fn all_endings() -> String {
    let written = FORMATS.iter().filter(|format| format.is_written());
    let endings = written.flat_map(|format| format.endings()).map(|ending| ending.text);
    let endings: Vec<&str> = endings.collect();
    match endings.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => endings.join(""),
    }
}

/// The path with another ending, in capital letters if its own ending is.
#[cfg(feature = "fs")]
pub(crate) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let stem = split_ending(name).map_or(name, |(stem, _)| stem);
    let own = name.get(stem.len()..).unwrap_or_default();
    let capitals = own.chars().any(|c| c.is_ascii_uppercase());
    path.with_file_name(format!("{stem}{}", if capitals { ending.to_ascii_uppercase() } else { ending.into() }))
}

/// The name of a case: the file name without the ending of its format, such as `.nii.gz` or `.seg.nrrd`, in lower or upper
/// case; `None` without such an ending.
pub fn case_name(path: &Path) -> Option<String> {
    split_ending(path.file_name()?.to_str()?).map(|(stem, _)| stem.to_owned())
}

/// Whether the name is that of a file to open as a volume. It excludes the `.img` file of a pair, whose `.hdr` file is the
/// one to open, and hidden files, such as those that macOS creates beside copies (`._case.nii`).
pub fn is_volume_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str());
    let ending = name.filter(|n| !n.starts_with('.')).and_then(split_ending);
    ending.is_some_and(|(_, ending)| !matches!(ending.role, FileRole::Voxels { .. }))
}

#[cfg(all(test, feature = "text-formats"))]
mod tests {
    use super::*;

    #[test]
    fn case_names_have_no_ending() {
        let name = |p: &str| case_name(Path::new(p));
        assert_eq!(name("a/b/hippocampus_001.nii.gz").as_deref(), Some("hippocampus_001"));
        assert_eq!(name("X.NII.GZ").as_deref(), Some("X"));
        assert_eq!(name("lab.seg.nii").as_deref(), Some("lab.seg"));
        assert_eq!(name("a.Img").as_deref(), Some("a"));
        assert_eq!(name("a.hdr").as_deref(), Some("a"));
        assert_eq!(name("a.seg.nrrd").as_deref(), Some("a"));
        assert_eq!(name("a.MHA").as_deref(), Some("a"));
        assert_eq!(name("é.nii").as_deref(), Some("é"));
        assert_eq!((name(".nii"), name("a.txt"), name("a.gz"), name("")), (None, None, None, None));
    }

    #[test]
    fn volume_files_exclude_img_and_hidden_files() {
        assert!(is_volume_file(Path::new("a.nii")) && is_volume_file(Path::new("A.HDR")));
        assert!(!is_volume_file(Path::new("a.img")) && !is_volume_file(Path::new("._a.nii.gz")));
        assert!(!is_volume_file(Path::new("dataset.json")));
    }
}
