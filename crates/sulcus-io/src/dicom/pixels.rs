//! The pixels of a file, frame by frame, as numbers.

use std::borrow::Cow;

use super::codec;
use super::dataset::{Dataset, Value};
use super::error::{DicomFault, DicomProblem};
use super::instance::{PixelKind, PixelLayout};
use super::syntax::{Pixels, Syntax};
use super::tags;

/// A file's pixels, found and measured: as many as the header announces, no more and no fewer.
pub(crate) struct FramePixels<'a> {
    layout: PixelLayout,
    syntax: Syntax,
    source: Source<'a>,
}

enum Source<'a> {
    /// All frames, one after the other.
    Native(&'a [u8]),
    /// The fragments of each frame.
    Compressed(Vec<&'a [&'a [u8]]>),
}

impl<'a> FramePixels<'a> {
    /// Finds the pixels of a data set.
    pub(crate) fn find(set: &'a Dataset<'a>, layout: PixelLayout, syntax: Syntax) -> Result<Self, DicomProblem> {
        let source = match (set.get(tags::PIXELS), syntax.pixels) {
            (Some(Value::Fragments(fragments)), Pixels::Native) => {
                return Err(length(&layout, &format!("{} compressed pieces", fragments.len())));
            }
            (Some(Value::Fragments(fragments)), _) => Source::Compressed(by_frame(fragments, &layout)?),
            (Some(Value::Bytes(_)), pixels) if pixels != Pixels::Native => {
                return Err(length(&layout, "uncompressed pixels under a compressed transfer syntax"));
            }
            (Some(Value::Bytes(bytes)), _) => Source::Native(bytes),
            _ => {
                let floats = set.bytes(tags::FLOAT_PIXELS).or(set.bytes(tags::DOUBLE_PIXELS));
                Source::Native(floats.unwrap_or_default())
            }
        };
        let big_endian = syntax.encoding.big_endian;
        if big_endian && matches!(layout.kind, PixelKind::Integer { allocated: 8, .. }) {
            return Err(DicomProblem::new(
                DicomFault::TransferSyntax,
                "pixels of 8 bits in little endian order",
                "big endian order, which leaves open how they are paired",
                "convert the files first, for example with dcmconv",
            ));
        }
        if let Source::Native(bytes) = &source {
            let expected = (layout.frame_pixels() as u64)
                .checked_mul(layout.frames as u64)
                .and_then(|n| n.checked_mul(layout.kind.bytes() as u64));
            let found = bytes.len() as u64;
            // An odd number of bytes is padded to an even one.
            if !expected.is_some_and(|n| found == n || (n % 2 == 1 && found == n + 1)) {
                return Err(length(&layout, &format!("{found} bytes")));
            }
        }
        Ok(Self { layout, syntax, source })
    }

    /// The values of one frame, row by row, after slope and intercept.
    pub(crate) fn values(&self, index: usize, (slope, intercept): (f64, f64)) -> Result<Vec<f64>, DicomProblem> {
        let n = self.layout.frame_pixels();
        let mut out = Vec::new();
        let scaled = |v: f64| v * slope + intercept;
        match &self.source {
            Source::Native(bytes) => {
                let size = n * self.layout.kind.bytes();
                let bytes = bytes.get(index * size..).and_then(|b| b.get(..size));
                let bytes = bytes.ok_or_else(|| length(&self.layout, "fewer frames"))?;
                out.reserve_exact(n);
                self.native(bytes, &mut |v| out.push(scaled(v)));
            }
            Source::Compressed(frames) => {
                let fragments = frames.get(index).ok_or_else(|| length(&self.layout, "fewer frames"))?;
                let data = match fragments {
                    [one] => Cow::Borrowed(*one),
                    many => Cow::Owned(many.concat()),
                };
                if self.syntax.pixels == Pixels::EncapsulatedNative {
                    let size = n * self.layout.kind.bytes();
                    let bytes = data.get(..size).filter(|_| data.len() <= size + 1);
                    let bytes = bytes.ok_or_else(|| length(&self.layout, &format!("{} bytes", data.len())))?;
                    out.reserve_exact(n);
                    self.native(bytes, &mut |v| out.push(scaled(v)));
                } else {
                    let values = codec::decode(self.syntax.pixels, &self.layout, &data)?;
                    let number = Number::of(self.layout.kind, true);
                    out.extend(values.into_iter().map(|v| scaled(number.value(v.cast_unsigned()))));
                }
            }
        }
        Ok(out)
    }

