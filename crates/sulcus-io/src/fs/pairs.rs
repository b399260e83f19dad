//! Finds the second file of a volume in two files.

use std::path::{Path, PathBuf};

use crate::error::{IoError, IoErrorKind};
use crate::format::{FileRole, Header, VoxelLocation, by_name, with_ending};

/// The role of a file according to its name.
fn role(path: &Path) -> Option<FileRole> {
    by_name(path).map(|(_, ending)| ending.role)
}

/// The header file, if the name is that of a voxel file.
pub(super) fn header_file(voxels: &Path) -> Result<Option<PathBuf>, IoError> {
    match role(voxels) {
        Some(FileRole::Voxels { header }) => paired_file(voxels, header).map(Some),
        _ => Ok(None),
    }
}

/// The separate voxel file of a header, if there is one. `None` for a header of a pair whose own name is not that of a
/// pair: reading it as a single file then reports the fault.
pub(super) fn voxel_file(path: &Path, header: &dyn Header) -> Result<Option<PathBuf>, IoError> {
    match (header.voxel_location(), role(path)) {
        (VoxelLocation::Named(name), _) => named_file(path, name).map(Some),
        (VoxelLocation::PairedFile, Some(FileRole::Header { voxels })) => paired_file(path, voxels).map(Some),
        _ => Ok(None),
    }
}

/// The existing file with the same name and another ending, compressed or not. If both exist, the one that is compressed
/// like `path` is used.
fn paired_file(path: &Path, ending: &str) -> Result<PathBuf, IoError> {
    let plain = ending.trim_end_matches(".gz");
    let [plain, gzipped] = ["", ".gz"].map(|suffix| with_ending(path, &format!("{plain}{suffix}")));
    let candidates = if ending.ends_with(".gz") { [gzipped, plain] } else { [plain, gzipped] };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    candidates.iter().find(|p| p.exists()).cloned().ok_or_else(|| {
        let expected = candidates.map(|p| name(&p)).join(" or ");
        IoError::in_file(path, IoErrorKind::MissingPairFile { found: name(path), expected })
    })
}

/// The file that a header names for its voxels. It must be a plain name in the folder of the header, so that a header from
/// an unknown sender cannot make a program read any other file.
fn named_file(header: &Path, name: &str) -> Result<PathBuf, IoError> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain = !name.is_empty() && !name.contains(['/', '\\', ':', '\0']) && name != "..";
    if plain {
        Ok(header.with_file_name(name))
    } else {
        Err(IoError::in_file(header, IoErrorKind::DataFileOutside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_file_outside_the_headers_folder_is_refused() {
        let header = Path::new("folder/a.nhdr");
        assert_eq!(named_file(header, "./a b.raw").unwrap(), Path::new("folder/a b.raw"));
        for name in ["../a.raw", "/etc/passwd", "x/a.raw", "..", "", "C:a.raw", "..\\a.raw", "a\0"] {
            assert!(named_file(header, name).is_err(), "{name}");
        }
    }
}
