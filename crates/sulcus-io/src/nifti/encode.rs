use sulcus_volume::{Image, LabelMap, LabelTable, OrientationSource};

use super::extension;
use super::fields::Fields;
use super::header::INTENT_LABEL;
use super::layout::{Key, Version};
use crate::deflate;
use crate::error::{IoError, Problem};
use crate::source::Source;
#[cfg(not(target_family = "wasm"))]
use crate::stored::StoredVolume;
use crate::values::Values;
#[cfg(not(target_family = "wasm"))]
use crate::voxels::Scale;
use crate::voxels::VoxelType;

/// Whether a file is gzipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `.nii`
    None,
    /// `.nii.gz`
    Gzip,
}

/// Whether header and voxels are in one file or in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Single,
    /// `.hdr` and `.img`
    #[cfg(not(target_family = "wasm"))]
    Pair,
}

/// What becomes of texts that the input's header has: description, names, and extensions of other programs. They may
/// name the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Texts {
    /// They stay behind.
    #[default]
    Drop,
    /// They are written again, where the output's format is the input's.
    Keep,
}

/// What places the volume, and the unit.
const PLACE: &[Key] = &[
    Key::DimInfo,
    Key::Pixdim,
    Key::XyztUnits,
    Key::QformCode,
    Key::SformCode,
    Key::Quatern,
    Key::Qoffset,
    Key::Srow,
];
/// What else is said of the values.
#[cfg(not(target_family = "wasm"))]
const VALUES: &[Key] = &[
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
/// What may name the patient.
#[cfg(not(target_family = "wasm"))]
const TEXTS: &[Key] = &[Key::DbName, Key::Descrip, Key::AuxFile, Key::IntentName];

/// The bytes of a label map as a NIfTI file on the same grid as `like`: the sform, qform, voxel sizes, units and codes of
/// a NIfTI file bit for bit (NIfTI-2 stays NIfTI-2), for any other the grid as sform and qform; little-endian, uint8 where
/// the labels fit and uint16 otherwise, intent `NIFTI_INTENT_LABEL`, names and colours of `table` in a header extension.
///
/// # Errors
/// When the labels lie on another grid than `like`.
pub fn encode_labels(
    labels: &LabelMap,
    like: &Source,
    table: &LabelTable,
    compression: Compression,
) -> Result<Vec<u8>, IoError> {
    finish(&Encoded::labels(labels, like, table, Layout::Single)?, compression)
}

/// The bytes of an image as a float32 NIfTI file on the same grid as `like`; more than one channel make it 4-D.
///
/// # Errors
/// When the image lies on another grid than `like`.
pub fn encode_image(image: &Image, like: &Source, compression: Compression) -> Result<Vec<u8>, IoError> {
    finish(&Encoded::image(image, like, Layout::Single)?, compression)
}

fn finish(encoded: &Encoded<'_>, compression: Compression) -> Result<Vec<u8>, IoError> {
    let mut out = Vec::new();
    let whole = encoded.start.len().saturating_add(encoded.values.bytes());
    let room = if compression == Compression::None { whole } else { 0 };
    let memory = |_| Problem::Memory { action: "write the volume", bytes: whole as u64 };
    out.try_reserve_exact(room).map_err(memory)?;
    let written = encoded.write(compression, &mut out);
    written.map_err(|source| Problem::System {
        action: "write the volume",
        reason: source.to_string(),
        source,
    })?;
    Ok(out)
}

/// A file in two parts, or the two files of a pair: what comes before the voxels, and those, which are turned into bytes
/// as they are written.
pub(crate) struct Encoded<'a> {
    start: Vec<u8>,
    values: Values<'a>,
}

impl<'a> Encoded<'a> {
    pub(crate) fn labels(
        labels: &'a LabelMap,
        like: &Source,
        table: &LabelTable,
        layout: Layout,
    ) -> Result<Self, Problem> {
        let same = like.geometry().check_same_grid(labels.geometry());
        same.map_err(|source| Problem::Volume {
            action: "write the mask on the grid of its input",
            source: source.into(),
        })?;
        let values = Values::of_labels(labels.data());
        let mut header = Header::new(like, values.voxel_type(), &[])?;
        header.fields.set_int(Key::IntentCode, 0, INTENT_LABEL);
        header.fields.set_bytes(Key::IntentName, b"labels");
        Ok(Self { start: header.finish(&extension::encode(&[], table), layout), values })
    }

    pub(crate) fn image(image: &'a Image, like: &Source, layout: Layout) -> Result<Self, Problem> {
        let same = like.geometry().check_same_grid(image.geometry());
        same.map_err(|source| Problem::Volume {
            action: "write the image on the grid of its input",
            source: source.into(),
        })?;
        let channels = Some(image.channels()).filter(|n| *n > 1);
        let header = Header::new(like, VoxelType::Float32, channels.as_slice())?;
        Ok(Self { start: header.finish(&[0; 4], layout), values: Values::Float32(image.data()) })
    }

