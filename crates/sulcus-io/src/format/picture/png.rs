//! Reads PNG through the crate png.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Limits, Reader, Transformations, Unit};
use sulcus_volume::{GridUnit, Rgb};

use super::bits::unpack;
use super::density::{Density, pixel_mm};
use super::pixels::Emit;
use super::{PictureFormat, PictureHeader, Samples, exif};
use crate::error::IoErrorKind;
use crate::format::label_text;
use crate::voxels::{VoxelType, reserve};

/// The keyword of the text chunk with the names of labels. Its text is that of NIfTI's header extension.
pub(super) const LABELS_KEYWORD: &str = "sulcus.labels";

/// What the decoder may allocate besides the pixels: colour profiles and texts.
const MAX_CHUNK_BYTES: usize = 16 << 20;

type PngReader<'a> = Reader<Cursor<&'a [u8]>>;

fn open(content: &[u8], limit: usize) -> Result<PngReader<'_>, IoErrorKind> {
    let mut options = DecodeOptions::default();
    options.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(content), options);
    decoder.set_limits(Limits { bytes: limit });
    // Values as they are stored: neither palettes nor bits are expanded.
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.read_info().map_err(|error| describe(&error))
}

fn describe(error: &DecodingError) -> IoErrorKind {
    match error {
        DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            PictureFormat::Png.damaged("its data ends early: the file was cut short")
        }
        DecodingError::LimitsExceeded => {
            PictureFormat::Png.damaged("a part of it is larger than any picture needs")
        }
        // The decoder's own text is for its developers.
        _ => PictureFormat::Png.damaged("its data is damaged"),
    }
}

pub(super) fn parse(start: &[u8]) -> Result<PictureHeader, IoErrorKind> {
    let reader = open(start, MAX_CHUNK_BYTES)?;
    let info = reader.info();
    if info.animation_control.is_some_and(|animation| animation.num_frames > 1) {
        return Err(PictureFormat::Png.refused("it is animated", "save one picture of it"));
    }
    if let Some(data) = &info.exif_metadata {
        exif::check_exif(data, PictureFormat::Png)?;
    }
    let (channels, alpha) = match info.color_type {
        ColorType::Grayscale | ColorType::Indexed => (1, false),
        ColorType::GrayscaleAlpha => (1, true),
        ColorType::Rgb => (3, false),
        ColorType::Rgba => (3, true),
    };
    let palette = match (info.color_type, &info.palette) {
        (ColorType::Indexed, Some(palette)) => Some(palette.as_chunks().0.iter().map(|rgb| Rgb(*rgb)).collect()),
        (ColorType::Indexed, None) => return Err(PictureFormat::Png.damaged("it has indices but no palette")),
        _ => None,
    };
    let pixel = info.pixel_dims.filter(|dims| dims.unit == Unit::Meter);
    let mm = pixel.and_then(|dims| pixel_mm([dims.xppu, dims.yppu].map(Density::per_metre)));
    let text = info.utf8_text.iter().find(|chunk| chunk.keyword == LABELS_KEYWORD);
    let text = text.and_then(|chunk| chunk.get_text().ok());
    Ok(PictureHeader {
        format: PictureFormat::Png,
        shape: [info.width as usize, info.height as usize, 1],
        samples: Samples { channels, alpha },
        voxel_type: if info.bit_depth == BitDepth::Sixteen { VoxelType::Uint16 } else { VoxelType::Uint8 },
        spacing: mm.map(|[x, y]| ([x, y, 1.0], GridUnit::MillimetreInPlane)),
        palette,
        transparent: info.trns.as_ref().is_some_and(|alpha| {
            // For indices, the alpha of each colour; otherwise one transparent colour.
            info.color_type != ColorType::Indexed || alpha.iter().any(|a| *a != u8::MAX)
        }),
        label_table: text.and_then(|text| label_text::parse(&text)),
        decode,
    })
}

fn decode(header: &PictureHeader, content: &[u8], emit: &mut Emit<'_>) -> Result<(), IoErrorKind> {
    let limit = header.decoded_bytes()?.saturating_mul(2).saturating_add(MAX_CHUNK_BYTES as u64);
    let mut reader = open(content, usize::try_from(limit).unwrap_or(usize::MAX))?;
    let depth = reader.info().bit_depth;
    let mut converted: Vec<u8> = Vec::new();
    let mut emit_rows = |rows: &[u8]| match depth {
        BitDepth::Eight => emit(rows),
        BitDepth::Sixteen => {
            converted.clear();
            converted.extend_from_slice(rows);
            converted.as_chunks_mut::<2>().0.iter_mut().for_each(|value| value.reverse());
            emit(&converted)
        }
        BitDepth::One | BitDepth::Two | BitDepth::Four => {
            converted.clear();
            unpack(rows, depth as u8, header.shape[0], &mut converted);
            emit(&converted)
        }
    };
    if !reader.info().interlaced {
        while let Some(row) = reader.next_row().map_err(|error| describe(&error))? {
            emit_rows(row.data())?;
        }
        return Ok(());
    }
    // The rows of an interlaced picture come in seven passes over all of it.
    let damaged = || PictureFormat::Png.damaged("its header announces too many pixels");
    let packed = reader.output_buffer_size().ok_or_else(damaged)?;
    let mut rows: Vec<u8> = reserve(packed)?;
    rows.resize(packed, 0);
    reader.next_frame(&mut rows).map_err(|error| describe(&error))?;
    emit_rows(&rows)
}
