//! What headers made of text have in common, and voxels written as text.

use std::str::FromStr;

use crate::error::Problem;
use crate::voxels::VoxelType;

/// A header longer than this is no header: real ones have some kilobytes, segmentations of many structures some
/// hundred.
pub(crate) const MOST_HEADER_BYTES: usize = 1 << 22;

/// The next line without its end, and what follows it.
pub(crate) fn split_line(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = bytes.iter().position(|b| *b == b'\n');
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (line, end.and_then(|end| bytes.get(end + 1..)))
}

/// Numbers between white space, all or none of them, and at most so many.
pub(crate) fn numbers<T: FromStr>(text: &str, most: usize) -> Option<Vec<T>> {
    let words = text.split_ascii_whitespace();
    let mut out = Vec::new();
    for word in words {
        if out.len() == most {
            return None;
        }
        out.push(word.parse().ok()?);
    }
    Some(out)
}

/// So many numbers between white space.
pub(crate) fn exactly<T: FromStr, const N: usize>(text: &str) -> Option<[T; N]> {
    numbers(text, N)?.try_into().ok()
}

/// A word or two of what a header says, for a message: not the whole of a damaged line, and on one line.
pub(crate) fn excerpt(text: &str) -> String {
    const MOST: usize = 60;
    let short: String = text.chars().take(MOST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(MOST).is_some() { format!("`{short}…`") } else { format!("`{short}`") }
}

/// `wanted` numbers of a type, written as text between white space, as the bytes that they would have in a
/// little-endian file.
pub(crate) fn voxels(text: &[u8], voxel_type: VoxelType, wanted: usize) -> Result<Vec<u8>, Problem> {
    let fail = |found| Problem::TextVoxels { expected: wanted as u64, dtype: voxel_type.name(), found };
    // A number takes a digit and a space, so this many bytes are worth asking for.
    if text.len() < wanted.saturating_mul(2).saturating_sub(1) {
        return Err(fail(format!("{} bytes of text", text.len())));
    }
    let words = std::str::from_utf8(text).map_err(|_| fail("bytes that are no text".into()))?;
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

/// A number as it has to be written to be read back as the same: the shortest text that does.
pub(crate) fn exact(value: f64) -> String {
    // 0 + −0 is 0: no header needs a negative zero.
    format!("{:?}", value + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_on_any_system() {
        assert_eq!(split_line(b"a\r\nb"), (b"a".as_slice(), Some(b"b".as_slice())));
        assert_eq!(split_line(b"a\nb\n"), (b"a".as_slice(), Some(b"b\n".as_slice())));
        assert_eq!(split_line(b"end"), (b"end".as_slice(), None));
    }

    #[test]
    fn numbers_are_read_all_or_none() {
        assert_eq!(numbers::<f64>(" 1 -2.5  3e1 ", 3), Some(vec![1.0, -2.5, 30.0]));
        assert_eq!(numbers::<usize>("1 2 3", 2), None);
        assert_eq!(numbers::<usize>("1 x", 2), None);
        assert_eq!(exactly::<usize, 3>("1 2"), None);
    }

    #[test]
    fn written_numbers_are_read_as_the_same() {
        for v in [0.1, 1.0 / 3.0, -0.0, 1e-300, 12345.678901234567] {
            assert_eq!(exact(v).parse::<f64>().unwrap(), v);
        }
        assert_eq!(exact(-0.0), "0.0");
    }

    #[test]
    fn voxels_as_text_are_numbers_of_their_type() {
        assert_eq!(voxels(b"1 2\n 3\t", VoxelType::Int16, 3).unwrap(), [1, 0, 2, 0, 3, 0]);
        let says = |text: &[u8], n| voxels(text, VoxelType::Uint8, n).unwrap_err().to_string();
        assert_eq!(
            says(b"1 256 3", 3),
            "cannot read the voxels: expected 3 numbers of type uint8 as text, found `256`; get the file again"
        );
        assert!(says(b"1 2   ", 3).contains("found 2;"));
        assert!(says(b"1", usize::MAX).contains("found 1 bytes of text"));
    }
}
