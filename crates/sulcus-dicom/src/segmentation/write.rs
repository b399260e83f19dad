//! Converts label maps to DICOM SEG (PS3.3, A.51): one binary segment per label, with one frame for each slice that
//! contains it.

use std::collections::BTreeSet;

use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_object::FileMetaTableBuilder;
use sulcus_volume::{Label, LabelEntry, LabelMap, LabelTable, Reorientation, Rgb};

use super::codes;
use super::color::cielab_of;
use super::elements::{Object, code_sequence, decimals, item, items, longs, shortened, shorts, tag_value, text};
use super::generated::FileStamp;
use super::segment_labels;
use crate::error::{DicomError, DicomErrorKind};
use crate::instance::SEGMENTATION_STORAGE;
use crate::patient::IDENTIFYING;
use crate::series_index::NO_UID;
use crate::series_reader::{Series, SliceReference};
use crate::slice_stack::axes;

const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
const ACTION: &str = "write the segmentation";
const MANUFACTURER: &str = "Sulcus";

/// The origin of a mask, and which patient data its file contains.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentationOptions {
    /// The name of the model that found the structures. Without one the segments are marked as semi-automatic.
    pub algorithm: Option<String>,
    /// The version of the program, such as 0.1.0.
    pub software_version: String,
    /// Copies the patient's name, identifier, birth date and sex, and the dates and numbers of the study, from the series.
    /// Otherwise these attributes, which the standard requires, are empty.
    pub keep_patient: bool,
    /// The time of the file and its identifiers, otherwise those of [`FileStamp::now`].
    pub stamp: Option<FileStamp>,
}

impl SegmentationOptions {
    /// A mask that this version of the program made or converted, without patient data.
    pub fn new(software_version: impl Into<String>) -> Self {
        Self { algorithm: None, software_version: software_version.into(), keep_patient: false, stamp: None }
    }

    /// A mask that this model found.
    pub fn by_model(mut self, name: impl Into<String>) -> Self {
        self.algorithm = Some(name.into());
        self
    }

    /// A mask with the identity of the patient and the study.
    pub fn with_patient(mut self) -> Self {
        self.keep_patient = true;
        self
    }

    /// A mask with this time and these identifiers.
    pub fn with_stamp(mut self, stamp: FileStamp) -> Self {
        self.stamp = Some(stamp);
        self
    }
}

/// Encodes a mask of a series as the bytes of a DICOM SEG file. The axes of the mask may have any direction, but its
/// voxels must coincide with those of the series.
///
/// The file contains the labels of `table` and of the mask. Segments are numbered from 1 by increasing label value, as the
/// standard requires. The description of a segment states its label value, and
/// [`read_segmentation`](super::read_segmentation) restores it from there. A slice without labels gets an empty frame of
/// the first segment, so that the file describes the whole grid.
///
/// # Errors
/// When the mask lies on another grid, or there is neither a label in the mask nor a name in the table.
pub fn encode_segmentation(
    labels: &LabelMap,
    series: &Series,
    table: &LabelTable,
    options: &SegmentationOptions,
) -> Result<Vec<u8>, DicomError> {
    let labels = on_series(labels, series)?;
    let segments = segments(&labels, table)?;
    let frames = frames(&labels, series, &segments);
    let stamp = options.stamp.clone().unwrap_or_else(FileStamp::now);
    let mut object = header(series, options, &stamp);
    put_segments(&mut object, &segments, options);
    put_groups(&mut object, series, &frames, &stamp.dimensions);
    let [x, y, _] = series.geometry.shape();
    let mut bits = BitPacker::default();
    for frame in &frames {
        let slice = labels.data().chunks_exact(x * y).nth(frame.slice).unwrap_or_default();
        bits.push(slice.iter().map(|label| *label == frame.label));
    }
    object.put(DataElement::new(Tag(0x7FE0, 0x0010), VR::OB, PrimitiveValue::from(bits.finish())));

    let failed =
        |reason: String| DicomError::encoding(ACTION, format!("its elements cannot be encoded: {reason}"));
    let meta = FileMetaTableBuilder::new().transfer_syntax(EXPLICIT_LITTLE_ENDIAN);
    let file = object.with_meta(meta).map_err(|e| failed(e.to_string()))?;
    let mut out = Vec::new();
    file.write_all(&mut out).map_err(|e| failed(e.to_string()))?;
    Ok(out)
}

