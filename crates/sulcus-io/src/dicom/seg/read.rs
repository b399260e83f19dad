//! DICOM SEG to label maps: binary segments that don't overlap, and the newer kind whose pixels are segment numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sulcus_volume::{Geometry, Label, LabelEntry, LabelMap, LabelTable};

use super::color::rgb_of;
use super::numbers::Labels;
use crate::dicom::dataset::Dataset;
use crate::dicom::file::DicomFile;
use crate::dicom::folder::read_file;
use crate::dicom::instance::{self, Frame};
use crate::dicom::stack::{axes, grid};
use crate::dicom::syntax::Pixels;
use crate::dicom::{DicomFault, DicomProblem, tags};
use crate::error::{IoError, Problem};
use crate::info::VolumeFormat;
use crate::source::Source;
use crate::voxels::{self, VoxelType};

const ACTION: &str = "read the DICOM segmentation";
/// How far a frame may lie from its plane, in plane distances.
const UNEVEN: f64 = 0.05;
/// How many planes a file may leave out for each one that it has, and besides.
const OMITTED: (usize, usize) = (8, 64);

/// Reads a DICOM SEG file: segments become labels, with their names and colours. The label is what a file of ours says in
/// the segment's description, and the segment's number in others. Planes without a frame
/// between the others are empty; planes beyond the first and last frame are not known to the file.
///
/// # Errors
/// When the file is no segmentation, is damaged, holds fractions instead of labels, its segments overlap, or its
/// frames don't lie on one grid.
pub fn read_segmentation(path: &Path) -> Result<(LabelMap, LabelTable), IoError> {
    let bytes = read_file(path)?;
    parse(&bytes).map_err(|problem| IoError::in_file(path, problem))
}

/// The same from the bytes of a file.
///
/// # Errors
/// As [`read_segmentation`].
pub fn read_segmentation_bytes(bytes: &[u8]) -> Result<(LabelMap, LabelTable), IoError> {
    Ok(parse(bytes)?)
}

/// The same as a label map and its source.
pub(crate) fn read_segmentation_source(path: &Path) -> Result<(LabelMap, Source), IoError> {
    let (labels, table) = read_segmentation(path)?;
    let source = Source::new(VolumeFormat::Dicom, *labels.geometry(), VoxelType::Uint16);
    Ok((labels, source.with_label_table(Some(table))))
}

fn refuse(fault: DicomFault, expected: &str, found: impl Into<String>, hint: &'static str) -> Problem {
    DicomProblem::new(fault, expected, found, hint).doing(ACTION).into()
}

fn no_labels(expected: &str, found: impl Into<String>, hint: &'static str) -> Problem {
    refuse(DicomFault::Segmentation, expected, found, hint)
}

fn damaged(found: &str) -> Problem {
    refuse(DicomFault::Damaged, "a whole segmentation", found, "the file is damaged, get it again")
}

