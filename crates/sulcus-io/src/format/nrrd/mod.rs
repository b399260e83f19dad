//! NRRD as teem, 3D Slicer and ITK define it (<https://teem.sourceforge.net/nrrd/format.html>): `.nrrd`, the detached
//! `.nhdr`, and the `.seg.nrrd` of 3D Slicer's segmentations.
//!
//! A header consists of lines of text. The voxels follow it or are in a separate file. The directions are in the space that
//! the header names, and are converted to RAS+. `old min` and `old max`, the real values of quantised integers, are ignored,
//! as in 3D Slicer and ITK.

mod directions;
mod encode;
mod fields;
mod header;
mod segments;

#[cfg(feature = "fs")]
use super::{EncodedVolume, OutputTarget, VolumeToEncode};
use super::{Ending, Format, Header, text_header};
use crate::error::IoErrorKind;
use header::NrrdHeader;

/// The format NRRD.
pub(super) struct Nrrd;

const ENDINGS: &[Ending] =
    &[Ending::single(".nrrd"), Ending::single(".seg.nrrd"), Ending::header(".nhdr", ".raw.gz")];

impl Format for Nrrd {
    fn endings(&self) -> &'static [Ending] {
        ENDINGS
    }

    fn sniff(&self, start: &[u8]) -> bool {
        fields::is_nrrd(start)
    }

    fn max_header_bytes(&self) -> usize {
        text_header::MAX_READ_BYTES
    }

    fn parse(&self, start: &[u8]) -> Result<Box<dyn Header>, IoErrorKind> {
        Ok(Box::new(NrrdHeader::parse(start)?))
    }

    /// Gzips the voxels. The header is not compressed.
    #[cfg(feature = "fs")]
    fn encode<'a>(
        &self,
        volume: &VolumeToEncode<'a>,
        target: &OutputTarget<'_>,
    ) -> Result<EncodedVolume<'a>, IoErrorKind> {
        let (values, table) = (volume.unscaled()?, volume.label_table());
        let header = encode::header(&values, table, target.voxel_file_name);
        Ok(EncodedVolume::with_text_header(header, encode::voxels(&values)?, target))
    }
}
