use std::borrow::Cow;

use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel};

use super::fields::Fields;
use super::problem;
use crate::error::Problem;
use crate::grid::{Grid, channels_last};
use crate::info::VolumeFormat;
use crate::source::Source;
use crate::stored::StoredVolume;
use crate::voxels::VoxelType;
use crate::{gzip, inflate, text, zlib};

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

/// Values a voxel, and how they lie.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Channels {
    One,
    /// All values of a voxel together.
    Together(usize),
    /// Along a fourth axis.
    Fourth(usize),
}

impl Channels {
    fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Together(n) | Self::Fourth(n) => n,
        }
    }
}

/// A header that was checked: its fields agree with each other and place the volume in the patient.
#[derive(Debug)]
pub(crate) struct Header {
    geometry: Geometry,
    channels: Channels,
    voxel_type: VoxelType,
    big_endian: bool,
    encoding: Encoding,
    compressed_bytes: Option<usize>,
    skip: Skip,
    data_file: Option<String>,
}

impl Header {
    /// Checks and reads a header; returns what follows it in the same bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Problem> {
        let (fields, after) = Fields::read(bytes)?;
        if let Some(other) = fields.get("ObjectType").filter(|kind| *kind != "Image") {
            return Err(problem(
                "an image (ObjectType)",
                text::excerpt(other),
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
            geometry,
            channels,
            voxel_type,
            big_endian: big_endian(&fields)? && encoding != Encoding::Text,
            encoding,
            compressed_bytes: whole(&fields, "CompressedDataSize")?.filter(|n| *n > 0),
            skip: skip(&fields, encoding)?,
            data_file: data_file(&fields)?,
        };
        header.needed()?;
        Ok((header, after))
    }

    /// The file in which the voxels are, if it isn't the header's own.
    pub(crate) fn data_file(&self) -> Option<&str> {
        self.data_file.as_deref()
    }

    /// Bytes of all voxels.
    fn needed(&self) -> Result<usize, Problem> {
        let values = self.geometry.voxels().checked_mul(self.channels.count());
        let bytes = values.and_then(|n| n.checked_mul(self.voxel_type.bytes()));
        bytes.ok_or_else(|| {
            problem(
                "no more values than memory can address (DimSize)",
                format!("{:?}", self.geometry.shape()),
                "the header is damaged, get the file again",
            )
        })
    }

    fn too_few(&self, found: impl ToString) -> Problem {
        let shape = self.geometry.shape().into_iter().chain(self.fourth_axis());
        Problem::TooFewVoxels {
            shape: shape.map(|n| n.to_string()).collect::<Vec<_>>().join(" × "),
            dtype: self.voxel_type.name(),
            expected: self.needed().unwrap_or(usize::MAX) as u64,
            found: found.to_string(),
        }
    }

    /// The volume. `file` is the one with the voxels, which begin at `start` unless the header says otherwise.
    pub(crate) fn read<'a>(&self, file: Cow<'a, [u8]>, start: usize) -> Result<StoredVolume<'a>, Problem> {
        let needed = self.needed()?;
        let first = match self.skip {
            Skip::Bytes(0) => start,
            Skip::Bytes(n) if n < start => {
                return Err(problem(
                    format!("voxels that begin after the header, at byte {start} or later (HeaderSize)"),
                    n.to_string(),
                    "the header is damaged, get the file again",
                ));
            }
            Skip::Bytes(n) => n,
            Skip::ToEnd => {
                let first = file.len().checked_sub(needed).filter(|first| *first >= start);
                first.ok_or_else(|| self.too_few(file.len().saturating_sub(start)))?
            }
        };
        let data = file.get(first..).ok_or_else(|| self.too_few(0))?;
        let (content, start) = match self.encoding {
            Encoding::Binary => {
                data.get(..needed).ok_or_else(|| self.too_few(data.len()))?;
                (file, first)
            }
            Encoding::Text => (text::voxels(data, self.voxel_type, needed / self.voxel_type.bytes())?.into(), 0),
            Encoding::Zlib => {
                let data = match self.compressed_bytes {
                    None => data,
                    Some(n) => data.get(..n).ok_or(Problem::Zlib {
                        reason: "end before CompressedDataSize says so, not",
                        found: data.len(),
                        expected: needed as u64,
                    })?,
                };
                let most = inflate::most_inflated(data);
                if most < needed as u64 {
                    return Err(self.too_few(format!("{most} at most")));
                }
                let inflated = if gzip::is_gzip(data) {
                    let bytes = gzip::inflate(data, needed)?;
                    if bytes.len() < needed {
                        return Err(self.too_few(bytes.len()));
                    }
                    bytes
                } else {
                    zlib::inflate(data, needed)?
                };
                (inflated.into(), 0)
            }
        };
        let (voxel_type, big_endian) = (self.voxel_type, self.big_endian);
        let mut grid =
            Grid { geometry: self.geometry, channels: self.fourth_axis(), voxel_type, big_endian, content, start };
        if let Channels::Together(n) = self.channels {
            let turned = channels_last(grid.values(), voxel_type.bytes(), 1, n)?;
            grid = Grid { content: turned.into(), start: 0, ..grid };
        }
        Ok(grid.into_stored(VolumeFormat::MetaImage, None))
    }

    /// What the header alone says.
    pub(crate) fn source(&self) -> Source {
        let shape = self.geometry.shape().into_iter().chain(self.fourth_axis()).collect();
        let source = Source::new(VolumeFormat::MetaImage, self.geometry, self.voxel_type);
        source.with_shape(self.channels.count(), shape)
    }

    fn fourth_axis(&self) -> Option<usize> {
        (self.channels != Channels::One).then_some(self.channels.count())
    }
}

