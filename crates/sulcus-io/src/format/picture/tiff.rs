//! Reads TIFF through the crate tiff: strips or tiles, uncompressed or with Deflate, LZW or PackBits.

use std::io::Cursor;

use sulcus_volume::GridUnit;
use tiff::decoder::ifd::Value;
use tiff::decoder::{ChunkType, Decoder, DecodingSampleType, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError, TiffFormatError};

use super::bits::unpack;
use super::density::{Density, pixel_mm};
use super::pixels::Emit;
use super::tiff_directory;
use super::tiff_pages::PageOrder;
use super::{PictureFormat, PictureHeader, Samples, exif};
use crate::error::IoErrorKind;
use crate::voxels::{VoxelType, reserve};

const FORMAT: PictureFormat = PictureFormat::Tiff;
const SAVE: &str = "save it as grey values or RGB with the program that made it";

type TiffDecoder<'a> = Decoder<Cursor<&'a [u8]>>;

fn open(content: &[u8], decoded_bytes: u64) -> Result<TiffDecoder<'_>, IoErrorKind> {
    if tiff_directory::fits(content) == Some(false) {
        return Err(describe(TiffError::LimitsExceeded));
    }
    let decoder = Decoder::new(Cursor::new(content)).map_err(describe)?;
    let mut limits = Limits::default();
    // This also limits texts.
    limits.decoding_buffer_size = usize::try_from(decoded_bytes).unwrap_or(usize::MAX).max(content.len());
    limits.intermediate_buffer_size = limits.decoding_buffer_size.max(content.len());
    // The values of a directory are in the file. In memory they are larger.
    limits.ifd_value_size = content.len().saturating_mul(size_of::<Value>()).max(limits.ifd_value_size);
    Ok(decoder.with_limits(limits))
}

fn describe(error: TiffError) -> IoErrorKind {
    match error {
        TiffError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            FORMAT.damaged("its data ends early: the file was cut short")
        }
        TiffError::FormatError(TiffFormatError::RequiredTagNotFound(tag)) => {
            FORMAT.damaged(format!("its directory has no {tag:?}"))
        }
        TiffError::UnsupportedError(what) => {
            FORMAT.refused(format!("it is of an unsupported kind ({what})"), SAVE)
        }
        TiffError::LimitsExceeded => FORMAT.damaged("its directory announces more than the file can contain"),
        other => FORMAT.damaged(format!("its data is damaged ({other})")),
    }
}

/// How the values of a page are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    size: [usize; 2],
    samples: Samples,
    voxel_type: VoxelType,
    bits: u8,
    /// Whether all first values come before all second values.
    planar: bool,
}

