//! A DICOM file (PS3.10): preamble, meta information, data set.

use std::borrow::Cow;

use super::dataset::{Dataset, Encoding, ParseError};
use super::error::{DicomError, DicomErrorKind};
use super::tags;
use super::transfer_syntax::TransferSyntax;

const PREAMBLE: usize = 128;
/// A larger deflated data set is refused.
const MAX_INFLATED_BYTES: usize = 1 << 31;

/// An opened DICOM file.
pub(crate) struct DicomFile<'a> {
    body: Cow<'a, [u8]>,
    encoding: Encoding,
    /// The encoding of the pixels, or the reason why they cannot be read.
    pub(crate) syntax: Result<TransferSyntax, DicomError>,
}

impl<'a> DicomFile<'a> {
    /// Opens a file from its bytes; `None` when it is not a DICOM file.
    pub(crate) fn open(bytes: &'a [u8]) -> Option<Result<Self, DicomError>> {
        let marked = bytes.get(PREAMBLE..).is_some_and(|b| b.starts_with(b"DICM"));
        let start = if marked { PREAMBLE + 4 } else { 0 };
        let rest = bytes.get(start..)?;
        if !marked && !begins_as_data_set(rest) {
            return None;
        }
        Some(Self::read(rest))
    }

    fn read(rest: &'a [u8]) -> Result<Self, DicomError> {
        let (meta, length) = Dataset::read_meta(rest).map_err(damaged)?;
        let body = rest.get(length..).unwrap_or_default();
        let syntax = match meta.text(tags::TRANSFER_SYNTAX) {
            Some(uid) => TransferSyntax::of(&uid),
            // Old files have no meta information: implicit, unless the first element has a value representation.
            None => Ok(if has_value_representation(body) {
                TransferSyntax::EXPLICIT
            } else {
                TransferSyntax::IMPLICIT
            }),
        };
        // Every unsupported transfer syntax has explicit elements.
        let encoding = syntax.as_ref().map_or(Encoding::EXPLICIT, |s| s.encoding);
        let body = if syntax.as_ref().is_ok_and(|s| s.deflated) { inflate(body)? } else { Cow::Borrowed(body) };
        Ok(Self { body, encoding, syntax })
    }

    /// The elements, and the error that ends them early, if there is one.
    pub(crate) fn elements(&self) -> (Dataset<'_>, Option<DicomError>) {
        let (set, error) = Dataset::read(&self.body, self.encoding);
        (set, error.map(damaged))
    }
}

fn damaged(error: ParseError) -> DicomError {
    let found = match error {
        ParseError::Truncated => {
            "a file that ends inside an element: it was cut short, or a length in it is wrong"
        }
        ParseError::Malformed => "bytes that are not an element of a data set",
        ParseError::TooDeep => "sequences that are nested too deeply",
    };
    DicomError::new(DicomErrorKind::Damaged, "a whole DICOM file", found, "the file is damaged, get it again")
}

/// Whether a file without preamble begins with a short element of group 2 or 8 in little-endian order.
fn begins_as_data_set(bytes: &[u8]) -> bool {
    let Some([group, 0, _, 0, kind @ .., l0, l1]) = bytes.first_chunk::<8>().copied() else { return false };
    if !matches!(group, 2 | 8) {
        return false;
    }
    let representations = [b"UL", b"OB", b"CS", b"UI", b"DA", b"TM", b"LO", b"SH", b"PN", b"IS"];
    let implicit = kind[1] == 0 && l0 == 0 && l1 == 0 && kind[0] <= 64 && kind[0] % 2 == 0;
    representations.contains(&&kind) || implicit
}

/// Whether the first element has a value representation.
fn has_value_representation(bytes: &[u8]) -> bool {
    bytes.get(4..6).is_some_and(|vr| vr.iter().all(u8::is_ascii_uppercase))
}

fn inflate(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DicomError> {
    miniz_oxide::inflate::decompress_to_vec_with_limit(bytes, MAX_INFLATED_BYTES).map(Cow::Owned).map_err(|_| {
        DicomError::new(
            DicomErrorKind::Damaged,
            "a deflated data set of at most 2 GiB",
            "deflated data that is damaged or larger",
            "get the file again",
        )
    })
}
