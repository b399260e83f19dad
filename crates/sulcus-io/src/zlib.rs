//! zlib data (RFC 1950), which MetaImage has, read.

use zlib_rs::adler32::adler32;

use crate::error::Problem;
use crate::inflate::{Fault, Output, Rest, Target, Usual};

/// The first `wanted` bytes of zlib data, whose checksum is compared to their end.
pub(crate) fn inflate(compressed: &[u8], wanted: usize) -> Result<Vec<u8>, Problem> {
    let fail = |fault, found| {
        let expected = wanted as u64;
        match fault {
            Fault::Truncated => Problem::Zlib { reason: "end", found, expected },
            Fault::Damaged(reason) => Problem::Zlib { reason, found, expected },
            Fault::Memory(bytes) => Problem::Memory { action: "decompress the voxels", bytes: bytes as u64 },
        }
    };
    let mut out = Output::new(compressed.len(), wanted).map_err(|fault| fail(fault, 0))?;
    let whole = stream(compressed, &mut out);
    let found = out.filled();
    match whole {
        Ok(()) if out.is_full() => Ok(out.into_bytes()),
        Ok(()) => Err(fail(Fault::Truncated, found)),
        Err(fault) => Err(fail(fault, found)),
    }
}

fn stream(data: &[u8], out: &mut Output) -> Result<(), Fault> {
    const DAMAGED: Fault = Fault::Damaged("are damaged");
    let (&[method, flags], body) = data.split_first_chunk::<2>().ok_or(Fault::Truncated)?;
    // The method is deflate, the two bytes are a multiple of 31, and no dictionary is needed.
    if method & 15 != 8 || u16::from_be_bytes([method, flags]) % 31 != 0 || flags & 0x20 != 0 {
        return Err(DAMAGED);
    }
    let mut checksum = 1;
    let mut sum = |bytes: &[u8]| checksum = adler32(checksum, bytes);
    let read = match out.take::<Usual>(body, Rest::Check, &mut sum) {
        Err(Fault::Damaged(_)) => return Err(DAMAGED),
        other => other?.unwrap_or(body.len()),
    };
    let recorded = body.get(read..).and_then(|b| b.first_chunk::<4>()).ok_or(Fault::Truncated)?;
    if u32::from_be_bytes(*recorded) == checksum { Ok(()) } else { Err(Fault::Damaged("have a wrong checksum")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate;
    use crate::values::Values;

    #[test]
    fn data_that_shrank_little_or_a_lot_comes_back() {
        let noisy: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for content in [noisy, vec![7; 100_000], Vec::new(), vec![1]] {
            let packed = deflate::zlib(&Values::of_bytes(&content)).unwrap();
            assert_eq!(inflate(&packed, content.len()).unwrap(), content);
            let plain = miniz_oxide::deflate::compress_to_vec_zlib(&content, 6);
            assert_eq!(inflate(&plain, content.len()).unwrap(), content);
            assert_eq!(inflate(&plain, content.len() / 2).unwrap(), content[..content.len() / 2]);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let packed = deflate::zlib(&Values::of_bytes(&[7; 1000])).unwrap();
        let says = |bytes: &[u8], wanted| inflate(bytes, wanted).unwrap_err().to_string();
        assert_eq!(
            says(&packed, 1001),
            "cannot decompress the voxels: their zlib data end after 1000 of 1001 bytes; get the file again"
        );
        assert!(says(&packed[..packed.len() / 2], 1000).contains("zlib data end after"));
        let mut wrong = packed.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(says(&wrong, 1000).contains("have a wrong checksum"));
        // Also where less is wanted than there is.
        assert!(says(&wrong, 10).contains("have a wrong checksum"));
        assert!(says(b"not zlib at all", 1000).contains("are damaged"));
    }
}