fn parse(bytes: &[u8]) -> Result<(LabelMap, LabelTable), Problem> {
    let other = || no_labels("a DICOM segmentation", "another kind of file", "give a DICOM SEG file");
    let file = DicomFile::open(bytes).ok_or_else(other)?.map_err(|p| p.doing(ACTION))?;
    let (set, damage) = file.elements();
    if let Some(problem) = damage {
        return Err(problem.doing(ACTION).into());
    }
    let kind = set.text(tags::SEGMENTATION_TYPE).ok_or_else(other)?;
    let syntax = file.syntax.clone().map_err(|p| p.doing(ACTION))?;
    let native = syntax.pixels == Pixels::Native && !syntax.encoding.big_endian;
    let data = set.bytes(tags::PIXELS).filter(|_| native).ok_or_else(|| {
        refuse(
            DicomFault::TransferSyntax,
            "uncompressed pixels",
            "others",
            "decompress the file first, for example with gdcmconv --raw",
        )
    })?;
    let bits = match (kind.as_str(), set.short(tags::BITS_ALLOCATED)) {
        ("BINARY", Some(1)) => 1,
        ("LABELMAP", Some(bits @ (8 | 16))) => u64::from(bits),
        ("FRACTIONAL", _) => {
            return Err(no_labels(
                "binary segments or a label map",
                "fractions (SegmentationType FRACTIONAL)",
                "turn them into labels with the software that they come from",
            ));
        }
        _ => return Err(damaged("a kind of segments, or a number of bits, that does not exist")),
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
    let picture = Picture { data, bits, size: rows * columns };
    let numbers = Labels::read(&set);
    let labels = fill(&set, &geometry, &planes, &picture, &numbers)?;
    Ok((LabelMap::new(geometry, labels)?, table(&set, &numbers)?))
}

/// The grid, and on which of its planes each frame lies.
fn planes(set: &Dataset<'_>, places: &[Frame], shape: [usize; 2]) -> Result<(Geometry, Vec<usize>), Problem> {
    let first = places.first().ok_or_else(|| damaged("no frame"))?;
    let [_, _, normal] = axes(first.orientation);
    let along = |frame: &Frame| -> f64 {
        frame.position.iter().zip(first.position).zip(normal).map(|((p, o), n)| (p - o) * n).sum()
    };
    let turned = |f: &Frame| f.orientation.iter().zip(first.orientation).any(|(a, b)| (a - b).abs() > 1e-4);
    if places.iter().any(|frame| turned(frame) || frame.spacing != first.spacing) {
        return Err(no_labels("frames of one grid", "frames of several", "give one segmentation of one series"));
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
    let said = |tag| match measures.map(|m| m.decimals::<1>(tag)) {
        Some(Ok(Some([mm]))) if mm > 0.0 => Some(mm),
        _ => None,
    };
    let nearest = heights.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 1e-3).reduce(f64::min);
    let distance = said(tags::SPACING_BETWEEN_SLICES).or(nearest).or(said(tags::SLICE_THICKNESS)).unwrap_or(1.0);
    let count = ((highest - lowest) / distance).round();
    let most = places.len().saturating_mul(OMITTED.0).saturating_add(OMITTED.1) as f64;
    if !(0.0..most).contains(&count) {
        return Err(no_labels("frames near each other", "frames far apart", "the file is damaged, get it again"));
    }
    let mut planes = Vec::new();
    for frame in places {
        let plane = (along(frame) - lowest) / distance;
        if (plane - plane.round()).abs() > UNEVEN * plane.max(1.0).sqrt() {
            return Err(no_labels(
                "frames at even distances",
                format!("one {:.3} mm off", (plane - plane.round()).abs() * distance),
                "give a segmentation of a series with evenly spaced slices",
            ));
        }
        planes.push(plane.round().clamp(0.0, count) as usize);
    }
    // From the lowest frame to the highest, so that rounded distances don't add up.
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

struct Picture<'a> {
    data: &'a [u8],
    bits: u64,
    /// Pixels of a frame.
    size: usize,
}

impl Picture<'_> {
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
    picture: &Picture<'_>,
    numbers: &Labels,
) -> Result<Vec<Label>, Problem> {
    let mut labels: Vec<Label> = voxels::reserve(geometry.voxels())?;
    labels.resize(geometry.voxels(), 0);
    let segment_in = |groups: &Dataset<'_>| {
        groups.items(tags::SEGMENT_IDENTIFICATION).first().and_then(|item| item.short(tags::REFERENCED_SEGMENT))
    };
    let shared = set.items(tags::SHARED_GROUPS).first().and_then(segment_in);
    let own = set.items(tags::FRAME_GROUPS);
    for (frame, plane) in planes.iter().enumerate() {
        let segment = own.get(frame).and_then(segment_in).or(shared);
        let segment = match (picture.bits, segment) {
            (1, Some(number)) if number > 0 => number,
            (1, _) => return Err(damaged("a frame that names no segment")),
            _ => 1,
        };
        let slots = labels.get_mut(plane * picture.size..).and_then(|rest| rest.get_mut(..picture.size));
        let slots = slots.ok_or_else(|| damaged("a frame outside its grid"))?;
        for (i, slot) in slots.iter_mut().enumerate() {
            let number = picture.value(frame * picture.size + i).saturating_mul(segment);
            if number == 0 {
                continue;
            }
            let value =
                numbers.of(number).ok_or_else(|| damaged("pixels of a segment that it does not describe"))?;
            if *slot != 0 && *slot != value {
                return Err(no_labels(
                    "segments that do not overlap",
                    format!("a voxel with the labels {slot} and {value}"),
                    "a label map holds one label a voxel: take the segments apart with the software that they come from",
                ));
            }
            *slot = value;
        }
    }
    Ok(labels)
}

/// Names and colours of the segments; a name that occurs twice gets its number behind it.
fn table(set: &Dataset<'_>, numbers: &Labels) -> Result<LabelTable, Problem> {
    let mut names: BTreeMap<Label, String> = BTreeMap::new();
    let mut used = BTreeSet::new();
    for item in set.items(tags::SEGMENTS) {
        let number = item.short(tags::SEGMENT_NUMBER).and_then(|n| numbers.of(n));
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
                numbers.of(item.short(tags::SEGMENT_NUMBER)?)?,
                *item.shorts(tags::SEGMENT_COLOR).first_chunk::<3>()?,
            ))
        })
        .collect();
    let plain = LabelTable::from_names(names)?;
    let entries = plain.entries().iter().map(|entry| LabelEntry {
        color: colors.get(&entry.value).map_or(entry.color, |lab| rgb_of(*lab)),
        ..entry.clone()
    });
    Ok(LabelTable::new(entries.collect())?)
}
