//! Converts DICOM SEG to label maps: binary segments that do not overlap, and label maps, whose pixels are segment numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sulcus_volume::{Geometry, Label, LabelEntry, LabelMap, LabelTable, VolumeError};

use super::color::rgb_of;
use super::segment_labels::SegmentLabels;
use crate::dataset::Dataset;
use crate::error::{DicomError, DicomErrorKind};
use crate::file::DicomFile;
use crate::instance::{self, Frame, PixelFormat, PixelLayout};
use crate::pixel_data::PixelData;
use crate::series_index::read_file;
use crate::slice_stack::{axes, grid};
use crate::tags;
use crate::transfer_syntax::{PixelEncoding, TransferSyntax};

const ACTION: &str = "read the DICOM segmentation";
/// The tolerance of frame positions, as a fraction of the plane distance.
const POSITION_TOLERANCE: f64 = 0.05;
/// The maximum number of planes is this factor times the number of frames, plus [`MAX_EXTRA_PLANES`].
const MAX_PLANES_PER_FRAME: usize = 8;
const MAX_EXTRA_PLANES: usize = 64;

/// Reads a DICOM SEG file. Segments become labels with names and colours. The label value is the one that our files store
/// in the description of the segment, or else the segment number. Missing planes between two frames are empty; planes
/// before the first and after the last frame are not part of the file.
///
/// # Errors
/// When the file is not a segmentation, is damaged, contains fractions instead of labels, its segments overlap, its frames do
/// not lie on one grid, or its pixels are compressed (except label maps with RLE).
pub fn read_segmentation(path: &Path) -> Result<(LabelMap, LabelTable), DicomError> {
    let bytes = read_file(path)?;
    parse(&bytes).map_err(|error| error.at(path))
}

/// Reads a DICOM SEG file from its bytes.
///
/// # Errors
/// As [`read_segmentation`].
pub fn read_segmentation_bytes(bytes: &[u8]) -> Result<(LabelMap, LabelTable), DicomError> {
    parse(bytes)
}

fn refuse(kind: DicomErrorKind, expected: &str, found: impl Into<String>, hint: &'static str) -> DicomError {
    DicomError::new(kind, expected, found, hint).doing(ACTION)
}

fn unsupported(expected: &str, found: impl Into<String>, hint: &'static str) -> DicomError {
    refuse(DicomErrorKind::Segmentation, expected, found, hint)
}

fn damaged(found: &str) -> DicomError {
    refuse(DicomErrorKind::Damaged, "a whole segmentation", found, "the file is damaged, get it again")
}

fn parse(bytes: &[u8]) -> Result<(LabelMap, LabelTable), DicomError> {
    let other = || unsupported("a DICOM segmentation", "another kind of file", "give a DICOM SEG file");
    let file = DicomFile::open(bytes).ok_or_else(other)?.map_err(|p| p.doing(ACTION))?;
    let (set, damage) = file.elements();
    if let Some(error) = damage {
        return Err(error.doing(ACTION));
    }
    let kind = set.text(tags::SEGMENTATION_TYPE).ok_or_else(other)?;
    let size = |tag| set.short(tag).map(usize::from).filter(|n| *n > 0).ok_or_else(|| damaged("no size"));
    let (rows, columns) = (size(tags::ROWS)?, size(tags::COLUMNS)?);
    let frames = match set.decimals::<1>(tags::FRAMES) {
        Ok(Some([n])) if n >= 1.0 && n.fract() == 0.0 && n <= f64::from(u32::MAX) => n as usize,
        _ => return Err(damaged("no number of frames")),
    };
    let pixels = match (kind.as_str(), set.short(tags::BITS_ALLOCATED)) {
        ("BINARY", Some(1)) => SegmentPixels::binary(&set, &file.syntax, rows * columns, frames),
        ("LABELMAP", Some(bits @ (8 | 16))) => {
            let format = PixelFormat::Integer { allocated: bits, stored: bits, high: bits - 1, signed: false };
            SegmentPixels::label_map(&set, &file.syntax, PixelLayout { rows, columns, frames, format })
        }
        ("FRACTIONAL", _) => Err(unsupported(
            "binary segments or a label map",
            "fractions (SegmentationType FRACTIONAL)",
            "convert them to labels with the software that created them",
        )),
        _ => Err(damaged("an unknown segmentation type or number of bits")),
    }?;
    let places = instance::frames(&set, frames).map_err(|p| p.doing(ACTION))?;
    let (geometry, planes) = planes(&set, &places, [columns, rows])?;
    let segment_labels = SegmentLabels::read(&set);
    let labels = fill(&set, &geometry, &planes, &pixels, &segment_labels)?;
    let labels = LabelMap::new(geometry, labels).map_err(invalid_volume)?;
    Ok((labels, table(&set, &segment_labels)?))
}

