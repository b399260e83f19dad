//! The pixel data of a file, decoded frame by frame.

use std::borrow::Cow;

use super::codec;
use super::dataset::{Dataset, Value};
use super::error::{DicomError, DicomErrorKind};
use super::instance::{PixelFormat, PixelLayout};
use super::tags;
use super::transfer_syntax::{PixelEncoding, TransferSyntax};

/// The pixel data of a file. Its length matches the header.
pub(crate) struct PixelData<'a> {
    layout: PixelLayout,
    syntax: TransferSyntax,
    frames: EncodedFrames<'a>,
}

enum EncodedFrames<'a> {
    /// All frames, one after the other.
    Native(&'a [u8]),
    /// The fragments of each frame.
    Compressed(Vec<&'a [&'a [u8]]>),
}

impl<'a> PixelData<'a> {
    /// Finds the pixel data in a data set and checks its length.
    pub(crate) fn find(
        set: &'a Dataset<'a>,
        layout: PixelLayout,
        syntax: TransferSyntax,
    ) -> Result<Self, DicomError> {
        let frames = match (set.get(tags::PIXEL_DATA), syntax.pixels) {
            (Some(Value::Fragments(fragments)), PixelEncoding::Native) => {
                return Err(length(&layout, &format!("{} compressed fragments", fragments.len())));
            }
            (Some(Value::Fragments(fragments)), _) => {
                EncodedFrames::Compressed(fragments_by_frame(fragments, &layout)?)
            }
            (Some(Value::Bytes(_)), pixels) if pixels != PixelEncoding::Native => {
                return Err(length(&layout, "uncompressed pixels under a compressed transfer syntax"));
            }
            (Some(Value::Bytes(bytes)), _) => {
                EncodedFrames::Native(without_padding(bytes, &layout, layout.frames)?)
            }
            _ => {
                let floats = set.bytes(tags::FLOAT_PIXEL_DATA).or(set.bytes(tags::DOUBLE_PIXEL_DATA));
                EncodedFrames::Native(without_padding(floats.unwrap_or_default(), &layout, layout.frames)?)
            }
        };
        let big_endian = syntax.encoding.big_endian;
        if big_endian && matches!(layout.format, PixelFormat::Integer { allocated: 8, .. }) {
            return Err(DicomError::new(
                DicomErrorKind::TransferSyntax,
                "pixels of 8 bits in little endian order",
                "big endian order, in which the pairing of the bytes is undefined",
                "convert the files first, for example with dcmconv",
            ));
        }
        Ok(Self { layout, syntax, frames })
    }

    /// The values of one frame in row-major order, after slope and intercept.
    pub(crate) fn values(&self, index: usize, (slope, intercept): (f64, f64)) -> Result<Vec<f64>, DicomError> {
        let n = self.layout.frame_pixels();
        let mut out = Vec::new();
        let scaled = |v: f64| v * slope + intercept;
        match &self.frames {
            EncodedFrames::Native(bytes) => {
                let size = n * self.layout.format.bytes();
                let bytes = bytes.get(index * size..).and_then(|b| b.get(..size));
                let bytes = bytes.ok_or_else(|| length(&self.layout, "fewer frames"))?;
                out.reserve_exact(n);
                self.native(bytes, &mut |v| out.push(scaled(v)));
            }
            EncodedFrames::Compressed(frames) => {
                let fragments = frames.get(index).ok_or_else(|| length(&self.layout, "fewer frames"))?;
                let data = match fragments {
                    [one] => Cow::Borrowed(*one),
                    many => Cow::Owned(many.concat()),
                };
                if self.syntax.pixels == PixelEncoding::EncapsulatedNative {
                    let bytes = without_padding(&data, &self.layout, 1)?;
                    out.reserve_exact(n);
                    self.native(bytes, &mut |v| out.push(scaled(v)));
                } else {
                    let values = codec::decode(self.syntax.pixels, &self.layout, &data)?;
                    let bits = StoredBits::new(self.layout.format, true);
                    out.extend(values.into_iter().map(|v| scaled(bits.value(v.cast_unsigned()))));
                }
            }
        }
        Ok(out)
    }

    fn native(&self, bytes: &[u8], push: &mut dyn FnMut(f64)) {
        let big = self.syntax.encoding.big_endian;
        let stored = StoredBits::new(self.layout.format, false);
        let word = |b: &[u8; 4]| if big { u32::from_be_bytes(*b) } else { u32::from_le_bytes(*b) };
        match self.layout.format {
            PixelFormat::Integer { allocated: 8, .. } => {
                bytes.iter().for_each(|b| push(stored.value(u32::from(*b))));
            }
            PixelFormat::Integer { allocated: 16, .. } => {
                let short = |b: &[u8; 2]| if big { u16::from_be_bytes(*b) } else { u16::from_le_bytes(*b) };
                bytes.as_chunks::<2>().0.iter().for_each(|b| push(stored.value(u32::from(short(b)))));
            }
            PixelFormat::Integer { .. } => {
                bytes.as_chunks::<4>().0.iter().for_each(|b| push(stored.value(word(b))));
            }
            PixelFormat::Float => {
                bytes.as_chunks::<4>().0.iter().for_each(|b| push(f64::from(f32::from_bits(word(b)))));
            }
            PixelFormat::Double => bytes.as_chunks::<8>().0.iter().for_each(|b| {
                push(f64::from_bits(if big { u64::from_be_bytes(*b) } else { u64::from_le_bytes(*b) }));
            }),
        }
    }
}

