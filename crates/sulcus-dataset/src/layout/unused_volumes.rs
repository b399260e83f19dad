use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::files::{ENDINGS, files};
use crate::case::Case;
use crate::finding::FileFinding;
use crate::text::{count, first_few};

/// Finds volumes beside the files of the cases that belong to no case: one finding per folder. Users often expect that
/// these are trained on.
pub(super) fn unused_volumes(cases: &[Case]) -> Vec<FileFinding> {
    /// How many files a finding lists.
    const MAX_NAMED: usize = 5;
    let known: BTreeSet<&Path> =
        cases.iter().flat_map(|c| c.images.iter().chain([&c.label])).map(PathBuf::as_path).collect();
    let folders: BTreeSet<&Path> = known.iter().filter_map(|file| file.parent()).collect();
    let mut found = Vec::new();
    for folder in folders {
        // The check of each case reports a missing folder.
        let Ok(files) = files(folder) else { continue };
        let unused: Vec<String> = files
            .iter()
            .filter(|file| {
                !known.contains(file.as_path()) && !voxel_files(file).any(|p| known.contains(p.as_path()))
            })
            .filter(|file| looks_like_a_volume(file))
            .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
            .collect();
        if unused.is_empty() {
            continue;
        }
        let named = first_few(&unused, MAX_NAMED);
        let belong = if unused.len() == 1 { "belongs" } else { "belong" };
        let what = format!(
            "{} here {belong} to no case (by name and ending, or by dataset.json) and will not be used: {named}",
            count(unused.len(), "volume")
        );
        found.push(FileFinding { file: folder.to_path_buf(), what });
    }
    found
}

/// The files of voxels that a header `.hdr` may belong to.
fn voxel_files(header: &Path) -> impl Iterator<Item = PathBuf> {
    let name = header.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(".hdr").or_else(|| name.strip_suffix(".hdr.gz")).map(str::to_owned);
    let header = header.to_path_buf();
    stem.into_iter()
        .flat_map(|stem| [".img", ".img.gz"].map(|end| format!("{stem}{end}")))
        .map(move |name| header.with_file_name(name))
}

/// Decides by the file name. A name that is not UTF-8 counts as a volume: it may be one, and no case uses it.
fn looks_like_a_volume(file: &Path) -> bool {
    const OTHERS: [&str; 13] = [
        ".hdr", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz", ".dcm", ".ima", ".bmp", ".npy",
        ".npz",
    ];
    let Some(name) = file.file_name().and_then(|n| n.to_str()) else { return true };
    let lower = name.to_ascii_lowercase();
    ENDINGS.iter().chain(&OTHERS).any(|ending| lower.ends_with(ending))
}
