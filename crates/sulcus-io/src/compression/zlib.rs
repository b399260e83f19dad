//! Reads zlib data (RFC 1950), the compression of MetaImage.

use zlib_rs::adler32::adler32;

use super::inflate::{BufferSink, DefaultInflater, InflateError, Inflater, Remainder, Sink};
use crate::error::IoErrorKind;

/// Inflates the first `wanted` bytes of zlib data. The data is read to its end, where its checksum is verified.
pub(crate) fn inflate_zlib(compressed: &[u8], wanted: usize) -> Result<Vec<u8>, IoErrorKind> {
    let fail = |error, found| {
        let expected = wanted as u64;
        match error {
            InflateError::Truncated => IoErrorKind::Zlib { reason: "end", found, expected },
            InflateError::Damaged(reason) => IoErrorKind::Zlib { reason, found, expected },
            InflateError::Memory(bytes) => {
                IoErrorKind::Memory { action: "decompress the voxels", bytes: bytes as u64 }
            }
            InflateError::Surplus(surplus) => IoErrorKind::TrailingData { expected, surplus: surplus as u64 },
        }
    };
    let mut out = BufferSink::new(compressed.len(), wanted).map_err(|error| fail(error, 0))?;
    let result = stream(compressed, &mut out);
    let found = out.filled();
    match result {
        Ok(()) if out.is_full() => Ok(out.into_bytes()),
        Ok(()) => Err(fail(InflateError::Truncated, found)),
        Err(error) => Err(fail(error, found)),
    }
}

fn stream(data: &[u8], out: &mut BufferSink) -> Result<(), InflateError> {
    const DAMAGED: InflateError = InflateError::Damaged("are damaged");
    let (&[method, flags], body) = data.split_first_chunk::<2>().ok_or(InflateError::Truncated)?;
    // The method is deflate, the two bytes are a multiple of 31, and no dictionary is needed.
    if method & 15 != 8 || u16::from_be_bytes([method, flags]) % 31 != 0 || flags & 0x20 != 0 {
        return Err(DAMAGED);
    }
    let mut checksum = 1;
    let mut sum = |bytes: &[u8]| checksum = adler32(checksum, bytes);
    let read = match out.inflate(&mut <DefaultInflater as Inflater>::new(), body, Remainder::Check, &mut sum) {
        Err(InflateError::Damaged(_)) => return Err(DAMAGED),
        other => other?.unwrap_or(body.len()),
    };
    let recorded = body.get(read..).and_then(|b| b.first_chunk::<4>()).ok_or(InflateError::Truncated)?;
    if u32::from_be_bytes(*recorded) == checksum {
        Ok(())
    } else {
        Err(InflateError::Damaged("have a wrong checksum"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::deflate;
    use crate::voxels::VoxelEncoder;

    #[test]
    fn round_trip_at_low_and_high_compression() {
        let noisy: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for content in [noisy, vec![7; 100_000], Vec::new(), vec![1]] {
            let packed = deflate::zlib(&VoxelEncoder::from_bytes(&content)).unwrap();
            assert_eq!(inflate_zlib(&packed, content.len()).unwrap(), content);
            let plain = miniz_oxide::deflate::compress_to_vec_zlib(&content, 6);
            assert_eq!(inflate_zlib(&plain, content.len()).unwrap(), content);
            assert_eq!(inflate_zlib(&plain, content.len() / 2).unwrap(), content[..content.len() / 2]);
        }
    }

    #[test]
    fn truncated_and_damaged_data_is_reported() {
        let packed = deflate::zlib(&VoxelEncoder::from_bytes(&[7; 1000])).unwrap();
        let message = |bytes: &[u8], wanted| inflate_zlib(bytes, wanted).unwrap_err().to_string();
        assert_eq!(
            message(&packed, 1001),
            "cannot decompress the voxels: their zlib data end after 1000 of 1001 bytes; get the file again"
        );
        assert!(message(&packed[..packed.len() / 2], 1000).contains("zlib data end after"));
        let mut wrong = packed.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(message(&wrong, 1000).contains("have a wrong checksum"));
        // Also if fewer bytes are requested than there are.
        assert!(message(&wrong, 10).contains("have a wrong checksum"));
        assert!(message(b"not zlib at all", 1000).contains("are damaged"));
    }
}