/// The mask on the grid of the series.
fn on_series(labels: &LabelMap, series: &Series) -> Result<LabelMap, DicomError> {
    let wanted = series.geometry();
    let turn = Reorientation::between(labels.geometry().orientation(), wanted.orientation());
    let turned = if turn.is_identity() { labels.clone() } else { labels.reoriented(wanted.orientation()) };
    let same = wanted.check_same_grid(turned.geometry());
    same.map_err(|source| DicomError::geometry("write a segmentation of the series", source))?;
    Ok(turned)
}

/// A label as a segment.
struct Segment {
    number: u16,
    entry: LabelEntry,
}

fn segments(labels: &LabelMap, table: &LabelTable) -> Result<Vec<Segment>, DicomError> {
    const UNNAMED: Rgb = Rgb([230, 159, 0]);
    let mut entries: Vec<LabelEntry> = table.entries().to_vec();
    for value in labels.counts().into_keys().filter(|v| *v != 0) {
        if table.get(value).is_none() {
            entries.push(LabelEntry { value, name: format!("Label {value}"), color: UNNAMED });
        }
    }
    entries.sort_by_key(|e| e.value);
    if entries.is_empty() {
        return Err(DicomError::new(
            DicomErrorKind::Segmentation,
            "at least one label in the mask or in its table of names",
            "an empty mask without names",
            "a DICOM SEG file must have a segment: name the labels, or write NIfTI",
        )
        .doing(ACTION));
    }
    Ok((1..).zip(entries).map(|(number, entry)| Segment { number, entry }).collect())
}

/// A frame to write: one slice of one segment.
struct SegmentFrame {
    segment: u16,
    label: Label,
    slice: usize,
}

fn frames(labels: &LabelMap, series: &Series, segments: &[Segment]) -> Vec<SegmentFrame> {
    let [x, y, slices] = series.geometry.shape();
    let mut present = vec![BTreeSet::new(); slices];
    for (set, slice) in present.iter_mut().zip(labels.data().chunks_exact(x * y)) {
        let mut before = 0;
        for label in slice {
            if *label != before && *label != 0 {
                set.insert(*label);
            }
            before = *label;
        }
    }
    let mut out = Vec::new();
    for segment in segments {
        for (slice, set) in present.iter().enumerate() {
            let empty = segment.number == 1 && set.is_empty();
            if empty || set.contains(&segment.entry.value) {
                out.push(SegmentFrame { segment: segment.number, label: segment.entry.value, slice });
            }
        }
    }
    out
}

/// Packs pixels into bits, the first pixel at the lowest bit. Frames follow each other without padding (PS3.5, 8.1.1).
#[derive(Default)]
struct BitPacker {
    bytes: Vec<u8>,
    count: usize,
}

impl BitPacker {
    fn push(&mut self, bits: impl Iterator<Item = bool>) {
        for bit in bits {
            if self.count.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(bit) << (self.count % 8);
            }
            self.count += 1;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if !self.bytes.len().is_multiple_of(2) {
            self.bytes.push(0);
        }
        self.bytes
    }
}

