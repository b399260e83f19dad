use std::path::{Path, PathBuf};

use sulcus_volume::LabelMap;

use super::input::InputFile;
use super::pairs;
#[cfg(feature = "dicom")]
use crate::dicom;
use crate::error::{IoError, IoErrorKind};
use crate::format::{Header, VoxelFile};
use crate::info::VolumeInfo;
use crate::metadata::VolumeMetadata;
use crate::scan::Scan;
use crate::stored::StoredVolume;

/// Reads an image: a file of any format, either file of a volume in two files, or, with the feature `dicom`, the folder of
/// a DICOM series (the largest that is not a localizer, if there are several). The format and the compression are detected from the content, not from
/// the name.
///
/// # Errors
/// When a file does not exist or cannot be read, or as [`read_scan_bytes`](crate::read_scan_bytes).
pub fn read_scan(path: &Path) -> Result<Scan, IoError> {
    #[cfg(feature = "dicom")]
    if dicom::is_dicom(path) {
        return Ok(dicom::read_series(path, None)?.scan);
    }
    let VolumeFiles { header, file, content, path } = VolumeFiles::open(path)?;
    header.read_scan(file, content.into()).map_err(|kind| IoError::in_file(&path, kind))
}

/// Reads a label map; with the feature `dicom` also a DICOM SEG file. [`VolumeMetadata::label_table`] contains the label
/// names of the file.
///
/// # Errors
/// As [`read_scan`]; also when there are channels, or a value is not an integer from 0 to 65535.
pub fn read_labels(path: &Path) -> Result<(LabelMap, VolumeMetadata), IoError> {
    #[cfg(feature = "dicom")]
    if dicom::is_dicom(path) {
        return dicom::read_segmentation(path);
    }
    VolumeFiles::open(path)?.read(StoredVolume::labels)
}

/// Describes a volume.
///
/// # Errors
/// As [`read_scan`].
pub fn read_info(path: &Path) -> Result<VolumeInfo, IoError> {
    #[cfg(feature = "dicom")]
    if sulcus_dicom::is_segmentation(path) {
        return Ok(read_stored(path)?.info());
    }
    #[cfg(feature = "dicom")]
    if dicom::is_dicom(path) {
        return Ok(dicom::read_series(path, None)?.scan.info);
    }
    VolumeFiles::open(path)?.read(|stored| Ok(stored.info()))
}

/// Reads the header: grid, channels and voxel type, without the voxels. Label names between header and voxels are not read.
///
/// # Errors
/// When the file, or the header of a pair, does not exist or is invalid.
pub fn read_metadata(path: &Path) -> Result<VolumeMetadata, IoError> {
    #[cfg(feature = "dicom")]
    if dicom::is_dicom(path) {
        return dicom::read_series_metadata(path, None);
    }
    let header_path = pairs::header_file(path)?.unwrap_or_else(|| path.to_path_buf());
    let mut file = InputFile::open(&header_path)?;
    let header = file.header()?;
    header.metadata().map_err(|kind| file.error(kind))
}

/// Reads a volume in the type of its file and of any shape, for programs that copy values unchanged.
///
/// # Errors
/// As [`read_scan`], except for values that only an image cannot represent.
pub fn read_stored(path: &Path) -> Result<StoredVolume<'static>, IoError> {
    #[cfg(feature = "dicom")]
    if sulcus_dicom::is_segmentation(path) {
        let (labels, metadata) = dicom::read_segmentation(path)?;
        let values: Vec<u8> = labels.data().iter().flat_map(|v| v.to_le_bytes()).collect();
        return StoredVolume::new(metadata, values).map_err(|error| error.at(path));
    }
    #[cfg(feature = "dicom")]
    if dicom::is_dicom(path) {
        return Ok(dicom::read_series_stored(path, None)?.0);
    }
    VolumeFiles::open(path)?.read(Ok)
}

/// The files that reading a volume from a path opens: the path, and the second file of a volume in two files. For a path
/// without a volume, only the path.
pub fn input_files(path: &Path) -> Vec<PathBuf> {
    let second = || -> Option<PathBuf> {
        if let Some(header) = pairs::header_file(path).ok()? {
            return Some(header);
        }
        let mut file = Some(path).filter(|p| p.is_file()).map(InputFile::open)?.ok()?;
        pairs::voxel_file(path, &*file.header().ok()?).ok()?
    };
    std::iter::once(path.to_path_buf()).chain(second()).collect()
}

/// The checked header of a volume, and the content of the file with its voxels.
struct VolumeFiles {
    header: Box<dyn Header>,
    file: VoxelFile,
    content: Vec<u8>,
    /// The file with the voxels, for errors.
    path: PathBuf,
}

impl VolumeFiles {
    fn open(path: &Path) -> Result<Self, IoError> {
        // Reports a missing file by its own name.
        let mut file = InputFile::open(path)?;
        if let Some(header_path) = pairs::header_file(path)? {
            let mut header_file = InputFile::open(&header_path)?;
            let header = header_file.header()?;
            return Self::separate(header_file, header, file);
        }
        let header = file.header()?;
        if let Some(voxels) = pairs::voxel_file(path, &*header)? {
            return Self::separate(file, header, InputFile::open(&voxels)?);
        }
        file.check_length(&*header, VoxelFile::Same)?;
        Ok(Self { header, file: VoxelFile::Same, content: file.read_all()?, path: path.to_path_buf() })
    }

    fn separate(
        header_file: InputFile<'_>,
        mut header: Box<dyn Header>,
        voxel_file: InputFile<'_>,
    ) -> Result<Self, IoError> {
        let header_path = header_file.path;
        let read = header.read_header_file(&header_file.read_all()?);
        read.map_err(|kind| IoError::in_file(header_path, kind))?;
        voxel_file.check_length(&*header, VoxelFile::Separate)?;
        let path = voxel_file.path.to_path_buf();
        Ok(Self { header, file: VoxelFile::Separate, content: voxel_file.read_all()?, path })
    }

    fn read<T>(self, f: impl FnOnce(StoredVolume<'static>) -> Result<T, IoErrorKind>) -> Result<T, IoError> {
        let Self { header, file, content, path } = self;
        header.read(file, content.into()).and_then(f).map_err(|kind| IoError::in_file(&path, kind))
    }
}
