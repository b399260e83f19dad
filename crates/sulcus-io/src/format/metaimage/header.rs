use std::borrow::Cow;

use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel};

use super::fields::{Fields, header_error};
use crate::compression::{inflate_gzip, inflate_zlib, is_gzip, max_inflated_bytes};
use crate::error::IoErrorKind;
use crate::format::text_header::{self, channels_last};
use crate::format::{Header, VoxelFile, VoxelLocation};
use crate::metadata::{VolumeFormat, VolumeMetadata};
use crate::stored::StoredVolume;
use crate::text::{excerpt, shape_text};
use crate::voxels::VoxelType;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Encoding {
    Binary,
    Zlib,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Skip {
    Bytes(usize),
    /// The voxels are the last bytes of the file.
    ToEnd,
}

/// The number of channels and their position.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Channels {
    One,
    /// The channels are the fastest axis.
    Interleaved(usize),
    /// The channels are a fourth axis.
    FourthAxis(usize),
}

impl Channels {
    fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Interleaved(n) | Self::FourthAxis(n) => n,
        }
    }
}

/// A checked MetaImage header.
#[derive(Debug)]
pub(super) struct MetaImageHeader {
    /// The length of the header itself.
    header_bytes: usize,
    geometry: Geometry,
    channels: Channels,
    voxel_type: VoxelType,
    big_endian: bool,
    encoding: Encoding,
    skip: Skip,
    data_file: Option<String>,
}

impl MetaImageHeader {
    /// Parses and checks the header at the start of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, IoErrorKind> {
        let (fields, after) = Fields::read(bytes)?;
        if let Some(other) = fields.get("ObjectType").filter(|kind| *kind != "Image") {
            return Err(header_error(
                "an image (ObjectType)",
                excerpt(other),
                "give a volume: this file holds another kind of object",
            ));
        }
        check_intensity(&fields)?;
        let (shape, fourth) = shape(&fields)?;
        let dimensions = shape.len();
        let geometry = geometry(&fields, &shape, dimensions + usize::from(fourth.is_some()))?;
        let channels = channels(&fields, fourth)?;
        let voxel_type = voxel_type(fields.require("ElementType")?)?;
        let encoding = encoding(&fields)?;
        let header = Self {
            header_bytes: bytes.len() - after.len(),
            geometry,
            channels,
            voxel_type,
            big_endian: big_endian(&fields)? && encoding != Encoding::Text,
            encoding,
            skip: skip(&fields, encoding)?,
            data_file: data_file(&fields)?,
        };
        header.needed_bytes()?;
        Ok(header)
    }

    /// The size of all voxels in bytes.
    fn needed_bytes(&self) -> Result<usize, IoErrorKind> {
        let values = self.geometry.voxels().checked_mul(self.channels.count());
        let bytes = values.and_then(|n| n.checked_mul(self.voxel_type.bytes()));
        bytes.ok_or_else(|| {
            header_error(
                "no more values than memory can address (DimSize)",
                format!("{:?}", self.geometry.shape()),
                "the header is damaged, get the file again",
            )
        })
    }

    fn too_few(&self, found: impl ToString) -> IoErrorKind {
        let shape: Vec<usize> = self.geometry.shape().into_iter().chain(self.fourth_axis()).collect();
        IoErrorKind::TooFewVoxels {
            shape: shape_text(&shape),
            dtype: self.voxel_type.name(),
            expected: self.needed_bytes().unwrap_or(usize::MAX) as u64,
            found: found.to_string(),
        }
    }

    fn fourth_axis(&self) -> Option<usize> {
        (self.channels != Channels::One).then_some(self.channels.count())
    }

    /// The offset of the voxel data in `file`. The data after a header begins at `start`.
    fn data_offset(&self, file: &[u8], start: usize) -> Result<usize, IoErrorKind> {
        Ok(match self.skip {
            Skip::Bytes(0) => start,
            Skip::Bytes(n) if n < start => {
                return Err(header_error(
                    format!("voxels that begin after the header, at byte {start} or later (HeaderSize)"),
                    n.to_string(),
                    "the header is damaged, get the file again",
                ));
            }
            Skip::Bytes(n) => n,
            Skip::ToEnd => {
                let first = file.len().checked_sub(self.needed_bytes()?).filter(|first| *first >= start);
                first.ok_or_else(|| self.too_few(file.len().saturating_sub(start)))?
            }
        })
    }

    /// Inflates zlib or gzip data. They end where their checksum is, whatever CompressedDataSize says.
    fn inflated(&self, data: &[u8], needed: usize) -> Result<Vec<u8>, IoErrorKind> {
        let max = max_inflated_bytes(data);
        if max < needed as u64 {
            return Err(self.too_few(format!("{max} at most")));
        }
        if !is_gzip(data) {
            return inflate_zlib(data, needed);
        }
        let bytes = inflate_gzip(data, needed)?;
        if bytes.len() < needed { Err(self.too_few(bytes.len())) } else { Ok(bytes) }
    }
}

