use super::fields::Fields;
use super::layout::{Key, Version};
use crate::error::Problem;
use crate::sniff;

/// The fields, and whether the file is big-endian, once size and magic say NIfTI.
///
/// As nibabel has it: of NIfTI-1 the magic tells, and a wrong `sizeof_hdr` is mended, the byte order following from the
/// number of axes; of NIfTI-2 the size tells, and the magic must then be right.
pub(crate) fn read(bytes: &[u8]) -> Result<(Fields, bool), Problem> {
    let Some(size) = bytes.first_chunk::<4>() else {
        return Err(if bytes.is_empty() {
            Problem::Empty
        } else {
            Problem::ShortHeader { expected: 348, found: bytes.len() }
        });
    };
    let is_size =
        |n: usize| [i32::from_le_bytes(*size), i32::from_be_bytes(*size)].map(|s| usize::try_from(s) == Ok(n));
    if let sizes @ ([true, _] | [_, true]) = is_size(Version::Two.header_bytes()) {
        return read_version(bytes, Version::Two, sizes == [false, true]);
    }
    let sizes = is_size(Version::One.header_bytes());
    let magic = bytes.get(344..348).unwrap_or_default();
    let is_magic = [true, false].iter().any(|single| magic == Version::One.magic(*single));
    if sizes == [false, false] {
        return if is_magic {
            read_version(bytes, Version::One, is_turned(bytes))
        } else {
            Err(sniff::not_nifti(bytes))
        };
    }
    if !is_magic && bytes.len() >= 348 {
        // Analyze 7.5 has `smin` there, a small number and mostly 0; damage to a NIfTI magic leaves a letter of it.
        return Err(if magic.iter().any(u8::is_ascii_graphic) {
            Problem::Magic { expected: "n+1 or ni1", found: magic.escape_ascii().to_string() }
        } else {
            Problem::Analyze
        });
    }
    read_version(bytes, Version::One, sizes == [false, true])
}

/// Whether `dim[0]`, read as little-endian, is no number of axes.
fn is_turned(bytes: &[u8]) -> bool {
    let rank = bytes.get(40..42).and_then(|b| b.first_chunk()).map_or(0, |b| i16::from_le_bytes(*b));
    !(1..=7).contains(&rank)
}

fn read_version(bytes: &[u8], version: Version, big_endian: bool) -> Result<(Fields, bool), Problem> {
    let short = Problem::ShortHeader { expected: version.header_bytes(), found: bytes.len() };
    let fields = Fields::read(bytes, version, big_endian).ok_or(short)?;
    if version == Version::Two {
        let magic = fields.bytes(Key::Magic);
        if ![true, false].iter().any(|single| magic == version.magic(*single)) {
            return Err(Problem::Magic { expected: "n+2 or ni2", found: magic.escape_ascii().to_string() });
        }
        let line_ends = fields.bytes(Key::EolCheck);
        if line_ends != b"\r\n\x1a\n" && line_ends != [0; 4] {
            return Err(Problem::Header {
                action: "read",
                expected: "the bytes 0d 0a 1a 0a after the magic".into(),
                found: line_ends.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "),
                hint: "a transfer took the file for text and changed its line ends: copy it again in binary mode",
            });
        }
    }
    Ok((fields, big_endian))
}
