//! The common parts of formats whose header is text: lines, numbers, voxels stored as text, and the order of channels.

use std::str::FromStr;

use crate::error::IoErrorKind;
use crate::text::excerpt;
use crate::voxels::{VoxelType, reserve};

/// The maximum length of a header. Real headers have a few kilobytes, those of segmentations with many structures a few
/// hundred.
pub(super) const MAX_HEADER_BYTES: usize = 1 << 22;

/// The number of bytes at the start of a file that contain any valid header.
pub(super) const MAX_READ_BYTES: usize = MAX_HEADER_BYTES + (1 << 16);

/// Splits off the first line, without its line end. The rest is `None` if there is no line end.
pub(super) fn split_line(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = bytes.iter().position(|b| *b == b'\n');
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (line, end.and_then(|end| bytes.get(end + 1..)))
}

/// Parses numbers that are separated by white space; `None` if one is invalid or there are more than `max_count`.
pub(super) fn numbers<T: FromStr>(text: &str, max_count: usize) -> Option<Vec<T>> {
    let words = text.split_ascii_whitespace();
    let mut out = Vec::new();
    for word in words {
        if out.len() == max_count {
            return None;
        }
        out.push(word.parse().ok()?);
    }
    Some(out)
}

/// Whether a unit of length means millimetres, or says nothing. All other spellings are refused, so that none is overlooked.
pub(super) fn is_millimetres(unit: &str) -> bool {
    const SPELLINGS: [&str; 11] = [
        "mm",
        "millimeter",
        "millimeters",
        "millimetre",
        "millimetres",
        "",
        "?",
        "???",
        "none",
        "unknown",
        "unspecified",
    ];
    let unit = unit.trim();
    SPELLINGS.iter().any(|spelling| unit.eq_ignore_ascii_case(spelling))
}

/// Parses exactly `N` numbers that are separated by white space.
pub(super) fn exactly<T: FromStr, const N: usize>(text: &str) -> Option<[T; N]> {
    numbers(text, N)?.try_into().ok()
}

/// Parses `wanted` numbers of a type that are separated by white space or commas, and converts them to little-endian bytes.
pub(super) fn voxels(text: &[u8], voxel_type: VoxelType, wanted: usize) -> Result<Vec<u8>, IoErrorKind> {
    let fail = |found| IoErrorKind::TextVoxels { expected: wanted as u64, dtype: voxel_type.name(), found };
    // Every number needs a digit and a separator. This bounds the memory by the length of the text.
    if text.len() < wanted.saturating_mul(2).saturating_sub(1) {
        return Err(fail(format!("{} bytes of text", text.len())));
    }
    let words = std::str::from_utf8(text).map_err(|_| fail("bytes that are not text".into()))?;
    let mut words = words.split(|c: char| c.is_ascii_whitespace() || c == ',').filter(|word| !word.is_empty());
    let mut out = Vec::new();
    for n in 0..wanted {
        let word = words.next().ok_or_else(|| fail(n.to_string()))?;
        push(word, voxel_type, &mut out).ok_or_else(|| fail(excerpt(word)))?;
    }
    Ok(out)
}

fn push(word: &str, voxel_type: VoxelType, out: &mut Vec<u8>) -> Option<()> {
    macro_rules! parsed {
        ($t:ty) => {
            out.extend(word.parse::<$t>().ok()?.to_le_bytes())
        };
    }
    match voxel_type {
        VoxelType::Uint8 => parsed!(u8),
        VoxelType::Int8 => parsed!(i8),
        VoxelType::Uint16 => parsed!(u16),
        VoxelType::Int16 => parsed!(i16),
        VoxelType::Uint32 => parsed!(u32),
        VoxelType::Int32 => parsed!(i32),
        VoxelType::Uint64 => parsed!(u64),
        VoxelType::Int64 => parsed!(i64),
        VoxelType::Float32 => parsed!(f32),
        VoxelType::Float64 => parsed!(f64),
    }
    Some(())
}

