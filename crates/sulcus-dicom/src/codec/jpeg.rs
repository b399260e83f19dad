//! JPEG with 8 bits, and lossless JPEG with up to 16 (ITU-T T.81), through the crate jpeg-decoder.

use super::{CodecError, check_size};

/// A block of 8 × 8 pixels takes at least two bits.
const MAX_PIXELS_PER_BYTE: usize = 256;

/// The frame header (SOF).
struct Header {
    process: u8,
    bits: u8,
    rows: usize,
    columns: usize,
    components: u8,
}

pub(super) fn decode(data: &[u8], rows: usize, columns: usize) -> Result<Vec<i32>, CodecError> {
    let header = header(data).ok_or(CodecError::Damaged)?;
    check_size([header.rows, header.columns], [rows, columns])?;
    if header.components != 1 {
        return Err(CodecError::Unsupported("colour"));
    }
    let lossless = header.process == 3;
    match header.process {
        0..=2 if header.bits == 8 => {}
        3 if (2..=16).contains(&header.bits) => {}
        0..=3 => return Err(CodecError::Unsupported("JPEG with 12 bits")),
        _ => return Err(CodecError::Unsupported("hierarchical or arithmetic JPEG")),
    }
    if rows * columns / MAX_PIXELS_PER_BYTE > data.len() {
        return Err(CodecError::Truncated);
    }
    let bytes = jpeg_decoder::Decoder::new(data).decode().map_err(|_| CodecError::Damaged)?;
    if lossless && header.bits > 8 {
        let (pairs, _) = bytes.as_chunks::<2>();
        return Ok(pairs.iter().map(|b| i32::from(u16::from_ne_bytes(*b))).collect());
    }
    Ok(bytes.into_iter().map(i32::from).collect())
}

/// Finds the frame header among the marker segments.
fn header(data: &[u8]) -> Option<Header> {
    let mut rest = data.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let [0xff, marker, tail @ ..] = rest else { return None };
        // Fill bytes.
        if *marker == 0xff {
            rest = rest.get(1..)?;
            continue;
        }
        let length = usize::from(u16::from_be_bytes(*tail.first_chunk()?));
        let body = tail.get(2..length)?;
        match marker {
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => {
                let [bits, r1, r0, c1, c0, components, ..] = *body else { return None };
                return Some(Header {
                    process: marker - 0xc0,
                    bits,
                    rows: usize::from(u16::from_be_bytes([r1, r0])),
                    columns: usize::from(u16::from_be_bytes([c1, c0])),
                    components,
                });
            }
            0xda | 0xd9 => return None,
            _ => {}
        }
        rest = tail.get(length..)?;
    }
}
