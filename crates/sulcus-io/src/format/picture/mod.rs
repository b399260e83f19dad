//! Pictures: PNG, JPEG and TIFF, of 8 or 16 bits, grey or in colours.
//!
//! # Values
//!
//! The values are those of the file: neither gamma, nor colour profiles, nor the range of a type change them. A colour picture has
//! three channels: red, green, blue. A PNG with a palette has one channel of indices, which is what a mask needs; as an image it has
//! the colours of its palette. An opaque alpha channel is left out. A picture with transparent pixels is refused, because programs
//! differ in what they show there; so is a picture that its EXIF data says to turn, and CMYK.
//!
//! # Grid
//!
//! Columns are x and rows are y; the pages of a TIFF are z. A picture has no position in a patient
//! ([`OrientationSource::Picture`](sulcus_volume::OrientationSource::Picture)). The size of a pixel is taken from the file where it
//! states one; the module `density` explains why 72 or 300 dots per inch are none. Without it the grid is in pixels
//! ([`GridUnit::Pixel`]).
//!
//! # Limits
//!
//! A header of a few bytes can announce a picture of many gigabytes. No format shrinks values by more than [`MAX_EXPANSION`], so
//! a file that is too short for its header is refused before memory is allocated. The decoders are crates that have panicked on damaged
//! files; a panic is reported as a damaged file.

mod bits;
mod density;
mod exif;
mod jpeg;
mod output;
mod pixels;
mod png;
mod png_encode;
mod tiff;
mod tiff_directory;
mod tiff_encode;
mod tiff_pages;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sulcus_volume::{Geometry, GridUnit, LabelTable, Spacing};

#[cfg(feature = "fs")]
use super::{EncodedFile, EncodedVolume, OutputTarget};
use super::{Ending, Format, Header, VolumeToEncode, VoxelFile, VoxelLocation};
use crate::error::IoErrorKind;
use crate::metadata::{FormatMetadata, Palette, PictureMetadata, VolumeFormat, VolumeMetadata};
use crate::scan::Scan;
use crate::stored::StoredVolume;
use crate::text::shape_text;
use crate::voxels::{VoxelType, reserve};
use pixels::{Emit, Layout};

/// The number of bytes of values that one byte of a file can stand for, at most. Deflate reaches 1032. LZW reaches 1420: codes of 9
/// to 12 bits for ever longer runs, until its table is full. JPEG needs a bit for each of the six blocks of 768 values.
const MAX_EXPANSION: u64 = 1500;

/// A picture format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PictureFormat {
    Png,
    Jpeg,
    Tiff,
}

/// The formats of pictures.
pub(super) const FORMATS: [PictureFormat; 3] = [PictureFormat::Png, PictureFormat::Jpeg, PictureFormat::Tiff];

/// The content of a PNG file.
pub(super) fn encode_png(volume: &VolumeToEncode<'_>) -> Result<Vec<u8>, IoErrorKind> {
    png_encode::encode(volume)
}

/// The content of a TIFF file.
pub(super) fn encode_tiff(volume: &VolumeToEncode<'_>) -> Result<Vec<u8>, IoErrorKind> {
    tiff_encode::encode(volume)
}

impl PictureFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Tiff => "TIFF",
        }
    }

    fn damaged(self, what: impl Into<String>) -> IoErrorKind {
        self.refused(what, "get the file again")
    }

    fn refused(self, what: impl Into<String>, hint: &'static str) -> IoErrorKind {
        IoErrorKind::Picture { format: self.name(), what: what.into(), hint }
    }
}

impl From<PictureFormat> for VolumeFormat {
    fn from(format: PictureFormat) -> Self {
        match format {
            PictureFormat::Png => Self::Png,
            PictureFormat::Jpeg => Self::Jpeg,
            PictureFormat::Tiff => Self::Tiff,
        }
    }
}

