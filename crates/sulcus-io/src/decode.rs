use std::borrow::Cow;

use sulcus_volume::{Image, Label, LabelMap};

use crate::error::{IoError, Problem};
use crate::fields::HEADER_BYTES;
use crate::header::NiftiHeader;
use crate::info::{Statistics, VolumeInfo};
use crate::voxels::VoxelType;
use crate::{gzip, voxels};

/// An image, with what its file says of itself.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NiftiImage {
    /// The voxels, a channel for each index of the fourth axis. NaN and infinite voxels are kept; `info` counts them.
    pub image: Image,
    /// The header, to write results on the same grid.
    pub header: NiftiHeader,
    /// Type, shape and statistics.
    pub info: VolumeInfo,
}

/// Reads an image from the bytes of a `.nii` or `.nii.gz` file; which it is, its content says.
///
/// # Errors
/// When the bytes are no NIfTI-1 file, contradict themselves, end early, or hold values that are no single numbers.
pub fn read_image_bytes(bytes: &[u8]) -> Result<NiftiImage, IoError> {
    Ok(Stored::single(bytes)?.image()?)
}

/// Reads an image and measures nothing, which spares a pass over the voxels; values beyond single precision become
/// infinite.
///
/// # Errors
/// As [`read_image_bytes`].
pub fn read_image_unmeasured_bytes(bytes: &[u8]) -> Result<(Image, NiftiHeader), IoError> {
    Ok(Stored::single(bytes)?.unmeasured_image()?)
}

/// Reads an image from the bytes of a `.hdr` and an `.img` file, each as it is or gzipped.
///
/// # Errors
/// As [`read_image_bytes`].
pub fn read_image_pair_bytes(header: &[u8], voxels: &[u8]) -> Result<NiftiImage, IoError> {
    Ok(Stored::pair(header, voxels)?.image()?)
}

/// Reads a label map from the bytes of a `.nii` or `.nii.gz` file. Names that it carries are in
/// [`NiftiHeader::label_table`].
///
/// # Errors
/// As [`read_image_bytes`]; also when there are channels, or a value is no whole number from 0 to 65535.
pub fn read_labels_bytes(bytes: &[u8]) -> Result<(LabelMap, NiftiHeader), IoError> {
    Ok(Stored::single(bytes)?.labels()?)
}

/// Reads a label map from the bytes of a `.hdr` and an `.img` file.
///
/// # Errors
/// As [`read_labels_bytes`].
pub fn read_labels_pair_bytes(header: &[u8], voxels: &[u8]) -> Result<(LabelMap, NiftiHeader), IoError> {
    Ok(Stored::pair(header, voxels)?.labels()?)
}

/// Describes the volume in the bytes of a `.nii` or `.nii.gz` file.
///
/// # Errors
/// As [`read_image_bytes`].
pub fn read_info_bytes(bytes: &[u8]) -> Result<VolumeInfo, IoError> {
    Ok(Stored::single(bytes)?.info())
}

/// A checked header with its voxels as stored: all of them, in bytes.
pub(crate) struct Stored<'a> {
    header: NiftiHeader,
    content: Cow<'a, [u8]>,
}

impl<'a> Stored<'a> {
    pub(crate) fn single(bytes: &'a [u8]) -> Result<Self, Problem> {
        let mut header = header_of_single(bytes)?;
        let content = voxel_file(&header, bytes)?;
        let extensions = usize::try_from(header.vox_offset()).unwrap_or(usize::MAX);
        header.read_extensions(content.get(HEADER_BYTES..extensions).unwrap_or_default());
        Ok(Self { header, content })
    }

    pub(crate) fn pair(header: &[u8], voxels: &'a [u8]) -> Result<Self, Problem> {
        let header = header_of_pair(header)?;
        if voxels.is_empty() {
            return Err(Problem::Empty);
        }
        let content = voxel_file(&header, voxels)?;
        Ok(Self { header, content })
    }

    fn voxels(&self) -> &[u8] {
        // Lengths were checked when the content was read; it ends with the last voxel or after it.
        let start = usize::try_from(self.header.vox_offset()).unwrap_or(usize::MAX);
        let length = usize::try_from(self.header.voxel_bytes()).unwrap_or(usize::MAX);
        self.content.get(start..start.saturating_add(length)).unwrap_or_default()
    }