    /// A volume as it is, in its own type and scale; a label map when there is a table.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn stored(
        volume: &'a StoredVolume<'_>,
        table: Option<&LabelTable>,
        texts: Texts,
        layout: Layout,
    ) -> Result<Self, Problem> {
        let source = &volume.source;
        let axes = source.file_shape().get(3..).unwrap_or_default();
        let mut header = Header::new(source, source.voxel_type(), axes)?;
        let input = source.nifti_header()?;
        header.fields.copy(input.fields(), VALUES);
        if let Some(Scale { slope, intercept }) = volume.scale {
            header.fields.set_floats(Key::SclSlope, 0, &[slope]);
            header.fields.set_floats(Key::SclInter, 0, &[intercept]);
        }
        if texts == Texts::Keep {
            header.fields.copy(input.fields(), TEXTS);
        }
        let empty = LabelTable::default();
        if source.is_label_map() || table.is_some() {
            header.fields.set_int(Key::IntentCode, 0, INTENT_LABEL);
        }
        let others = if texts == Texts::Keep { input.extensions() } else { &[] };
        let extensions = extension::encode(others, table.unwrap_or(&empty));
        let values =
            Values::Stored { bytes: volume.raw(), voxel_type: source.voxel_type(), big: volume.big_endian };
        Ok(Self { start: header.finish(&extensions, layout), values })
    }

    pub(crate) fn write(&self, compression: Compression, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        match compression {
            Compression::None => {
                out.write_all(&self.start)?;
                let mut block = Vec::new();
                for range in self.values.blocks() {
                    block.clear();
                    self.values.append(range, &mut block);
                    out.write_all(&block)?;
                }
                Ok(())
            }
            Compression::Gzip => deflate::write_gzip(&self.start, &self.values, out),
        }
    }

    /// The first file of a pair.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn write_header(
        &self,
        compression: Compression,
        out: &mut dyn std::io::Write,
    ) -> std::io::Result<()> {
        Encoded { start: self.start.clone(), values: Values::of_bytes(&[]) }.write(compression, out)
    }

    /// The second.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn write_voxels(
        &self,
        compression: Compression,
        out: &mut dyn std::io::Write,
    ) -> std::io::Result<()> {
        Encoded { start: Vec::new(), values: self.values }.write(compression, out)
    }
}

/// A little-endian header in the making. What a reader takes as the patient's (description, names of other files,
/// dates) isn't in it unless asked for.
struct Header {
    fields: Fields,
}

impl Header {
    /// The header of values of a type on the grid of `like`, with the lengths of the axes after the third.
    fn new(like: &Source, voxel_type: VoxelType, axes: &[usize]) -> Result<Self, Problem> {
        let input = like.nifti_header()?;
        let place = input.fields();
        let shape: Vec<usize> = like.geometry().shape().iter().chain(axes).copied().collect();
        let fits = shape.iter().all(|n| *n <= place.version().longest_axis());
        let mut fields = Fields::blank(if fits { place.version() } else { Version::Two });
        fields.copy(place, PLACE);
        fields.set_int(Key::Dim, 0, shape.len() as i64);
        for (i, n) in shape.iter().chain([&1; 7]).take(7).enumerate() {
            fields.set_int(Key::Dim, i + 1, i64::try_from(*n).unwrap_or(i64::MAX));
        }
        fields.set_int(Key::Datatype, 0, i64::from(voxel_type.nifti_code()));
        fields.set_int(Key::Bitpix, 0, voxel_type.bytes() as i64 * 8);
        if like.geometry().source() == OrientationSource::None {
            // Nothing but these places the volume, and a picture's missing axes had size 1; as axes of length 1 they
            // would get the size that pixdim happens to hold.
            let rank = usize::try_from(place.int(Key::Dim, 0)).unwrap_or(3);
            (rank + 1..4).for_each(|i| fields.set_floats(Key::Pixdim, i, &[1.0]));
        }
        fields.set_floats(Key::SclSlope, 0, &[1.0]);
        fields.set_bytes(Key::Descrip, concat!("sulcus ", env!("CARGO_PKG_VERSION")).as_bytes());
        Ok(Self { fields })
    }

    /// The bytes up to the first voxel, or all of the first file of a pair.
    fn finish(mut self, extensions: &[u8], layout: Layout) -> Vec<u8> {
        let size = self.fields.version().header_bytes() + extensions.len();
        // Voxels begin at a multiple of 16, as programs that map files into memory want it.
        let end = match layout {
            Layout::Single => size.next_multiple_of(16),
            #[cfg(not(target_family = "wasm"))]
            Layout::Pair => size,
        };
        let first_voxel = match layout {
            Layout::Single => end,
            #[cfg(not(target_family = "wasm"))]
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
