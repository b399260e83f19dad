use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use std::io::{self, Write};

use crate::error::Problem;
use crate::values::Values;

/// deflate cannot shrink data by more than this factor (258 bytes for two bits, zlib's technical notes).
const MAX_RATIO: u64 = 1032;

pub(crate) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The most bytes that compressed data of this length can hold.
pub(crate) fn most_inflated(compressed: &[u8]) -> u64 {
    (compressed.len() as u64).saturating_mul(MAX_RATIO)
}

/// Up to `most` bytes from the start of gzip data, which may itself be only the start of a file.
pub(crate) fn inflate_start(compressed: &[u8], most: usize) -> Result<Vec<u8>, Problem> {
    let mut out = vec![0; most];
    let (length, fault) = inflate_members(compressed, &mut out);
    if let (0, Some(fault)) = (length, fault) {
        return Err(fault.problem(0, 348));
    }
    out.truncate(length);
    Ok(out)
}

/// The first `wanted` bytes of gzip data of one or more members; fewer when whole, sound data ends before that.
pub(crate) fn inflate(compressed: &[u8], wanted: usize) -> Result<Vec<u8>, Problem> {
    /// A scan shrinks to a half or a third; a mask to a hundredth.
    const EXPECTED_RATIO: usize = 8;
    let mut size = compressed.len().saturating_mul(EXPECTED_RATIO).min(wanted);
    loop {
        let mut out = zeros(size, "decompress the file")?;
        #[cfg(not(target_family = "wasm"))]
        {
            // Several times faster, but it takes one member that fits; anything else is for the loop below.
            match libdeflater::Decompressor::new().gzip_decompress(compressed, &mut out) {
                Ok(length) if length == wanted => return Ok(out),
                Err(libdeflater::DecompressionError::InsufficientSpace) if size < wanted => {
                    size = more(size, wanted);
                    continue;
                }
                _ => {}
            }
        }
        let (length, fault) = inflate_members(compressed, &mut out);
        if let Some(fault) = fault {
            return Err(fault.problem(length, wanted as u64));
        }
        if length < size || size == wanted {
            out.truncate(length);
            return Ok(out);
        }
        size = more(size, wanted);
    }
}

/// Memory is asked for as data come, so that a header that announces more than there is costs nothing.
fn more(size: usize, wanted: usize) -> usize {
    size.saturating_mul(2).max(1).min(wanted)
}

/// `n` zeros, or an error where the memory for them is not to be had.
pub(crate) fn zeros(n: usize, action: &'static str) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::new();
    out.try_reserve_exact(n).map_err(|_| Problem::Memory { action, bytes: n as u64 })?;
    out.resize(n, 0);
    Ok(out)
}

/// Why inflating stopped before the data's end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Truncated,
    Damaged(&'static str),
}

impl Fault {
    fn problem(self, found: usize, expected: u64) -> Problem {
        match self {
            Self::Truncated => Problem::TruncatedGzip { found, expected },
            Self::Damaged(reason) => Problem::DamagedGzip { reason, found },
        }
    }
}

/// Fills `out` from member after member (RFC 1952); returns how much was filled, and what stopped it but the end of
/// the data or of `out`. What follows the last member and is no member is padding.
fn inflate_members(mut compressed: &[u8], out: &mut [u8]) -> (usize, Option<Fault>) {
    let mut filled = 0;
    let mut state = DecompressorOxide::new();
    while is_gzip(compressed) && filled < out.len() {
        let Some(body) = skip_member_header(compressed) else { return (filled, Some(Fault::Truncated)) };
        if compressed.get(2) != Some(&8) {
            return (filled, Some(Fault::Damaged("the method is not deflate")));
        }
        state.init();
        let window = out.get_mut(filled..).unwrap_or_default();
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, written) = decompress(&mut state, body, window, 0, flags);
        let member = window.get(..written).unwrap_or_default();
        filled += member.len();
        match status {
            TINFLStatus::Done => {}
            // The caller has what it asked for; the rest of the member is not looked at.
            TINFLStatus::HasMoreOutput => return (filled, None),
            TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => {
                return (filled, Some(Fault::Truncated));
            }
            _ => return (filled, Some(Fault::Damaged("it is not deflate data"))),
        }
        let Some((trailer, rest)) = body.get(read..).and_then(|b| b.split_first_chunk::<8>()) else {
            return (filled, Some(Fault::Truncated));
        };
        let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
        if u32::from_le_bytes([l0, l1, l2, l3]) != written as u32 {
            return (filled, Some(Fault::Damaged("its length is not the one recorded")));
        }
        if u32::from_le_bytes([c0, c1, c2, c3]) != crc32(member) {
            return (filled, Some(Fault::Damaged("its checksum is wrong")));
        }
        compressed = rest;
    }
    (filled, None)
}