impl Format for PictureFormat {
    fn endings(&self) -> &'static [Ending] {
        match self {
            Self::Png => const { &[Ending::single(".png")] },
            Self::Jpeg => const { &[Ending::single(".jpg"), Ending::single(".jpeg")] },
            Self::Tiff => const { &[Ending::single(".tif"), Ending::single(".tiff")] },
        }
    }

    fn sniff(&self, start: &[u8]) -> bool {
        match self {
            Self::Png => start.starts_with(b"\x89PNG\r\n\x1a\n"),
            Self::Jpeg => start.starts_with(b"\xff\xd8\xff"),
            Self::Tiff => [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| start.starts_with(*magic)),
        }
    }

    fn max_header_bytes(&self) -> usize {
        match self {
            // Colour profiles, EXIF data and previews come before the size of a picture.
            Self::Png | Self::Jpeg => 4 << 20,
            // The directories may be anywhere, and are often at the end.
            Self::Tiff => usize::MAX,
        }
    }

    fn parse(&self, start: &[u8]) -> Result<Box<dyn Header>, IoErrorKind> {
        let header = || match self {
            Self::Png => png::parse(start),
            Self::Jpeg => jpeg::parse(start),
            Self::Tiff => tiff::parse(start),
        };
        Ok(Box::new(self.without_panic(header)?))
    }

    #[cfg(feature = "fs")]
    fn is_written(&self) -> bool {
        // JPEG changes values.
        *self != Self::Jpeg
    }

    #[cfg(feature = "fs")]
    fn mask_ending(&self) -> &'static str {
        match self {
            Self::Png | Self::Jpeg => ".png",
            Self::Tiff => ".tif",
        }
    }

    #[cfg(feature = "fs")]
    fn encode<'a>(
        &self,
        volume: &VolumeToEncode<'a>,
        _target: &OutputTarget<'_>,
    ) -> Result<EncodedVolume<'a>, IoErrorKind> {
        let bytes = match self {
            Self::Png => png_encode::encode(volume),
            Self::Jpeg => Err(IoErrorKind::PictureOutput {
                format: self.name(),
                what: "JPEG changes values, of masks to labels that do not exist".into(),
                hint: "name the output .png or .tif",
            }),
            Self::Tiff => tiff_encode::encode(volume),
        };
        Ok(EncodedVolume { header: EncodedFile::from_bytes(bytes?), voxels: None })
    }
}

impl PictureFormat {
    fn without_panic<T>(self, decode: impl FnOnce() -> Result<T, IoErrorKind>) -> Result<T, IoErrorKind> {
        // The decoders share no state that a panic could leave inconsistent.
        let decoded = catch_unwind(AssertUnwindSafe(decode));
        decoded.unwrap_or_else(|_| Err(self.damaged("its data is damaged")))
    }
}

/// The values of one pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Samples {
    /// 1 for grey and indices, 3 for colours; any number in a TIFF.
    channels: usize,
    /// Whether an alpha value follows them.
    alpha: bool,
}

impl Samples {
    fn stored(self) -> usize {
        self.channels + usize::from(self.alpha)
    }
}

/// What the header of a picture states.
#[derive(Debug)]
struct PictureHeader {
    format: PictureFormat,
    /// Columns, rows, pages.
    shape: [usize; 3],
    samples: Samples,
    voxel_type: VoxelType,
    /// The size of a voxel in millimetres, and the unit; `None` if it is not known.
    spacing: Option<([f64; 3], GridUnit)>,
    palette: Option<Palette>,
    /// Whether the file names a transparent colour.
    transparent: bool,
    label_table: Option<LabelTable>,
    /// Decodes the file to little-endian values, `[page, y, x, sample]`, in blocks of whole pixels.
    decode: Decode,
}

