//! Reads TIFF through the crate tiff: strips or tiles, uncompressed or with Deflate, LZW or PackBits.

use std::io::Cursor;

use sulcus_volume::GridUnit;
use tiff::decoder::ifd::Value;
use tiff::decoder::{Decoder, DecodingSampleType, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError, TiffFormatError};

use super::bits::unpack;
use super::density::{Density, pixel_mm};
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

fn decode(header: &PictureHeader, content: &[u8], mut out: Vec<u8>) -> Result<Vec<u8>, IoErrorKind> {
    let mut decoder = open(content, header.decoded_bytes()?)?;
    let stack = Stack::read(&mut decoder, content.len())?;
    let Page { size: [width, height], samples, voxel_type, bits, planar } = stack.page;
    let (page_bytes, value) = (stack.page.bytes(), voxel_type.bytes());
    let (by_page, by_value) = (stack.order.channels, samples.stored());
    let mut raw: Vec<u8> = Vec::new();
    for (i, directory) in stack.directories.iter().enumerate() {
        decoder.seek_to_image(*directory).map_err(describe)?;
        if bits < 8 {
            raw = reserve(width.div_ceil(8 / usize::from(bits)).saturating_mul(height))?;
            raw.resize(raw.capacity(), 0);
            decoder.read_image_bytes(&mut raw).map_err(describe)?;
            let mut unpacked = reserve(page_bytes)?;
            unpack(&raw, bits, width, &mut unpacked);
            raw = unpacked;
        } else {
            raw.clear();
            raw.try_reserve_exact(page_bytes)
                .map_err(|_| IoErrorKind::Memory { action: "read the picture", bytes: page_bytes as u64 })?;
            raw.resize(page_bytes, 0);
            decoder.read_image_bytes(&mut raw).map_err(describe)?;
        }
        if cfg!(target_endian = "big") {
            crate::voxels::reverse_bytes(&mut raw, value);
        }
        if by_page == 1 && !planar {
            out.extend_from_slice(&raw);
            continue;
        }
        // The place of this page's values among those of a pixel.
        let (slice, channel) = (i / by_page, i % by_page);
        let pixel = value * by_value * by_page;
        let slice_bytes = page_bytes * by_page;
        out.resize((slice + 1) * slice_bytes, 0);
        let Some(target) = out.get_mut(slice * slice_bytes..) else { continue };
        for (plane, values) in
            raw.chunks_exact(if planar { page_bytes / by_value } else { page_bytes }).enumerate()
        {
            let (group, step) = if planar { (value, value) } else { (value * by_value, value * by_value) };
            let at = channel * value * by_value + plane * value;
            for (pixel, values) in target.chunks_exact_mut(pixel).zip(values.chunks_exact(step)) {
                if let (Some(to), Some(from)) = (pixel.get_mut(at..at + group), values.get(..group)) {
                    to.copy_from_slice(from);
                }
            }
        }
    }
    Ok(out)
}
