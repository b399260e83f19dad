//! Transfer syntaxes (DICOM PS3.5, annex A): how a file's elements and its pixels are encoded.

use super::dataset::Encoding;
use super::error::{DicomFault, DicomProblem};

/// How the pixels are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pixels {
    /// As they are.
    Native,
    /// As they are, a frame a fragment.
    EncapsulatedNative,
    Rle,
    /// JPEG with 8 bits, or lossless with up to 16.
    Jpeg,
    JpegLs,
    Jpeg2000,
}

/// A transfer syntax that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syntax {
    pub(crate) encoding: Encoding,
    pub(crate) deflated: bool,
    pub(crate) pixels: Pixels,
}

const PREFIX: &str = "1.2.840.10008.1.2";

/// Names of those that are not read, so that an error can tell them.
const UNREAD: &[(&str, &str)] = &[
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

impl Syntax {
    pub(crate) const IMPLICIT: Self =
        Self { encoding: Encoding::IMPLICIT, deflated: false, pixels: Pixels::Native };
    pub(crate) const EXPLICIT: Self =
        Self { encoding: Encoding::EXPLICIT, deflated: false, pixels: Pixels::Native };

    /// The syntax of an identifier; the elements of one that is not read can be read all the same, but not its pixels.
    pub(crate) fn of(uid: &str) -> Result<Self, DicomProblem> {
        let explicit = |pixels| Ok(Self { pixels, ..Self::EXPLICIT });
        match uid.strip_prefix(PREFIX) {
            Some("") => Ok(Self::IMPLICIT),
            Some(".1") => Ok(Self::EXPLICIT),
            Some(".1.98") => explicit(Pixels::EncapsulatedNative),
            Some(".1.99") => Ok(Self { deflated: true, ..Self::EXPLICIT }),
            Some(".2") => Ok(Self { encoding: Encoding { explicit: true, big_endian: true }, ..Self::EXPLICIT }),
            Some(".4.50" | ".4.51" | ".4.57" | ".4.70") => explicit(Pixels::Jpeg),
            Some(".4.80" | ".4.81") => explicit(Pixels::JpegLs),
            Some(".4.90" | ".4.91") => explicit(Pixels::Jpeg2000),
            Some(".5") => explicit(Pixels::Rle),
            other => Err(DicomProblem::new(
                DicomFault::TransferSyntax,
                "pixels that are uncompressed, deflated, RLE, JPEG (8 bits or lossless), JPEG-LS or JPEG 2000",
                match other.and_then(|end| UNREAD.iter().find(|(known, _)| *known == end)) {
                    Some((_, name)) => format!("{name} (transfer syntax {})", plain(uid)),
                    None => format!("transfer syntax {}", plain(uid)),
                },
                "decompress the files first, for example with dcmconv, dcmdjpeg or gdcmconv --raw",
            )),
        }
    }
}

/// What of an identifier can be shown: a damaged file may hold anything there.
fn plain(uid: &str) -> String {
    let kept: String = uid.chars().filter(|c| c.is_ascii_digit() || *c == '.').take(64).collect();
    if kept.is_empty() { "of no name".into() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_named() {
        let says = |uid| Syntax::of(uid).unwrap_err().to_string();
        assert!(
            says("1.2.840.10008.1.2.4.201")
                .contains("High-Throughput JPEG 2000 lossless (transfer syntax 1.2.840")
        );
        assert!(says("1.2.3\u{1b}[31m").contains("found transfer syntax 1.2.331;"));
    }
}
