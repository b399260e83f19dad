use std::borrow::Cow;

use sulcus_volume::Geometry;

use super::directions::{self, Axes};
use super::fields::{Fields, header_error};
use super::segments::Segments;
use crate::compression::{inflate_gzip, is_gzip, max_inflated_bytes};
use crate::error::IoErrorKind;
use crate::format::text_header::{self, channels_last};
use crate::format::{Header, VoxelFile, VoxelLocation};
use crate::metadata::{VolumeFormat, VolumeMetadata};
use crate::stored::StoredVolume;
use crate::text::{excerpt, shape_text};
use crate::voxels::{LabelReader, VoxelType, reserve};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Encoding {
    Raw,
    Gzip,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Skip {
    Bytes(usize),
    /// The voxels are the last bytes of the file.
    ToEnd,
}

/// A checked NRRD header.
#[derive(Debug)]
pub(super) struct NrrdHeader {
    /// The length of the header itself.
    header_bytes: usize,
    geometry: Geometry,
    /// The products of the axes before the channel axis, of the channel axis, and after it.
    channels: Option<[usize; 3]>,
    voxel_type: VoxelType,
    big_endian: bool,
    encoding: Encoding,
    skip_lines: usize,
    skip: Skip,
    data_file: Option<String>,
    segments: Segments,
}

impl NrrdHeader {
    /// Parses and checks the header at the start of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, IoErrorKind> {
        let (fields, after) = Fields::read(bytes)?;
        let data_file = data_file(&fields)?;
        if after.is_none() && data_file.is_none() {
            return Err(header_error(
                "an empty line that ends the header",
                "the end of the file".into(),
                "the file is cut short, get it again",
            ));
        }
        let sizes = sizes(&fields)?;
        let Axes { geometry, channel } = directions::axes(&fields, &sizes)?;
        let voxel_type = voxel_type(fields.require("type")?)?;
        let encoding = encoding(fields.require("encoding")?)?;
        let product = |axes: &[usize]| axes.iter().try_fold(1_usize, |all, n| all.checked_mul(*n));
        let channels = match channel {
            None => None,
            Some(axis) => {
                let split = sizes.split_at_checked(axis).and_then(|(a, b)| Some((a, b.split_first()?)));
                let lengths = split.and_then(|(before, (n, after))| Some([product(before)?, *n, product(after)?]));
                Some(lengths.ok_or_else(|| too_many(&sizes))?)
            }
        };
        let skip_lines = match fields.get("line skip") {
            None => 0,
            Some(text) => text.parse().map_err(|_| invalid_skip("line skip", text))?,
        };
        let skip = match fields.get("byte skip") {
            None => Skip::Bytes(0),
            Some("-1") if encoding == Encoding::Raw => Skip::ToEnd,
            Some(text) => Skip::Bytes(text.parse().map_err(|_| invalid_skip("byte skip", text))?),
        };
        let big_endian = big_endian(&fields, voxel_type, encoding)? && encoding != Encoding::Text;
        let segments = fields.segments;
        let header = Self {
            header_bytes: bytes.len() - after.unwrap_or_default().len(),
            geometry,
            channels,
            voxel_type,
            big_endian,
            encoding,
            skip_lines,
            skip,
            data_file,
            segments,
        };
        header.needed_bytes()?;
        Ok(header)
    }

    /// The length of the channel axis, if there is one.
    fn channel_axis(&self) -> Option<usize> {
        self.channels.map(|[_, n, _]| n)
    }

    /// The size of all voxels in bytes.
    fn needed_bytes(&self) -> Result<usize, IoErrorKind> {
        let values = self.geometry.voxels().checked_mul(self.channel_axis().unwrap_or(1));
        let bytes = values.and_then(|n| n.checked_mul(self.voxel_type.bytes()));
        bytes.ok_or_else(|| too_many(&self.geometry.shape()))
    }

    fn too_few(&self, found: impl ToString) -> IoErrorKind {
        let shape: Vec<usize> = self.geometry.shape().into_iter().chain(self.channel_axis()).collect();
        IoErrorKind::TooFewVoxels {
            shape: shape_text(&shape),
            dtype: self.voxel_type.name(),
            expected: self.needed_bytes().unwrap_or(usize::MAX) as u64,
            found: found.to_string(),
        }
    }

    /// The metadata of a volume on this grid.
    fn metadata_with(&self, voxel_type: VoxelType, fourth_axis: Option<usize>) -> VolumeMetadata {
        let shape = self.geometry.shape().into_iter().chain(fourth_axis).collect();
        let metadata = VolumeMetadata::new(VolumeFormat::Nrrd, self.geometry, voxel_type);
        metadata.with_shape(fourth_axis.unwrap_or(1), shape)
    }

    /// The decompressed values in the order of the file, and the offset of the first one in the returned bytes.
    fn decoded<'a>(&self, file: Cow<'a, [u8]>, first: usize) -> Result<(Cow<'a, [u8]>, usize), IoErrorKind> {
        let needed = self.needed_bytes()?;
        let data = file.get(first..).unwrap_or_default();
        let skip = match self.skip {
            Skip::Bytes(n) => n,
            Skip::ToEnd => data.len().checked_sub(needed).ok_or_else(|| self.too_few(data.len()))?,
        };
        let wanted = skip.checked_add(needed).ok_or_else(|| self.too_few(data.len()))?;
        match self.encoding {
            Encoding::Raw => {
                data.get(skip..wanted).ok_or_else(|| self.too_few(data.len().saturating_sub(skip)))?;
                Ok((file, first + skip))
            }
            Encoding::Text => {
                let text = data.get(skip..).ok_or_else(|| self.too_few(data.len()))?;
                let values = text_header::voxels(text, self.voxel_type, needed / self.voxel_type.bytes())?;
                Ok((values.into(), 0))
            }
            Encoding::Gzip => {
                if !is_gzip(data) {
                    return Err(IoErrorKind::DamagedGzip { reason: "it does not start like gzip data", found: 0 });
                }
                let max = max_inflated_bytes(data);
                if max < wanted as u64 {
                    return Err(self.too_few(format!("{max} at most")));
                }
                let inflated = inflate_gzip(data, wanted)?;
                if inflated.len() < wanted {
                    return Err(self.too_few(inflated.len().saturating_sub(skip)));
                }
                Ok((inflated.into(), skip))
            }
        }
    }

    /// Merges the layers of a segmentation into one label map.
    fn merge_layers(
        &self,
        volume: &StoredVolume<'_>,
        layers: usize,
    ) -> Result<StoredVolume<'static>, IoErrorKind> {
        let mapping = self.segments.label_mapping(layers)?;
        let voxels = self.geometry.voxels();
        let mut values = LabelReader::new(voxels.saturating_mul(layers), false)?;
        volume.each_block(&mut |block| values.read(block));
        let labels = mapping.merge(values.finish()?, voxels)?;
        let mut bytes = reserve(voxels.saturating_mul(2))?;
        labels.iter().for_each(|label| bytes.extend(label.to_le_bytes()));
        let metadata = self.metadata_with(VoxelType::Uint16, None).with_names(mapping.table);
        Ok(StoredVolume::from_content(metadata, bytes.into(), 0, false, None))
    }
}