fn invalid_volume(source: VolumeError) -> DicomError {
    DicomError::geometry("put the voxels on their grid", source)
}

/// The grid, and the plane of each frame.
fn planes(set: &Dataset<'_>, places: &[Frame], shape: [usize; 2]) -> Result<(Geometry, Vec<usize>), DicomError> {
    let first = places.first().ok_or_else(|| damaged("no frame"))?;
    let [_, _, normal] = axes(first.orientation);
    let along = |frame: &Frame| -> f64 {
        frame.position.iter().zip(first.position).zip(normal).map(|((p, o), n)| (p - o) * n).sum()
    };
    let turned = |f: &Frame| f.orientation.iter().zip(first.orientation).any(|(a, b)| (a - b).abs() > 1e-4);
    if places.iter().any(|frame| turned(frame) || frame.spacing != first.spacing) {
        return Err(unsupported("frames of one grid", "frames of several", "give one segmentation of one series"));
    }
    let mut heights: Vec<f64> = places.iter().map(along).collect();
    heights.sort_by(f64::total_cmp);
    let (lowest, highest) = match (heights.first(), heights.last()) {
        (Some(a), Some(b)) => (*a, *b),
        _ => return Err(damaged("no frame")),
    };
    let measures = [tags::SHARED_GROUPS, tags::FRAME_GROUPS]
        .into_iter()
        .find_map(|groups| set.items(groups).first()?.items(tags::PIXEL_MEASURES).first());
    let stated = |tag| match measures.map(|m| m.decimals::<1>(tag)) {
        Some(Ok(Some([mm]))) if mm > 0.0 => Some(mm),
        _ => None,
    };
    let nearest = heights.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 1e-3).reduce(f64::min);
    let distance =
        stated(tags::SPACING_BETWEEN_SLICES).or(nearest).or(stated(tags::SLICE_THICKNESS)).unwrap_or(1.0);
    let count = ((highest - lowest) / distance).round();
    let max_planes = places.len().saturating_mul(MAX_PLANES_PER_FRAME).saturating_add(MAX_EXTRA_PLANES);
    if !(0.0..max_planes as f64).contains(&count) {
        return Err(unsupported(
            &format!("at most {max_planes} planes for {} frames", places.len()),
            format!("frames over {:.0} planes", count + 1.0),
            "the positions are wrong, or too many planes were omitted: write an empty frame for each of these",
        ));
    }
    let mut planes = Vec::new();
    for frame in places {
        let plane = (along(frame) - lowest) / distance;
        if (plane - plane.round()).abs() > POSITION_TOLERANCE * plane.max(1.0).sqrt() {
            return Err(unsupported(
                "frames at even distances",
                format!("a frame displaced by {:.3} mm", (plane - plane.round()).abs() * distance),
                "give a segmentation of a series with evenly spaced slices",
            ));
        }
        planes.push(plane.round().clamp(0.0, count) as usize);
    }
    // Computed from the lowest and the highest frame, so that rounding errors of single distances do not accumulate.
    let ends = [lowest, highest].map(|height| places.iter().find(|f| along(f) == height).unwrap_or(first));
    let step: [f64; 3] = if count > 0.0 {
        std::array::from_fn(|i| (ends[1].position[i] - ends[0].position[i]) / count)
    } else {
        normal.map(|v| v * distance)
    };
    let [columns, rows] = shape;
    let geometry = grid(ends[0], step, [columns, rows, count as usize + 1])?;
    Ok((geometry, planes))
}

