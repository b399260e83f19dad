use std::collections::BTreeMap;

use super::problem;
use crate::error::Problem;
use crate::text::{self, MOST_HEADER_BYTES};

/// Keys that matter here; the rest describes, and is left alone.
const KEYS: &[&str] = &[
    "ObjectType",
    "NDims",
    "DimSize",
    "ElementType",
    "ElementNumberOfChannels",
    "ElementSpacing",
    "ElementSize",
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
    "CompressedDataSize",
    "HeaderSize",
    "ElementDataFile",
];

/// The last key of a header.
const LAST: &str = "ElementDataFile";

/// Whether the content is a MetaImage header: text with its first keys.
pub(crate) fn is_metaimage(start: &[u8]) -> bool {
    const FIRST_BYTES: usize = 2048;
    let start = start.get(..start.len().min(FIRST_BYTES)).unwrap_or_default();
    let mut rest = Some(start);
    while let Some(at) = rest {
        let (line, after) = text::split_line(at);
        match split(line) {
            Some(("ObjectType", "Image") | ("NDims", _)) => return true,
            Some(_) => {}
            None if line.trim_ascii().is_empty() => {}
            None => return false,
        }
        rest = after;
    }
    false
}

/// `Key = value`.
fn split(line: &[u8]) -> Option<(&str, &str)> {
    let (key, value) = std::str::from_utf8(line).ok()?.split_once('=')?;
    Some((key.trim(), value.trim()))
}

/// The header's fields as text, each once.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(BTreeMap<&'static str, &'a str>);

impl<'a> Fields<'a> {
    /// Reads the lines up to the one that says where the voxels are; returns what follows it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Problem> {
        let mut fields = Self::default();
        let mut rest = Some(bytes);
        while let Some(at) = rest.filter(|at| bytes.len() - at.len() <= MOST_HEADER_BYTES) {
            let (line, after) = text::split_line(at);
            rest = after;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let Some((key, value)) = split(line) else {
                // A comment may be in another encoding than UTF-8.
                if line.contains(&b'=') && !line.contains(&0) {
                    continue;
                }
                return Err(problem(
                    "`Key = value` in each line of the header",
                    text::excerpt(&String::from_utf8_lossy(line.get(..line.len().min(80)).unwrap_or_default())),
                    "the header is damaged, get the file again",
                ));
            };
            let Some(known) = KEYS.iter().find(|known| **known == key) else { continue };
            if fields.0.insert(known, value).is_some() {
                return Err(problem(
                    format!("the key {known} once"),
                    "it twice".into(),
                    "remove the wrong one from the header",
                ));
            }
            if key == LAST {
                return Ok((fields, after.unwrap_or_default()));
            }
        }
        Err(problem(
            format!("the key {LAST}, the last of a header"),
            "none".into(),
            "the header is damaged or cut short, get the file again",
        ))
    }

    /// What a key says, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    /// What the key says that no header may lack.
    pub(super) fn require(&self, key: &'static str) -> Result<&'a str, Problem> {
        self.get(key).ok_or_else(|| {
            problem(format!("the key {key}"), "none".into(), "the header is damaged, get the file again")
        })
    }

    /// What the first of several names of one thing says.
    pub(super) fn first(&self, keys: &[&'static str]) -> Option<(&'static str, &'a str)> {
        keys.iter().find_map(|key| Some((*key, self.get(key)?)))
    }

    /// `True` or `False`; false without the key.
    pub(super) fn flag(&self, key: &'static str) -> Result<bool, Problem> {
        match self.get(key) {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") || text == "1" => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") || text == "0" => Ok(false),
            Some(text) => Err(problem(
                format!("True or False ({key})"),
                text::excerpt(text),
                "the header is damaged, get the file again",
            )),
        }
    }
}