impl Header for NrrdHeader {
    fn metadata(&self) -> Result<VolumeMetadata, IoErrorKind> {
        let axis = self.channel_axis();
        if self.segments.is_empty() {
            return Ok(self.metadata_with(self.voxel_type, axis));
        }
        let table = self.segments.label_mapping(axis.unwrap_or(1))?.table;
        Ok(self.metadata_with(self.voxel_type, None).with_names(table))
    }

    fn voxel_location(&self) -> VoxelLocation<'_> {
        self.data_file.as_deref().map_or(VoxelLocation::SameFile, VoxelLocation::Named)
    }

    /// Reads the volume and the names of its labels. A segmentation with several layers becomes one label map.
    fn read<'a>(self: Box<Self>, file: VoxelFile, bytes: Cow<'a, [u8]>) -> Result<StoredVolume<'a>, IoErrorKind> {
        if file == VoxelFile::Same && self.data_file.is_some() {
            return Err(IoErrorKind::DataFileMissing);
        }
        let mut first = if file == VoxelFile::Same { self.header_bytes } else { 0 };
        for _ in 0..self.skip_lines {
            let (_, after) = text_header::split_line(bytes.get(first..).unwrap_or_default());
            first = bytes.len() - after.ok_or_else(|| self.too_few(0))?.len();
        }
        let (content, start) = self.decoded(bytes, first)?;
        let axis = self.channel_axis();
        let (metadata, big_endian) = (self.metadata_with(self.voxel_type, axis), self.big_endian);
        let mut volume = StoredVolume::from_content(metadata.clone(), content, start, big_endian, None);
        if let Some([before, n, after]) = self.channels
            && n > 1
            && after > 1
        {
            let reordered = channels_last(volume.raw(), self.voxel_type.bytes(), before, n)?;
            volume = StoredVolume::from_content(metadata, reordered.into(), 0, big_endian, None);
        }
        if self.segments.is_empty() {
            return Ok(volume);
        }
        let layers = axis.unwrap_or(1);
        if layers > 1 {
            return self.merge_layers(&volume, layers);
        }
        let metadata = self.metadata_with(self.voxel_type, None).with_names(self.segments.label_mapping(1)?.table);
        Ok(volume.with_metadata(metadata))
    }
}

