//! JPEG 2000 (ITU-T T.800), through the crate hayro-jpeg2000, which contains no unsafe code.

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

use super::{CodecError, check_size};

/// The decoder computes in single precision, which represents integers of up to 24 bits exactly.
const MAX_BITS: u8 = 24;

/// The first segment of the codestream (SIZ).
struct Header {
    rows: usize,
    columns: usize,
    bits: u8,
    signed: bool,
    components: u16,
}

pub(super) fn decode(data: &[u8], rows: usize, columns: usize) -> Result<Vec<i32>, CodecError> {
    let header = header(data).ok_or(CodecError::Damaged)?;
    check_size([header.rows, header.columns], [rows, columns])?;
    if header.components != 1 {
        return Err(CodecError::Unsupported("colour"));
    }
    if header.bits > MAX_BITS {
        return Err(CodecError::Unsupported("JPEG 2000 with more than 24 bits"));
    }
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let image = Image::new(data, &settings).map_err(|_| CodecError::Damaged)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|_| CodecError::Damaged)?;
    let [component] = decoded.components() else { return Err(CodecError::Unsupported("colour")) };
    // The decoder applies the level shift of unsigned components to signed ones as well.
    let lift = if header.signed { 1_i32 << (header.bits - 1) } else { 0 };
    let (least, most) = if header.signed { (-lift, lift - 1) } else { (0, (1_i32 << header.bits) - 1) };
    Ok(component.samples().iter().map(|v| (v.round() as i32).saturating_sub(lift).clamp(least, most)).collect())
}

fn header(data: &[u8]) -> Option<Header> {
    // SOC, SIZ, its length and its capabilities.
    let siz = data.strip_prefix(&[0xff, 0x4f, 0xff, 0x51])?.get(4..)?;
    let word = |at: usize| siz.get(at..).and_then(|b| b.first_chunk()).map(|b| u32::from_be_bytes(*b));
    let [right, bottom, left, top] = [word(0)?, word(4)?, word(8)?, word(12)?];
    let [tile_width, tile_height] = [word(16)?, word(20)?];
    let components = u16::from_be_bytes(*siz.get(32..)?.first_chunk()?);
    let [depth, dx, dy] = *siz.get(34..)?.first_chunk()?;
    let (columns, rows) = (right.checked_sub(left)?, bottom.checked_sub(top)?);
    // Very small tiles would need more memory than the image.
    let plain = dx == 1 && dy == 1 && tile_width >= 16.min(columns) && tile_height >= 16.min(rows);
    plain.then_some(Header {
        rows: rows as usize,
        columns: columns as usize,
        bits: (depth & 0x7f) + 1,
        signed: depth & 0x80 != 0,
        components,
    })
}
