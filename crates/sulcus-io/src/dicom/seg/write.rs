//! Label maps to DICOM SEG (PS3.3, A.51): one binary segment a label, a frame for each slice that it touches.

use std::path::Path;

use dicom_core::value::{DataSetSequence, PrimitiveValue};
use dicom_core::{DataElement, Tag, VR};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use sulcus_volume::{Label, LabelEntry, LabelMap, LabelTable, Reorientation, Rgb};

use super::codes::{self, Code};
use super::color::cielab_of;
use super::{moment, numbers, uid};
use crate::atomic::write_atomically;
use crate::dicom::folder::NO_UID;
use crate::dicom::instance::SEGMENTATION_STORAGE;
use crate::dicom::patient::IDENTIFYING;
use crate::dicom::series::{Series, SourceSlice};
use crate::dicom::stack::axes;
use crate::dicom::{DicomFault, DicomProblem};
use crate::error::{IoError, Problem};

const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
const ACTION: &str = "write the segmentation";
/// Who made the file, for those who receive it.
const MANUFACTURER: &str = "Sulcus";

/// How a mask came about, and what of the patient goes into its file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentationOptions {
    /// The model that found the structures; without one the masks count as drawn by a person with a program's help.
    pub algorithm: Option<String>,
    /// Version of the program, such as 0.1.0.
    pub software_version: String,
    /// Copy name, identifier, birth date, sex and the study's dates and numbers from the series. Otherwise these
    /// attributes, which the standard asks for, are there but empty.
    pub keep_patient: bool,
}

impl SegmentationOptions {
    /// Masks that a program of this version made or converted, with nothing of the patient.
    pub fn new(software_version: impl Into<String>) -> Self {
        Self { algorithm: None, software_version: software_version.into(), keep_patient: false }
    }

    /// Masks that this model found.
    pub fn by_model(mut self, name: impl Into<String>) -> Self {
        self.algorithm = Some(name.into());
        self
    }

    /// With the patient's name and the like.
    pub fn with_patient(mut self) -> Self {
        self.keep_patient = true;
        self
    }
}

