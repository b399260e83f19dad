use sulcus_volume::{Image, LabelMap, LabelTable, OrientationSource};

use super::datatype;
use super::extension;
use super::fields::Fields;
use super::header::INTENT_LABEL;
use super::layout::{Key, Version};
use crate::compression::{Compression, write_compressed};
use crate::error::{IoError, IoErrorKind};
use crate::format::Texts;
#[cfg(feature = "fs")]
use crate::format::{EncodedFile, EncodedVolume, OutputTarget, VolumeToEncode};
use crate::metadata::VolumeMetadata;
use crate::stored::StoredVolume;
use crate::voxels::{VoxelEncoder, VoxelType};

/// Whether header and voxels are in one file or in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Single,
    #[cfg(feature = "fs")]
    Pair,
}

/// Fields about the position of the volume, and the unit.
const POSITION_FIELDS: &[Key] = &[
    Key::DimInfo,
    Key::Pixdim,
    Key::XyztUnits,
    Key::QformCode,
    Key::SformCode,
    Key::Quatern,
    Key::Qoffset,
    Key::Srow,
];
/// Other fields about the values.
const VALUE_FIELDS: &[Key] = &[
    Key::IntentP,
    Key::IntentCode,
    Key::SliceStart,
    Key::SliceEnd,
    Key::SliceCode,
    Key::SliceDuration,
    Key::CalMax,
    Key::CalMin,
    Key::Toffset,
];
/// Texts, which may name the patient.
const TEXT_FIELDS: &[Key] = &[Key::DbName, Key::Descrip, Key::AuxFile, Key::IntentName];

/// The bytes of a label map as a NIfTI file on the grid of `like`.
///
/// If `like` was read from a NIfTI file, the sform, qform, voxel sizes, units and codes are copied bit for bit, and NIfTI-2
/// stays NIfTI-2. Otherwise the grid becomes the sform and the qform. The file is little-endian; its values are uint8 if the
/// labels fit, otherwise uint16; its intent is `NIFTI_INTENT_LABEL`. A header extension contains the names and colours of
/// `table`.
///
/// # Errors
/// When the labels lie on another grid than `like`.
pub fn encode_labels(
    labels: &LabelMap,
    like: &VolumeMetadata,
    table: &LabelTable,
    compression: Compression,
) -> Result<Vec<u8>, IoError> {
    let same = like.geometry().check_same_grid(labels.geometry());
    let action = "write the mask on the grid of its input";
    same.map_err(|cause| IoErrorKind::Volume { action, cause: cause.into() })?;
    let (start, values) = label_file(labels, like, table, Layout::Single)?;
    to_bytes(&start, &values, compression)
}

/// The bytes of an image as a float32 NIfTI file on the grid of `like`. An image with several channels becomes 4-D.
///
/// # Errors
/// When the image lies on another grid than `like`.
pub fn encode_image(image: &Image, like: &VolumeMetadata, compression: Compression) -> Result<Vec<u8>, IoError> {
    let same = like.geometry().check_same_grid(image.geometry());
    let action = "write the image on the grid of its input";
    same.map_err(|cause| IoErrorKind::Volume { action, cause: cause.into() })?;
    let (start, values) = image_file(image, like, Layout::Single)?;
    to_bytes(&start, &values, compression)
}

/// The bytes of a volume in its own type and scale as a NIfTI file; a label map with these names if there is a `table`.
///
/// # Errors
/// When a NIfTI header cannot describe the grid, or there is not enough memory.
pub fn encode_stored(
    volume: &StoredVolume<'_>,
    table: Option<&LabelTable>,
    texts: Texts,
    compression: Compression,
) -> Result<Vec<u8>, IoError> {
    let (start, values) = stored_file(volume, table, texts, Layout::Single)?;
    to_bytes(&start, &values, compression)
}

fn to_bytes(start: &[u8], values: &VoxelEncoder<'_>, compression: Compression) -> Result<Vec<u8>, IoError> {
    const ACTION: &str = "write the volume";
    let mut out = Vec::new();
    let bytes = start.len().saturating_add(values.bytes());
    let capacity = if compression == Compression::None { bytes } else { 0 };
    let memory = |_| IoErrorKind::Memory { action: ACTION, bytes: bytes as u64 };
    out.try_reserve_exact(capacity).map_err(memory)?;
    let written = write_compressed(start, values, compression, &mut out);
    written.map_err(|cause| IoErrorKind::System { action: ACTION, reason: cause.to_string(), cause })?;
    Ok(out)
}

/// Encodes a volume for one file, or for the two files of a pair.
#[cfg(feature = "fs")]
pub(super) fn encode<'a>(
    volume: &VolumeToEncode<'a>,
    target: &OutputTarget<'_>,
) -> Result<EncodedVolume<'a>, IoErrorKind> {
    let layout = if target.is_single() { Layout::Single } else { Layout::Pair };
    let compression = if target.ending.text.ends_with(".gz") { Compression::Gzip } else { Compression::None };
    let (start, values) = match *volume {
        VolumeToEncode::Labels { labels, metadata, table } => label_file(labels, metadata, table, layout)?,
        VolumeToEncode::Image { image, metadata } => image_file(image, metadata, layout)?,
        VolumeToEncode::Stored { volume, table, texts } => stored_file(volume, table, texts, layout)?,
    };
    if layout == Layout::Single {
        return Ok(EncodedVolume { header: EncodedFile { start, values, compression }, voxels: None });
    }
    let header = EncodedFile { start, values: VoxelEncoder::from_bytes(&[]), compression };
    Ok(EncodedVolume { header, voxels: Some(EncodedFile { start: Vec::new(), values, compression }) })
}

