//! Transfer syntaxes (DICOM PS3.5, annex A): the encoding of a file's elements and pixels.

use super::dataset::Encoding;
use super::error::{DicomError, DicomErrorKind};

/// How the pixels are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PixelEncoding {
    /// Uncompressed, all frames in one value.
    Native,
    /// Uncompressed, one fragment per frame.
    EncapsulatedNative,
    Rle,
    /// JPEG with 8 bits, or lossless JPEG with up to 16.
    Jpeg,
    JpegLs,
    Jpeg2000,
}

impl PixelEncoding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "uncompressed",
            Self::EncapsulatedNative => "encapsulated uncompressed",
            Self::Rle => "RLE",
            Self::Jpeg => "JPEG",
            Self::JpegLs => "JPEG-LS",
            Self::Jpeg2000 => "JPEG 2000",
        }
    }
}

/// A supported transfer syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransferSyntax {
    pub(crate) encoding: Encoding,
    pub(crate) deflated: bool,
    pub(crate) pixels: PixelEncoding,
}

const PREFIX: &str = "1.2.840.10008.1.2";

/// The names of unsupported transfer syntaxes, for the error message.
const UNSUPPORTED: &[(&str, &str)] = &[
    (".4.52", "JPEG Extended, 12 bits"),
    (".4.92", "JPEG 2000 multi-component lossless"),
    (".4.93", "JPEG 2000 multi-component"),
    (".4.94", "JPIP referenced"),
    (".4.95", "JPIP referenced deflate"),
    (".4.100", "MPEG-2 main level"),
    (".4.101", "MPEG-2 high level"),
    (".4.102", "MPEG-4 AVC"),
    (".4.103", "MPEG-4 AVC, BD compatible"),
    (".4.107", "HEVC main"),
    (".4.108", "HEVC main 10"),
    (".4.110", "JPEG XL lossless"),
    (".4.111", "JPEG XL recompressed JPEG"),
    (".4.112", "JPEG XL"),
    (".4.201", "High-Throughput JPEG 2000 lossless"),
    (".4.202", "High-Throughput JPEG 2000 RPCL lossless"),
    (".4.203", "High-Throughput JPEG 2000"),
    (".8.1", "Deflated Image Frame Compression"),
];

impl TransferSyntax {
    pub(crate) const IMPLICIT: Self =
        Self { encoding: Encoding::IMPLICIT, deflated: false, pixels: PixelEncoding::Native };
    pub(crate) const EXPLICIT: Self =
        Self { encoding: Encoding::EXPLICIT, deflated: false, pixels: PixelEncoding::Native };

    /// The transfer syntax with this UID. The elements of a file with an unsupported one can still be read, its pixels
    /// cannot.
    pub(crate) fn of(uid: &str) -> Result<Self, DicomError> {
        let explicit = |pixels| Ok(Self { pixels, ..Self::EXPLICIT });
        match uid.strip_prefix(PREFIX) {
            Some("") => Ok(Self::IMPLICIT),
            Some(".1") => Ok(Self::EXPLICIT),
            Some(".1.98") => explicit(PixelEncoding::EncapsulatedNative),
            Some(".1.99") => Ok(Self { deflated: true, ..Self::EXPLICIT }),
            Some(".2") => Ok(Self { encoding: Encoding { explicit: true, big_endian: true }, ..Self::EXPLICIT }),
            Some(".4.50" | ".4.51" | ".4.57" | ".4.70") => explicit(PixelEncoding::Jpeg),
            Some(".4.80" | ".4.81") => explicit(PixelEncoding::JpegLs),
            Some(".4.90" | ".4.91") => explicit(PixelEncoding::Jpeg2000),
            Some(".5") => explicit(PixelEncoding::Rle),
            other => Err(DicomError::new(
                DicomErrorKind::TransferSyntax,
                "pixels that are uncompressed (the data set may be deflated), RLE, JPEG (8 bits or lossless), JPEG-LS or JPEG 2000",
                match other.and_then(|end| UNSUPPORTED.iter().find(|(known, _)| *known == end)) {
                    Some((_, name)) => format!("{name} (transfer syntax {})", printable(uid)),
                    None => format!("transfer syntax {}", printable(uid)),
                },
                "decompress the files first, for example with dcmconv, dcmdjpeg or gdcmconv --raw",
            )),
        }
    }
}

/// The digits and dots of a UID. A damaged file may contain other characters there.
fn printable(uid: &str) -> String {
    let digits: String = uid.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(64).collect();
    if digits.is_empty() { "without a name".into() } else { digits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_transfer_syntaxes_are_named() {
        let message = |uid| TransferSyntax::of(uid).unwrap_err().to_string();
        assert!(
            message("1.2.840.10008.1.2.4.201")
                .contains("High-Throughput JPEG 2000 lossless (transfer syntax 1.2.840")
        );
        assert!(message("1.2.3\u{1b}[31m").contains("found transfer syntax 1.2.331;"));
    }
}
