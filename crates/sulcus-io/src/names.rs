use std::path::Path;
#[cfg(not(target_family = "wasm"))]
use std::path::PathBuf;

#[cfg(not(target_family = "wasm"))]
use crate::nifti::Compression;

const ENDINGS: [&str; 11] =
    [".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".hdr", ".img", ".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd"];

/// The part of a file name before its volume ending, and that ending.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    ENDINGS.iter().find_map(|ending| {
        let at = name.len().checked_sub(ending.len())?;
        let (stem, end) = (name.get(..at)?, name.get(at..)?);
        (!stem.is_empty() && end.eq_ignore_ascii_case(ending)).then_some((stem, end))
    })
}

/// What the name of an output asks for.
#[cfg(not(target_family = "wasm"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// `.nii`, `.nii.gz`.
    Nifti(Compression),
    /// `.hdr` and `.img`, `.hdr.gz` and `.img.gz`: either of the two names.
    NiftiPair(Compression),
    /// `.nrrd`, `.seg.nrrd`.
    Nrrd,
    /// `.nhdr`, and the voxels beside it.
    NrrdPair,
    /// `.mha`.
    MetaImage,
    /// `.mhd`, and the voxels beside it.
    MetaImagePair,
}

#[cfg(not(target_family = "wasm"))]
impl Output {
    /// Whether it is a format whose header is text.
    pub(crate) fn is_headed(self) -> bool {
        !matches!(self, Self::Nifti(_) | Self::NiftiPair(_))
    }

    /// The files that a volume of this name is written to: the one with the header, and the one with the voxels where
    /// that is another.
    pub(crate) fn files(self, path: &Path) -> (PathBuf, Option<PathBuf>) {
        match self {
            Self::Nifti(_) | Self::Nrrd | Self::MetaImage => (path.to_path_buf(), None),
            Self::NiftiPair(Compression::None) => (with_ending(path, ".hdr"), Some(with_ending(path, ".img"))),
            Self::NiftiPair(Compression::Gzip) => {
                (with_ending(path, ".hdr.gz"), Some(with_ending(path, ".img.gz")))
            }
            Self::NrrdPair => (path.to_path_buf(), Some(with_ending(path, ".raw.gz"))),
            Self::MetaImagePair => (path.to_path_buf(), Some(with_ending(path, ".zraw"))),
        }
    }

    pub(crate) fn of(path: &Path) -> Option<Self> {
        let (_, ending) = split(path.file_name()?.to_str()?)?;
        match ending.to_ascii_lowercase().as_str() {
            ".nii" => Some(Self::Nifti(Compression::None)),
            ".nii.gz" => Some(Self::Nifti(Compression::Gzip)),
            ".hdr" | ".img" => Some(Self::NiftiPair(Compression::None)),
            ".hdr.gz" | ".img.gz" => Some(Self::NiftiPair(Compression::Gzip)),
            ".nrrd" | ".seg.nrrd" => Some(Self::Nrrd),
            ".nhdr" => Some(Self::NrrdPair),
            ".mha" => Some(Self::MetaImage),
            ".mhd" => Some(Self::MetaImagePair),
            _ => None,
        }
    }
}

/// The same name with another ending, in capitals where its own is.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let (stem, own) = split(name).unwrap_or((name, ""));
    let capitals = own.chars().any(|c| c.is_ascii_uppercase());
    path.with_file_name(format!("{stem}{}", if capitals { ending.to_ascii_uppercase() } else { ending.into() }))
}

/// The files that writing a volume to a path makes or replaces: one, or the two of a pair. Of a name that no volume is
/// written to, the path.
#[cfg(not(target_family = "wasm"))]
pub fn written_files(path: &Path) -> Vec<PathBuf> {
    match Output::of(path) {
        None => vec![path.to_path_buf()],
        Some(output) => {
            let (header, voxels) = output.files(path);
            std::iter::once(header).chain(voxels).collect()
        }
    }
}

/// Whether the name is that of a DICOM file.
#[cfg(all(feature = "dicom", not(target_family = "wasm")))]
pub(crate) fn is_dicom(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm"))
}

/// The name of a case: the file's name without `.nii`, `.nii.gz`, `.hdr`, `.img`, `.nrrd`, `.seg.nrrd`, `.nhdr`,
/// `.mha` or `.mhd` (in any case), or `None` when it
/// has no such ending.
pub fn case_name(path: &Path) -> Option<String> {
    split(path.file_name()?.to_str()?).map(|(stem, _)| stem.to_owned())
}

/// Whether the name is that of a file to open as a volume. The `.img` of a pair isn't: its `.hdr` is the one to open;
/// nor are hidden files, such as those that macOS leaves beside copies (`._case.nii`).
pub fn is_volume_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str());
    name.filter(|n| !n.starts_with('.')).and_then(split).is_some_and(|(_, end)| {
        let end = end.to_ascii_lowercase();
        !end.starts_with(".img")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_names_lose_their_ending_whatever_its_case() {
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
    fn pairs_are_written_to_two_files_whichever_is_named() {
        let files = |p: &str| {
            let files = written_files(Path::new(p));
            files.iter().map(|f| f.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((files("d/a.hdr"), files("d/a.img")), ("d/a.hdr d/a.img".into(), "d/a.hdr d/a.img".into()));
        assert_eq!(files("A.IMG.GZ"), "A.HDR.GZ A.IMG.GZ");
        assert_eq!((files("a.seg.nrrd"), files("a.dcm")), ("a.seg.nrrd".into(), "a.dcm".into()));
        assert_eq!((files("a.nhdr"), files("a.mhd")), ("a.nhdr a.raw.gz".into(), "a.mhd a.zraw".into()));
    }

    #[test]
    fn the_header_of_a_pair_is_the_one_to_open() {
        assert!(is_volume_file(Path::new("a.nii")) && is_volume_file(Path::new("A.HDR")));
        assert!(!is_volume_file(Path::new("a.img")) && !is_volume_file(Path::new("._a.nii.gz")));
        assert!(!is_volume_file(Path::new("dataset.json")));
    }
}
