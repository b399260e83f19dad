//! Compression with deflate, in the containers gzip (RFC 1952) and zlib (RFC 1950).

mod checksum;
mod deflate;
mod gzip;
mod inflate;
#[cfg(feature = "text-formats")]
mod zlib;

use std::io::{self, Write};

#[cfg(feature = "text-formats")]
pub(crate) use deflate::{gzip, zlib};
pub(crate) use gzip::{inflate_gzip, inflate_gzip_chunks, inflate_gzip_start, is_gzip};
pub(crate) use inflate::max_inflated_bytes;
#[cfg(feature = "text-formats")]
pub(crate) use zlib::inflate_zlib;

use crate::voxels::VoxelEncoder;

/// The compression of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Uncompressed, as `.nii`.
    None,
    /// gzip, as `.nii.gz`.
    Gzip,
}

/// Writes a file that consists of `start` and the values. The values are converted block by block.
pub(crate) fn write_compressed(
    start: &[u8],
    values: &VoxelEncoder<'_>,
    compression: Compression,
    out: &mut dyn Write,
) -> io::Result<()> {
    if compression == Compression::Gzip {
        return deflate::write_gzip(start, values, out);
    }
    out.write_all(start)?;
    let mut block = Vec::new();
    for range in values.blocks() {
        block.clear();
        values.append(range, &mut block);
        out.write_all(&block)?;
    }
    Ok(())
}