/// The pixels of all frames.
enum SegmentPixels<'a> {
    /// One bit per pixel: whether it belongs to the segment of its frame.
    Binary { data: &'a [u8], frame_pixels: usize },
    /// Segment numbers.
    LabelMap {
        pixels: PixelData<'a>,
        /// The number of pixels that belong to no segment (PixelPaddingValue), besides 0.
        padding: Option<u16>,
    },
}

impl<'a> SegmentPixels<'a> {
    fn binary(
        set: &Dataset<'a>,
        syntax: &Result<TransferSyntax, DicomError>,
        frame_pixels: usize,
        frames: usize,
    ) -> Result<Self, DicomError> {
        check_encoding(syntax, "uncompressed pixels", &[PixelEncoding::Native])?;
        let data = set.bytes(tags::PIXEL_DATA).ok_or_else(|| damaged("no pixels"))?;
        if frame_pixels.checked_mul(frames).is_none_or(|bits| bits.div_ceil(8) > data.len()) {
            return Err(damaged("fewer pixels than rows, columns and frames announce"));
        }
        Ok(Self::Binary { data, frame_pixels })
    }

    fn label_map(
        set: &'a Dataset<'a>,
        syntax: &Result<TransferSyntax, DicomError>,
        layout: PixelLayout,
    ) -> Result<Self, DicomError> {
        // Other codecs may be lossy, which would change segment numbers.
        let known = [PixelEncoding::Native, PixelEncoding::EncapsulatedNative, PixelEncoding::Rle];
        let syntax = check_encoding(syntax, "uncompressed or RLE pixels", &known)?;
        let pixels = PixelData::find(set, layout, syntax).map_err(|p| p.doing(ACTION))?;
        let described = |number| set.items(tags::SEGMENTS).iter().any(|s| s.short(tags::SEGMENT_NUMBER) == number);
        let padding = set.short(tags::PIXEL_PADDING).filter(|number| !described(Some(*number)));
        Ok(Self::LabelMap { pixels, padding })
    }

    /// The segment number of each pixel of a frame; `segment` is that of a binary frame.
    fn frame(&self, index: usize, segment: u16) -> Result<Vec<u16>, DicomError> {
        match self {
            Self::Binary { data, frame_pixels } => {
                let bit = |at: usize| data.get(at / 8).copied().unwrap_or_default() >> (at % 8) & 1;
                let first = index * frame_pixels;
                Ok((first..first + frame_pixels).map(|at| u16::from(bit(at)) * segment).collect())
            }
            Self::LabelMap { pixels, padding } => {
                let values = pixels.values(index, (1.0, 0.0)).map_err(|p| p.doing(ACTION))?;
                let number = |v: f64| if Some(v as u16) == *padding { 0 } else { v as u16 };
                Ok(values.into_iter().map(number).collect())
            }
        }
    }
}

/// The transfer syntax, if its encoding of pixels is a known one in little-endian order.
fn check_encoding(
    syntax: &Result<TransferSyntax, DicomError>,
    expected: &str,
    known: &[PixelEncoding],
) -> Result<TransferSyntax, DicomError> {
    const HINT: &str = "decompress the file first, for example with gdcmconv --raw";
    let syntax = syntax.as_ref().map_err(|error| error.clone().doing(ACTION).expecting(expected))?;
    if syntax.encoding.big_endian {
        let found = "pixels in big endian order";
        return Err(refuse(DicomErrorKind::TransferSyntax, "pixels in little endian order", found, HINT));
    }
    if known.contains(&syntax.pixels) {
        return Ok(*syntax);
    }
    Err(refuse(DicomErrorKind::TransferSyntax, expected, format!("{} pixels", syntax.pixels.name()), HINT))
}