/// How the name of a data file stands for several files; `None` if it is the name of one.
pub(super) fn several_data_files(name: &str) -> Option<&'static str> {
    let is_pattern = name.contains('%') && name.split_ascii_whitespace().count() > 1;
    match () {
        () if is_pattern => Some("a pattern of several file names"),
        () if lists_data_files(name) => Some("a list of several files (LIST)"),
        () => None,
    }
}

/// Whether the names of several data files follow the header.
pub(super) fn lists_data_files(name: &str) -> bool {
    name.split_ascii_whitespace().next() == Some("LIST")
}

/// The shortest text that parses to the same number.
pub(super) fn exact(value: f64) -> String {
    // −0 + 0 is 0, so no header contains a negative zero.
    format!("{:?}", value + 0.0)
}

/// Moves the channels to the slowest axis, the order of [`StoredVolume`](crate::StoredVolume). In `values`, groups of
/// `before` values of one channel alternate between the channels.
pub(super) fn channels_last(
    values: &[u8],
    value_bytes: usize,
    before: usize,
    channels: usize,
) -> Result<Vec<u8>, IoErrorKind> {
    let run = before.saturating_mul(value_bytes).max(1);
    let block = run.saturating_mul(channels).max(1);
    let mut out = reserve(values.len())?;
    for channel in 0..channels {
        for runs in values.chunks_exact(block) {
            out.extend(runs.get(channel * run..(channel + 1) * run).unwrap_or_default());
        }
    }
    Ok(out)
}

/// Moves the channels from the slowest to the fastest axis.
pub(super) fn channels_first(values: &[u8], value_bytes: usize, channels: usize) -> Result<Vec<u8>, IoErrorKind> {
    let channel_bytes = values.len() / channels.max(1);
    let mut out = reserve(values.len())?;
    for at in (0..channel_bytes).step_by(value_bytes.max(1)) {
        for channel in 0..channels {
            let from = channel * channel_bytes + at;
            out.extend(values.get(from..from + value_bytes).unwrap_or_default());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_line_feed_or_carriage_return() {
        assert_eq!(split_line(b"a\r\nb"), (b"a".as_slice(), Some(b"b".as_slice())));
        assert_eq!(split_line(b"a\nb\n"), (b"a".as_slice(), Some(b"b\n".as_slice())));
        assert_eq!(split_line(b"end"), (b"end".as_slice(), None));
    }

    #[test]
    fn one_invalid_number_invalidates_all() {
        assert_eq!(numbers::<f64>(" 1 -2.5  3e1 ", 3), Some(vec![1.0, -2.5, 30.0]));
        assert_eq!(numbers::<usize>("1 2 3", 2), None);
        assert_eq!(numbers::<usize>("1 x", 2), None);
        assert_eq!(exactly::<usize, 3>("1 2"), None);
    }

    #[test]
    fn numbers_survive_the_round_trip() {
        for v in [0.1, 1.0 / 3.0, -0.0, 1e-300, 12345.678901234567] {
            assert_eq!(exact(v).parse::<f64>().unwrap(), v);
        }
        assert_eq!(exact(-0.0), "0.0");
    }

    #[test]
    fn text_voxels_are_checked_against_their_type() {
        assert_eq!(voxels(b"1 2\n 3\t", VoxelType::Int16, 3).unwrap(), [1, 0, 2, 0, 3, 0]);
        let message = |text: &[u8], n| voxels(text, VoxelType::Uint8, n).unwrap_err().to_string();
        assert_eq!(
            message(b"1 256 3", 3),
            "cannot read the voxels: expected 3 numbers of type uint8 as text, found `256`; get the file again"
        );
        assert!(message(b"1 2   ", 3).contains("found 2;"));
        assert!(message(b"1", usize::MAX).contains("found 1 bytes of text"));
    }

    #[test]
    fn channel_order_survives_the_round_trip() {
        // Two voxels with three channels of two bytes.
        let first: Vec<u8> = (0..12).collect();
        let last = channels_last(&first, 2, 1, 3).unwrap();
        assert_eq!(last, [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
        assert_eq!(channels_first(&last, 2, 3).unwrap(), first);
    }
}
