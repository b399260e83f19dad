//! The file formats of volumes.
//!
//! A format is a type that implements [`Format`]: it recognises its files, parses a header into a [`Header`], and encodes
//! volumes. A [`Header`] combines with the bytes of the voxels to a [`StoredVolume`]. Everything above this module works
//! with these two traits and with [`FORMATS`]; everything below [`StoredVolume`] is independent of the format.
//!
//! # Adding a format
//!
//! 1. Add a folder beside `nrrd/` with a type that implements [`Format`], and one that implements [`Header`]. Use
//!    `text_header` if the header is text.
//! 2. Add one line to [`FORMATS`].
//! 3. Add a variant to [`VolumeFormat`](crate::VolumeFormat), the name of the format in reports.
//!
//! Reading, writing, pairs of files and file names then include the format, in every command and interface. Messages, help and
//! documentation that list the formats have to be extended: search the repository for `.mha`.
//!
//! Its tests belong into `tests/`. For the fuzzer and `tests/mutation.rs`, add a target (`tests/fuzz/src/targets.rs`, a program in
//! `tests/fuzz/fuzz_targets`, its name in `crates/xtask/src/fuzz.rs`) and small valid files (`tests/fuzz/src/seeds.rs`).

mod encodable;
mod files;
mod label_text;
#[cfg(feature = "text-formats")]
mod metaimage;
mod names;
pub(crate) mod nifti;
#[cfg(feature = "text-formats")]
mod nrrd;
#[cfg(feature = "pictures")]
mod picture;
#[cfg(feature = "text-formats")]
mod text_header;
mod unrecognized;

use std::borrow::Cow;

pub use encodable::Texts;
#[cfg(any(feature = "fs", feature = "pictures"))]
pub(crate) use encodable::VolumeToEncode;
#[cfg(feature = "fs")]
pub(crate) use files::{EncodedFile, EncodedVolume, OutputTarget};
pub(crate) use files::{Ending, FileRole, VoxelFile, VoxelLocation};
#[cfg(feature = "fs")]
pub(crate) use names::{all_endings, split_ending, with_ending};
pub use names::{case_name, is_volume_file};

use crate::error::IoErrorKind;
use crate::metadata::VolumeMetadata;
use crate::scan::Scan;
use crate::stored::StoredVolume;

/// All formats.
const FORMATS: &[&dyn Format] = &[
    &nifti::Nifti,
    #[cfg(feature = "text-formats")]
    &nrrd::Nrrd,
    #[cfg(feature = "text-formats")]
    &metaimage::MetaImage,
    #[cfg(feature = "pictures")]
    &picture::PictureFormat::Png,
    #[cfg(feature = "pictures")]
    &picture::PictureFormat::Jpeg,
    #[cfg(feature = "pictures")]
    &picture::PictureFormat::Tiff,
];

/// A file format.
pub(crate) trait Format: Sync {
    /// The file name endings of the format.
    fn endings(&self) -> &'static [Ending];

    /// Whether a file that starts with these bytes has the format.
    fn sniff(&self, start: &[u8]) -> bool;

    /// The number of bytes at the start of a file that are sufficient for [`parse`](Self::parse).
    fn max_header_bytes(&self) -> usize;

    /// Parses and checks the header at the start of a file.
    fn parse(&self, start: &[u8]) -> Result<Box<dyn Header>, IoErrorKind>;

    /// Whether volumes can be written in the format.
    #[cfg(feature = "fs")]
    fn is_written(&self) -> bool {
        true
    }

    /// The ending of the file of a mask of a scan in the format.
    #[cfg(feature = "fs")]
    fn mask_ending(&self) -> &'static str {
        ".nii.gz"
    }

    /// Encodes a volume as the content of one file, or of two.
    #[cfg(feature = "fs")]
    fn encode<'a>(
        &self,
        volume: &VolumeToEncode<'a>,
        target: &OutputTarget<'_>,
    ) -> Result<EncodedVolume<'a>, IoErrorKind>;
}

/// A header that has been checked: its fields agree with each other and place the volume in the patient.
pub(crate) trait Header {
    /// The metadata, as far as the header contains them.
    fn metadata(&self) -> Result<VolumeMetadata, IoErrorKind>;

    /// The location of the voxels.
    fn voxel_location(&self) -> VoxelLocation<'_>;

    /// Takes further data from the whole header file, when the voxels are in a separate one.
    fn read_header_file(&mut self, _file: &[u8]) -> Result<(), IoErrorKind> {
        Ok(())
    }

    /// Checks that an uncompressed file of this length can contain the voxels, before it is read.
    fn check_length(&self, _file: VoxelFile, _bytes: u64) -> Result<(), IoErrorKind> {
        Ok(())
    }

    /// Reads the volume. `content` is the whole file with the voxels.
    fn read<'a>(self: Box<Self>, file: VoxelFile, content: Cow<'a, [u8]>)
    -> Result<StoredVolume<'a>, IoErrorKind>;

    /// Reads the volume as an image in single precision. A format may override it to avoid the intermediate copy of
    /// compressed voxels.
    #[cfg(feature = "statistics")]
    fn read_scan(self: Box<Self>, file: VoxelFile, content: Cow<'_, [u8]>) -> Result<Scan, IoErrorKind> {
        self.read(file, content)?.scan()
    }
}

/// The format of a file with this start.
pub(crate) fn detect(start: &[u8]) -> Result<&'static dyn Format, IoErrorKind> {
    let format = FORMATS.iter().find(|format| format.sniff(start)).copied();
    format.ok_or_else(|| unrecognized::describe(start))
}

/// Whether a file with this start is a picture.
#[cfg(feature = "pictures")]
pub(crate) fn is_picture(start: &[u8]) -> bool {
    picture::FORMATS.iter().any(|format| format.sniff(start))
}

/// The content of a PNG file.
#[cfg(feature = "pictures")]
pub(crate) fn encode_png(volume: &VolumeToEncode<'_>) -> Result<Vec<u8>, IoErrorKind> {
    volume.check_grid()?;
    picture::encode_png(volume)
}

/// The content of a TIFF file.
#[cfg(feature = "pictures")]
pub(crate) fn encode_tiff(volume: &VolumeToEncode<'_>) -> Result<Vec<u8>, IoErrorKind> {
    volume.check_grid()?;
    picture::encode_tiff(volume)
}

/// Parses the header of a file in memory.
pub(crate) fn parse(bytes: &[u8]) -> Result<Box<dyn Header>, IoErrorKind> {
    detect(bytes)?.parse(bytes)
}

/// Reads a volume from one file in memory.
pub(crate) fn read(bytes: Cow<'_, [u8]>) -> Result<StoredVolume<'_>, IoErrorKind> {
    parse(&bytes)?.read(VoxelFile::Same, bytes)
}

/// The ending that the file of a mask gets by default, from the name of its scan: `.nii.gz`, of a PNG or JPEG picture `.png`, and of a
/// TIFF, which may be a stack, `.tif`.
#[cfg(feature = "fs")]
pub fn mask_ending(scan: &std::path::Path) -> &'static str {
    by_name(scan).map_or(".nii.gz", |(format, _)| format.mask_ending())
}

/// The format and the ending of a file name.
#[cfg(feature = "fs")]
pub(crate) fn by_name(path: &std::path::Path) -> Option<(&'static dyn Format, &'static Ending)> {
    let (_, ending) = split_ending(path.file_name()?.to_str()?)?;
    let format = FORMATS.iter().find(|format| format.endings().iter().any(|own| own.text == ending.text))?;
    Some((*format, ending))
}
