//! RLE Lossless (DICOM PS3.5, annex G): PackBits, one segment for each byte of the pixels, most significant byte first.

use super::CodecError;

/// The maximum number of segments in the header.
const MAX_SEGMENTS: usize = 15;

pub(super) fn decode(data: &[u8], pixels: usize, bytes: usize) -> Result<Vec<i32>, CodecError> {
    let (words, _) = data.get(..64).ok_or(CodecError::Truncated)?.as_chunks::<4>();
    let mut words = words.iter().map(|w| u32::from_le_bytes(*w) as usize);
    let segments = words.next().unwrap_or(0);
    if segments != bytes || segments > MAX_SEGMENTS {
        return Err(CodecError::Damaged);
    }
    let starts: Vec<usize> = words.take(segments).collect();
    // Two bytes encode at most 128, so less data than this cannot hold the image.
    if data.len() < pixels / 64 * bytes {
        return Err(CodecError::Truncated);
    }
    let mut out = vec![0_u32; pixels];
    for (i, start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(data.len());
        let segment = data.get(*start..end).ok_or(CodecError::Truncated)?;
        unpack(segment, &mut out)?;
    }
    Ok(out.into_iter().map(u32::cast_signed).collect())
}

/// Shifts one more byte into each value.
fn unpack(segment: &[u8], out: &mut [u32]) -> Result<(), CodecError> {
    let mut rest = segment;
    let mut left = out.iter_mut();
    while left.len() > 0 {
        let (head, tail) = rest.split_first().ok_or(CodecError::Truncated)?;
        rest = tail;
        let n = usize::from(head.cast_signed().unsigned_abs()) + 1;
        match head.cast_signed() {
            0.. => {
                let (bytes, tail) = rest.split_at_checked(n).ok_or(CodecError::Truncated)?;
                rest = tail;
                left.by_ref().take(n).zip(bytes).for_each(|(v, b)| *v = *v << 8 | u32::from(*b));
            }
            // No operation.
            i8::MIN => {}
            _ => {
                let (byte, tail) = rest.split_first().ok_or(CodecError::Truncated)?;
                rest = tail;
                left.by_ref().take(n).for_each(|v| *v = *v << 8 | u32::from(*byte));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_literals_decode_to_two_byte_pixels() {
        let mut data = vec![0_u8; 64];
        data[0] = 2;
        data[4] = 64;
        data[8] = 66;
        // High bytes: four times 1. Low bytes: 2, 3, then twice 4.
        data.extend([0xfd, 1, 1, 2, 3, 0x80, 0xff, 4]);
        assert_eq!(decode(&data, 4, 2).unwrap(), [0x102, 0x103, 0x104, 0x104]);
        assert_eq!(decode(&data[..data.len() - 1], 4, 2), Err(CodecError::Truncated));
        assert_eq!(decode(&data, 4, 1), Err(CodecError::Damaged));
    }
}