/// Which bits of a pixel hold its value (PS3.5, 8.1.1). The other bits, which may hold old overlays, are discarded.
#[derive(Clone, Copy)]
struct StoredBits {
    shift: u32,
    unused: u32,
    signed: bool,
}

impl StoredBits {
    /// Decompressed values use the lowest bits, whatever the high bit is.
    fn new(format: PixelFormat, compressed: bool) -> Self {
        match format {
            PixelFormat::Integer { stored, high, signed, .. } => Self {
                shift: if compressed { 0 } else { u32::from(high + 1 - stored) },
                unused: 32 - u32::from(stored),
                signed,
            },
            PixelFormat::Float | PixelFormat::Double => Self { shift: 0, unused: 0, signed: false },
        }
    }

    fn value(self, raw: u32) -> f64 {
        let left = (raw >> self.shift) << self.unused;
        if self.signed { f64::from(left.cast_signed() >> self.unused) } else { f64::from(left >> self.unused) }
    }
}

/// Assigns the fragments to frames (PS3.5, A.4): one fragment per frame, all to a single frame, or by the offset table.
fn fragments_by_frame<'a>(
    fragments: &'a [&'a [u8]],
    layout: &PixelLayout,
) -> Result<Vec<&'a [&'a [u8]]>, DicomError> {
    let Some((table, data)) = fragments.split_first().filter(|(_, data)| !data.is_empty()) else {
        return Err(length(layout, "no compressed data"));
    };
    if layout.frames == 1 {
        return Ok(vec![data]);
    }
    if layout.frames == data.len() {
        return Ok(data.chunks(1).collect());
    }
    let offsets: Vec<u64> = table.as_chunks::<4>().0.iter().map(|b| u64::from(u32::from_le_bytes(*b))).collect();
    if offsets.len() != layout.frames {
        return Err(length(layout, &format!("{} compressed fragments without an offset table", data.len())));
    }
    let mut starts = Vec::new();
    let mut at = 0_u64;
    for (i, fragment) in data.iter().enumerate() {
        if offsets.get(starts.len()) == Some(&at) {
            starts.push(i);
        }
        at += fragment.len() as u64 + 8;
    }
    if starts.len() != layout.frames {
        return Err(length(layout, "an offset table that does not point at fragments"));
    }
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    Ok(starts.iter().zip(ends).map(|(start, end)| data.get(*start..end).unwrap_or_default()).collect())
}

/// The uncompressed pixels of this number of frames. Padding may follow them: one byte after an odd number of bytes, or
/// zeros, which some software appends. Anything else means that the header is wrong.
fn without_padding<'a>(bytes: &'a [u8], layout: &PixelLayout, frames: usize) -> Result<&'a [u8], DicomError> {
    let frame_bytes = layout.frame_pixels().checked_mul(layout.format.bytes());
    let pixels = frame_bytes.and_then(|n| n.checked_mul(frames)).and_then(|n| bytes.split_at_checked(n));
    let (pixels, rest) = pixels.ok_or_else(|| length(layout, &format!("{} bytes", bytes.len())))?;
    let is_even_padding = rest.len() == 1 && !pixels.len().is_multiple_of(2);
    let is_zero_padding = frame_bytes.is_some_and(|n| rest.len() < n) && rest.iter().all(|b| *b == 0);
    if is_even_padding || is_zero_padding {
        return Ok(pixels);
    }
    let what = if rest.iter().all(|b| *b == 0) { "" } else { ", which are not padding" };
    Err(length(layout, &format!("{} bytes more{what}", rest.len())))
}

fn length(layout: &PixelLayout, found: &str) -> DicomError {
    let PixelLayout { rows, columns, frames, format } = layout;
    DicomError::new(
        DicomErrorKind::PixelLength,
        format!(
            "{frames} frame(s) of {rows} × {columns} pixels of {} bytes, as the header announces",
            format.bytes()
        ),
        found,
        "the header is wrong or the file is incomplete, get it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_bits_are_discarded() {
        let of = |stored, high, signed| {
            StoredBits::new(PixelFormat::Integer { allocated: 16, stored, high, signed }, false)
        };
        assert_eq!(of(12, 11, false).value(0xF123), f64::from(0x123));
        assert_eq!(of(12, 11, true).value(0x0FFF), -1.0);
        assert_eq!(of(12, 15, true).value(0x8000), -2048.0);
        assert_eq!(of(16, 15, true).value(0x8000), -32768.0);
        let whole = PixelFormat::Integer { allocated: 32, stored: 32, high: 31, signed: false };
        assert_eq!(StoredBits::new(whole, false).value(u32::MAX), 4_294_967_295.0);
    }
}
