//! Compressed frames to pixels. What a frame's own header says must be what the file's header says.

mod jpeg;
mod jpeg2000;
mod jpegls;
mod rle;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{DicomFault, DicomProblem};
use super::instance::{PixelKind, PixelLayout};
use super::syntax::Pixels;

/// Frames up to this size are believed whatever they weigh: an empty slice compresses to next to nothing.
const BELIEVED_PIXELS: usize = 1 << 22;
/// Larger ones must bring a byte for so many pixels.
const PIXELS_PER_BYTE: usize = 4096;

/// What a codec says that cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CodecFault {
    /// The data ends before the picture does.
    Short,
    /// Data that contradicts itself.
    Damaged,
    /// A part of its standard that is not read.
    Unsupported(&'static str),
    /// A picture of another size than the header's.
    Size { rows: usize, columns: usize },
}

/// Decodes one frame to whole numbers, row by row; those of fewer bits than the layout's are not yet sign-extended.
pub(crate) fn decode(pixels: Pixels, layout: &PixelLayout, data: &[u8]) -> Result<Vec<i32>, DicomProblem> {
    let n = layout.frame_pixels();
    let PixelKind::Integer { allocated, .. } = layout.kind else {
        return Err(problem(layout, CodecFault::Unsupported("compressed numbers with a fraction")));
    };
    if n > BELIEVED_PIXELS && n / PIXELS_PER_BYTE > data.len() {
        return Err(problem(layout, CodecFault::Short));
    }
    let (rows, columns) = (layout.rows, layout.columns);
    let decode = || match pixels {
        Pixels::Native | Pixels::EncapsulatedNative => Err(CodecFault::Damaged),
        Pixels::Rle => rle::decode(data, n, usize::from(allocated / 8)),
        Pixels::Jpeg => jpeg::decode(data, rows, columns),
        Pixels::JpegLs => jpegls::decode(data, rows, columns),
        Pixels::Jpeg2000 => jpeg2000::decode(data, rows, columns),
    };
    // The JPEG and JPEG 2000 decoders are other people's and have been made to panic by damaged pictures: a panic of
    // theirs is an error of the file. They hold nothing that could be left half changed.
    let decoded = catch_unwind(AssertUnwindSafe(decode)).unwrap_or(Err(CodecFault::Damaged));
    let values = decoded.map_err(|fault| problem(layout, fault))?;
    if values.len() == n { Ok(values) } else { Err(problem(layout, CodecFault::Damaged)) }
}

/// A picture must have the header's size.
fn check_size(found: [usize; 2], expected: [usize; 2]) -> Result<(), CodecFault> {
    let [rows, columns] = found;
    if found == expected { Ok(()) } else { Err(CodecFault::Size { rows, columns }) }
}

fn problem(layout: &PixelLayout, fault: CodecFault) -> DicomProblem {
    let (kind, found, hint) = match fault {
        CodecFault::Short => (
            DicomFault::Compression,
            "data that ends before".to_owned(),
            "the file is damaged or was cut short, get it again",
        ),
        CodecFault::Damaged => (
            DicomFault::Compression,
            "data that no such picture has".to_owned(),
            "the file is damaged, get it again; or decompress it with another program and give the result",
        ),
        CodecFault::Unsupported(what) => (
            DicomFault::TransferSyntax,
            what.to_owned(),
            "decompress the files first, for example with dcmdjpeg or gdcmconv --raw",
        ),
        CodecFault::Size { rows, columns } => (
            DicomFault::PixelLength,
            format!("one of {rows} × {columns}"),
            "the header or the picture is damaged, get the file again",
        ),
    };
    let expected = format!("a compressed picture of {} × {} grey pixels", layout.rows, layout.columns);
    DicomProblem::new(kind, expected, found, hint)
}
