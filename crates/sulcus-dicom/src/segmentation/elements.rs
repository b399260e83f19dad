//! Builds the elements of a DICOM object.

use dicom_core::value::{DataSetSequence, PrimitiveValue};
use dicom_core::{DataElement, Tag, VR};
use dicom_object::InMemDicomObject;

use super::codes::Code;

pub(super) type Object = InMemDicomObject;

pub(super) fn text(object: &mut Object, tag: (u16, u16), vr: VR, value: impl AsRef<str>) {
    let value = value.as_ref();
    let value = if value.is_empty() { PrimitiveValue::Empty } else { PrimitiveValue::from(value) };
    object.put(DataElement::new(Tag(tag.0, tag.1), vr, value));
}

pub(super) fn shorts(object: &mut Object, tag: (u16, u16), values: &[u16]) {
    let value = PrimitiveValue::U16(values.iter().copied().collect());
    object.put(DataElement::new(Tag(tag.0, tag.1), VR::US, value));
}

pub(super) fn longs(object: &mut Object, tag: (u16, u16), values: &[u32]) {
    let value = PrimitiveValue::U32(values.iter().copied().collect());
    object.put(DataElement::new(Tag(tag.0, tag.1), VR::UL, value));
}

pub(super) fn decimals(object: &mut Object, tag: (u16, u16), values: &[f64]) {
    let texts: Vec<String> = values.iter().map(|v| decimal(*v)).collect();
    text(object, tag, VR::DS, texts.join("\\"));
}

pub(super) fn tag_value(object: &mut Object, tag: (u16, u16), value: (u16, u16)) {
    let value = PrimitiveValue::Tags([Tag(value.0, value.1)].into_iter().collect());
    object.put(DataElement::new(Tag(tag.0, tag.1), VR::AT, value));
}

pub(super) fn items(object: &mut Object, tag: (u16, u16), items: Vec<Object>) {
    object.put(DataElement::new(Tag(tag.0, tag.1), VR::SQ, DataSetSequence::from(items)));
}

pub(super) fn item(fill: impl FnOnce(&mut Object)) -> Object {
    let mut object = Object::new_empty();
    fill(&mut object);
    object
}

/// A decimal string (DS) of at most 16 characters, with as many digits as fit.
fn decimal(value: f64) -> String {
    let plain = format!("{value}");
    if plain.len() <= 16 {
        return plain;
    }
    let digits = (0..=15).rev().map(|digits| format!("{value:.digits$}")).find(|text| text.len() <= 16);
    let scientific = (0..=9).rev().map(|digits| format!("{value:.digits$e}")).find(|text| text.len() <= 16);
    // Small numbers would lose digits without an exponent.
    match digits.filter(|_| value.abs() >= 1e-3) {
        Some(text) => text,
        None => scientific.unwrap_or_else(|| "0".to_owned()),
    }
}

pub(super) fn code_sequence(code: Code) -> Vec<Object> {
    vec![item(|o| {
        text(o, (0x0008, 0x0100), VR::SH, code.value);
        text(o, (0x0008, 0x0102), VR::SH, code.scheme);
        text(o, (0x0008, 0x0104), VR::LO, code.meaning);
    })]
}

/// The value without separators and control characters, cut to a length.
pub(super) fn shortened(value: &str, max_chars: usize) -> String {
    value.chars().filter(|c| *c != '\\' && !c.is_control()).take(max_chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_strings_fit_16_characters_and_keep_precision() {
        for value in
            [0.4297, -106.241, 1.0 / 3.0, -123_456.789_012_345_6, 1e-9 / 3.0, -0.026_637_015_182_036, 1e300]
        {
            let text = decimal(value);
            let back: f64 = text.parse().unwrap();
            assert!(text.len() <= 16 && (back / value - 1.0).abs() < 1e-8, "{value} {text}");
        }
    }
}
