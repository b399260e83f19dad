//! JPEG 2000 (ITU-T T.800), through the crate hayro-jpeg2000, which holds no unsafe code.

use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

use super::{CodecFault, check_size};

/// Single precision, in which the decoder works, holds whole numbers of so many bits.
const MOST_BITS: u8 = 24;

/// What the codestream's first segment (SIZ) says.
struct Header {
    rows: usize,
    columns: usize,
    bits: u8,
    signed: bool,
    components: u16,
}

pub(super) fn decode(data: &[u8], rows: usize, columns: usize) -> Result<Vec<i32>, CodecFault> {
    let header = header(data).ok_or(CodecFault::Damaged)?;
    check_size([header.rows, header.columns], [rows, columns])?;
    if header.components != 1 {
        return Err(CodecFault::Unsupported("colour"));
    }
    if header.bits > MOST_BITS {
        return Err(CodecFault::Unsupported("JPEG 2000 with more than 24 bits"));
    }
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let image = Image::new(data, &settings).map_err(|_| CodecFault::Damaged)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|_| CodecFault::Damaged)?;
    let [component] = decoded.components() else { return Err(CodecFault::Unsupported("colour")) };
    // The decoder lifts every component as if it had no sign.
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
    // As many tiles as pixels would take more memory than the picture.
    let plain = dx == 1 && dy == 1 && tile_width >= 16.min(columns) && tile_height >= 16.min(rows);
    plain.then_some(Header {
        rows: rows as usize,
        columns: columns as usize,
        bits: (depth & 0x7f) + 1,
        signed: depth & 0x80 != 0,
        components,
    })
}
