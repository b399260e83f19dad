//! How a volume is distributed over one or two files.

#[cfg(feature = "fs")]
use std::io::{self, Write};

#[cfg(feature = "fs")]
use crate::compression::{Compression, write_compressed};
#[cfg(feature = "fs")]
use crate::voxels::VoxelEncoder;

/// A file name ending.
#[derive(Debug)]
pub(crate) struct Ending {
    /// In lower case, with its dot.
    pub(crate) text: &'static str,
    pub(crate) role: FileRole,
}

/// The content of a file with an ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileRole {
    /// Header and voxels.
    Single,
    /// The header. The voxels are in a file with this other ending.
    Header { voxels: &'static str },
    /// The voxels. The header is in a file with this other ending.
    Voxels { header: &'static str },
}

impl Ending {
    pub(crate) const fn single(text: &'static str) -> Self {
        Self { text, role: FileRole::Single }
    }

    pub(crate) const fn header(text: &'static str, voxels: &'static str) -> Self {
        Self { text, role: FileRole::Header { voxels } }
    }

    pub(crate) const fn voxels(text: &'static str, header: &'static str) -> Self {
        Self { text, role: FileRole::Voxels { header } }
    }
}

/// Where a header says that its voxels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoxelLocation<'a> {
    /// In the same file.
    SameFile,
    /// In a file with this name.
    Named(&'a str),
    /// In a file with the same name and another ending.
    PairedFile,
}

/// Whether the voxels are in the file of the header or in a separate one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoxelFile {
    Same,
    Separate,
}

/// What a volume is encoded for.
#[cfg(feature = "fs")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutputTarget<'a> {
    pub(crate) ending: &'static Ending,
    /// The name of the separate voxel file, if there is one.
    pub(crate) voxel_file_name: Option<&'a str>,
}

#[cfg(feature = "fs")]
impl OutputTarget<'_> {
    /// Whether header and voxels go into one file.
    pub(crate) fn is_single(&self) -> bool {
        self.ending.role == FileRole::Single
    }
}

/// An encoded volume: one file, or a header file and a voxel file.
#[cfg(feature = "fs")]
pub(crate) struct EncodedVolume<'a> {
    pub(crate) header: EncodedFile<'a>,
    pub(crate) voxels: Option<EncodedFile<'a>>,
}

#[cfg(all(feature = "fs", feature = "text-formats"))]
impl EncodedVolume<'_> {
    /// A header of text and compressed voxels, in one file or two as the target says.
    pub(crate) fn with_text_header(header: String, voxels: Vec<u8>, target: &OutputTarget<'_>) -> Self {
        let mut header = header.into_bytes();
        if target.is_single() {
            header.extend(voxels);
            return Self { header: EncodedFile::from_bytes(header), voxels: None };
        }
        Self { header: EncodedFile::from_bytes(header), voxels: Some(EncodedFile::from_bytes(voxels)) }
    }
}

/// The content of one file. The voxels are converted while they are written.
#[cfg(feature = "fs")]
pub(crate) struct EncodedFile<'a> {
    pub(crate) start: Vec<u8>,
    pub(crate) values: VoxelEncoder<'a>,
    pub(crate) compression: Compression,
}

#[cfg(feature = "fs")]
impl EncodedFile<'_> {
    /// A file with exactly these bytes.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { start: bytes, values: VoxelEncoder::from_bytes(&[]), compression: Compression::None }
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_compressed(&self.start, &self.values, self.compression, out)
    }
}
