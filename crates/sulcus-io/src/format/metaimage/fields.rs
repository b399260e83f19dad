use std::collections::BTreeMap;

use crate::error::IoErrorKind;
use crate::format::text_header::{self, MAX_HEADER_BYTES};
use crate::text::excerpt;

/// The keys that are read.
const KEYS: &[&str] = &[
    "ObjectType",
    "NDims",
    "DimSize",
    "ElementType",
    "ElementNumberOfChannels",
    "ElementSpacing",
    "ElementSize",
    "DistanceUnits",
    "ElementToIntensityFunctionSlope",
    "ElementToIntensityFunctionOffset",
    "TransformMatrix",
    "Rotation",
    "Orientation",
    "Offset",
    "Position",
    "Origin",
    "BinaryData",
    "BinaryDataByteOrderMSB",
    "ElementByteOrderMSB",
    "CompressedData",
    "HeaderSize",
    "ElementDataFile",
];

/// The last key of a header.
const LAST: &str = "ElementDataFile";

/// Whether the content is a MetaImage header: text that contains one of its first keys.
pub(super) fn is_metaimage(start: &[u8]) -> bool {
    const FIRST_BYTES: usize = 2048;
    let start = start.get(..start.len().min(FIRST_BYTES)).unwrap_or_default();
    let mut rest = Some(start);
    while let Some(at) = rest {
        let (line, after) = text_header::split_line(at);
        match split(line) {
            Some(("ObjectType", "Image") | ("NDims", _)) => return true,
            // Other text is skipped, as in ITK.
            _ if is_text(line) => {}
            _ => return false,
        }
        rest = after;
    }
    false
}

/// Whether a line has no control characters. It may have another encoding than UTF-8.
fn is_text(line: &[u8]) -> bool {
    line.iter().all(|b| !b.is_ascii_control() || *b == b'\t')
}

/// Whether a line that is not `Key = value` starts with a known key all the same: without `=`, or among damaged bytes. Such a
/// line cannot be ignored as other text is, in ITK too, because the volume would get a default value in its place.
fn starts_with_key(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    let first = text.split(|c: char| c == '=' || c.is_whitespace()).find(|word| !word.is_empty());
    let letters: String = first.unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect();
    KEYS.contains(&letters.as_str())
}

/// Splits a line `Key = value`.
fn split(line: &[u8]) -> Option<(&str, &str)> {
    let (key, value) = std::str::from_utf8(line).ok()?.split_once('=')?;
    Some((key.trim(), value.trim()))
}

/// The fields of a header as text.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(BTreeMap<&'static str, &'a str>);

impl<'a> Fields<'a> {
    /// Reads the lines up to the one that gives the location of the voxels; returns the bytes after it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), IoErrorKind> {
        let mut fields = Self::default();
        let mut rest = Some(bytes);
        while let Some(at) = rest.filter(|at| bytes.len() - at.len() <= MAX_HEADER_BYTES) {
            let (line, after) = text_header::split_line(at);
            rest = after;
            let Some((key, value)) = split(line) else {
                if is_text(line) && !starts_with_key(line) {
                    continue;
                }
                return Err(header_error(
                    "`Key = value` in each line of the header",
                    excerpt(&String::from_utf8_lossy(line.get(..line.len().min(80)).unwrap_or_default())),
                    "the header is damaged, get the file again",
                ));
            };
            let Some(known) = KEYS.iter().find(|known| **known == key) else { continue };
            if fields.0.insert(known, value).is_some() {
                return Err(header_error(
                    format!("the key {known} once"),
                    "it twice".into(),
                    "remove the wrong one from the header",
                ));
            }
            if key == LAST {
                return Ok((fields, after.unwrap_or_default()));
            }
        }
        Err(header_error(
            format!("the key {LAST}, the last of a header"),
            "none".into(),
            "the header is damaged or cut short, get the file again",
        ))
    }

    /// The value of a key, if it exists.
    pub(super) fn get(&self, key: &'static str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    /// The value of a required key.
    pub(super) fn require(&self, key: &'static str) -> Result<&'a str, IoErrorKind> {
        self.get(key).ok_or_else(|| {
            header_error(format!("the key {key}"), "none".into(), "the header is damaged, get the file again")
        })
    }

    /// The first existing key of several alternatives, with its value.
    pub(super) fn first(&self, keys: &[&'static str]) -> Option<(&'static str, &'a str)> {
        keys.iter().find_map(|key| Some((*key, self.get(key)?)))
    }

    /// The value `True` or `False`; false without the key.
    pub(super) fn flag(&self, key: &'static str) -> Result<bool, IoErrorKind> {
        match self.get(key) {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") || text == "1" => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") || text == "0" => Ok(false),
            Some(text) => Err(header_error(
                format!("True or False ({key})"),
                excerpt(text),
                "the header is damaged, get the file again",
            )),
        }
    }
}

/// The error for a header key.
pub(super) fn header_error(expected: impl Into<String>, found: String, hint: &'static str) -> IoErrorKind {
    IoErrorKind::TextHeader { format: "MetaImage", expected: expected.into(), found, hint }
}
