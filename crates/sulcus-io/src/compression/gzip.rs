//! Reads gzip data (RFC 1952). Every member that contains a requested byte is read to its end, where its checksum and length
//! are verified.

use super::checksum::crc32;
use super::inflate::{BufferSink, ChunkSink, DefaultInflater, InflateError, Inflater, Remainder, Sink};
use crate::error::IoErrorKind;

/// Whether to inflate a file. Without the feature none is, so that the inflater is not part of the program.
pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    cfg!(feature = "gzip") && bytes.starts_with(&[0x1f, 0x8b])
}

/// Inflates up to `max_bytes` from the start of gzip data, which may be truncated.
pub(crate) fn inflate_gzip_start(compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, IoErrorKind> {
    /// The length of the shortest header.
    const EXPECTED: usize = 348;
    match inflate_with::<DefaultInflater>(compressed, max_bytes, Remainder::Ignore) {
        (bytes, Some(error)) if bytes.is_empty() => Err(error.in_gzip(0, EXPECTED)),
        (bytes, _) => Ok(bytes),
    }
}

/// Inflates the first `wanted` bytes of gzip data with one or more members; fewer if the valid data ends earlier.
pub(crate) fn inflate_gzip(compressed: &[u8], wanted: usize) -> Result<Vec<u8>, IoErrorKind> {
    match inflate_with::<DefaultInflater>(compressed, wanted, Remainder::Check) {
        (bytes, None) => Ok(bytes),
        (bytes, Some(error)) => Err(error.in_gzip(bytes.len(), wanted)),
    }
}

/// Passes the first `wanted` bytes to `give` chunk by chunk, fewer if the valid data ends earlier; returns their number.
pub(crate) fn inflate_gzip_chunks(
    compressed: &[u8],
    wanted: usize,
    give: &mut dyn FnMut(&[u8]),
) -> Result<usize, IoErrorKind> {
    let mut sink = ChunkSink::new(wanted, give);
    let result = members::<DefaultInflater, _>(compressed, &mut sink, Remainder::Check);
    result.map_err(|error| error.in_gzip(sink.given(), wanted))?;
    Ok(sink.given())
}

/// The inflated bytes, and the error that stopped inflation, if there was one.
fn inflate_with<I: Inflater>(
    compressed: &[u8],
    wanted: usize,
    remainder: Remainder,
) -> (Vec<u8>, Option<InflateError>) {
    match BufferSink::new(compressed.len(), wanted) {
        Err(error) => (Vec::new(), Some(error)),
        Ok(mut out) => {
            let error = members::<I, _>(compressed, &mut out, remainder).err();
            (out.into_bytes(), error)
        }
    }
}

/// Inflates one member after the other into `out`. Bytes after the last member are padding.
fn members<I: Inflater, T: Sink>(mut data: &[u8], out: &mut T, remainder: Remainder) -> Result<(), InflateError> {
    let mut inflater = I::new();
    while is_gzip(data) && !out.is_full() {
        let body = skip_member_header(data).ok_or(InflateError::Truncated)?;
        if data.get(2) != Some(&8) {
            return Err(InflateError::Damaged("the method is not deflate"));
        }
        let (mut checksum, mut length) = (0, 0_u32);
        let read = out.inflate(&mut inflater, body, remainder, &mut |bytes| {
            checksum = crc32(checksum, bytes);
            length = length.wrapping_add(bytes.len() as u32);
        })?;
        let Some(read) = read else { return Ok(()) };
        let trailer = body.get(read..).and_then(|b| b.split_first_chunk::<8>());
        let ([c0, c1, c2, c3, l0, l1, l2, l3], after) = trailer.ok_or(InflateError::Truncated)?;
        if u32::from_le_bytes([*l0, *l1, *l2, *l3]) != length {
            return Err(InflateError::Damaged("its length is not the one recorded"));
        }
        if u32::from_le_bytes([*c0, *c1, *c2, *c3]) != checksum {
            return Err(InflateError::Damaged("its checksum is wrong"));
        }
        data = after;
    }
    Ok(())
}

/// The bytes after the header of a gzip member; `None` if the data ends inside the header.
fn skip_member_header(member: &[u8]) -> Option<&[u8]> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const HEADER_CRC: u8 = 2;
    let flags = *member.get(3)?;
    let mut rest = member.get(10..)?;
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|b| *b == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use miniz_oxide::inflate::core::DecompressorOxide;

    use super::*;
    use crate::compression::inflate::max_surplus;

    /// Data that compresses to a half, with distant matches.
    fn content(length: usize) -> Vec<u8> {
        let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        (0..length).map(|i| if i % 40_000 < 20_000 { noise(i % 30_000) } else { noise(i) & 3 }).collect()
    }

    fn member(content: &[u8]) -> Vec<u8> {
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut out = vec![0; compressor.gzip_compress_bound(content.len())];
        let length = compressor.gzip_compress(content, &mut out).unwrap();
        out.truncate(length);
        out
    }

    /// Inflates chunk by chunk.
    fn chunks<I: Inflater>(compressed: &[u8], wanted: usize) -> (Vec<u8>, Option<InflateError>) {
        let mut bytes = Vec::new();
        let mut give = |chunk: &[u8]| bytes.extend(chunk);
        let error = members::<I, _>(compressed, &mut ChunkSink::new(wanted, &mut give), Remainder::Check).err();
        (bytes, error)
    }

    /// Runs both inflaters and checks that they agree.
    #[track_caller]
    fn both(compressed: &[u8], wanted: usize, remainder: Remainder) -> (Vec<u8>, Option<InflateError>) {
        let expected = inflate_with::<DefaultInflater>(compressed, wanted, remainder);
        assert_eq!(inflate_with::<DecompressorOxide>(compressed, wanted, remainder), expected, "{wanted} bytes");
        if remainder == Remainder::Check {
            assert_eq!(chunks::<DefaultInflater>(compressed, wanted), expected, "{wanted} bytes");
            assert_eq!(chunks::<DecompressorOxide>(compressed, wanted), expected, "{wanted} bytes");
        }
        expected
    }

    #[test]
    fn requested_bytes_come_from_one_or_several_members() {
        let content = content(1_000_000);
        let one = member(&content);
        let several = content.chunks(70_000).flat_map(member).collect::<Vec<_>>();
        for compressed in [one, several] {
            for wanted in [1, 348, 70_000, 140_000, 262_144, 999_999, 1_000_000] {
                let expected = (content[..wanted].to_vec(), None);
                assert_eq!(both(&compressed, wanted, Remainder::Check), expected);
                assert_eq!(both(&compressed, wanted, Remainder::Ignore), expected);
            }
            assert_eq!(both(&compressed, 2_000_000, Remainder::Check), (content.clone(), None));
        }
        // Compresses a thousandfold, so the buffer grows often.
        let zeros = vec![0; 3_000_000];
        assert_eq!(both(&member(&zeros), 3_000_000, Remainder::Check), (zeros, None));
    }

    /// Regression test: 0.4 MB held a worker of the server for minutes.
    #[test]
    fn data_after_the_requested_bytes_is_inflated_only_up_to_a_limit() {
        let wanted = 1000;
        let surplus = max_surplus(wanted);
        let (allowed, refused) =
            (member(&vec![0; wanted + surplus]), member(&vec![0; wanted + surplus + (1 << 20)]));
        assert_eq!(both(&allowed, wanted, Remainder::Check), (vec![0; wanted], None));
        assert_eq!(both(&refused, wanted, Remainder::Check).1, Some(InflateError::Surplus(surplus)));
        assert_eq!(both(&refused, wanted, Remainder::Ignore).1, None);
        assert_eq!(
            inflate_gzip(&refused, wanted).unwrap_err().to_string(),
            "cannot decompress the file: the header announces 1000 bytes, but its compressed data has more than 268435456 \
             bytes after them; the header is wrong or the file is not a volume, get it again"
        );
    }

    /// Regression test: the checksum was once ignored if a member contained more bytes than requested.
    #[test]
    fn checksum_is_verified_even_if_only_a_prefix_is_requested() {
        let content = content(300_000);
        let sound = member(&content);
        for (from_end, reason) in [(8, "its checksum is wrong"), (4, "its length is not the one recorded")] {
            let mut damaged = sound.clone();
            let at = damaged.len() - from_end;
            damaged[at] ^= 1;
            for wanted in [1, 1000, 262_144, 299_999, 300_000, 300_001] {
                let (bytes, error) = both(&damaged, wanted, Remainder::Check);
                assert_eq!((bytes.len(), error), (wanted.min(300_000), Some(InflateError::Damaged(reason))));
                // The truncated start of a file has no checksum.
                assert!(wanted > 299_999 || both(&damaged, wanted, Remainder::Ignore).1.is_none());
            }
            // A member without requested bytes is not read.
            let followed = [sound.clone(), damaged].concat();
            assert_eq!(both(&followed, 300_000, Remainder::Check).1, None);
            assert_eq!(both(&followed, 300_001, Remainder::Check).1, Some(InflateError::Damaged(reason)));
        }
        for cut in [1, 8, 9, 5000] {
            let (_, error) = both(&sound[..sound.len() - cut], 1000, Remainder::Check);
            assert_eq!(error, Some(InflateError::Truncated), "cut by {cut}");
        }
        let middle = sound.len() / 2;
        let mut damaged = sound;
        damaged[middle] ^= 0x10;
        assert!(matches!(
            both(&damaged, 1000, Remainder::Check).1,
            Some(InflateError::Damaged(_) | InflateError::Truncated)
        ));
    }
}