/// Writes a mask of a series as DICOM SEG, under a temporary name until it is whole.
///
/// # Errors
/// As [`encode_segmentation`]; also when the file can't be written.
pub fn write_segmentation(
    path: &Path,
    labels: &LabelMap,
    series: &Series,
    table: &LabelTable,
    options: &SegmentationOptions,
) -> Result<(), IoError> {
    let bytes = encode_segmentation(labels, series, table, options).map_err(|e| e.at(path))?;
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Encodes a mask of a series as the bytes of a DICOM SEG file. The mask may run along its axes in any direction, but
/// its voxels must be the series' voxels.
///
/// Segments are numbered from 1 by rising label value, as the standard asks, and each says its label in its description,
/// from which [`read_segmentation`](super::read_segmentation) takes it; those of `table` and of the mask are written. A slice without any label has an empty frame of the first segment, so that the file tells the whole grid.
///
/// # Errors
/// When the mask lies on another grid or has no label at all to be named.
pub fn encode_segmentation(
    labels: &LabelMap,
    series: &Series,
    table: &LabelTable,
    options: &SegmentationOptions,
) -> Result<Vec<u8>, IoError> {
    let labels = on_series(labels, series)?;
    let segments = segments(&labels, table)?;
    let frames = frames(&labels, series, &segments);
    let mut object = header(series, options);
    put_segments(&mut object, &segments, options);
    put_groups(&mut object, series, &frames);
    let [x, y, _] = series.geometry.shape();
    let mut bits = Bits::default();
    for frame in &frames {
        let slice = labels.data().chunks_exact(x * y).nth(frame.slice).unwrap_or_default();
        bits.push(slice.iter().map(|label| *label == frame.label));
    }
    object.put(DataElement::new(Tag(0x7FE0, 0x0010), VR::OB, PrimitiveValue::from(bits.finish())));

    let failed = |reason: String| {
        IoError::from(Problem::System {
            action: ACTION,
            reason: "its elements cannot be encoded".into(),
            source: std::io::Error::other(reason),
        })
    };
    let meta = FileMetaTableBuilder::new().transfer_syntax(EXPLICIT_LITTLE_ENDIAN);
    let file = object.with_meta(meta).map_err(|e| failed(e.to_string()))?;
    let mut out = Vec::new();
    file.write_all(&mut out).map_err(|e| failed(e.to_string()))?;
    Ok(out)
}

/// The mask on the series' own grid.
fn on_series(labels: &LabelMap, series: &Series) -> Result<LabelMap, IoError> {
    let wanted = series.geometry();
    let turn = Reorientation::between(labels.geometry().orientation(), wanted.orientation());
    let turned = if turn.is_identity() { labels.clone() } else { labels.reoriented(wanted.orientation()) };
    wanted.check_same_grid(turned.geometry()).map_err(|source| {
        IoError::from(Problem::Volume { action: "write a segmentation of the series", source: source.into() })
    })?;
    Ok(turned)
}

/// A label as a segment.
struct Segment {
    number: u16,
    entry: LabelEntry,
}

fn segments(labels: &LabelMap, table: &LabelTable) -> Result<Vec<Segment>, IoError> {
    const UNNAMED: Rgb = Rgb([230, 159, 0]);
    let mut entries: Vec<LabelEntry> = table.entries().to_vec();
    for value in labels.counts().into_keys().filter(|v| *v != 0) {
        if table.get(value).is_none() {
            entries.push(LabelEntry { value, name: format!("Label {value}"), color: UNNAMED });
        }
    }
    entries.sort_by_key(|e| e.value);
    if entries.is_empty() {
        return Err(Problem::from(
            DicomProblem::new(
                DicomFault::Segmentation,
                "at least one label in the mask or in its table of names",
                "an empty mask without names",
                "a DICOM SEG file must have a segment: name the labels, or write NIfTI",
            )
            .doing(ACTION),
        )
        .into());
    }
    Ok((1..).zip(entries).map(|(number, entry)| Segment { number, entry }).collect())
}

/// A frame to be written: which slice of which segment.
struct SegFrame {
    segment: u16,
    label: Label,
    slice: usize,
}

fn frames(labels: &LabelMap, series: &Series, segments: &[Segment]) -> Vec<SegFrame> {
    let [x, y, slices] = series.geometry.shape();
    let mut has = vec![std::collections::BTreeSet::new(); slices];
    for (set, slice) in has.iter_mut().zip(labels.data().chunks_exact(x * y)) {
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
        for (slice, set) in has.iter().enumerate() {
            let nobody = segment.number == 1 && set.is_empty();
            if nobody || set.contains(&segment.entry.value) {
                out.push(SegFrame { segment: segment.number, label: segment.entry.value, slice });
            }
        }
    }
    out
}

/// Bits, the first pixel at the lowest one; frames follow each other without a gap (PS3.5, 8.1.1).
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
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

type Object = InMemDicomObject;

fn text(object: &mut Object, tag: (u16, u16), vr: VR, value: impl AsRef<str>) {
    let value = value.as_ref();
    let value = if value.is_empty() { PrimitiveValue::Empty } else { PrimitiveValue::from(value) };
    object.put(DataElement::new(Tag(tag.0, tag.1), vr, value));
}

fn shorts(object: &mut Object, tag: (u16, u16), values: &[u16]) {
    let value = PrimitiveValue::U16(values.iter().copied().collect());
    object.put(DataElement::new(Tag(tag.0, tag.1), VR::US, value));
}

fn longs(object: &mut Object, tag: (u16, u16), values: &[u32]) {
    let value = PrimitiveValue::U32(values.iter().copied().collect());
    object.put(DataElement::new(Tag(tag.0, tag.1), VR::UL, value));
}

fn decimals(object: &mut Object, tag: (u16, u16), values: &[f64]) {
    let texts: Vec<String> = values.iter().map(|v| decimal(*v)).collect();
    text(object, tag, VR::DS, texts.join("\\"));
}

fn tag_value(object: &mut Object, tag: (u16, u16), value: (u16, u16)) {
    let value = PrimitiveValue::Tags([Tag(value.0, value.1)].into_iter().collect());
    object.put(DataElement::new(Tag(tag.0, tag.1), VR::AT, value));
}

fn items(object: &mut Object, tag: (u16, u16), items: Vec<Object>) {
    object.put(DataElement::new(Tag(tag.0, tag.1), VR::SQ, DataSetSequence::from(items)));
}

fn item(fill: impl FnOnce(&mut Object)) -> Object {
    let mut object = Object::new_empty();
    fill(&mut object);
    object
}

/// A decimal string: at most 16 characters, as precise as they can be.
fn decimal(value: f64) -> String {
    let plain = format!("{value}");
    if plain.len() <= 16 {
        return plain;
    }
    let digits = (0..=15).rev().map(|digits| format!("{value:.digits$}")).find(|text| text.len() <= 16);
    let scientific = (0..=9).rev().map(|digits| format!("{value:.digits$e}")).find(|text| text.len() <= 16);
    // Small numbers lose too much without an exponent.
    match digits.filter(|_| value.abs() >= 1e-3) {
        Some(text) => text,
        None => scientific.unwrap_or_else(|| "0".to_owned()),
    }
}

fn code(code: Code) -> Vec<Object> {
    vec![item(|o| {
        text(o, (0x0008, 0x0100), VR::SH, code.value);
        text(o, (0x0008, 0x0102), VR::SH, code.scheme);
        text(o, (0x0008, 0x0104), VR::LO, code.meaning);
    })]
}

/// Everything but the segments, the frames and the pixels.
fn header(series: &Series, options: &SegmentationOptions) -> Object {
    let mut object = Object::new_empty();
    let o = &mut object;
    let (date, time) = moment::now();
    text(o, (0x0008, 0x0005), VR::CS, "ISO_IR 192");
    text(o, (0x0008, 0x0008), VR::CS, "DERIVED\\PRIMARY");
    text(o, (0x0008, 0x0016), VR::UI, SEGMENTATION_STORAGE);
    text(o, (0x0008, 0x0018), VR::UI, uid::fresh());
    text(o, (0x0008, 0x0023), VR::DA, &date);
    text(o, (0x0008, 0x0033), VR::TM, &time);
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
    // Without a study of its own the file begins one.
    text(o, (0x0020, 0x000D), VR::UI, series.study.clone().unwrap_or_else(uid::fresh));
    text(o, (0x0020, 0x000E), VR::UI, uid::fresh());
    text(o, (0x0020, 0x0011), VR::IS, "1");
    text(o, (0x0020, 0x0013), VR::IS, "1");
    text(o, (0x0020, 0x0052), VR::UI, series.frame_of_reference.clone().unwrap_or_else(uid::fresh));
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
    if series.slices.iter().any(is_named) {
        items(o, (0x0008, 0x1115), vec![referenced_series(series)]);
    }
    object
}

/// Whether a slice can be referred to: headers of some files are too sparse for that.
fn is_named(slice: &SourceSlice) -> bool {
    !slice.sop_class.is_empty() && !slice.sop_instance.is_empty()
}

fn reference(o: &mut Object, slice: &SourceSlice) {
    text(o, (0x0008, 0x1150), VR::UI, &slice.sop_class);
    text(o, (0x0008, 0x1155), VR::UI, &slice.sop_instance);
}

fn referenced_series(series: &Series) -> Object {
    item(|o| {
        let unnamed = series.uid == NO_UID;
        text(o, (0x0020, 0x000E), VR::UI, if unnamed { uid::fresh() } else { series.uid.clone() });
        let mut seen = std::collections::BTreeSet::new();
        let first = series.slices.iter().filter(|s| is_named(s) && seen.insert(&s.sop_instance));
        items(o, (0x0008, 0x114A), first.map(|slice| item(|o| reference(o, slice))).collect());
    })
}

fn shortened(value: &str, most: usize) -> String {
    value.chars().filter(|c| *c != '\\' && !c.is_control()).take(most).collect()
}

fn put_segments(object: &mut Object, segments: &[Segment], options: &SegmentationOptions) {
    let described = segments.iter().map(|segment| {
        let (category, kind) = codes::of_structure(&segment.entry.name);
        item(|o| {
            shorts(o, (0x0062, 0x0004), &[segment.number]);
            text(o, (0x0062, 0x0005), VR::LO, shortened(&segment.entry.name, 64));
            text(o, (0x0062, 0x0006), VR::ST, numbers::description(segment.entry.value));
            let algorithm = options.algorithm.as_deref();
            let kind_of = if algorithm.is_some() { "AUTOMATIC" } else { "SEMIAUTOMATIC" };
            text(o, (0x0062, 0x0008), VR::CS, kind_of);
            text(o, (0x0062, 0x0009), VR::LO, shortened(algorithm.unwrap_or("sulcus"), 64));
            items(o, (0x0062, 0x0003), code(category));
            items(o, (0x0062, 0x000F), code(kind));
            shorts(o, (0x0062, 0x000D), &cielab_of(segment.entry.color));
        })
    });
    let described = described.collect();
    items(object, (0x0062, 0x0002), described);
}

/// Group and element.
type Number = (u16, u16);

/// By what the frames are ordered: name, attribute, and the functional group that it is in.
const DIMENSIONS: [(&str, Number, Number); 2] =
    [("Segment", (0x0062, 0x000B), (0x0062, 0x000A)), ("Position", (0x0020, 0x0032), (0x0020, 0x9113))];

fn put_groups(object: &mut Object, series: &Series, frames: &[SegFrame]) {
    text(object, (0x0028, 0x0008), VR::IS, frames.len().to_string());
    let organization = uid::fresh();
    items(object, (0x0020, 0x9221), vec![item(|o| text(o, (0x0020, 0x9164), VR::UI, &organization))]);
    let dimension = |(name, pointer, group): (&str, _, _)| {
        item(|o| {
            text(o, (0x0020, 0x9164), VR::UI, &organization);
            tag_value(o, (0x0020, 0x9165), pointer);
            tag_value(o, (0x0020, 0x9167), group);
            text(o, (0x0020, 0x9421), VR::LO, name);
        })
    };
    items(object, (0x0020, 0x9222), DIMENSIONS.map(dimension).to_vec());
    text(object, (0x0020, 0x9311), VR::CS, "3D");

    // Along the normal: what separates planes, which a slightly leaning stack's step is a little longer than.
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

fn frame_groups(series: &Series, frame: &SegFrame) -> Option<Object> {
    let slice = series.slices.get(frame.slice)?;
    let position = u32::try_from(frame.slice + 1).ok()?;
    Some(item(|o| {
        let content = item(|o| longs(o, (0x0020, 0x9157), &[u32::from(frame.segment), position]));
        items(o, (0x0020, 0x9111), vec![content]);
        items(o, (0x0020, 0x9113), vec![item(|o| decimals(o, (0x0020, 0x0032), &slice.position))]);
        items(o, (0x0062, 0x000A), vec![item(|o| shorts(o, (0x0062, 0x000B), &[frame.segment]))]);
        if !is_named(slice) {
            return;
        }
        let source = item(|o| {
            reference(o, slice);
            if let Some(number) = slice.frame {
                text(o, (0x0008, 0x1160), VR::IS, number.to_string());
            }
            text(o, (0x0028, 0x135A), VR::CS, "YES");
            items(o, (0x0040, 0xA170), code(codes::SOURCE_IMAGE));
        });
        let derivation = item(|o| {
            items(o, (0x0008, 0x9215), code(codes::SEGMENTATION));
            items(o, (0x0008, 0x2112), vec![source]);
        });
        items(o, (0x0008, 0x9124), vec![derivation]);
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_strings_are_short_and_precise() {
        for value in
            [0.4297, -106.241, 1.0 / 3.0, -123_456.789_012_345_6, 1e-9 / 3.0, -0.026_637_015_182_036, 1e300]
        {
            let text = decimal(value);
            let back: f64 = text.parse().unwrap();
            assert!(text.len() <= 16 && (back / value - 1.0).abs() < 1e-8, "{value} {text}");
        }
    }

    #[test]
    fn bits_are_packed_across_frames() {
        let mut bits = Bits::default();
        bits.push([true, false, true].into_iter());
        bits.push([true; 6].into_iter());
        assert_eq!(bits.finish(), [0b1111_1101, 1]);
    }
}