    fn native(&self, bytes: &[u8], push: &mut dyn FnMut(f64)) {
        let big = self.syntax.encoding.big_endian;
        let number = Number::of(self.layout.kind, false);
        let word = |b: &[u8; 4]| if big { u32::from_be_bytes(*b) } else { u32::from_le_bytes(*b) };
        match self.layout.kind {
            PixelKind::Integer { allocated: 8, .. } => {
                bytes.iter().for_each(|b| push(number.value(u32::from(*b))));
            }
            PixelKind::Integer { allocated: 16, .. } => {
                let short = |b: &[u8; 2]| if big { u16::from_be_bytes(*b) } else { u16::from_le_bytes(*b) };
                bytes.as_chunks::<2>().0.iter().for_each(|b| push(number.value(u32::from(short(b)))));
            }
            PixelKind::Integer { .. } => {
                bytes.as_chunks::<4>().0.iter().for_each(|b| push(number.value(word(b))));
            }
            PixelKind::Float => {
                bytes.as_chunks::<4>().0.iter().for_each(|b| push(f64::from(f32::from_bits(word(b)))));
            }
            PixelKind::Double => bytes.as_chunks::<8>().0.iter().for_each(|b| {
                push(f64::from_bits(if big { u64::from_be_bytes(*b) } else { u64::from_le_bytes(*b) }));
            }),
        }
    }
}

/// How the bits of a pixel become a number (PS3.5, 8.1.1): what lies beside the stored bits, overlays of old, goes.
#[derive(Clone, Copy)]
struct Number {
    shift: u32,
    unused: u32,
    signed: bool,
}

impl Number {
    /// Compressed pixels lie at the lowest bits, whatever the high bit was.
    fn of(kind: PixelKind, compressed: bool) -> Self {
        match kind {
            PixelKind::Integer { stored, high, signed, .. } => Self {
                shift: if compressed { 0 } else { u32::from(high + 1 - stored) },
                unused: 32 - u32::from(stored),
                signed,
            },
            PixelKind::Float | PixelKind::Double => Self { shift: 0, unused: 0, signed: false },
        }
    }

    fn value(self, raw: u32) -> f64 {
        let left = (raw >> self.shift) << self.unused;
        if self.signed { f64::from(left.cast_signed() >> self.unused) } else { f64::from(left >> self.unused) }
    }
}

/// Which fragments belong to which frame (PS3.5, A.4): one each, all to the only one, or as the offset table says.
fn by_frame<'a>(fragments: &'a [&'a [u8]], layout: &PixelLayout) -> Result<Vec<&'a [&'a [u8]]>, DicomProblem> {
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
        return Err(length(layout, &format!("{} compressed pieces without a table", data.len())));
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
        return Err(length(layout, "a table of offsets that points between them"));
    }
    let ends = starts.iter().skip(1).copied().chain([data.len()]);
    Ok(starts.iter().zip(ends).map(|(start, end)| data.get(*start..end).unwrap_or_default()).collect())
}

fn length(layout: &PixelLayout, found: &str) -> DicomProblem {
    let PixelLayout { rows, columns, frames, kind } = layout;
    DicomProblem::new(
        DicomFault::PixelLength,
        format!("{frames} frame(s) of {rows} × {columns} pixels of {} bytes, as the header says", kind.bytes()),
        found,
        "the header is wrong or the file was cut short, get it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_beside_the_stored_ones_are_left_out() {
        let of =
            |stored, high, signed| Number::of(PixelKind::Integer { allocated: 16, stored, high, signed }, false);
        assert_eq!(of(12, 11, false).value(0xF123), f64::from(0x123));
        assert_eq!(of(12, 11, true).value(0x0FFF), -1.0);
        assert_eq!(of(12, 15, true).value(0x8000), -2048.0);
        assert_eq!(of(16, 15, true).value(0x8000), -32768.0);
        let whole = PixelKind::Integer { allocated: 32, stored: 32, high: 31, signed: false };
        assert_eq!(Number::of(whole, false).value(u32::MAX), 4_294_967_295.0);
    }
}