impl Page {
    fn read(decoder: &mut TiffDecoder<'_>) -> Result<Self, IoErrorKind> {
        const RGB_PALETTE: u16 = 3;
        const PLANAR: u16 = 2;
        let unsigned =
            |decoder: &mut TiffDecoder<'_>, tag| decoder.find_tag_unsigned::<u16>(tag).map_err(describe);
        if let Some(orientation) = unsigned(decoder, Tag::Orientation)? {
            exif::check(orientation, FORMAT)?;
        }
        if unsigned(decoder, Tag::PhotometricInterpretation)? == Some(RGB_PALETTE) {
            return Err(FORMAT.refused(
                "its values are indices of a palette",
                "save a mask as PNG, which keeps the indices, and a photograph in RGB",
            ));
        }
        let (width, height) = decoder.dimensions().map_err(describe)?;
        let color = decoder.colortype().map_err(describe)?;
        let extra = decoder.find_tag(Tag::ExtraSamples).map_err(describe)?.is_some();
        let (channels, alpha) = match color {
            ColorType::Gray(_) => (1, false),
            ColorType::GrayA(_) => (1, true),
            ColorType::RGB(_) => (3, false),
            ColorType::RGBA(_) => (3, true),
            // Grey values with an alpha value, or bands of any meaning.
            ColorType::Multiband { num_samples: 2, .. } if extra => (1, true),
            ColorType::Multiband { num_samples, .. } => (usize::from(num_samples), false),
            ColorType::CMYK(_) | ColorType::CMYKA(_) => {
                return Err(
                    FORMAT.refused("its colours are inks (CMYK), not red, green and blue", "save it in RGB")
                );
            }
            other => return Err(FORMAT.refused(format!("its colours are {other:?}"), SAVE)),
        };
        let bits = color.bit_depth();
        let sample = decoder.image_buffer_layout().map_err(describe)?.sample_type;
        let voxel_type = match sample {
            Some(DecodingSampleType::U8) => VoxelType::Uint8,
            Some(DecodingSampleType::I8) => VoxelType::Int8,
            Some(DecodingSampleType::U16) => VoxelType::Uint16,
            Some(DecodingSampleType::I16) => VoxelType::Int16,
            Some(DecodingSampleType::U32) => VoxelType::Uint32,
            Some(DecodingSampleType::I32) => VoxelType::Int32,
            Some(DecodingSampleType::U64) => VoxelType::Uint64,
            Some(DecodingSampleType::I64) => VoxelType::Int64,
            Some(DecodingSampleType::F32) => VoxelType::Float32,
            Some(DecodingSampleType::F64) => VoxelType::Float64,
            _ => return Err(FORMAT.refused(format!("its values are of an unsupported kind ({bits} bits)"), SAVE)),
        };
        let whole_bytes = usize::from(bits) == 8 * voxel_type.bytes();
        let packed = matches!(bits, 1 | 2 | 4) && channels == 1 && !alpha;
        if !(whole_bytes || packed) {
            return Err(FORMAT.refused(format!("it has {bits} bits per value"), SAVE));
        }
        let planar = unsigned(decoder, Tag::PlanarConfiguration)? == Some(PLANAR);
        let samples = Samples { channels, alpha };
        let size = [width as usize, height as usize];
        Ok(Self { size, samples, voxel_type, bits, planar: planar && samples.stored() > 1 })
    }

    /// The bytes of a row of this many pixels in the file's bits.
    fn row_bytes(&self, width: usize) -> usize {
        match self.bits {
            bits @ 1..8 => width.div_ceil(8 / usize::from(bits)),
            _ => width.saturating_mul(self.samples.stored() * self.voxel_type.bytes()),
        }
    }

    fn bytes(&self) -> usize {
        let [width, height] = self.size;
        width.saturating_mul(height).saturating_mul(self.samples.stored() * self.voxel_type.bytes())
    }
}

/// The pages of a file: all of one kind.
struct Stack {
    page: Page,
    /// The directories of the pages; a file may also contain previews.
    directories: Vec<usize>,
    order: PageOrder,
    spacing: Option<([f64; 3], GridUnit)>,
}

impl Stack {
    fn read(decoder: &mut TiffDecoder<'_>, content_bytes: usize) -> Result<Self, IoErrorKind> {
        const REDUCED: u32 = 1;
        let page = Page::read(decoder)?;
        let description = description(decoder, content_bytes)?;
        let densities = densities(decoder)?;
        let mut directories = vec![0];
        let mut index = 0;
        while decoder.more_images() {
            index += 1;
            decoder.next_image().map_err(describe)?;
            let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).map_err(describe)?.unwrap_or(0);
            if kind & REDUCED != 0 {
                continue;
            }
            let other = Page::read(decoder)?;
            if other != page {
                let [a, b] = [page.size, other.size].map(|[w, h]| format!("{w} × {h}"));
                return Err(FORMAT.refused(
                    format!(
                        "its pages differ: the first has {a} pixels, page {} has {b}, or values of another type",
                        index + 1
                    ),
                    "save the pages that belong together in one file",
                ));
            }
            directories.push(index);
        }
        let order = PageOrder::of_description(&description, directories.len())?;
        let in_plane = match (order.unit_mm, densities) {
            // ImageJ states its own unit beside a resolution without one.
            (Some(unit_mm), Some([x, y])) => Some([x.size(unit_mm), y.size(unit_mm)])
                .filter(|mm| mm.iter().all(|mm| *mm > 0.0 && mm.is_finite())),
            (None, Some(densities)) if !order.in_pixels => pixel_mm(densities.map(|d| d.density)),
            _ => None,
        };
        let spacing = match (in_plane, order.slices, order.slice_mm()) {
            (Some([x, y]), 1, _) => Some(([x, y, 1.0], GridUnit::MillimetreInPlane)),
            (Some([x, y]), _, Some(z)) => Some(([x, y, z], GridUnit::Millimetre)),
            // The distance of the pages is not known.
            _ => None,
        };
        Ok(Self { page, directories, order, spacing })
    }

    fn samples(&self) -> Samples {
        Samples { channels: self.page.samples.channels * self.order.channels, ..self.page.samples }
    }
}

