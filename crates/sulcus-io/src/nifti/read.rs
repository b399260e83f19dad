use std::borrow::Cow;

use super::header::NiftiHeader;
use crate::error::Problem;
use crate::stored::StoredVolume;
use crate::{gzip, inflate};

/// A volume whose header and voxels are in one file.
pub(crate) fn read_single(bytes: Cow<'_, [u8]>) -> Result<StoredVolume<'_>, Problem> {
    let mut header = header_of_single(&bytes)?;
    let content = voxel_file(&header, bytes)?;
    let extensions = usize::try_from(header.vox_offset()).unwrap_or(usize::MAX);
    header.read_extensions(content.get(header.header_bytes()..extensions).unwrap_or_default());
    Ok(header.with_voxels(content))
}

/// A volume whose header is in one file and whose voxels are in another.
pub(crate) fn read_pair<'a>(header: &[u8], voxels: Cow<'a, [u8]>) -> Result<StoredVolume<'a>, Problem> {
    let header = header_of_pair(header)?;
    if voxels.is_empty() {
        return Err(Problem::Empty);
    }
    let content = voxel_file(&header, voxels)?;
    Ok(header.with_voxels(content))
}

/// The header of a single file, from its bytes or the first of them.
pub(crate) fn header_of_single(start: &[u8]) -> Result<NiftiHeader, Problem> {
    let header = header_in(start)?;
    if header.is_single_file() { Ok(header) } else { Err(Problem::Detached) }
}

/// The header of a pair with its extensions.
pub(crate) fn header_of_pair(bytes: &[u8]) -> Result<NiftiHeader, Problem> {
    /// Far more than header and extensions need.
    const MOST_BYTES: usize = 1 << 24;
    let mut header = header_in(bytes)?;
    if header.is_single_file() {
        return Err(Problem::Header {
            action: "read",
            expected: "the magic ni1 or ni2 in the header of a .hdr/.img pair".into(),
            found: "n+1 or n+2, which says that the voxels follow in the same file".into(),
            hint: "rename the file to .nii if they do, or repair the header",
        });
    }
    let inflated = if gzip::is_gzip(bytes) { Some(gzip::inflate(bytes, MOST_BYTES)?) } else { None };
    let content = inflated.as_deref().unwrap_or(bytes);
    header.read_extensions(content.get(header.header_bytes()..).unwrap_or_default());
    Ok(header)
}

/// The header at the start of a file, which may say that its voxels are in another.
pub(crate) fn header_in(start: &[u8]) -> Result<NiftiHeader, Problem> {
    /// Enough for the header and for the signature of any other kind of file.
    const START_BYTES: usize = 1024;
    if gzip::is_gzip(start) {
        let inflated = gzip::inflate_start(start, START_BYTES)?;
        return if inflated.is_empty() { Err(Problem::Empty) } else { NiftiHeader::parse(&inflated) };
    }
    NiftiHeader::parse(start)
}

/// What reading a single file into an image takes beside its bytes: what is inflated of them, and the voxels as numbers, as
/// far as the header announces it.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn memory_bytes(bytes: &[u8]) -> Result<u64, Problem> {
    let header = header_of_single(bytes)?;
    let inflated = header.vox_offset().saturating_add(header.voxel_bytes());
    let inflated = if gzip::is_gzip(bytes) { inflated } else { 0 };
    Ok(inflated.saturating_add(header.values().saturating_mul(size_of::<f32>() as u64)))
}

/// The content of the file with the voxels, at least up to the last of them.
fn voxel_file<'a>(header: &NiftiHeader, bytes: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, Problem> {
    if !gzip::is_gzip(&bytes) {
        header.check_length(bytes.len() as u64, false)?;
        return Ok(bytes);
    }
    header.check_length(inflate::most_inflated(&bytes), true)?;
    let wanted = header.vox_offset().saturating_add(header.voxel_bytes());
    let wanted =
        usize::try_from(wanted).map_err(|_| Problem::Memory { action: "decompress the file", bytes: wanted })?;
    let content = gzip::inflate(&bytes, wanted)?;
    header.check_length(content.len() as u64, false)?;
    Ok(Cow::Owned(content))
}