/// All elements except the segments, the frames and the pixels.
fn header(series: &Series, options: &SegmentationOptions, stamp: &FileStamp) -> Object {
    let mut object = Object::new_empty();
    let o = &mut object;
    text(o, (0x0008, 0x0005), VR::CS, "ISO_IR 192");
    text(o, (0x0008, 0x0008), VR::CS, "DERIVED\\PRIMARY");
    text(o, (0x0008, 0x0016), VR::UI, SEGMENTATION_STORAGE);
    text(o, (0x0008, 0x0018), VR::UI, &stamp.instance);
    text(o, (0x0008, 0x0023), VR::DA, &stamp.date);
    text(o, (0x0008, 0x0033), VR::TM, &stamp.time);
    text(o, (0x0008, 0x0060), VR::CS, "SEG");
    text(o, (0x0008, 0x0070), VR::LO, MANUFACTURER);
    text(o, (0x0008, 0x103E), VR::LO, "Segmentation");
    text(o, (0x0008, 0x1090), VR::LO, "sulcus");
    text(o, (0x0018, 0x1000), VR::LO, "none");
    text(o, (0x0018, 0x1020), VR::LO, shortened(&options.software_version, 64));
    let kept = if options.keep_patient { series.patient.texts() } else { Default::default() };
    const KINDS: [VR; IDENTIFYING.len()] =
        [VR::PN, VR::LO, VR::DA, VR::CS, VR::DA, VR::TM, VR::SH, VR::PN, VR::SH];
    for ((tag, vr), value) in IDENTIFYING.into_iter().zip(KINDS).zip(kept) {
        text(o, ((tag >> 16) as u16, (tag & 0xffff) as u16), vr, value);
    }
    // A series without a study gets a new one.
    text(o, (0x0020, 0x000D), VR::UI, series.study.as_ref().unwrap_or(&stamp.study));
    text(o, (0x0020, 0x000E), VR::UI, &stamp.series);
    text(o, (0x0020, 0x0011), VR::IS, "1");
    text(o, (0x0020, 0x0013), VR::IS, "1");
    text(o, (0x0020, 0x0052), VR::UI, series.frame_of_reference.as_ref().unwrap_or(&stamp.frame_of_reference));
    text(o, (0x0020, 0x1040), VR::LO, "");
    let [columns, rows, _] = series.geometry.shape().map(|n| u16::try_from(n).unwrap_or(u16::MAX));
    shorts(o, (0x0028, 0x0002), &[1]);
    text(o, (0x0028, 0x0004), VR::CS, "MONOCHROME2");
    shorts(o, (0x0028, 0x0010), &[rows]);
    shorts(o, (0x0028, 0x0011), &[columns]);
    for (element, value) in [(0x0100, 1), (0x0101, 1), (0x0102, 0), (0x0103, 0)] {
        shorts(o, (0x0028, element), &[value]);
    }
    text(o, (0x0028, 0x2110), VR::CS, "00");
    text(o, (0x0062, 0x0001), VR::CS, "BINARY");
    text(o, (0x0062, 0x0013), VR::CS, "NO");
    text(o, (0x0070, 0x0080), VR::CS, "SEGMENTATION");
    text(o, (0x0070, 0x0081), VR::LO, "");
    text(o, (0x0070, 0x0084), VR::PN, "");
    if series.slices.iter().any(has_identity) {
        items(o, (0x0008, 0x1115), vec![referenced_series(series, stamp)]);
    }
    object
}

/// Whether a slice can be referenced: some files lack the necessary identifiers.
fn has_identity(slice: &SliceReference) -> bool {
    !slice.sop_class.is_empty() && !slice.sop_instance.is_empty()
}

fn reference(o: &mut Object, slice: &SliceReference) {
    text(o, (0x0008, 0x1150), VR::UI, &slice.sop_class);
    text(o, (0x0008, 0x1155), VR::UI, &slice.sop_instance);
}

fn referenced_series(series: &Series, stamp: &FileStamp) -> Object {
    item(|o| {
        let unnamed = series.uid == NO_UID;
        text(o, (0x0020, 0x000E), VR::UI, if unnamed { &stamp.referenced_series } else { &series.uid });
        let mut seen = BTreeSet::new();
        let first = series.slices.iter().filter(|s| has_identity(s) && seen.insert(&s.sop_instance));
        items(o, (0x0008, 0x114A), first.map(|slice| item(|o| reference(o, slice))).collect());
    })
}

fn put_segments(object: &mut Object, segments: &[Segment], options: &SegmentationOptions) {
    let described = segments.iter().map(|segment| {
        let (category, kind) = codes::of_structure(&segment.entry.name);
        item(|o| {
            shorts(o, (0x0062, 0x0004), &[segment.number]);
            text(o, (0x0062, 0x0005), VR::LO, shortened(&segment.entry.name, 64));
            text(o, (0x0062, 0x0006), VR::ST, segment_labels::description(segment.entry.value));
            let algorithm = options.algorithm.as_deref();
            let kind_of = if algorithm.is_some() { "AUTOMATIC" } else { "SEMIAUTOMATIC" };
            text(o, (0x0062, 0x0008), VR::CS, kind_of);
            text(o, (0x0062, 0x0009), VR::LO, shortened(algorithm.unwrap_or("sulcus"), 64));
            items(o, (0x0062, 0x0003), code_sequence(category));
            items(o, (0x0062, 0x000F), code_sequence(kind));
            shorts(o, (0x0062, 0x000D), &cielab_of(segment.entry.color));
        })
    });
    let described = described.collect();
    items(object, (0x0062, 0x0002), described);
}

