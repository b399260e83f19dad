//! NIfTI-1 and NIfTI-2: one file or a `.hdr`/`.img` pair, uncompressed or gzipped.
//!
//! The choice of the transform and the meaning of invalid values follow nibabel.

mod datatype;
mod encode;
mod extension;
mod fields;
pub(crate) mod header;
mod layout;
mod read;
mod streaming;
mod transform;
mod version;

use self::header::NiftiHeader;
#[cfg(feature = "fs")]
use super::{EncodedVolume, OutputTarget, VolumeToEncode};
use super::{Ending, Format, Header};
use crate::compression::is_gzip;
use crate::error::IoErrorKind;

pub use encode::{encode_image, encode_labels, encode_stored};
pub(crate) use read::{header_of_single_file, read_pair};

/// The format NIfTI.
pub(crate) struct Nifti;

const ENDINGS: &[Ending] = &[
    Ending::single(".nii"),
    Ending::single(".nii.gz"),
    Ending::header(".hdr", ".img"),
    Ending::header(".hdr.gz", ".img.gz"),
    Ending::voxels(".img", ".hdr"),
    Ending::voxels(".img.gz", ".hdr.gz"),
];

impl Format for Nifti {
    fn endings(&self) -> &'static [Ending] {
        ENDINGS
    }

    /// Any gzip data counts as NIfTI: no other format is compressed as a whole.
    fn sniff(&self, start: &[u8]) -> bool {
        is_gzip(start) || version::is_nifti(start)
    }

    fn max_header_bytes(&self) -> usize {
        // Compressed data may contain the header only after some kilobytes.
        1 << 16
    }

    fn parse(&self, start: &[u8]) -> Result<Box<dyn Header>, IoErrorKind> {
        Ok(Box::new(read::parse_header(start)?))
    }

    #[cfg(feature = "fs")]
    fn encode<'a>(
        &self,
        volume: &VolumeToEncode<'a>,
        target: &OutputTarget<'_>,
    ) -> Result<EncodedVolume<'a>, IoErrorKind> {
        encode::encode(volume, target)
    }
}

/// The grid of a file, from its header alone.
pub(crate) fn geometry(bytes: &[u8]) -> Result<sulcus_volume::Geometry, IoErrorKind> {
    Ok(*read::metadata(header_of_single_file(bytes)?).geometry())
}

/// The bytes of a file up to its last voxel.
pub(crate) fn content(bytes: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, IoErrorKind> {
    read::voxel_content(&header_of_single_file(bytes)?, bytes.into())
}

/// The memory that reading a file into an image needs besides its bytes, according to its header: the inflated data, and the
/// voxels in single precision.
pub(crate) fn memory_bytes(bytes: &[u8]) -> Result<u64, IoErrorKind> {
    let header: NiftiHeader = header_of_single_file(bytes)?;
    let inflated = if is_gzip(bytes) { header.file_bytes() } else { 0 };
    Ok(inflated.saturating_add(header.values().saturating_mul(size_of::<f32>() as u64)))
}