fn fill(
    set: &Dataset<'_>,
    geometry: &Geometry,
    planes: &[usize],
    pixels: &SegmentPixels<'_>,
    segment_labels: &SegmentLabels,
) -> Result<Vec<Label>, DicomError> {
    let mut labels: Vec<Label> = Vec::new();
    let bytes = geometry.voxels().saturating_mul(size_of::<Label>()) as u64;
    labels.try_reserve_exact(geometry.voxels()).map_err(|_| DicomError::out_of_memory(bytes))?;
    labels.resize(geometry.voxels(), 0);
    let segment_in = |groups: &Dataset<'_>| {
        groups.items(tags::SEGMENT_IDENTIFICATION).first().and_then(|item| item.short(tags::REFERENCED_SEGMENT))
    };
    let shared = set.items(tags::SHARED_GROUPS).first().and_then(segment_in);
    let own = set.items(tags::FRAME_GROUPS);
    for (frame, plane) in planes.iter().enumerate() {
        let segment = own.get(frame).and_then(segment_in).or(shared);
        let segment = match (pixels, segment) {
            (SegmentPixels::Binary { .. }, Some(number)) if number > 0 => number,
            (SegmentPixels::Binary { .. }, _) => return Err(damaged("a frame without a segment number")),
            (SegmentPixels::LabelMap { .. }, _) => 1,
        };
        let numbers = pixels.frame(frame, segment)?;
        let slots = labels.get_mut(plane * numbers.len()..).and_then(|rest| rest.get_mut(..numbers.len()));
        let slots = slots.ok_or_else(|| damaged("a frame outside its grid"))?;
        for (slot, number) in slots.iter_mut().zip(numbers) {
            if number == 0 {
                continue;
            }
            let value = segment_labels.of(number).ok_or_else(|| damaged("pixels of an undescribed segment"))?;
            if *slot != 0 && *slot != value {
                return Err(unsupported(
                    "segments that do not overlap",
                    format!("a voxel with the labels {slot} and {value}"),
                    "a label map holds one label per voxel: separate the segments with the software that created them",
                ));
            }
            *slot = value;
        }
    }
    Ok(labels)
}

/// The names and colours of the segments. The label value is appended to a name that occurs twice.
fn table(set: &Dataset<'_>, segment_labels: &SegmentLabels) -> Result<LabelTable, DicomError> {
    let mut names: BTreeMap<Label, String> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for item in set.items(tags::SEGMENTS) {
        let number = item.short(tags::SEGMENT_NUMBER).and_then(|n| segment_labels.of(n));
        let Some(number) = number.filter(|n| *n > 0) else { continue };
        let name = item.text(tags::SEGMENT_LABEL).unwrap_or_else(|| format!("Segment {number}"));
        let name = if used.contains(&name) { format!("{name} ({number})") } else { name };
        used.insert(name.clone());
        names.insert(number, name);
    }
    let colors: BTreeMap<Label, [u16; 3]> = set
        .items(tags::SEGMENTS)
        .iter()
        .filter_map(|item| {
            Some((
                segment_labels.of(item.short(tags::SEGMENT_NUMBER)?)?,
                *item.shorts(tags::SEGMENT_COLOR).first_chunk::<3>()?,
            ))
        })
        .collect();
    let plain = LabelTable::from_names(names).map_err(invalid_volume)?;
    let entries = plain.entries().iter().map(|entry| LabelEntry {
        color: colors.get(&entry.value).map_or(entry.color, |lab| rgb_of(*lab)),
        ..entry.clone()
    });
    LabelTable::new(entries.collect()).map_err(invalid_volume)
}