type Decode = fn(&PictureHeader, &[u8], &mut Emit<'_>) -> Result<(), IoErrorKind>;

impl PictureHeader {
    /// The size of the decoded values in bytes.
    fn decoded_bytes(&self) -> Result<u64, IoErrorKind> {
        let sizes = self.shape.into_iter().chain([self.samples.stored(), self.voxel_type.bytes()]);
        let product = sizes.into_iter().try_fold(1_u64, |all, n| all.checked_mul(n as u64));
        product.ok_or_else(|| self.format.damaged(format!("its header announces {}", shape_text(&self.shape))))
    }

    fn transparent(&self) -> IoErrorKind {
        self.format.refused(
            "it has transparent pixels, whose colours programs show differently",
            "save it without an alpha channel, on the background that it is to have",
        )
    }

    fn layout(&self) -> Layout {
        let value = self.voxel_type.bytes();
        Layout {
            pixels: self.shape.iter().product(),
            channels: self.samples.channels,
            value,
            pixel: self.samples.stored() * value,
        }
    }

    /// Decodes the file in blocks of pixels, of which all alpha values are opaque. The caller has compared its length with its header.
    fn each_block(&self, content: &[u8], emit: &mut Emit<'_>) -> Result<(), IoErrorKind> {
        let expected = self.decoded_bytes()?;
        let Samples { channels, alpha } = self.samples;
        if alpha && self.voxel_type != VoxelType::Uint8 && self.voxel_type != VoxelType::Uint16 {
            return Err(self.transparent());
        }
        let Layout { value, pixel, .. } = self.layout();
        let wrong = |found: u64| {
            let shape = shape_text(&self.shape);
            self.format.damaged(format!("its pixels have {found} bytes, expected {expected} for {shape}"))
        };
        // Opaque is the greatest value of an unsigned integer.
        let is_opaque = |pixel: &[u8]| pixel.iter().skip(channels * value).all(|byte| *byte == u8::MAX);
        let mut found = 0;
        let mut checked = |block: &[u8]| {
            found += block.len() as u64;
            if found > expected || !block.len().is_multiple_of(pixel) {
                return Err(wrong(found));
            }
            if alpha && !block.chunks_exact(pixel).all(is_opaque) {
                return Err(self.transparent());
            }
            emit(block)
        };
        self.format.without_panic(|| (self.decode)(self, content, &mut checked))?;
        if found == expected { Ok(()) } else { Err(wrong(found)) }
    }

    /// The values as `[channel, page, y, x]`, without alpha.
    fn values(&self, content: &[u8]) -> Result<Vec<u8>, IoErrorKind> {
        self.check_length(VoxelFile::Same, content.len() as u64)?;
        pixels::stored_planes(self.layout(), |emit| self.each_block(content, emit))
    }
}

impl Header for PictureHeader {
    fn metadata(&self) -> Result<VolumeMetadata, IoErrorKind> {
        let cause = |cause| IoErrorKind::Volume { action: "read the picture", cause: Box::new(cause) };
        let (mm, unit) = self.spacing.unwrap_or(([1.0; 3], GridUnit::Pixel));
        let spacing = Spacing::new(mm).map_err(cause)?;
        let geometry = Geometry::of_picture(self.shape, spacing, unit).map_err(cause)?;
        let channels = self.samples.channels;
        let image_channels = if self.palette.is_some() { 3 } else { channels };
        let metadata = VolumeMetadata::new(self.format.into(), geometry, self.voxel_type)
            .with_values(self.voxel_type, channels)
            .with_label_table(self.label_table.clone())
            .with_format_metadata(FormatMetadata::Picture(PictureMetadata {
                palette: self.palette.clone(),
                image_channels,
            }));
        Ok(metadata)
    }

    fn voxel_location(&self) -> VoxelLocation<'_> {
        VoxelLocation::SameFile
    }

    fn check_length(&self, _file: VoxelFile, bytes: u64) -> Result<(), IoErrorKind> {
        let expected = self.decoded_bytes()?;
        let most = bytes.saturating_mul(MAX_EXPANSION);
        if expected <= most {
            return Ok(());
        }
        let found = format!("{bytes} bytes of compressed data, which stand for {most} at most");
        let shape =
            self.shape.into_iter().chain(Some(self.samples.stored()).filter(|n| *n > 1)).collect::<Vec<_>>();
        Err(IoErrorKind::TooFewVoxels {
            shape: shape_text(&shape),
            dtype: self.voxel_type.name(),
            expected,
            found,
        })
    }

    fn read<'a>(
        self: Box<Self>,
        _file: VoxelFile,
        content: Cow<'a, [u8]>,
    ) -> Result<StoredVolume<'a>, IoErrorKind> {
        let values = self.values(&content)?;
        if self.transparent && self.palette.is_none() {
            return Err(self.transparent());
        }
        Ok(StoredVolume::from_content(self.metadata()?, values.into(), 0, false, None))
    }

    /// The image: an indexed picture has the colours of its palette.
    #[cfg(feature = "statistics")]
    fn read_scan(self: Box<Self>, _file: VoxelFile, content: Cow<'_, [u8]>) -> Result<Scan, IoErrorKind> {
        if self.transparent {
            return Err(self.transparent());
        }
        let Some(palette) = &self.palette else {
            let metadata = self.metadata()?;
            metadata.check_usable()?;
            self.check_length(VoxelFile::Same, content.len() as u64)?;
            let read = |emit: &mut Emit<'_>| self.each_block(&content, emit);
            let builder = pixels::scan_planes(self.layout(), self.voxel_type, read)?;
            drop(content);
            return builder.finish(metadata);
        };
        let indices = self.values(&content)?;
        let mut colours = reserve(indices.len().saturating_mul(3))?;
        for channel in 0..3 {
            let of_index: Vec<u8> = palette.iter().filter_map(|colour| colour.0.get(channel).copied()).collect();
            colours.extend(indices.iter().map_while(|index| of_index.get(usize::from(*index)).copied()));
        }
        if colours.len() != indices.len() * 3 {
            let found = indices.iter().max().copied().unwrap_or_default();
            return Err(self.format.damaged(format!(
                "a pixel has the index {found}, but the palette has {} colours",
                palette.len()
            )));
        }
        let metadata = self.metadata()?.with_values(VoxelType::Uint8, 3);
        StoredVolume::from_content(metadata, colours.into(), 0, false, None).scan()
    }
}
