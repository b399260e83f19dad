//! Phrases that several messages share.

use std::path::Path;

use sulcus_volume::VolumeError;

/// A file name with its folder, since an image and its mask often have the same file name.
pub(crate) fn short(file: &Path) -> String {
    let name = |path: Option<&std::ffi::OsStr>| path.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    match file.parent().and_then(Path::file_name) {
        Some(folder) => format!("{}/{}", folder.to_string_lossy(), name(file.file_name())),
        None => name(file.file_name()),
    }
}

/// How two grids differ.
pub(crate) fn difference(error: &VolumeError) -> String {
    match error {
        VolumeError::GridMismatch(what) => what.clone(),
        other => other.to_string(),
    }
}

/// `1 case`, `2 cases`.
pub(crate) fn count(number: usize, singular: &str) -> String {
    format!("{number} {singular}{}", if number == 1 { "" } else { "s" })
}

/// The first names in one line, and how many more there are.
pub(crate) fn first_few(names: &[impl AsRef<str>], shown: usize) -> String {
    let named = names.iter().take(shown).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(shown) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
