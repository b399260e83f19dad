use std::borrow::Cow;

use sulcus_volume::{Geometry, LabelTable};

use super::directions::{self, Axes};
use super::fields::Fields;
use super::problem;
use super::segments::Segments;
use crate::error::Problem;
use crate::grid::{Grid, channels_last};
use crate::info::VolumeFormat;
use crate::source::Source;
use crate::stored::StoredVolume;
use crate::voxels::{LabelReader, VoxelType, each_block, reserve};
use crate::{gzip, inflate, text};

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

/// A header that was checked: its fields agree with each other and place the volume in the patient.
#[derive(Debug)]
pub(crate) struct Header {
    geometry: Geometry,
    /// Sizes before, of and after the axis of channels, where there is one.
    channels: Option<[usize; 3]>,
    voxel_type: VoxelType,
    big_endian: bool,
    encoding: Encoding,
    skip_lines: usize,
    skip: Skip,
    data_file: Option<String>,
    segments: Segments,
}

impl Header {
    /// Checks and reads a header; returns what follows it in the same bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Problem> {
        let (fields, after) = Fields::read(bytes)?;
        let data_file = data_file(&fields)?;
        if after.is_none() && data_file.is_none() {
            return Err(problem(
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
            Some(text) => text.parse().map_err(|_| bad_skip("line skip", text))?,
        };
        let skip = match fields.get("byte skip") {
            None => Skip::Bytes(0),
            Some("-1") if encoding == Encoding::Raw => Skip::ToEnd,
            Some(text) => Skip::Bytes(text.parse().map_err(|_| bad_skip("byte skip", text))?),
        };
        let big_endian = big_endian(&fields, voxel_type, encoding)? && encoding != Encoding::Text;
        let segments = fields.segments;
        let header =
            Self { geometry, channels, voxel_type, big_endian, encoding, skip_lines, skip, data_file, segments };
        header.needed()?;
        Ok((header, after.unwrap_or_default()))
    }

    /// The file in which the voxels are, if it isn't the header's own.
    pub(crate) fn data_file(&self) -> Option<&str> {
        self.data_file.as_deref()
    }

    fn channel_count(&self) -> usize {
        self.channels.map_or(1, |[_, n, _]| n)
    }

    /// Bytes of all voxels.
    fn needed(&self) -> Result<usize, Problem> {
        let values = self.geometry.voxels().checked_mul(self.channel_count());
        let bytes = values.and_then(|n| n.checked_mul(self.voxel_type.bytes()));
        bytes.ok_or_else(|| too_many(&self.geometry.shape()))
    }

    fn too_few(&self, found: impl ToString) -> Problem {
        let shape = self.geometry.shape().into_iter().chain(self.channels.map(|[_, n, _]| n));
        let expected = self.needed().unwrap_or(usize::MAX) as u64;
        Problem::TooFewVoxels {
            shape: shape.map(|n| n.to_string()).collect::<Vec<_>>().join(" × "),
            dtype: self.voxel_type.name(),
            expected,
            found: found.to_string(),
        }
    }

    /// The volume and the names of its labels. `file` is the one with the voxels, which are somewhere after `start`. A
    /// segmentation of several layers becomes one label map.
    pub(crate) fn read<'a>(&self, file: Cow<'a, [u8]>, start: usize) -> Result<StoredVolume<'a>, Problem> {
        let mut first = start;
        for _ in 0..self.skip_lines {
            let (_, after) = text::split_line(file.get(first..).unwrap_or_default());
            first = file.len() - after.ok_or_else(|| self.too_few(0))?.len();
        }
        let (content, start) = self.decoded(file, first)?;
        let channels = self.channels.map(|[_, n, _]| n);
        let (geometry, voxel_type, big_endian) = (self.geometry, self.voxel_type, self.big_endian);
        let mut grid = Grid { geometry, channels, voxel_type, big_endian, content, start };
        if let Some([before, n, after]) = self.channels
            && n > 1
            && after > 1
        {
            let turned = channels_last(grid.values(), voxel_type.bytes(), before, n)?;
            grid = Grid { content: turned.into(), start: 0, ..grid };
        }
        let (grid, table) = self.segmentation(grid)?;
        Ok(grid.into_stored(VolumeFormat::Nrrd, table))
    }

    /// What the header alone says.
    pub(crate) fn source(&self) -> Result<Source, Problem> {
        let layers = self.channels.map(|[_, n, _]| n);
        let named = !self.segments.is_empty();
        let table = if named { Some(self.segments.meaning(layers.unwrap_or(1))?.table) } else { None };
        let shape = self.geometry.shape().into_iter().chain(layers.filter(|_| !named)).collect();
        let source = Source::new(VolumeFormat::Nrrd, self.geometry, self.voxel_type);
        let channels = layers.filter(|_| !named).unwrap_or(1);
        Ok(source.with_shape(channels, shape).with_label_table(table))
    }

    /// The values as stored, in the order of the file, and where they begin in what is returned.
    fn decoded<'a>(&self, file: Cow<'a, [u8]>, first: usize) -> Result<(Cow<'a, [u8]>, usize), Problem> {
        let needed = self.needed()?;
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
                let values = text::voxels(text, self.voxel_type, needed / self.voxel_type.bytes())?;
                Ok((values.into(), 0))
            }
            Encoding::Gzip => {
                if !gzip::is_gzip(data) {
                    return Err(Problem::DamagedGzip { reason: "it doesn't start as gzip data does", found: 0 });
                }
                let most = inflate::most_inflated(data);
                if most < wanted as u64 {
                    return Err(self.too_few(format!("{most} at most")));
                }
                let inflated = gzip::inflate(data, wanted)?;
                if inflated.len() < wanted {
                    return Err(self.too_few(inflated.len().saturating_sub(skip)));
                }
                Ok((inflated.into(), skip))
            }
        }
    }

    /// The names of the labels, and the volume as one label map where the file is a segmentation of several layers.
    fn segmentation<'a>(&self, grid: Grid<'a>) -> Result<(Grid<'a>, Option<LabelTable>), Problem> {
        if self.segments.is_empty() {
            return Ok((grid, None));
        }
        let layers = grid.channels.unwrap_or(1);
        let meaning = self.segments.meaning(layers)?;
        if layers == 1 {
            return Ok((Grid { channels: None, ..grid }, Some(meaning.table)));
        }
        let voxels = grid.geometry.voxels();
        let mut values = LabelReader::new(voxels.saturating_mul(layers), false)?;
        each_block(grid.values(), grid.voxel_type, grid.big_endian, None, &mut |block| values.read(block));
        let labels = meaning.merge(values.finish()?, voxels)?;
        let mut bytes = reserve(voxels.saturating_mul(2))?;
        labels.iter().for_each(|label| bytes.extend(label.to_le_bytes()));
        let merged = Grid::little_endian(grid.geometry, None, VoxelType::Uint16, bytes);
        Ok((merged, Some(meaning.table)))
    }
}