    fn each_block(&self, f: &mut dyn FnMut(&[f64])) {
        let header = &self.header;
        voxels::each_block(self.voxels(), header.voxel_type(), header.is_big_endian(), header.scale(), f);
    }

    fn values(&self) -> usize {
        self.header.geometry().voxels() * self.header.channels()
    }

    pub(crate) fn info(&self) -> VolumeInfo {
        let mut statistics = Statistics::NOTHING;
        self.each_block(&mut |values| statistics.add(values));
        VolumeInfo::new(&self.header, &statistics)
    }

    pub(crate) fn image(self) -> Result<NiftiImage, Problem> {
        let mut statistics = Statistics::NOTHING;
        let mut data = voxels::reserve(self.values())?;
        self.each_block(&mut |values| {
            statistics.add(values);
            data.extend(values.iter().map(|v| *v as f32));
        });
        let info = VolumeInfo::new(&self.header, &statistics);
        if let (Some(min), Some(max)) = (info.min, info.max)
            && (min < f64::from(f32::MIN) || max > f64::from(f32::MAX))
        {
            return Err(Problem::Range { min, max });
        }
        let image = Image::new(*self.header.geometry(), self.header.channels(), data)?;
        Ok(NiftiImage { image, header: self.header, info })
    }

    fn unmeasured_image(self) -> Result<(Image, NiftiHeader), Problem> {
        let mut data = voxels::reserve(self.values())?;
        self.each_block(&mut |values| data.extend(values.iter().map(|v| *v as f32)));
        Ok((Image::new(*self.header.geometry(), self.header.channels(), data)?, self.header))
    }

    pub(crate) fn labels(self) -> Result<(LabelMap, NiftiHeader), Problem> {
        let header = &self.header;
        if header.channels() != 1 {
            return Err(Problem::LabelChannels { channels: header.channels() });
        }
        let labels = if header.voxel_type() == VoxelType::Uint8 && header.scale().is_none() {
            // Most masks are this, and need no look at each value.
            let mut labels = voxels::reserve(self.values())?;
            labels.extend(self.voxels().iter().map(|v| Label::from(*v)));
            labels
        } else {
            let mut labels = voxels::LabelReader::new(self.values(), header.scale().is_some())?;
            self.each_block(&mut |values| labels.read(values));
            labels.finish()?
        };
        Ok((LabelMap::new(*header.geometry(), labels)?, self.header))
    }
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
            expected: "the magic ni1 in the header of a .hdr/.img pair".into(),
            found: "n+1, which says that the voxels follow in the same file".into(),
            hint: "rename the file to .nii if they do, or repair the header",
        });
    }
    let inflated = if gzip::is_gzip(bytes) { Some(gzip::inflate_start(bytes, MOST_BYTES)?) } else { None };
    let content = inflated.as_deref().unwrap_or(bytes);
    header.read_extensions(content.get(HEADER_BYTES..).unwrap_or_default());
    Ok(header)
}

/// Whether the bytes start with a header that says that its voxels are in another file.
pub(crate) fn header_in(start: &[u8]) -> Result<NiftiHeader, Problem> {
    /// Enough for the header and for the signature of any other kind of file.
    const START_BYTES: usize = 512;
    if gzip::is_gzip(start) {
        let inflated = gzip::inflate_start(start, START_BYTES)?;
        return if inflated.is_empty() { Err(Problem::Empty) } else { NiftiHeader::parse(&inflated) };
    }
    NiftiHeader::parse(start)
}

/// The content of the file with the voxels, at least up to the last of them.
fn voxel_file<'a>(header: &NiftiHeader, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, Problem> {
    if !gzip::is_gzip(bytes) {
        header.check_length(bytes.len() as u64, false)?;
        return Ok(Cow::Borrowed(bytes));
    }
    header.check_length(gzip::most_inflated(bytes), true)?;
    let wanted = header.vox_offset().saturating_add(header.voxel_bytes());
    let wanted =
        usize::try_from(wanted).map_err(|_| Problem::Memory { action: "decompress the file", bytes: wanted })?;
    let content = gzip::inflate(bytes, wanted)?;
    header.check_length(content.len() as u64, false)?;
    Ok(Cow::Owned(content))
}