/// The resolution along one axis.
#[derive(Clone, Copy)]
struct Resolution {
    pixels_per_unit: f64,
    density: Density,
}

impl Resolution {
    fn size(self, unit: f64) -> f64 {
        unit / self.pixels_per_unit
    }
}

/// The text that describes the first page; empty without one.
fn description(decoder: &mut TiffDecoder<'_>, content_bytes: usize) -> Result<String, IoErrorKind> {
    let entry = decoder.image_ifd().find_entry(Tag::ImageDescription);
    if entry.is_none_or(|entry| entry.count() > content_bytes as u64) {
        return Ok(String::new());
    }
    Ok(match decoder.find_tag(Tag::ImageDescription).map_err(describe)? {
        Some(Value::Ascii(text)) => text,
        _ => String::new(),
    })
}

fn densities(decoder: &mut TiffDecoder<'_>) -> Result<Option<[Resolution; 2]>, IoErrorKind> {
    const NO_UNIT: u16 = 1;
    const CENTIMETRE: u16 = 3;
    let unit = decoder.find_tag_unsigned::<u16>(Tag::ResolutionUnit).map_err(describe)?;
    let unit_mm = match unit {
        Some(NO_UNIT) => f64::NAN,
        Some(CENTIMETRE) => 10.0,
        _ => 25.4,
    };
    let mut read = |tag| -> Result<Option<Resolution>, IoErrorKind> {
        Ok(match decoder.find_tag(tag).map_err(describe)? {
            Some(Value::Rational(n, d)) => Some(Resolution {
                pixels_per_unit: f64::from(n) / f64::from(d),
                density: Density::fraction(n, d, unit_mm),
            }),
            _ => None,
        })
    };
    let (x, y) = (read(Tag::XResolution)?, read(Tag::YResolution)?);
    Ok(x.zip(y).map(|(x, y)| [x, y]))
}

pub(super) fn parse(content: &[u8]) -> Result<PictureHeader, IoErrorKind> {
    let stack = Stack::read(&mut open(content, 0)?, content.len())?;
    let [width, height] = stack.page.size;
    Ok(PictureHeader {
        format: FORMAT,
        shape: [width, height, stack.order.slices],
        samples: stack.samples(),
        voxel_type: stack.page.voxel_type,
        spacing: stack.spacing,
        palette: None,
        transparent: false,
        label_table: None,
        decode,
    })
}

fn decode(header: &PictureHeader, content: &[u8], emit: &mut Emit<'_>) -> Result<(), IoErrorKind> {
    let mut decoder = open(content, header.decoded_bytes()?)?;
    let stack = Stack::read(&mut decoder, content.len())?;
    let Page { samples, voxel_type, planar, .. } = stack.page;
    let by_page = stack.order.channels;
    if by_page == 1 && !planar {
        for directory in &stack.directories {
            decoder.seek_to_image(*directory).map_err(describe)?;
            each_band(&mut decoder, &stack.page, emit)?;
        }
        return Ok(());
    }
    // The values of a pixel lie apart, so a whole slice is put together.
    let (page_bytes, value, by_value) = (stack.page.bytes(), voxel_type.bytes(), samples.stored());
    let mut slice: Vec<u8> = Vec::new();
    for directories in stack.directories.chunks(by_page) {
        slice.clear();
        slice.try_reserve_exact(page_bytes.saturating_mul(by_page)).map_err(|_| no_memory(page_bytes))?;
        slice.resize(page_bytes * by_page, 0);
        for (channel, directory) in directories.iter().enumerate() {
            decoder.seek_to_image(*directory).map_err(describe)?;
            let raw = whole_page(&mut decoder, &stack.page)?;
            let pixel = value * by_value * by_page;
            let planes = raw.chunks_exact(if planar { page_bytes / by_value } else { page_bytes });
            for (plane, values) in planes.enumerate() {
                let group = if planar { value } else { value * by_value };
                let at = channel * value * by_value + plane * value;
                for (pixel, values) in slice.chunks_exact_mut(pixel).zip(values.chunks_exact(group)) {
                    if let Some(to) = pixel.get_mut(at..at + group) {
                        to.copy_from_slice(values);
                    }
                }
            }
        }
        emit(&slice)?;
    }
    Ok(())
}

