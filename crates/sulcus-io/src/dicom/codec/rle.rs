//! RLE Lossless (DICOM PS3.5, annex G): PackBits, the bytes of the pixels apart, most significant first.

use super::CodecFault;

/// Segments that the header has room for.
const MAX_SEGMENTS: usize = 15;

pub(super) fn decode(data: &[u8], pixels: usize, bytes: usize) -> Result<Vec<i32>, CodecFault> {
    let (words, _) = data.get(..64).ok_or(CodecFault::Short)?.as_chunks::<4>();
    let mut words = words.iter().map(|w| u32::from_le_bytes(*w) as usize);
    let segments = words.next().unwrap_or(0);
    if segments != bytes || segments > MAX_SEGMENTS {
        return Err(CodecFault::Damaged);
    }
    let starts: Vec<usize> = words.take(segments).collect();
    // Two bytes give 128 at most, so less data than this is too little for any picture.
    if data.len() < pixels / 64 * bytes {
        return Err(CodecFault::Short);
    }
    let mut out = vec![0_u32; pixels];
    for (i, start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(data.len());
        let segment = data.get(*start..end).ok_or(CodecFault::Short)?;
        unpack(segment, &mut out)?;
    }
    Ok(out.into_iter().map(u32::cast_signed).collect())
}

/// Shifts one byte more into each value.
fn unpack(segment: &[u8], out: &mut [u32]) -> Result<(), CodecFault> {
    let mut rest = segment;
    let mut left = out.iter_mut();
    while left.len() > 0 {
        let (head, tail) = rest.split_first().ok_or(CodecFault::Short)?;
        rest = tail;
        let n = usize::from(head.cast_signed().unsigned_abs()) + 1;
        match head.cast_signed() {
            0.. => {
                let (bytes, tail) = rest.split_at_checked(n).ok_or(CodecFault::Short)?;
                rest = tail;
                left.by_ref().take(n).zip(bytes).for_each(|(v, b)| *v = *v << 8 | u32::from(*b));
            }
            // Means nothing.
            i8::MIN => {}
            _ => {
                let (byte, tail) = rest.split_first().ok_or(CodecFault::Short)?;
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
    fn runs_and_literals_make_two_byte_pixels() {
        let mut data = vec![0_u8; 64];
        data[0] = 2;
        data[4] = 64;
        data[8] = 66;
        // High bytes: four times 1. Low bytes: 2, 3, then twice 4.
        data.extend([0xfd, 1, 1, 2, 3, 0x80, 0xff, 4]);
        assert_eq!(decode(&data, 4, 2).unwrap(), [0x102, 0x103, 0x104, 0x104]);
        assert_eq!(decode(&data[..data.len() - 1], 4, 2), Err(CodecFault::Short));
        assert_eq!(decode(&data, 4, 1), Err(CodecFault::Damaged));
    }
}