fn too_many(sizes: &[usize]) -> Problem {
    problem(
        "no more values than memory can address (`sizes`)",
        format!("{sizes:?}"),
        "the header is damaged, get the file again",
    )
}

fn bad_skip(field: &str, found: &str) -> Problem {
    problem(
        format!("a whole number from 0 (`{field}`; -1 for raw voxels at the end of their file)"),
        text::excerpt(found),
        "the header is damaged, get the file again",
    )
}

fn sizes(fields: &Fields<'_>) -> Result<Vec<usize>, Problem> {
    const MOST_AXES: usize = 8;
    let dimension = fields.require("dimension")?;
    let axes = dimension.parse().ok().filter(|n| (2..=MOST_AXES).contains(n)).ok_or_else(|| {
        problem(
            format!("2 to {MOST_AXES} axes (`dimension`)"),
            text::excerpt(dimension),
            "give a volume of three axes, with a fourth for channels",
        )
    })?;
    let text = fields.require("sizes")?;
    let sizes: Option<Vec<usize>> = text::numbers(text, axes);
    sizes.filter(|sizes| sizes.len() == axes && sizes.iter().all(|n| *n > 0)).ok_or_else(|| {
        problem(
            format!("{axes} whole numbers from 1 (`sizes`)"),
            text::excerpt(text),
            "the header is damaged, get the file again",
        )
    })
}

fn voxel_type(name: &str) -> Result<VoxelType, Problem> {
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
        problem(
            "a type of whole numbers of 8 to 64 bits, float or double (`type`)",
            text::excerpt(name),
            "save the volume in one of these types",
        )
    })
}

fn encoding(name: &str) -> Result<Encoding, Problem> {
    let is = |names: &[&str]| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    if is(&["raw"]) {
        Ok(Encoding::Raw)
    } else if is(&["gzip", "gz"]) {
        Ok(Encoding::Gzip)
    } else if is(&["ascii", "text", "txt"]) {
        Ok(Encoding::Text)
    } else {
        Err(problem(
            "the encoding raw, gzip or ascii (`encoding`)",
            text::excerpt(name),
            "save the file with gzip, with 3D Slicer for example",
        ))
    }
}

fn big_endian(fields: &Fields<'_>, voxel_type: VoxelType, encoding: Encoding) -> Result<bool, Problem> {
    match fields.get("endian") {
        Some(order) if order.eq_ignore_ascii_case("little") => Ok(false),
        Some(order) if order.eq_ignore_ascii_case("big") => Ok(true),
        None if voxel_type.bytes() == 1 || encoding == Encoding::Text => Ok(false),
        other => Err(problem(
            "`little` or `big` (`endian`)",
            other.map_or("none".into(), text::excerpt),
            "without the byte order the values are unknown: get the file again",
        )),
    }
}

fn data_file(fields: &Fields<'_>) -> Result<Option<String>, Problem> {
    let Some(name) = fields.get("data file") else { return Ok(None) };
    let pattern = name.contains('%') && name.split_ascii_whitespace().count() > 1;
    if name.split_ascii_whitespace().next() == Some("LIST") || pattern {
        return Err(problem(
            "voxels in one file (`data file`)",
            "a list of files".into(),
            "save the volume as one .nrrd file, with 3D Slicer for example",
        ));
    }
    Ok(Some(name.to_owned()))
}
