//! MetaImage as ITK defines it: `.mha`, and `.mhd` with its voxels in a separate file.
//!
//! A header consists of lines `Key = value`, of which `ElementDataFile` is the last. Its directions and positions are LPS, as
//! everywhere in ITK, and are converted to RAS+. `AnatomicalOrientation` repeats `TransformMatrix` in letters and is not
//! read.

mod encode;
mod fields;
mod header;

#[cfg(feature = "fs")]
use super::{EncodedVolume, OutputTarget, VolumeToEncode};
use super::{Ending, Format, Header, text_header};
use crate::error::IoErrorKind;
use header::MetaImageHeader;

/// The format MetaImage.
pub(super) struct MetaImage;

const ENDINGS: &[Ending] = &[Ending::single(".mha"), Ending::header(".mhd", ".zraw")];

impl Format for MetaImage {
    fn endings(&self) -> &'static [Ending] {
        ENDINGS
    }

    fn sniff(&self, start: &[u8]) -> bool {
        fields::is_metaimage(start)
    }

    fn max_header_bytes(&self) -> usize {
        text_header::MAX_READ_BYTES
    }

    fn parse(&self, start: &[u8]) -> Result<Box<dyn Header>, IoErrorKind> {
        Ok(Box::new(MetaImageHeader::parse(start)?))
    }

    /// Compresses the voxels with zlib. The format cannot store label names.
    #[cfg(feature = "fs")]
    fn encode<'a>(
        &self,
        volume: &VolumeToEncode<'a>,
        target: &OutputTarget<'_>,
    ) -> Result<EncodedVolume<'a>, IoErrorKind> {
        let values = volume.unscaled()?;
        let voxels = encode::voxels(&values)?;
        let header = encode::header(&values, voxels.len(), target.voxel_file_name);
        Ok(EncodedVolume::with_text_header(header, voxels, target))
    }
}