impl Header for MetaImageHeader {
    fn metadata(&self) -> Result<VolumeMetadata, IoErrorKind> {
        let shape = self.geometry.shape().into_iter().chain(self.fourth_axis()).collect();
        let metadata = VolumeMetadata::new(VolumeFormat::MetaImage, self.geometry, self.voxel_type);
        Ok(metadata.with_shape(self.channels.count(), shape))
    }

    fn voxel_location(&self) -> VoxelLocation<'_> {
        self.data_file.as_deref().map_or(VoxelLocation::SameFile, VoxelLocation::Named)
    }

    fn read<'a>(self: Box<Self>, file: VoxelFile, bytes: Cow<'a, [u8]>) -> Result<StoredVolume<'a>, IoErrorKind> {
        if file == VoxelFile::Same && self.data_file.is_some() {
            return Err(IoErrorKind::DataFileMissing);
        }
        let needed = self.needed_bytes()?;
        let start = if file == VoxelFile::Same { self.header_bytes } else { 0 };
        let first = self.data_offset(&bytes, start)?;
        let data = bytes.get(first..).ok_or_else(|| self.too_few(0))?;
        let value_bytes = self.voxel_type.bytes();
        let (content, start): (Cow<'a, [u8]>, usize) = match self.encoding {
            Encoding::Binary => {
                data.get(..needed).ok_or_else(|| self.too_few(data.len()))?;
                (bytes, first)
            }
            Encoding::Text => (text_header::voxels(data, self.voxel_type, needed / value_bytes)?.into(), 0),
            Encoding::Zlib => (self.inflated(data, needed)?.into(), 0),
        };
        let metadata = self.metadata()?;
        let volume = StoredVolume::from_content(metadata.clone(), content, start, self.big_endian, None);
        match self.channels {
            Channels::Interleaved(n) => {
                let reordered = channels_last(volume.raw(), value_bytes, 1, n)?;
                Ok(StoredVolume::from_content(metadata, reordered.into(), 0, self.big_endian, None))
            }
            _ => Ok(volume),
        }
    }
}

fn damaged(expected: impl Into<String>, found: &str) -> IoErrorKind {
    header_error(expected, excerpt(found), "the header is damaged, get the file again")
}

/// The value of a key as a non-negative integer.
fn integer(fields: &Fields<'_>, key: &'static str) -> Result<Option<usize>, IoErrorKind> {
    let Some(text) = fields.get(key) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| damaged(format!("a whole number from 0 ({key})"), text))
}