fn damaged(expected: impl Into<String>, found: &str) -> Problem {
    problem(expected, text::excerpt(found), "the header is damaged, get the file again")
}

/// A whole number from 0.
fn whole(fields: &Fields<'_>, key: &'static str) -> Result<Option<usize>, Problem> {
    let Some(text) = fields.get(key) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| damaged(format!("a whole number from 0 ({key})"), text))
}

/// ITK leaves it out, MetaIO's description applies it.
fn check_intensity(fields: &Fields<'_>) -> Result<(), Problem> {
    for (key, neutral) in [("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)] {
        if let Some(text) = fields.get(key).filter(|text| text.parse() != Ok(neutral)) {
            return Err(problem(
                format!("{neutral} ({key})"),
                text::excerpt(text),
                "readers differ on whether it counts: apply it and save the values that you mean",
            ));
        }
    }
    Ok(())
}

/// Voxels along the axes in space, and along the fourth.
fn shape(fields: &Fields<'_>) -> Result<(Vec<usize>, Option<usize>), Problem> {
    let text = fields.require("NDims")?;
    let axes = text.parse().ok().filter(|n| (2..=4).contains(n)).ok_or_else(|| {
        problem(
            "2 to 4 axes (NDims)",
            text::excerpt(text),
            "give a volume of three axes, with a fourth for channels",
        )
    })?;
    let text = fields.require("DimSize")?;
    let sizes: Option<Vec<usize>> = text::numbers(text, axes);
    let mut sizes = sizes
        .filter(|sizes| sizes.len() == axes && sizes.iter().all(|n| *n > 0))
        .ok_or_else(|| damaged(format!("{axes} whole numbers from 1 (DimSize)"), text))?;
    let fourth = if axes == 4 { sizes.pop() } else { None };
    Ok((sizes, fourth))
}

/// Places two or three axes. `given` is how many the header has numbers for.
fn geometry(fields: &Fields<'_>, shape: &[usize], given: usize) -> Result<Geometry, Problem> {
    const LPS: [f64; 3] = [-1.0, -1.0, 1.0];
    let list = |keys: &[&'static str], n: usize| -> Result<Option<Vec<f64>>, Problem> {
        let Some((key, text)) = fields.first(keys) else { return Ok(None) };
        let numbers = text::numbers(text, n).filter(|list| list.len() == n);
        numbers.map(Some).ok_or_else(|| damaged(format!("{n} numbers ({key})"), text))
    };
    let matrix = list(&["TransformMatrix", "Rotation", "Orientation"], given * given)?;
    let spacing = list(&["ElementSpacing", "ElementSize"], given)?;
    let offset = list(&["Offset", "Position", "Origin"], given)?;
    let source = if matrix.is_some() { OrientationSource::Directions } else { OrientationSource::None };
    let one = |row: usize, column: usize| if row == column { 1.0 } else { 0.0 };
    // The matrix lists the direction of one axis after the other.
    let direction = |axis: usize, coordinate: usize| match &matrix {
        Some(m) if axis < given && coordinate < given => {
            m.get(axis * given + coordinate).copied().unwrap_or_default()
        }
        _ => one(axis, coordinate),
    };
    if given == 4 && (0..3).any(|i| direction(3, i) != 0.0 || direction(i, 3) != 0.0) {
        return Err(problem(
            "a fourth axis apart from the three in space (TransformMatrix)",
            text::excerpt(fields.get("TransformMatrix").unwrap_or_default()),
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
        .map_err(|source| Problem::Transform { form: "TransformMatrix", source: Box::new(source) })?;
    let axis = |i: usize| shape.get(i).copied().unwrap_or(1);
    Geometry::new([axis(0), axis(1), axis(2)], map, source)
        .map_err(|source| Problem::Volume { action: "read the MetaImage header", source: source.into() })
}

fn channels(fields: &Fields<'_>, fourth: Option<usize>) -> Result<Channels, Problem> {
    let together = whole(fields, "ElementNumberOfChannels")?.unwrap_or(1);
    match (together, fourth) {
        (0, _) => Err(damaged("a whole number from 1 (ElementNumberOfChannels)", "0")),
        (1, None) => Ok(Channels::One),
        (n, None) => Ok(Channels::Together(n)),
        (1, Some(n)) => Ok(Channels::Fourth(n)),
        (n, Some(_)) => Err(problem(
            "channels either in each voxel or along a fourth axis",
            format!("four axes and {n} channels (ElementNumberOfChannels)"),
            "split the file",
        )),
    }
}

fn voxel_type(name: &str) -> Result<VoxelType, Problem> {
    // In these files a long has 4 bytes on any system.
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
            return Err(problem(
                "a type of whole numbers of 8 to 64 bits, MET_FLOAT or MET_DOUBLE (ElementType)",
                text::excerpt(other),
                "save the volume in one of these types",
            ));
        }
    })
}

fn encoding(fields: &Fields<'_>) -> Result<Encoding, Problem> {
    let binary = fields.get("BinaryData").is_none() || fields.flag("BinaryData")?;
    match (binary, fields.flag("CompressedData")?) {
        (true, false) => Ok(Encoding::Binary),
        (true, true) => Ok(Encoding::Zlib),
        (false, false) => Ok(Encoding::Text),
        (false, true) => Err(problem(
            "binary data where they are compressed (CompressedData, BinaryData)",
            "text".into(),
            "the header is damaged, get the file again",
        )),
    }
}

fn big_endian(fields: &Fields<'_>) -> Result<bool, Problem> {
    let keys = ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"];
    let [one, other] = [fields.flag(keys[0])?, fields.flag(keys[1])?];
    if one != other && keys.iter().all(|key| fields.get(key).is_some()) {
        return Err(problem(
            "one byte order (BinaryDataByteOrderMSB, ElementByteOrderMSB)",
            "both".into(),
            "remove the wrong key from the header",
        ));
    }
    Ok(one || other)
}

fn skip(fields: &Fields<'_>, encoding: Encoding) -> Result<Skip, Problem> {
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

fn data_file(fields: &Fields<'_>) -> Result<Option<String>, Problem> {
    let name = fields.require("ElementDataFile")?;
    if name.eq_ignore_ascii_case("LOCAL") {
        return Ok(None);
    }
    let pattern = name.contains('%') && name.split_ascii_whitespace().count() > 1;
    if name.split_ascii_whitespace().next() == Some("LIST") || pattern {
        return Err(problem(
            "voxels in one file (ElementDataFile)",
            "a list of files".into(),
            "save the volume as one .mha file, with 3D Slicer for example",
        ));
    }
    Ok(Some(name.to_owned()))
}