/// Group and element.
type TagNumber = (u16, u16);

/// The dimensions by which the frames are ordered: name, attribute, and its functional group.
const DIMENSIONS: [(&str, TagNumber, TagNumber); 2] =
    [("Segment", (0x0062, 0x000B), (0x0062, 0x000A)), ("Position", (0x0020, 0x0032), (0x0020, 0x9113))];

fn put_groups(object: &mut Object, series: &Series, frames: &[SegmentFrame], organization: &str) {
    text(object, (0x0028, 0x0008), VR::IS, frames.len().to_string());
    items(object, (0x0020, 0x9221), vec![item(|o| text(o, (0x0020, 0x9164), VR::UI, organization))]);
    let dimension = |(name, pointer, group): (&str, _, _)| {
        item(|o| {
            text(o, (0x0020, 0x9164), VR::UI, organization);
            tag_value(o, (0x0020, 0x9165), pointer);
            tag_value(o, (0x0020, 0x9167), group);
            text(o, (0x0020, 0x9421), VR::LO, name);
        })
    };
    items(object, (0x0020, 0x9222), DIMENSIONS.map(dimension).to_vec());
    text(object, (0x0020, 0x9311), VR::CS, "3D");

    // The distance between planes is measured along the normal. In a slightly tilted stack the step is longer.
    let [_, _, normal] = axes(series.orientation);
    let step = series.geometry.ras_from_voxel().column(2);
    let lps = [-step[0], -step[1], step[2]];
    let distance = lps.iter().zip(normal).map(|(a, b)| a * b).sum::<f64>().abs();
    let shared = item(|o| {
        let measures = item(|o| {
            decimals(o, (0x0018, 0x0050), &[distance]);
            decimals(o, (0x0018, 0x0088), &[distance]);
            decimals(o, (0x0028, 0x0030), &series.pixel_spacing);
        });
        items(o, (0x0028, 0x9110), vec![measures]);
        items(o, (0x0020, 0x9116), vec![item(|o| decimals(o, (0x0020, 0x0037), &series.orientation))]);
    });
    items(object, (0x5200, 0x9229), vec![shared]);
    items(object, (0x5200, 0x9230), frames.iter().filter_map(|frame| frame_groups(series, frame)).collect());
}

fn frame_groups(series: &Series, frame: &SegmentFrame) -> Option<Object> {
    let slice = series.slices.get(frame.slice)?;
    let position = u32::try_from(frame.slice + 1).ok()?;
    Some(item(|o| {
        let content = item(|o| longs(o, (0x0020, 0x9157), &[u32::from(frame.segment), position]));
        items(o, (0x0020, 0x9111), vec![content]);
        items(o, (0x0020, 0x9113), vec![item(|o| decimals(o, (0x0020, 0x0032), &slice.position))]);
        items(o, (0x0062, 0x000A), vec![item(|o| shorts(o, (0x0062, 0x000B), &[frame.segment]))]);
        if !has_identity(slice) {
            return;
        }
        let source = item(|o| {
            reference(o, slice);
            if let Some(number) = slice.frame {
                text(o, (0x0008, 0x1160), VR::IS, number.to_string());
            }
            text(o, (0x0028, 0x135A), VR::CS, "YES");
            items(o, (0x0040, 0xA170), code_sequence(codes::SOURCE_IMAGE));
        });
        let derivation = item(|o| {
            items(o, (0x0008, 0x9215), code_sequence(codes::SEGMENTATION));
            items(o, (0x0008, 0x2112), vec![source]);
        });
        items(o, (0x0008, 0x9124), vec![derivation]);
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_packed_without_padding_between_frames() {
        let mut bits = BitPacker::default();
        bits.push([true, false, true].into_iter());
        bits.push([true; 6].into_iter());
        assert_eq!(bits.finish(), [0b1111_1101, 1]);
    }
}
