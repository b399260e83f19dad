//! zlib data (RFC 1950), which MetaImage has.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use crate::error::Problem;
use crate::gzip::zeros;

/// The first `wanted` bytes of zlib data. Memory is asked for as data come, so a header that announces more than there
/// is costs nothing.
pub(crate) fn inflate(compressed: &[u8], wanted: usize) -> Result<Vec<u8>, Problem> {
    /// A scan shrinks to a half or a third; a mask to a hundredth.
    const EXPECTED_RATIO: usize = 8;
    const ACTION: &str = "decompress the voxels";
    let fail = |reason, found| Problem::Zlib { reason, found, expected: wanted as u64 };
    let mut out = zeros(compressed.len().saturating_mul(EXPECTED_RATIO).min(wanted), ACTION)?;
    #[cfg(not(target_family = "wasm"))]
    if out.len() == wanted {
        // Several times faster, but it takes data that fit exactly; anything else is for the loop below.
        let inflated = libdeflater::Decompressor::new().zlib_decompress(compressed, &mut out);
        if inflated.is_ok_and(|length| length == wanted) {
            return Ok(out);
        }
    }
    let mut state = DecompressorOxide::new();
    let (mut read, mut filled) = (0, 0);
    loop {
        let rest = compressed.get(read..).unwrap_or_default();
        let flags = inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER
            | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32
            | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, taken, written) = decompress(&mut state, rest, &mut out, filled, flags);
        (read, filled) = (read + taken, filled + written);
        match status {
            TINFLStatus::Done if filled < wanted => return Err(fail("end", filled)),
            // What follows what was asked for isn't looked at.
            TINFLStatus::Done => return Ok(out),
            TINFLStatus::HasMoreOutput if filled >= wanted => return Ok(out),
            TINFLStatus::HasMoreOutput => {
                let more = out.len().max(1).min(wanted.saturating_sub(out.len()));
                out.try_reserve_exact(more)
                    .map_err(|_| Problem::Memory { action: ACTION, bytes: wanted as u64 })?;
                out.resize(out.len() + more, 0);
            }
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => {
                return Err(fail("end", filled));
            }
            TINFLStatus::Adler32Mismatch => return Err(fail("have a wrong checksum", filled)),
            _ => return Err(fail("are damaged", filled)),
        }
    }
}

/// zlib data, at the fastest level that still compresses.
pub(crate) fn deflate(content: &[u8]) -> Result<Vec<u8>, Problem> {
    #[cfg(not(target_family = "wasm"))]
    {
        use libdeflater::{CompressionLvl, Compressor};
        let mut compressor = Compressor::new(CompressionLvl::new(1).unwrap_or_default());
        let mut out = zeros(compressor.zlib_compress_bound(content.len()), "compress the file")?;
        if let Ok(length) = compressor.zlib_compress(content, &mut out) {
            out.truncate(length);
            return Ok(out);
        }
    }
    Ok(miniz_oxide::deflate::compress_to_vec_zlib(content, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_shrank_little_or_a_lot_comes_back() {
        let noisy: Vec<u8> = (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for content in [noisy, vec![7; 100_000], Vec::new(), vec![1]] {
            let packed = deflate(&content).unwrap();
            assert_eq!(inflate(&packed, content.len()).unwrap(), content);
            let plain = miniz_oxide::deflate::compress_to_vec_zlib(&content, 6);
            assert_eq!(inflate(&plain, content.len()).unwrap(), content);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let packed = deflate(&[7; 1000]).unwrap();
        let says = |bytes: &[u8], wanted| inflate(bytes, wanted).unwrap_err().to_string();
        assert_eq!(
            says(&packed, 1001),
            "cannot decompress the voxels: their zlib data end after 1000 of 1001 bytes; get the file again"
        );
        assert!(says(&packed[..packed.len() / 2], 1000).contains("zlib data end after"));
        let mut wrong = packed.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(says(&wrong, 1000).contains("have a wrong checksum"));
        assert!(says(b"not zlib at all", 1000).contains("are damaged"));
    }
}
