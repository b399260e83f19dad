//! Decompresses frames. The header of a compressed frame must agree with the header of the file.

mod jpeg;
mod jpeg2000;
mod jpegls;
mod rle;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{DicomError, DicomErrorKind};
use super::instance::{PixelFormat, PixelLayout};
use super::transfer_syntax::PixelEncoding;

/// Frames up to this size may have any compressed length: an empty slice compresses to a few bytes.
const MAX_UNCHECKED_PIXELS: usize = 1 << 22;
/// Larger frames need at least one compressed byte for this many pixels.
const MAX_PIXELS_PER_BYTE: usize = 4096;

/// Why a codec cannot decode a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CodecError {
    /// The data ends before the image does.
    Truncated,
    /// The data contradicts itself.
    Damaged,
    /// An unsupported part of the codec's standard.
    Unsupported(&'static str),
    /// The image has another size than the header of the file states.
    Size { rows: usize, columns: usize },
}

/// Decodes one frame to integers in row-major order. Values with fewer bits than the layout's are not yet sign-extended.
pub(crate) fn decode(pixels: PixelEncoding, layout: &PixelLayout, data: &[u8]) -> Result<Vec<i32>, DicomError> {
    let n = layout.frame_pixels();
    let PixelFormat::Integer { allocated, .. } = layout.format else {
        return Err(describe(layout, CodecError::Unsupported("compressed floating-point pixels")));
    };
    if n > MAX_UNCHECKED_PIXELS && n / MAX_PIXELS_PER_BYTE > data.len() {
        return Err(describe(layout, CodecError::Truncated));
    }
    let (rows, columns) = (layout.rows, layout.columns);
    let decode = || match pixels {
        PixelEncoding::Native | PixelEncoding::EncapsulatedNative => Err(CodecError::Damaged),
        PixelEncoding::Rle => rle::decode(data, n, usize::from(allocated / 8)),
        PixelEncoding::Jpeg => jpeg::decode(data, rows, columns),
        PixelEncoding::JpegLs => jpegls::decode(data, rows, columns),
        PixelEncoding::Jpeg2000 => jpeg2000::decode(data, rows, columns),
    };
    // The JPEG and JPEG 2000 decoders are external crates, and fuzzing has made them panic on damaged images. Such a
    // panic is reported as a damaged file. The decoders share no state that a panic could leave inconsistent.
    let decoded = catch_unwind(AssertUnwindSafe(decode)).unwrap_or(Err(CodecError::Damaged));
    let values = decoded.map_err(|error| describe(layout, error))?;
    if values.len() == n { Ok(values) } else { Err(describe(layout, CodecError::Damaged)) }
}

/// Checks the size of the image against the header of the file.
fn check_size(found: [usize; 2], expected: [usize; 2]) -> Result<(), CodecError> {
    let [rows, columns] = found;
    if found == expected { Ok(()) } else { Err(CodecError::Size { rows, columns }) }
}

fn describe(layout: &PixelLayout, error: CodecError) -> DicomError {
    let (kind, found, hint) = match error {
        CodecError::Truncated => (
            DicomErrorKind::Compression,
            "data that ends early".to_owned(),
            "the file is damaged or was cut short, get it again",
        ),
        CodecError::Damaged => (
            DicomErrorKind::Compression,
            "invalid compressed data".to_owned(),
            "the file is damaged, get it again; or decompress it with another program and give the result",
        ),
        CodecError::Unsupported(what) => (
            DicomErrorKind::TransferSyntax,
            what.to_owned(),
            "decompress the files first, for example with dcmdjpeg or gdcmconv --raw",
        ),
        CodecError::Size { rows, columns } => (
            DicomErrorKind::PixelLength,
            format!("one of {rows} × {columns}"),
            "the header or the image is damaged, get the file again",
        ),
    };
    let expected = format!("a compressed image of {} × {} grey pixels", layout.rows, layout.columns);
    DicomError::new(kind, expected, found, hint)
}
