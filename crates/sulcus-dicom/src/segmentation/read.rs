//! Converts DICOM SEG to label maps: binary segments that do not overlap, and label maps, whose pixels are segment numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sulcus_volume::{Geometry, Label, LabelEntry, LabelMap, LabelTable, VolumeError};

use super::color::rgb_of;
use super::segment_labels::SegmentLabels;
use crate::dataset::Dataset;
use crate::error::{DicomError, DicomErrorKind};
use crate::file::DicomFile;
use crate::instance::{self, Frame};
use crate::series_index::read_file;
use crate::slice_stack::{axes, grid};
use crate::tags;
use crate::transfer_syntax::PixelEncoding;

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
/// When the file is not a segmentation, is damaged, contains fractions instead of labels, its segments overlap, or its
/// frames do not lie on one grid.
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
    let syntax = file.syntax.clone().map_err(|p| p.doing(ACTION))?;
    let native = syntax.pixels == PixelEncoding::Native && !syntax.encoding.big_endian;
    let data = set.bytes(tags::PIXEL_DATA).filter(|_| native).ok_or_else(|| {
        refuse(
            DicomErrorKind::TransferSyntax,
            "uncompressed pixels",
            "others",
            "decompress the file first, for example with gdcmconv --raw",
        )
    })?;
    let bits = match (kind.as_str(), set.short(tags::BITS_ALLOCATED)) {
        ("BINARY", Some(1)) => 1,
        ("LABELMAP", Some(bits @ (8 | 16))) => u64::from(bits),
        ("FRACTIONAL", _) => {
            return Err(unsupported(
                "binary segments or a label map",
                "fractions (SegmentationType FRACTIONAL)",
                "convert them to labels with the software that created them",
            ));
        }
        _ => return Err(damaged("an unknown segmentation type or number of bits")),
    };
    let size = |tag| set.short(tag).map(usize::from).filter(|n| *n > 0).ok_or_else(|| damaged("no size"));
    let (rows, columns) = (size(tags::ROWS)?, size(tags::COLUMNS)?);
    let frames = match set.decimals::<1>(tags::FRAMES) {
        Ok(Some([n])) if n >= 1.0 && n.fract() == 0.0 && n <= f64::from(u32::MAX) => n as usize,
        _ => return Err(damaged("no number of frames")),
    };
    let needed = ((rows * columns) as u64).checked_mul(frames as u64).and_then(|n| n.checked_mul(bits));
    if needed.is_none_or(|n| n.div_ceil(8) > data.len() as u64) {
        return Err(damaged("fewer pixels than rows, columns and frames announce"));
    }
    let places = instance::frames(&set, frames).map_err(|p| p.doing(ACTION))?;
    let (geometry, planes) = planes(&set, &places, [columns, rows])?;
    let pixels = SegmentPixels { data, bits, frame_pixels: rows * columns };
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
            "frames near each other",
            "frames far apart",
            "the file is damaged, get it again",
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

struct SegmentPixels<'a> {
    data: &'a [u8],
    bits: u64,
    frame_pixels: usize,
}

impl SegmentPixels<'_> {
    fn value(&self, at: usize) -> Label {
        let byte = |i: usize| self.data.get(i).copied().unwrap_or_default();
        match self.bits {
            1 => Label::from(byte(at / 8) >> (at % 8) & 1),
            8 => Label::from(byte(at)),
            _ => Label::from_le_bytes([byte(2 * at), byte(2 * at + 1)]),
        }
    }
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
        let segment = match (pixels.bits, segment) {
            (1, Some(number)) if number > 0 => number,
            (1, _) => return Err(damaged("a frame without a segment number")),
            _ => 1,
        };
        let slots =
            labels.get_mut(plane * pixels.frame_pixels..).and_then(|rest| rest.get_mut(..pixels.frame_pixels));
        let slots = slots.ok_or_else(|| damaged("a frame outside its grid"))?;
        for (i, slot) in slots.iter_mut().enumerate() {
            let number = pixels.value(frame * pixels.frame_pixels + i).saturating_mul(segment);
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
