use std::collections::BTreeMap;

use super::problem;
use super::segments::Segments;
use crate::error::Problem;
use crate::text::{self, MOST_HEADER_BYTES};

/// The first line of each version of the format; the last digit is the version.
const MAGIC: &[u8] = b"NRRD000";
const LAST_VERSION: u8 = b'5';

/// Whether the content is NRRD, a header alone or with its voxels.
pub(crate) fn is_nrrd(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// The header's fields as text, each once, and what segmentations add to them.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    values: BTreeMap<&'static str, &'a str>,
    pub(super) segments: Segments,
}

/// Fields that matter here, under the name that the format's description gives first, with their other spellings.
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
    ("spacings", &[]),
    ("axis mins", &["axismins"]),
    ("centers", &["centerings"]),
    ("kinds", &[]),
    ("data file", &["datafile"]),
    ("line skip", &["lineskip"]),
    ("byte skip", &["byteskip"]),
];

impl<'a> Fields<'a> {
    /// Reads the lines up to the empty one that ends the header; returns what follows it, or `None` where the bytes
    /// end with the header.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, Option<&'a [u8]>), Problem> {
        let (magic, mut rest) = text::split_line(bytes);
        let version = magic.strip_prefix(MAGIC).unwrap_or_default();
        if !matches!(version, [b'1'..=LAST_VERSION]) {
            let found =
                text::excerpt(&String::from_utf8_lossy(magic.get(..magic.len().min(32)).unwrap_or_default()));
            return Err(problem(
                "NRRD0001 to NRRD0005 in the first line",
                found,
                "save the file again with a current 3D Slicer or teem",
            ));
        }
        let mut fields = Self::default();
        while let Some(at) = rest {
            if bytes.len() - at.len() > MOST_HEADER_BYTES {
                return Err(problem(
                    "an empty line that ends the header",
                    format!("none in the first {MOST_HEADER_BYTES} bytes"),
                    "the file is damaged, get it again",
                ));
            }
            let (line, after) = text::split_line(at);
            if line.is_empty() {
                return Ok((fields, after));
            }
            rest = after;
            let line = std::str::from_utf8(line).map_err(|_| {
                problem(
                    "lines of text up to an empty one",
                    "bytes that are no text".into(),
                    "the file is damaged, get it again",
                )
            })?;
            fields.add(line)?;
        }
        Ok((fields, None))
    }

    fn add(&mut self, line: &'a str) -> Result<(), Problem> {
        if line.starts_with('#') {
            return Ok(());
        }
        let Some((key, value)) = line.split_once(':') else {
            return Err(problem(
                "`field: value` or `key:=value` in each line of the header",
                text::excerpt(line),
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
            return Err(problem(
                format!("the field `{name}` once"),
                "it twice".into(),
                "remove the wrong one from the header",
            ));
        }
        Ok(())
    }

    /// What a field says, if it is there.
    pub(super) fn get(&self, name: &'static str) -> Option<&'a str> {
        self.values.get(name).copied()
    }

    /// What a field says that no header may lack.
    pub(super) fn require(&self, name: &'static str) -> Result<&'a str, Problem> {
        self.get(name).ok_or_else(|| {
            problem(format!("the field `{name}`"), "none".into(), "the header is damaged, get the file again")
        })
    }
}
