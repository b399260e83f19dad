//! Recognises the version and the byte order of a header.

use super::fields::Fields;
use super::layout::{Key, Version};
use crate::error::IoErrorKind;
use crate::format::unrecognized;

/// Whether the bytes start with a NIfTI header, possibly a damaged one, or with an Analyze header.
pub(super) fn is_nifti(bytes: &[u8]) -> bool {
    let sizes = [Version::One, Version::Two].map(|version| header_sizes(bytes, version));
    sizes != [[false; 2]; 2] || has_version_1_magic(bytes)
}

/// Reads the fields; the second value is whether the file is big-endian.
///
/// Follows nibabel. NIfTI-1 is recognised by its magic; a wrong `sizeof_hdr` is ignored, and the byte order then follows
/// from the number of axes. NIfTI-2 is recognised by `sizeof_hdr`, and its magic must be valid.
pub(super) fn read(bytes: &[u8]) -> Result<(Fields, bool), IoErrorKind> {
    if let sizes @ ([true, _] | [_, true]) = header_sizes(bytes, Version::Two) {
        return read_version(bytes, Version::Two, sizes == [false, true]);
    }
    let sizes = header_sizes(bytes, Version::One);
    let has_magic = has_version_1_magic(bytes);
    if sizes == [false, false] {
        return if has_magic {
            read_version(bytes, Version::One, is_big_endian(bytes))
        } else {
            Err(unrecognized::describe(bytes))
        };
    }
    if !has_magic && bytes.len() >= Version::One.header_bytes() {
        // Analyze 7.5 has `smin` there, a small number that is usually 0. A damaged NIfTI magic still contains a letter.
        let magic = version_1_magic(bytes);
        return Err(if magic.iter().any(u8::is_ascii_graphic) {
            IoErrorKind::Magic { expected: "n+1 or ni1", found: magic.escape_ascii().to_string() }
        } else {
            IoErrorKind::Analyze
        });
    }
    read_version(bytes, Version::One, sizes == [false, true])
}

/// Whether `sizeof_hdr` is that of the version, as little-endian and as big-endian.
fn header_sizes(bytes: &[u8], version: Version) -> [bool; 2] {
    let Some(size) = bytes.first_chunk::<4>() else { return [false; 2] };
    let is_size = |size: i32| usize::try_from(size) == Ok(version.header_bytes());
    [is_size(i32::from_le_bytes(*size)), is_size(i32::from_be_bytes(*size))]
}

fn version_1_magic(bytes: &[u8]) -> &[u8] {
    bytes.get(344..348).unwrap_or_default()
}

fn has_version_1_magic(bytes: &[u8]) -> bool {
    [true, false].iter().any(|single| version_1_magic(bytes) == Version::One.magic(*single))
}

/// Whether `dim[0]`, read as little-endian, is not a valid number of axes.
fn is_big_endian(bytes: &[u8]) -> bool {
    let rank = bytes.get(40..42).and_then(|b| b.first_chunk()).map_or(0, |b| i16::from_le_bytes(*b));
    !(1..=7).contains(&rank)
}

fn read_version(bytes: &[u8], version: Version, big_endian: bool) -> Result<(Fields, bool), IoErrorKind> {
    let short = IoErrorKind::ShortHeader { expected: version.header_bytes(), found: bytes.len() };
    let fields = Fields::read(bytes, version, big_endian).ok_or(short)?;
    if version == Version::Two {
        let magic = fields.bytes(Key::Magic);
        if ![true, false].iter().any(|single| magic == version.magic(*single)) {
            return Err(IoErrorKind::Magic { expected: "n+2 or ni2", found: magic.escape_ascii().to_string() });
        }
        let line_ends = fields.bytes(Key::EolCheck);
        if line_ends != b"\r\n\x1a\n" && line_ends != [0; 4] {
            return Err(IoErrorKind::Header {
                action: "read",
                expected: "the bytes 0d 0a 1a 0a after the magic".into(),
                found: line_ends.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "),
                hint: "a transfer in text mode has changed its line ends: copy it again in binary mode",
            });
        }
    }
    Ok((fields, big_endian))
}
