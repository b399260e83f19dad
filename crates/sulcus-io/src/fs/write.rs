use std::path::{Path, PathBuf};

use sulcus_volume::{Image, LabelMap, LabelTable};

use super::atomic::StagedFile;
#[cfg(feature = "label-tables")]
use super::atomic::write_atomically;
use super::read::input_files;
#[cfg(feature = "dicom")]
use crate::dicom;
use crate::error::{IoError, IoErrorKind};
use crate::format::{Ending, FileRole, OutputTarget, Texts, VolumeToEncode, all_endings, by_name, with_ending};
#[cfg(feature = "label-tables")]
use crate::label_table::{LabelTableFormat, format_label_table};
use crate::metadata::VolumeMetadata;
use crate::stored::StoredVolume;

/// Writes a label map on the grid of `like`. The ending of the name selects the format; `.dcm` selects DICOM SEG if `like`
/// is a DICOM series. The file has a temporary name until it is complete. NIfTI is written as by
/// [`encode_labels`](crate::encode_labels).
///
/// # Errors
/// When the labels lie on another grid, the ending is unknown, or the file cannot be written.
pub fn write_labels(
    path: &Path,
    labels: &LabelMap,
    like: &VolumeMetadata,
    table: &LabelTable,
) -> Result<(), IoError> {
    #[cfg(feature = "dicom")]
    if let (true, Some(series)) = (dicom::is_dicom_name(path), like.series()) {
        let options = sulcus_dicom::SegmentationOptions::new(env!("CARGO_PKG_VERSION"));
        return dicom::write_segmentation(path, labels, series, table, &options);
    }
    write(path, &VolumeToEncode::Labels { labels, metadata: like, table })
}

/// Writes an image as float32 on the grid of `like`; 4-D if it has channels. The ending of the name selects the format.
///
/// # Errors
/// As [`write_labels`].
pub fn write_image(path: &Path, image: &Image, like: &VolumeMetadata) -> Result<(), IoError> {
    write(path, &VolumeToEncode::Image { image, metadata: like })
}

/// Writes a volume in its own type and scale; as a label map with these names if there is a `table`. The ending of the name
/// selects the format.
///
/// # Errors
/// As [`write_labels`].
pub fn write_stored(
    path: &Path,
    volume: &StoredVolume<'_>,
    table: Option<&LabelTable>,
    texts: Texts,
) -> Result<(), IoError> {
    write(path, &VolumeToEncode::Stored { volume, table, texts })
}

/// Writes a label table in the format that the ending of the name selects. The file has a temporary name until it is
/// complete.
///
/// # Errors
/// When the ending is unknown, or the file cannot be written.
#[cfg(feature = "label-tables")]
pub fn write_label_table(path: &Path, table: &LabelTable) -> Result<(), IoError> {
    let unknown = || IoError::in_file(path, IoErrorKind::LabelTableName);
    let format = LabelTableFormat::of_name(path).ok_or_else(unknown)?;
    write_atomically(path, |file| file.write_all(format_label_table(table, format).as_bytes()))
}

/// The files that writing a volume to a path creates or replaces: one, or two. For a name without a known ending, the path.
pub fn output_files(path: &Path) -> Vec<PathBuf> {
    match by_name(path) {
        None => vec![path.to_path_buf()],
        Some((_, ending)) => {
            let files = OutputFiles::new(path, ending);
            std::iter::once(files.header).chain(files.voxels).collect()
        }
    }
}

/// Whether writing a volume to `output` would replace a file of the volume at `input`.
pub fn would_replace(input: &Path, output: &Path) -> bool {
    // A file that does not exist yet has no canonical path and cannot be replaced.
    let existing = |paths: Vec<PathBuf>| paths.into_iter().filter_map(|path| path.canonicalize().ok());
    let inputs: Vec<PathBuf> = existing(input_files(input)).collect();
    existing(output_files(output)).any(|path| inputs.contains(&path))
}

/// The paths of a volume to write.
struct OutputFiles {
    header: PathBuf,
    /// The separate voxel file, if there is one.
    voxels: Option<PathBuf>,
}

impl OutputFiles {
    fn new(path: &Path, ending: &Ending) -> Self {
        match ending.role {
            FileRole::Single => Self { header: path.to_path_buf(), voxels: None },
            FileRole::Header { voxels } => {
                Self { header: path.to_path_buf(), voxels: Some(with_ending(path, voxels)) }
            }
            FileRole::Voxels { header } => {
                Self { header: with_ending(path, header), voxels: Some(path.to_path_buf()) }
            }
        }
    }
}

/// Writes a volume to one file or two. Both files are complete before the first gets its name. The header gets its name
/// last, so that there is never a header without voxels.
fn write(path: &Path, volume: &VolumeToEncode<'_>) -> Result<(), IoError> {
    let fail = |kind| IoError::in_file(path, kind);
    let unknown = || fail(IoErrorKind::OutputName { endings: all_endings() });
    let (format, ending) = by_name(path).ok_or_else(unknown)?;
    volume.check_grid().map_err(fail)?;
    let files = OutputFiles::new(path, ending);
    let voxel_file_name = files.voxels.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    let encoded = format.encode(volume, &OutputTarget { ending, voxel_file_name }).map_err(fail)?;
    let voxels = match (&files.voxels, &encoded.voxels) {
        (Some(path), Some(file)) => Some(StagedFile::new(path, |out| file.write(out))?),
        _ => None,
    };
    let header = StagedFile::new(&files.header, |out| encoded.header.write(out))?;
    voxels.map_or(Ok(()), StagedFile::commit)?;
    header.commit()
}

#[cfg(all(test, feature = "text-formats"))]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_two_files_whichever_is_named() {
        let files = |p: &str| {
            let files = output_files(Path::new(p));
            files.iter().map(|f| f.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((files("d/a.hdr"), files("d/a.img")), ("d/a.hdr d/a.img".into(), "d/a.hdr d/a.img".into()));
        assert_eq!(files("A.IMG.GZ"), "A.HDR.GZ A.IMG.GZ");
        assert_eq!((files("a.seg.nrrd"), files("a.dcm")), ("a.seg.nrrd".into(), "a.dcm".into()));
        assert_eq!((files("a.nhdr"), files("a.mhd")), ("a.nhdr a.raw.gz".into(), "a.mhd a.zraw".into()));
    }
}
