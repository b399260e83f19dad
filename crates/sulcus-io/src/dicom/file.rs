//! A DICOM file (PS3.10): preamble, meta information, data set.

use std::borrow::Cow;

use super::dataset::{Dataset, Encoding, Fault};
use super::error::{DicomFault, DicomProblem};
use super::syntax::Syntax;
use super::tags;

const PREAMBLE: usize = 128;
/// A deflated data set that grows beyond this is refused, whatever its file says.
const MOST_INFLATED: usize = 1 << 31;

/// A file that is DICOM, opened.
pub(crate) struct DicomFile<'a> {
    body: Cow<'a, [u8]>,
    encoding: Encoding,
    /// How the pixels are encoded, or why they can't be read.
    pub(crate) syntax: Result<Syntax, DicomProblem>,
}

impl<'a> DicomFile<'a> {
    /// Looks at a file's bytes. `None` when they are no DICOM file.
    pub(crate) fn open(bytes: &'a [u8]) -> Option<Result<Self, DicomProblem>> {
        let marked = bytes.get(PREAMBLE..).is_some_and(|b| b.starts_with(b"DICM"));
        let start = if marked { PREAMBLE + 4 } else { 0 };
        let rest = bytes.get(start..)?;
        if !marked && !begins_as_data_set(rest) {
            return None;
        }
        Some(Self::read(rest))
    }

    fn read(rest: &'a [u8]) -> Result<Self, DicomProblem> {
        let (meta, length) = Dataset::read_meta(rest).map_err(damaged)?;
        let body = rest.get(length..).unwrap_or_default();
        let syntax = match meta.text(tags::TRANSFER_SYNTAX) {
            Some(uid) => Syntax::of(&uid),
            // Files of old have no meta information: implicit unless the first element says what it holds.
            None => Ok(if says_its_kind(body) { Syntax::EXPLICIT } else { Syntax::IMPLICIT }),
        };
        // Every syntax that is not read has explicit elements.
        let encoding = syntax.as_ref().map_or(Encoding::EXPLICIT, |s| s.encoding);
        let body = if syntax.as_ref().is_ok_and(|s| s.deflated) { inflate(body)? } else { Cow::Borrowed(body) };
        Ok(Self { body, encoding, syntax })
    }

    /// The elements, and what is wrong with them from some point on.
    pub(crate) fn elements(&self) -> (Dataset<'_>, Option<DicomProblem>) {
        let (set, fault) = Dataset::read(&self.body, self.encoding);
        (set, fault.map(damaged))
    }
}

pub(crate) fn damaged(fault: Fault) -> DicomProblem {
    let found = match fault {
        Fault::Short => "one that ends before its last element does: it was cut short, or a length in it is wrong",
        Fault::Garbled => "bytes that are no element of a data set",
        Fault::Deep => "sequences nested without end",
    };
    DicomProblem::new(DicomFault::Damaged, "a whole DICOM file", found, "the file is damaged, get it again")
}

/// Files without preamble begin with group 2 or 8 in little endian order and a short element.
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
fn says_its_kind(bytes: &[u8]) -> bool {
    bytes.get(4..6).is_some_and(|vr| vr.iter().all(u8::is_ascii_uppercase))
}

fn inflate(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DicomProblem> {
    miniz_oxide::inflate::decompress_to_vec_with_limit(bytes, MOST_INFLATED).map(Cow::Owned).map_err(|_| {
        DicomProblem::new(
            DicomFault::Damaged,
            "a deflated data set of at most 2 GiB",
            "deflated data that is damaged or grows beyond that",
            "get the file again",
        )
    })
}