/// The bytes before the voxels, and the voxels.
type Encoded<'a> = (Vec<u8>, VoxelEncoder<'a>);

fn label_file<'a>(
    labels: &'a LabelMap,
    like: &VolumeMetadata,
    table: &LabelTable,
    layout: Layout,
) -> Result<Encoded<'a>, IoErrorKind> {
    let values = VoxelEncoder::from_labels(labels.data());
    let mut header = HeaderBuilder::new(like, values.voxel_type(), &[])?;
    header.fields.set_int(Key::IntentCode, 0, INTENT_LABEL);
    header.fields.set_bytes(Key::IntentName, b"labels");
    Ok((header.finish(&extension::encode(&[], table), layout), values))
}

fn image_file<'a>(image: &'a Image, like: &VolumeMetadata, layout: Layout) -> Result<Encoded<'a>, IoErrorKind> {
    let channels = Some(image.channels()).filter(|n| *n > 1);
    let header = HeaderBuilder::new(like, VoxelType::Float32, channels.as_slice())?;
    Ok((header.finish(&[0; 4], layout), VoxelEncoder::Float32(image.data())))
}

/// A volume in its own type and scale; a label map if there is a table.
fn stored_file<'a>(
    volume: &'a StoredVolume<'_>,
    table: Option<&LabelTable>,
    texts: Texts,
    layout: Layout,
) -> Result<Encoded<'a>, IoErrorKind> {
    let metadata = volume.metadata();
    let voxel_type = metadata.voxel_type();
    let axes = metadata.file_shape().get(3..).unwrap_or_default();
    let mut header = HeaderBuilder::new(metadata, voxel_type, axes)?;
    let input = metadata.nifti_header()?;
    header.fields.copy(input.fields(), VALUE_FIELDS);
    if let Some((slope, intercept)) = volume.slope_and_intercept() {
        header.fields.set_floats(Key::SclSlope, 0, &[slope]);
        header.fields.set_floats(Key::SclInter, 0, &[intercept]);
    }
    if texts == Texts::Keep {
        header.fields.copy(input.fields(), TEXT_FIELDS);
    }
    if metadata.is_label_map() || table.is_some() {
        header.fields.set_int(Key::IntentCode, 0, INTENT_LABEL);
    }
    let others = if texts == Texts::Keep { input.extensions() } else { &[] };
    let no_names = LabelTable::default();
    let extensions = extension::encode(others, table.unwrap_or(&no_names));
    let values = VoxelEncoder::Stored { bytes: volume.raw(), voxel_type, big_endian: volume.is_big_endian() };
    Ok((header.finish(&extensions, layout), values))
}

/// Builds a little-endian header. It contains no texts that may name the patient (description, names of other files), unless
/// they are added explicitly.
struct HeaderBuilder {
    fields: Fields,
}

impl HeaderBuilder {
    /// A header for values of a type on the grid of `like`, with the lengths of the axes after the third.
    fn new(like: &VolumeMetadata, voxel_type: VoxelType, axes: &[usize]) -> Result<Self, IoErrorKind> {
        let input = like.nifti_header()?;
        let position = input.fields();
        let shape: Vec<usize> = like.geometry().shape().iter().chain(axes).copied().collect();
        let fits = shape.iter().all(|n| *n <= position.version().longest_axis());
        let mut fields = Fields::blank(if fits { position.version() } else { Version::Two });
        fields.copy(position, POSITION_FIELDS);
        fields.set_int(Key::Dim, 0, shape.len() as i64);
        for (i, n) in shape.iter().chain([&1; 7]).take(7).enumerate() {
            fields.set_int(Key::Dim, i + 1, i64::try_from(*n).unwrap_or(i64::MAX));
        }
        fields.set_int(Key::Datatype, 0, i64::from(datatype::code(voxel_type)));
        fields.set_int(Key::Bitpix, 0, voxel_type.bytes() as i64 * 8);
        if like.geometry().source() == OrientationSource::None {
            // Only the voxel sizes place this volume. The missing axes of a 2-D file had size 1, but pixdim may contain
            // any value for them.
            let rank = usize::try_from(position.int(Key::Dim, 0)).unwrap_or(3);
            (rank + 1..4).for_each(|i| fields.set_floats(Key::Pixdim, i, &[1.0]));
        }
        fields.set_floats(Key::SclSlope, 0, &[1.0]);
        fields.set_bytes(Key::Descrip, concat!("sulcus ", env!("CARGO_PKG_VERSION")).as_bytes());
        Ok(Self { fields })
    }

    /// The bytes up to the first voxel, or the whole header file of a pair.
    fn finish(mut self, extensions: &[u8], layout: Layout) -> Vec<u8> {
        let size = self.fields.version().header_bytes() + extensions.len();
        // Voxels begin at a multiple of 16, which programs that map files into memory expect.
        let end = match layout {
            Layout::Single => size.next_multiple_of(16),
            #[cfg(feature = "fs")]
            Layout::Pair => size,
        };
        let first_voxel = match layout {
            Layout::Single => end,
            #[cfg(feature = "fs")]
            Layout::Pair => {
                self.fields.set_bytes(Key::Magic, self.fields.version().magic(false));
                0
            }
        };
        self.fields.set_int(Key::VoxOffset, 0, first_voxel as i64);
        let mut out = self.fields.all().to_vec();
        out.extend(extensions);
        out.resize(end, 0);
        out
    }
}
