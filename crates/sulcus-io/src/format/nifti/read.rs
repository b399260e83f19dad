use std::borrow::Cow;

use super::header::NiftiHeader;
use super::layout::{Key, Version};
use super::streaming;
use crate::compression::{inflate_gzip, inflate_gzip_start, is_gzip, max_inflated_bytes};
use crate::error::IoErrorKind;
use crate::format::{Header, VoxelFile, VoxelLocation, label_text};
use crate::metadata::{FormatMetadata, LengthUnit, VolumeFormat, VolumeMetadata};
use crate::scan::Scan;
use crate::stored::StoredVolume;

impl Header for NiftiHeader {
    fn metadata(&self) -> Result<VolumeMetadata, IoErrorKind> {
        Ok(metadata(self.clone()))
    }

    fn voxel_location(&self) -> VoxelLocation<'_> {
        if self.is_single_file() { VoxelLocation::SameFile } else { VoxelLocation::PairedFile }
    }

    /// Reads the extensions.
    fn read_header_file(&mut self, file: &[u8]) -> Result<(), IoErrorKind> {
        /// Far more than header and extensions need.
        const MAX_BYTES: usize = 1 << 24;
        let inflated = if is_gzip(file) { Some(inflate_gzip(file, MAX_BYTES)?) } else { None };
        let content = inflated.as_deref().unwrap_or(file);
        self.read_extensions(content.get(self.header_bytes()..).unwrap_or_default());
        Ok(())
    }

    fn check_length(&self, file: VoxelFile, bytes: u64) -> Result<(), IoErrorKind> {
        check_voxel_file(self, file)?;
        self.check_file_bytes(bytes, false)
    }

    fn read<'a>(
        mut self: Box<Self>,
        file: VoxelFile,
        bytes: Cow<'a, [u8]>,
    ) -> Result<StoredVolume<'a>, IoErrorKind> {
        check_voxel_file(&self, file)?;
        if bytes.is_empty() {
            return Err(IoErrorKind::Empty);
        }
        let content = voxel_content(&self, bytes)?;
        let first_voxel = usize::try_from(self.vox_offset()).unwrap_or(usize::MAX);
        if file == VoxelFile::Same {
            let extensions = content.get(self.header_bytes()..first_voxel);
            self.read_extensions(extensions.unwrap_or_default());
        }
        let (big_endian, scale) = (self.is_big_endian(), self.scale());
        Ok(StoredVolume::from_content(metadata(*self), content, first_voxel, big_endian, scale))
    }

    /// Converts a gzipped file while it is inflated.
    #[cfg(feature = "statistics")]
    fn read_scan(self: Box<Self>, file: VoxelFile, content: Cow<'_, [u8]>) -> Result<Scan, IoErrorKind> {
        if file == VoxelFile::Same && is_gzip(&content) {
            check_voxel_file(&self, file)?;
            metadata((*self).clone()).check_usable()?;
            let (header, builder) = streaming::read_gzip(*self, &content)?;
            return builder.finish(metadata(header));
        }
        self.read(file, content)?.scan()
    }
}

/// Reads a volume from the bytes of a header file and a voxel file.
pub(crate) fn read_pair<'a>(header_file: &[u8], voxels: Cow<'a, [u8]>) -> Result<StoredVolume<'a>, IoErrorKind> {
    let mut header = Box::new(parse_header(header_file)?);
    check_voxel_file(&header, VoxelFile::Separate)?;
    header.read_header_file(header_file)?;
    header.read(VoxelFile::Separate, voxels)
}

/// Parses the header of a file in which header and voxels are together.
pub(crate) fn header_of_single_file(start: &[u8]) -> Result<NiftiHeader, IoErrorKind> {
    let header = parse_header(start)?;
    check_voxel_file(&header, VoxelFile::Same)?;
    Ok(header)
}

/// Parses the header at the start of a file.
pub(super) fn parse_header(start: &[u8]) -> Result<NiftiHeader, IoErrorKind> {
    /// Sufficient for the header and for the signatures of other kinds of files.
    const START_BYTES: usize = 1024;
    if is_gzip(start) {
        return NiftiHeader::parse(&inflate_gzip_start(start, START_BYTES)?);
    }
    NiftiHeader::parse(start)
}

/// Checks that the magic agrees with the location of the voxels.
fn check_voxel_file(header: &NiftiHeader, file: VoxelFile) -> Result<(), IoErrorKind> {
    match (header.is_single_file(), file) {
        (true, VoxelFile::Same) | (false, VoxelFile::Separate) => Ok(()),
        (false, VoxelFile::Same) => Err(IoErrorKind::DetachedVoxels),
        (true, VoxelFile::Separate) => Err(IoErrorKind::Header {
            action: "read",
            expected: "the magic ni1 or ni2 in the header of a .hdr/.img pair".into(),
            found: "n+1 or n+2, which says that the voxels follow in the same file".into(),
            hint: "rename the file to .nii if they do, or repair the header",
        }),
    }
}

/// The content of the voxel file, at least up to the last voxel.
pub(super) fn voxel_content<'a>(header: &NiftiHeader, bytes: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, IoErrorKind> {
    if !is_gzip(&bytes) {
        header.check_file_bytes(bytes.len() as u64, false)?;
        return Ok(bytes);
    }
    header.check_file_bytes(max_inflated_bytes(&bytes), true)?;
    let content = inflate_gzip(&bytes, streaming::needed_bytes(header)?)?;
    header.check_file_bytes(content.len() as u64, false)?;
    Ok(Cow::Owned(content))
}

/// The metadata of a volume with this header.
pub(super) fn metadata(header: NiftiHeader) -> VolumeMetadata {
    let format = match header.version() {
        Version::One => VolumeFormat::Nifti1,
        Version::Two => VolumeFormat::Nifti2,
    };
    // Codes that the standard does not define have no meaning.
    let unit = match header.fields().int(Key::XyztUnits, 0) & 7 {
        1 => LengthUnit::Ambiguous("metres"),
        3 => LengthUnit::Ambiguous("micrometres"),
        _ => LengthUnit::Millimetre,
    };
    let label_table = header.label_text().and_then(label_text::parse);
    let is_label_map = header.is_label_map();
    let metadata = VolumeMetadata::new(format, *header.geometry(), header.voxel_type())
        .with_shape(header.channels(), header.shape().to_vec())
        .with_unit(unit)
        .with_label_table(label_table)
        .with_format_metadata(FormatMetadata::Nifti(Box::new(header)));
    if is_label_map { metadata.marked_as_label_map() } else { metadata }
}
