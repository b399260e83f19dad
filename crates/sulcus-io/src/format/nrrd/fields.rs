use std::collections::BTreeMap;

use super::segments::Segments;
use crate::error::IoErrorKind;
use crate::format::text_header::{self, MAX_HEADER_BYTES};
use crate::text::excerpt;

/// The first line of the format, without its last digit, which is the version.
const MAGIC: &[u8] = b"NRRD000";
const LAST_VERSION: u8 = b'5';

/// Whether the content is NRRD.
pub(super) fn is_nrrd(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// The fields of a header as text, and the fields of a segmentation.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    values: BTreeMap<&'static str, &'a str>,
    pub(super) segments: Segments,
}

/// The fields that are read, with their alternative spellings.
const FIELDS: &[(&str, &[&str])] = &[
    ("type", &[]),
    ("dimension", &[]),
    ("sizes", &[]),
    ("encoding", &[]),
    ("endian", &[]),
    ("space", &[]),
    ("space dimension", &[]),
    ("space directions", &[]),
    ("space origin", &[]),
    ("space units", &[]),
    ("units", &[]),
    ("spacings", &[]),
    ("axis mins", &["axismins"]),
    ("axis maxs", &["axismaxs"]),
    ("centers", &["centerings"]),
    ("kinds", &[]),
    ("data file", &["datafile"]),
    ("line skip", &["lineskip"]),
    ("byte skip", &["byteskip"]),
];

impl<'a> Fields<'a> {
    /// Reads the lines up to the empty line that ends the header; returns the bytes after it, or `None` if there is no empty
    /// line.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, Option<&'a [u8]>), IoErrorKind> {
        let (magic, mut rest) = text_header::split_line(bytes);
        let version = magic.strip_prefix(MAGIC).unwrap_or_default();
        if !matches!(version, [b'1'..=LAST_VERSION]) {
            let found = excerpt(&String::from_utf8_lossy(magic.get(..magic.len().min(32)).unwrap_or_default()));
            return Err(header_error(
                "NRRD0001 to NRRD0005 in the first line",
                found,
                "save the file again with a current 3D Slicer or teem",
            ));
        }
        let mut fields = Self::default();
        while let Some(at) = rest {
            if bytes.len() - at.len() > MAX_HEADER_BYTES {
                return Err(header_error(
                    "an empty line that ends the header",
                    format!("none in the first {MAX_HEADER_BYTES} bytes"),
                    "the file is damaged, get it again",
                ));
            }
            let (line, after) = text_header::split_line(at);
            if line.is_empty() {
                return Ok((fields, after));
            }
            rest = after;
            let line = std::str::from_utf8(line).map_err(|_| {
                header_error(
                    "lines of text up to an empty one",
                    "bytes that are not text".into(),
                    "the file is damaged, get it again",
                )
            })?;
            fields.add(line)?;
            if fields.lists_data_files() {
                // The names of the files follow, up to the end.
                break;
            }
        }
        Ok((fields, None))
    }

    fn add(&mut self, line: &'a str) -> Result<(), IoErrorKind> {
        if line.starts_with('#') {
            return Ok(());
        }
        let Some((key, value)) = line.split_once(':') else {
            return Err(header_error(
                "`field: value` or `key:=value` in each line of the header",
                excerpt(line),
                "the header is damaged, get the file again",
            ));
        };
        if let Some(value) = value.strip_prefix('=') {
            self.segments.add(key, value);
            return Ok(());
        }
        let key = key.trim();
        let known = FIELDS.iter().find(|(name, others)| {
            key.eq_ignore_ascii_case(name) || others.iter().any(|other| key.eq_ignore_ascii_case(other))
        });
        let Some((name, _)) = known else { return Ok(()) };
        if self.values.insert(name, value.trim()).is_some() {
            return Err(header_error(
                format!("the field `{name}` once"),
                "it twice".into(),
                "remove the wrong one from the header",
            ));
        }
        Ok(())
    }

    /// Whether the voxels are in several files: `data file: LIST`.
    pub(super) fn lists_data_files(&self) -> bool {
        self.get("data file").is_some_and(text_header::lists_data_files)
    }

    /// The value of a field, if it exists.
    pub(super) fn get(&self, name: &'static str) -> Option<&'a str> {
        self.values.get(name).copied()
    }

    /// The value of a required field.
    pub(super) fn require(&self, name: &'static str) -> Result<&'a str, IoErrorKind> {
        self.get(name).ok_or_else(|| {
            header_error(format!("the field `{name}`"), "none".into(), "the header is damaged, get the file again")
        })
    }
}

/// The error for a header field.
pub(super) fn header_error(expected: impl Into<String>, found: String, hint: &'static str) -> IoErrorKind {
    IoErrorKind::TextHeader { format: "NRRD", expected: expected.into(), found, hint }
}
