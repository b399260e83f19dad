//! Writes TIFF: a page for each slice, grey or RGB, compressed with Deflate.

use std::io::{Cursor, Seek, Write};

use sulcus_volume::{GridUnit, Spacing};
use tiff::TiffError;
use tiff::encoder::{
    Compression, DeflateLevel, Rational, TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard, TiffValue,
    colortype,
};
use tiff::tags::ResolutionUnit;

use super::PictureFormat;
use super::output::{Output, interleaved};
use crate::error::IoErrorKind;
use crate::format::VolumeToEncode;
use crate::voxels::VoxelType;

const FORMAT: PictureFormat = PictureFormat::Tiff;

/// Larger files are written as BigTIFF, whose offsets have 64 bits.
const MAX_CLASSIC_BYTES: usize = 3 << 30;

pub(super) fn encode(volume: &VolumeToEncode<'_>) -> Result<Vec<u8>, IoErrorKind> {
    let output = Output::new(volume)?;
    if !matches!(output.channels(), 1 | 3) {
        return Err(IoErrorKind::PictureOutput {
            format: FORMAT.name(),
            what: format!("it holds one channel or three, found {}", output.channels()),
            hint: "name the output .nii.gz or .nrrd, which hold any number of channels",
        });
    }
    let mut out = Cursor::new(Vec::new());
    let written = if output.volume.raw().len() > MAX_CLASSIC_BYTES {
        TiffEncoder::<_, TiffKindBig>::new_generic(&mut out).and_then(|file| pages(&output, file))
    } else {
        TiffEncoder::<_, TiffKindStandard>::new_generic(&mut out).and_then(|file| pages(&output, file))
    };
    written.map_err(|error| IoErrorKind::PictureOutput {
        format: FORMAT.name(),
        what: error.to_string(),
        hint: "name the output .nii.gz",
    })?;
    Ok(out.into_inner())
}

fn pages<W: Write + Seek, K: TiffKind>(output: &Output<'_>, file: TiffEncoder<W, K>) -> Result<(), TiffError> {
    let mut file = file.with_compression(Compression::Deflate(DeflateLevel::Balanced));
    macro_rules! write {
        ($t:ty, $grey:ident, $rgb:ident) => {{
            let bytes = output.volume.bytes();
            let values: Vec<$t> =
                bytes.as_chunks::<{ size_of::<$t>() }>().0.iter().map(|b| <$t>::from_le_bytes(*b)).collect();
            match output.channels() {
                1 => write_pages::<_, _, colortype::$grey>(output, &mut file, &values),
                _ => write_pages::<_, _, colortype::$rgb>(output, &mut file, &interleaved(&values, 3)),
            }
        }};
        ($t:ty, $grey:ident) => {{
            let bytes = output.volume.bytes();
            let values: Vec<$t> =
                bytes.as_chunks::<{ size_of::<$t>() }>().0.iter().map(|b| <$t>::from_le_bytes(*b)).collect();
            match output.channels() {
                1 => write_pages::<_, _, colortype::$grey>(output, &mut file, &values),
                // Only unsigned and floating-point values can be colours.
                _ => Err(std::io::Error::other("three channels of signed integers").into()),
            }
        }};
    }
    match output.metadata().voxel_type() {
        VoxelType::Uint8 => write!(u8, Gray8, RGB8),
        VoxelType::Uint16 => write!(u16, Gray16, RGB16),
        VoxelType::Uint32 => write!(u32, Gray32, RGB32),
        VoxelType::Uint64 => write!(u64, Gray64, RGB64),
        VoxelType::Float32 => write!(f32, Gray32Float, RGB32Float),
        VoxelType::Float64 => write!(f64, Gray64Float, RGB64Float),
        VoxelType::Int8 => write!(i8, GrayI8),
        VoxelType::Int16 => write!(i16, GrayI16),
        VoxelType::Int32 => write!(i32, GrayI32),
        VoxelType::Int64 => write!(i64, GrayI64),
    }
}

/// Writes values `[page, y, x, sample]`.
fn write_pages<W: Write + Seek, K: TiffKind, C: colortype::ColorType>(
    output: &Output<'_>,
    file: &mut TiffEncoder<W, K>,
    values: &[C::Inner],
) -> Result<(), TiffError>
where
    [C::Inner]: TiffValue,
{
    let geometry = output.metadata().geometry();
    let [width, height, _] = geometry.shape();
    let page = width * height * C::BITS_PER_SAMPLE.len();
    for values in values.chunks_exact(page) {
        let mut image = file.new_image::<C>(u32::try_from(width)?, u32::try_from(height)?)?;
        if geometry.is_picture() && geometry.unit() != GridUnit::Pixel {
            let [x, y] = resolution(geometry.spacing());
            image.resolution_unit(ResolutionUnit::Centimeter);
            image.x_resolution(x);
            image.y_resolution(y);
        }
        image.write_data(values)?;
    }
    Ok(())
}

/// Pixels per centimetre.
fn resolution(spacing: Spacing) -> [Rational; 2] {
    let [x, y, _] = spacing.mm().map(|mm| {
        let per_centimetre = 10.0 / mm;
        let d = if per_centimetre < 1e5 { 10_000 } else { 1 };
        Rational { n: (per_centimetre * f64::from(d)).round() as u32, d }
    });
    [x, y]
}