/// What follows the header of a gzip member, or `None` when the data ends inside it.
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

/// Writes one gzip member, at the fastest level that still compresses.
pub(crate) fn write(start: &[u8], values: &Values<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut content = start.to_vec();
    for range in values.blocks() {
        values.append(range, &mut content);
    }
    out.write_all(&deflate(&content).map_err(io::Error::other)?)
}

/// One gzip member, at the fastest level that still compresses.
pub(crate) fn deflate(content: &[u8]) -> Result<Vec<u8>, Problem> {
    #[cfg(not(target_family = "wasm"))]
    {
        use libdeflater::{CompressionLvl, Compressor};
        let mut compressor = Compressor::new(CompressionLvl::new(1).unwrap_or_default());
        let mut out = zeros(compressor.gzip_compress_bound(content.len()), "compress the file")?;
        // The bound is the library's own: running out of it cannot happen, and is no reason to panic if it does.
        if let Ok(length) = compressor.gzip_compress(content, &mut out) {
            out.truncate(length);
            return Ok(out);
        }
    }
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(miniz_oxide::deflate::compress_to_vec(content, 1));
    out.extend(crc32(content).to_le_bytes());
    out.extend((content.len() as u32).to_le_bytes());
    Ok(out)
}

/// The checksum of RFC 1952, eight bytes at a time (Kounavis & Berry 2005). Its tables are made when needed: as constants
/// they would be a sixth of what the browser loads.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut tables = [[0_u32; 256]; 8];
    for (byte, entry) in (0..).zip(&mut tables[0]) {
        *entry = (0..8).fold(byte, |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 });
    }
    for i in 1..8 {
        let last = tables[i - 1];
        let first = tables[0];
        for (entry, crc) in tables[i].iter_mut().zip(last) {
            *entry = crc >> 8 ^ first[usize::from(crc as u8)];
        }
    }
    let at = |table: usize, byte: u32| tables[table][usize::from(byte as u8)];
    let (eights, rest) = bytes.as_chunks::<8>();
    let crc = eights.iter().fold(u32::MAX, |crc, &[a, b, c, d, e, f, g, h]| {
        let low = crc ^ u32::from_le_bytes([a, b, c, d]);
        let high = u32::from_le_bytes([e, f, g, h]);
        at(7, low)
            ^ at(6, low >> 8)
            ^ at(5, low >> 16)
            ^ at(4, low >> 24)
            ^ at(3, high)
            ^ at(2, high >> 8)
            ^ at(1, high >> 16)
            ^ at(0, high >> 24)
    });
    !rest.iter().fold(crc, |crc, byte| crc >> 8 ^ at(0, crc ^ u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_is_the_one_of_gzip() {
        let bytes: Vec<u8> = (0..1000_u32).map(|i| ((i * i) >> 3) as u8).collect();
        for length in [0, 1, 7, 8, 9, 1000] {
            let mut reference = libdeflater::Crc::new();
            reference.update(&bytes[..length]);
            assert_eq!(crc32(&bytes[..length]), reference.sum());
        }
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