fn too_many(sizes: &[usize]) -> IoErrorKind {
    header_error(
        "no more values than memory can address (`sizes`)",
        format!("{sizes:?}"),
        "the header is damaged, get the file again",
    )
}

fn invalid_skip(field: &str, found: &str) -> IoErrorKind {
    header_error(
        format!("a whole number from 0 (`{field}`; -1 for raw voxels at the end of their file)"),
        excerpt(found),
        "the header is damaged, get the file again",
    )
}

fn sizes(fields: &Fields<'_>) -> Result<Vec<usize>, IoErrorKind> {
    const MAX_AXES: usize = 8;
    let dimension = fields.require("dimension")?;
    let axes = dimension.parse().ok().filter(|n| (2..=MAX_AXES).contains(n)).ok_or_else(|| {
        header_error(
            format!("2 to {MAX_AXES} axes (`dimension`)"),
            excerpt(dimension),
            "give a volume of three axes, with a fourth for channels",
        )
    })?;
    let text = fields.require("sizes")?;
    let sizes: Option<Vec<usize>> = text_header::numbers(text, axes);
    sizes.filter(|sizes| sizes.len() == axes && sizes.iter().all(|n| *n > 0)).ok_or_else(|| {
        header_error(
            format!("{axes} whole numbers from 1 (`sizes`)"),
            excerpt(text),
            "the header is damaged, get the file again",
        )
    })
}

fn voxel_type(name: &str) -> Result<VoxelType, IoErrorKind> {
    const NAMES: &[(VoxelType, &[&str])] = &[
        (VoxelType::Int8, &["signed char", "int8", "int8_t"]),
        (VoxelType::Uint8, &["uchar", "unsigned char", "uint8", "uint8_t"]),
        (VoxelType::Int16, &["short", "short int", "signed short", "signed short int", "int16", "int16_t"]),
        (VoxelType::Uint16, &["ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"]),
        (VoxelType::Int32, &["int", "signed int", "int32", "int32_t"]),
        (VoxelType::Uint32, &["uint", "unsigned int", "uint32", "uint32_t"]),
        (
            VoxelType::Int64,
            &[
                "longlong",
                "long long",
                "long long int",
                "signed long long",
                "signed long long int",
                "int64",
                "int64_t",
            ],
        ),
        (VoxelType::Uint64, &["ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"]),
        (VoxelType::Float32, &["float"]),
        (VoxelType::Float64, &["double"]),
    ];
    let is = |names: &[&str]| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    NAMES.iter().find(|(_, names)| is(names)).map(|(voxel_type, _)| *voxel_type).ok_or_else(|| {
        header_error(
            "a type of whole numbers of 8 to 64 bits, float or double (`type`)",
            excerpt(name),
            "save the volume in one of these types",
        )
    })
}

fn encoding(name: &str) -> Result<Encoding, IoErrorKind> {
    let is = |names: &[&str]| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    if is(&["raw"]) {
        Ok(Encoding::Raw)
    } else if is(&["gzip", "gz"]) {
        Ok(Encoding::Gzip)
    } else if is(&["ascii", "text", "txt"]) {
        Ok(Encoding::Text)
    } else {
        Err(header_error(
            "the encoding raw, gzip or ascii (`encoding`)",
            excerpt(name),
            "save the file with gzip, with 3D Slicer for example",
        ))
    }
}

fn big_endian(fields: &Fields<'_>, voxel_type: VoxelType, encoding: Encoding) -> Result<bool, IoErrorKind> {
    match fields.get("endian") {
        Some(order) if order.eq_ignore_ascii_case("little") => Ok(false),
        Some(order) if order.eq_ignore_ascii_case("big") => Ok(true),
        None if voxel_type.bytes() == 1 || encoding == Encoding::Text => Ok(false),
        other => Err(header_error(
            "`little` or `big` (`endian`)",
            other.map_or("none".into(), excerpt),
            "without the byte order the values are unknown: get the file again",
        )),
    }
}

fn data_file(fields: &Fields<'_>) -> Result<Option<String>, IoErrorKind> {
    let Some(name) = fields.get("data file") else { return Ok(None) };
    if let Some(several) = text_header::several_data_files(name) {
        return Err(header_error(
            "voxels in one file (`data file`)",
            several.into(),
            "save the volume as one .nrrd file, with 3D Slicer for example",
        ));
    }
    Ok(Some(name.to_owned()))
}
