//! The first directory of a TIFF, before the decoder reads it.
//!
//! The decoder reads it before it can be given limits, and allocates memory for as many values as an entry announces.

/// Whether every value of the first directory can be in a file of this length. `None` if the directory itself is not in the file;
/// the decoder says how such a file is damaged.
pub(super) fn fits(content: &[u8]) -> Option<bool> {
    let big_endian = match content.get(..2)? {
        b"II" => false,
        b"MM" => true,
        _ => return None,
    };
    let number = |at: u64, bytes: usize| {
        let at = usize::try_from(at).ok()?;
        let field = content.get(at..at.checked_add(bytes)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if big_endian { field.iter().fold(0, add) } else { field.iter().rev().fold(0, add) })
    };
    // Widths of offsets and counts, of the number of entries, and of an entry.
    let (first, wide, count, entry) = match number(2, 2)? {
        42 => (4, 4, 2, 12),
        43 => (8, 8, 8, 20),
        _ => return None,
    };
    let directory = number(first, wide)?;
    let entries = number(directory, count)?;
    let start = directory.checked_add(count as u64)?;
    for index in 0..entries {
        let at = start.checked_add(index.checked_mul(entry)?)?;
        let values = number(at.checked_add(4)?, wide)?;
        let bytes = values.checked_mul(value_bytes(number(at.checked_add(2)?, 2)?))?;
        if bytes > content.len() as u64 {
            return Some(false);
        }
    }
    Some(true)
}

/// The size of a value of a type (TIFF 6.0, section 2, and BigTIFF).
fn value_bytes(kind: u64) -> u64 {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_entry(kind: u16, count: u32) -> Vec<u8> {
        let mut file = b"II\x2a\x00\x08\x00\x00\x00\x01\x00\x00\x01".to_vec();
        file.extend(kind.to_le_bytes());
        file.extend(count.to_le_bytes());
        file.extend([0; 8]);
        file
    }

    #[test]
    fn values_that_cannot_be_in_the_file_are_found() {
        assert_eq!(fits(&with_entry(3, 1)), Some(true));
        assert_eq!(fits(&with_entry(1, 26)), Some(true));
        assert_eq!(fits(&with_entry(3, 26)), Some(false));
        assert_eq!(fits(&with_entry(4, u32::MAX)), Some(false));
        assert_eq!(fits(b"II\x2a\x00\xff\x00\x00\x00"), None);
        assert_eq!(fits(b"MM\x00"), None);
    }
}