fn no_memory(bytes: usize) -> IoErrorKind {
    IoErrorKind::Memory { action: "read the picture", bytes: bytes as u64 }
}

/// Decodes the page in bands of rows: a strip, or a row of tiles.
fn each_band(decoder: &mut TiffDecoder<'_>, page: &Page, emit: &mut Emit<'_>) -> Result<(), IoErrorKind> {
    let [width, height] = page.size;
    let (chunk_width, chunk_height) = decoder.chunk_dimensions();
    let (chunk_width, chunk_height) = (chunk_width as usize, chunk_height as usize);
    if chunk_width == 0 || chunk_height == 0 {
        return Err(FORMAT.damaged("its strips or tiles are empty"));
    }
    let across = match decoder.get_chunk_type() {
        ChunkType::Strip => 1,
        ChunkType::Tile => width.div_ceil(chunk_width),
    };
    let (mut band, mut chunk, mut unpacked): (Vec<u8>, Vec<u8>, Vec<u8>) = Default::default();
    for index in 0..height.div_ceil(chunk_height) {
        let rows = chunk_height.min(height - index * chunk_height);
        band.clear();
        for column in 0..across {
            let number = u32::try_from(index * across + column)
                .map_err(|_| FORMAT.damaged("it has more strips or tiles than can be counted"))?;
            let layout = decoder.image_chunk_buffer_layout(number).map_err(describe)?;
            chunk.clear();
            chunk.try_reserve_exact(layout.len).map_err(|_| no_memory(layout.len))?;
            chunk.resize(layout.len, 0);
            decoder.read_chunk_bytes(number, &mut chunk).map_err(describe)?;
            if across == 1 {
                std::mem::swap(&mut band, &mut chunk);
                continue;
            }
            let (row, own) = (page.row_bytes(width), page.row_bytes(chunk_width));
            band.resize(row * rows, 0);
            let columns = page.row_bytes(chunk_width.min(width - column * chunk_width));
            for (to, from) in band.chunks_exact_mut(row).zip(chunk.chunks_exact(columns)) {
                if let Some(to) = to.get_mut(column * own..column * own + columns) {
                    to.copy_from_slice(from);
                }
            }
        }
        if page.bits < 8 {
            unpacked.clear();
            unpack(&band, page.bits, width, &mut unpacked);
            emit(&unpacked)?;
        } else {
            if cfg!(target_endian = "big") {
                crate::voxels::reverse_bytes(&mut band, page.voxel_type.bytes());
            }
            emit(&band)?;
        }
    }
    Ok(())
}

/// The values of a page as they are stored, a byte or more for each.
fn whole_page(decoder: &mut TiffDecoder<'_>, page: &Page) -> Result<Vec<u8>, IoErrorKind> {
    let [width, height] = page.size;
    let bytes = if page.bits < 8 { page.row_bytes(width).saturating_mul(height) } else { page.bytes() };
    let mut raw: Vec<u8> = reserve(bytes)?;
    raw.resize(bytes, 0);
    decoder.read_image_bytes(&mut raw).map_err(describe)?;
    if page.bits < 8 {
        let mut unpacked = reserve(page.bytes())?;
        unpack(&raw, page.bits, width, &mut unpacked);
        return Ok(unpacked);
    }
    if cfg!(target_endian = "big") {
        crate::voxels::reverse_bytes(&mut raw, page.voxel_type.bytes());
    }
    Ok(raw)
}
