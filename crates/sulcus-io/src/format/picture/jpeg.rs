//! Reads JPEG with 8 bits through the crate jpeg-decoder, which contains no unsafe code.

use std::io::Cursor;

use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};
use sulcus_volume::GridUnit;

use super::density::{Density, pixel_mm};
use super::pixels::Emit;
use super::{PictureFormat, PictureHeader, Samples, exif};
use crate::error::IoErrorKind;
use crate::voxels::VoxelType;

const FORMAT: PictureFormat = PictureFormat::Jpeg;

/// The segments before the first scan.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Segments<'a> {
    /// The marker, and the segment without its length.
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let [0xff, marker, tail @ ..] = self.rest else { return None };
            // Fill bytes, and markers without a segment.
            if *marker == 0xff {
                self.rest = self.rest.get(1..)?;
                continue;
            }
            if matches!(marker, 0x01 | 0xd0..=0xd8) {
                self.rest = tail;
                continue;
            }
            let length = usize::from(u16::from_be_bytes(*tail.first_chunk()?));
            let body = tail.get(2..length)?;
            self.rest = tail.get(length..)?;
            return Some((*marker, body));
        }
    }
}

pub(super) fn parse(start: &[u8]) -> Result<PictureHeader, IoErrorKind> {
    let mut mm = None;
    for (marker, body) in (Segments { rest: start }) {
        match (marker, body) {
            (0xe0, [b'J', b'F', b'I', b'F', 0, _, _, unit, x1, x0, y1, y0, ..]) => {
                let densities = [[*x1, *x0], [*y1, *y0]].map(u16::from_be_bytes);
                mm = match unit {
                    1 => pixel_mm(densities.map(Density::per_inch)),
                    2 => pixel_mm(densities.map(Density::per_centimetre)),
                    _ => None,
                };
            }
            (0xe1, [b'E', b'x', b'i', b'f', 0, 0, tiff @ ..]) => exif::check_exif(tiff, FORMAT)?,
            // DHT, JPG and DAC lie between the frame headers.
            (0xc4 | 0xc8 | 0xcc, _) => {}
            (0xc0..=0xcf, [bits, r1, r0, c1, c0, components, ..]) => {
                let [rows, columns] = [[*r1, *r0], [*c1, *c0]].map(|size| usize::from(u16::from_be_bytes(size)));
                let spacing = mm.map(|[x, y]| ([x, y, 1.0], GridUnit::MillimetreInPlane));
                return Ok(PictureHeader {
                    format: FORMAT,
                    shape: [columns, rows, 1],
                    samples: Samples { channels: channels(marker, *bits, *components)?, alpha: false },
                    voxel_type: VoxelType::Uint8,
                    spacing,
                    palette: None,
                    transparent: false,
                    label_table: None,
                    decode,
                });
            }
            (0xda | 0xd9, _) => break,
            _ => {}
        }
    }
    Err(FORMAT.damaged("it has no frame header: the file is damaged or was cut short"))
}

fn channels(process: u8, bits: u8, components: u8) -> Result<usize, IoErrorKind> {
    const SAVE: &str = "save it as PNG or TIFF with the program that made it";
    match process {
        0xc0..=0xc3 => {}
        _ => return Err(FORMAT.refused("its hierarchical or arithmetic coding is not supported", SAVE)),
    }
    if bits != 8 {
        return Err(FORMAT.refused(format!("it has {bits} bits per value, expected 8"), SAVE));
    }
    match components {
        1 | 3 => Ok(usize::from(components)),
        4 => Err(FORMAT.refused("its colours are inks (CMYK), not red, green and blue", "save it in RGB")),
        n => Err(FORMAT.refused(format!("it has {n} values per pixel, expected 1 (grey) or 3 (colours)"), SAVE)),
    }
}

/// The colours of three components, by libjpeg's rules: a JFIF file has luminance and chrominance, Adobe's segment states the colours,
/// and in other files the names of the components do.
fn color_transform(content: &[u8]) -> ColorTransform {
    let mut adobe = None;
    for (marker, body) in (Segments { rest: content }) {
        match (marker, body) {
            (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) => return ColorTransform::YCbCr,
            (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => adobe = Some(*transform),
            (0xc4 | 0xc8 | 0xcc, _) => {}
            (0xc0..=0xcf, [_, _, _, _, _, 3, b'R', _, _, b'G', _, _, b'B', ..]) if adobe.is_none() => {
                return ColorTransform::RGB;
            }
            (0xda | 0xd9, _) => break,
            _ => {}
        }
    }
    if adobe == Some(0) { ColorTransform::RGB } else { ColorTransform::YCbCr }
}

fn decode(header: &PictureHeader, content: &[u8], emit: &mut Emit<'_>) -> Result<(), IoErrorKind> {
    let mut decoder = Decoder::new(Cursor::new(content));
    if header.samples.channels == 3 {
        decoder.set_color_transform(color_transform(content));
    }
    decoder.set_max_decoding_buffer_size(usize::try_from(header.decoded_bytes()?).unwrap_or(usize::MAX));
    let pixels = decoder.decode().map_err(|error| match error {
        jpeg_decoder::Error::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            FORMAT.damaged("its data ends early: the file was cut short")
        }
        other => FORMAT.damaged(format!("its data is damaged ({other})")),
    })?;
    let format = decoder.info().map(|info| info.pixel_format);
    match (format, header.samples.channels) {
        (Some(PixelFormat::L8), 1) | (Some(PixelFormat::RGB24), 3) => emit(&pixels),
        _ => Err(FORMAT.damaged("its pixels are not those of its header")),
    }
}