/// Refuses a scaling of the values: ITK ignores it, the specification of MetaIO applies it.
fn check_intensity(fields: &Fields<'_>) -> Result<(), IoErrorKind> {
    for (key, neutral) in [("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)] {
        if let Some(text) = fields.get(key).filter(|text| text.parse() != Ok(neutral)) {
            return Err(header_error(
                format!("{neutral} ({key})"),
                excerpt(text),
                "readers differ on whether to apply it: apply it, and save the scaled values",
            ));
        }
    }
    Ok(())
}

/// The lengths of the axes in space, and of the fourth axis.
fn shape(fields: &Fields<'_>) -> Result<(Vec<usize>, Option<usize>), IoErrorKind> {
    let text = fields.require("NDims")?;
    let axes = text.parse().ok().filter(|n| (2..=4).contains(n)).ok_or_else(|| {
        header_error(
            "2 to 4 axes (NDims)",
            excerpt(text),
            "give a volume of three axes, with a fourth for channels",
        )
    })?;
    let text = fields.require("DimSize")?;
    let sizes: Option<Vec<usize>> = text_header::numbers(text, axes);
    let mut sizes = sizes
        .filter(|sizes| sizes.len() == axes && sizes.iter().all(|n| *n > 0))
        .ok_or_else(|| damaged(format!("{axes} whole numbers from 1 (DimSize)"), text))?;
    let fourth = if axes == 4 { sizes.pop() } else { None };
    Ok((sizes, fourth))
}

/// The geometry of two or three axes. The header contains numbers for `given` axes.
fn geometry(fields: &Fields<'_>, shape: &[usize], given: usize) -> Result<Geometry, IoErrorKind> {
    const LPS: [f64; 3] = [-1.0, -1.0, 1.0];
    let list = |keys: &[&'static str], n: usize| -> Result<Option<Vec<f64>>, IoErrorKind> {
        let Some((key, text)) = fields.first(keys) else { return Ok(None) };
        let numbers = text_header::numbers(text, n).filter(|list| list.len() == n);
        numbers.map(Some).ok_or_else(|| damaged(format!("{n} numbers ({key})"), text))
    };
    if let Some(unit) = fields.first(&["DistanceUnits"]).map(|(_, unit)| unit)
        && !text_header::is_millimetres(unit)
    {
        return Err(header_error(
            "distances in mm (DistanceUnits)",
            excerpt(unit),
            "readers differ on other units: save the file in millimetres",
        ));
    }
    let matrix = list(&["TransformMatrix", "Rotation", "Orientation"], given * given)?;
    let spacing = list(&["ElementSpacing", "ElementSize"], given)?;
    let offset = list(&["Offset", "Position", "Origin"], given)?;
    let source = if matrix.is_some() { OrientationSource::Directions } else { OrientationSource::None };
    let one = |row: usize, column: usize| if row == column { 1.0 } else { 0.0 };
    // The matrix contains the direction of one axis after the other.
    let direction = |axis: usize, coordinate: usize| match &matrix {
        Some(m) if axis < given && coordinate < given => {
            m.get(axis * given + coordinate).copied().unwrap_or_default()
        }
        _ => one(axis, coordinate),
    };
    if given == 4 && (0..3).any(|i| direction(3, i) != 0.0 || direction(i, 3) != 0.0) {
        return Err(header_error(
            "a fourth axis apart from the three in space (TransformMatrix)",
            excerpt(fields.get("TransformMatrix").unwrap_or_default()),
            "save the volume with directions of three axes",
        ));
    }
    let number = |list: &Option<Vec<f64>>, i: usize, default: f64| match list {
        Some(list) if i < given => list.get(i).copied().unwrap_or(default),
        _ => default,
    };
    let rows = std::array::from_fn(|coordinate| {
        let step = |axis: usize| direction(axis, coordinate) * number(&spacing, axis, 1.0);
        [step(0), step(1), step(2), number(&offset, coordinate, 0.0)].map(|v| LPS[coordinate] * v)
    });
    let map = RasFromVoxel::new(rows)
        .map_err(|cause| IoErrorKind::Transform { form: "TransformMatrix", cause: Box::new(cause) })?;
    let axis = |i: usize| shape.get(i).copied().unwrap_or(1);
    Geometry::new([axis(0), axis(1), axis(2)], map, source)
        .map_err(|cause| IoErrorKind::Volume { action: "read the MetaImage header", cause: cause.into() })
}

fn channels(fields: &Fields<'_>, fourth: Option<usize>) -> Result<Channels, IoErrorKind> {
    let interleaved = integer(fields, "ElementNumberOfChannels")?.unwrap_or(1);
    match (interleaved, fourth) {
        (0, _) => Err(damaged("a whole number from 1 (ElementNumberOfChannels)", "0")),
        (1, None) => Ok(Channels::One),
        (n, None) => Ok(Channels::Interleaved(n)),
        (1, Some(n)) => Ok(Channels::FourthAxis(n)),
        (n, Some(_)) => Err(header_error(
            "channels either in each voxel or along a fourth axis",
            format!("four axes and {n} channels (ElementNumberOfChannels)"),
            "split the file",
        )),
    }
}

fn voxel_type(name: &str) -> Result<VoxelType, IoErrorKind> {
    // In MetaImage a long always has 4 bytes.
    Ok(match name.strip_suffix("_ARRAY").unwrap_or(name) {
        "MET_CHAR" => VoxelType::Int8,
        "MET_UCHAR" => VoxelType::Uint8,
        "MET_SHORT" => VoxelType::Int16,
        "MET_USHORT" => VoxelType::Uint16,
        "MET_INT" | "MET_LONG" => VoxelType::Int32,
        "MET_UINT" | "MET_ULONG" => VoxelType::Uint32,
        "MET_LONG_LONG" => VoxelType::Int64,
        "MET_ULONG_LONG" => VoxelType::Uint64,
        "MET_FLOAT" => VoxelType::Float32,
        "MET_DOUBLE" => VoxelType::Float64,
        other => {
            return Err(header_error(
                "a type of whole numbers of 8 to 64 bits, MET_FLOAT or MET_DOUBLE (ElementType)",
                excerpt(other),
                "save the volume in one of these types",
            ));
        }
    })
}

fn encoding(fields: &Fields<'_>) -> Result<Encoding, IoErrorKind> {
    let binary = fields.get("BinaryData").is_none() || fields.flag("BinaryData")?;
    match (binary, fields.flag("CompressedData")?) {
        (true, false) => Ok(Encoding::Binary),
        (true, true) => Ok(Encoding::Zlib),
        (false, false) => Ok(Encoding::Text),
        (false, true) => Err(header_error(
            "binary data where they are compressed (CompressedData, BinaryData)",
            "text".into(),
            "the header is damaged, get the file again",
        )),
    }
}

fn big_endian(fields: &Fields<'_>) -> Result<bool, IoErrorKind> {
    let keys = ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"];
    let [one, other] = [fields.flag(keys[0])?, fields.flag(keys[1])?];
    if one != other && keys.iter().all(|key| fields.get(key).is_some()) {
        return Err(header_error(
            "one byte order (BinaryDataByteOrderMSB, ElementByteOrderMSB)",
            "both".into(),
            "remove the wrong key from the header",
        ));
    }
    Ok(one || other)
}

fn skip(fields: &Fields<'_>, encoding: Encoding) -> Result<Skip, IoErrorKind> {
    match fields.get("HeaderSize") {
        None => Ok(Skip::Bytes(0)),
        Some("-1") if encoding == Encoding::Binary => Ok(Skip::ToEnd),
        Some(text) => text.parse().map(Skip::Bytes).map_err(|_| {
            damaged(
                "a whole number from 0, or -1 for uncompressed voxels at the end of their file (HeaderSize)",
                text,
            )
        }),
    }
}

fn data_file(fields: &Fields<'_>) -> Result<Option<String>, IoErrorKind> {
    let name = fields.require("ElementDataFile")?;
    if name.eq_ignore_ascii_case("LOCAL") {
        return Ok(None);
    }
    if let Some(several) = text_header::several_data_files(name) {
        return Err(header_error(
            "voxels in one file (ElementDataFile)",
            several.into(),
            "save the volume as one .mha file, with 3D Slicer for example",
        ));
    }
    Ok(Some(name.to_owned()))
}
