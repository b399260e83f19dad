//! The CSA header of Siemens scanners: named fields in a private element, as nibabel describes them
//! (<https://nipy.org/nibabel/dicom/siemens_csa.html>).

use super::dataset::Dataset;
use super::tags;

/// The header of one image. The older form, which has no magic number, is not read.
pub(crate) struct CsaHeader<'a>(&'a [u8]);

impl<'a> CsaHeader<'a> {
    const MAGIC: &'static [u8] = b"SV10\x04\x03\x02\x01";

    /// The header in a file, if there is one.
    pub(crate) fn find(set: &Dataset<'a>) -> Option<Self> {
        let own = set.text(tags::CSA_CREATOR).as_deref() == Some("SIEMENS CSA HEADER");
        let bytes = set.bytes(tags::CSA_IMAGE_HEADER).filter(|_| own)?;
        bytes.strip_prefix(Self::MAGIC).map(Self)
    }

    /// Exactly `N` finite numbers; `None` if the field is missing or has other values.
    pub(crate) fn numbers<const N: usize>(&self, name: &str) -> Option<[f64; N]> {
        let numbers = self.values(name)?.into_iter().map(|text| text.parse().ok().filter(|v: &f64| v.is_finite()));
        numbers.collect::<Option<Vec<f64>>>()?.try_into().ok()
    }

    /// The values of a field without the empty ones. Every field and value that is visited consumes bytes of the header, so
    /// wrong counts cannot prolong the search.
    fn values(&self, name: &str) -> Option<Vec<&'a str>> {
        let mut rest = self.0;
        let fields = number(&mut rest)?;
        take(&mut rest, 4)?;
        for _ in 0..fields {
            let found = text(take(&mut rest, 64)?) == Some(name);
            // Multiplicity, value representation, and the representation as a number.
            take(&mut rest, 12)?;
            let count = number(&mut rest)?;
            take(&mut rest, 4)?;
            let mut values = Vec::new();
            for _ in 0..count {
                // The length is the second of four numbers; the value is padded to a multiple of four bytes.
                take(&mut rest, 4)?;
                let length = usize::try_from(number(&mut rest)?).ok()?;
                take(&mut rest, 8)?;
                let value = take(&mut rest, length.checked_next_multiple_of(4)?)?;
                if found {
                    values.extend(text(value.get(..length)?).filter(|value| !value.is_empty()));
                }
            }
            if found {
                return Some(values);
            }
        }
        None
    }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(n)?;
    *rest = after;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// The text before the first zero byte.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = bytes.split(|b| *b == 0).next()?;
    std::str::from_utf8(text).ok().map(str::trim)
}
