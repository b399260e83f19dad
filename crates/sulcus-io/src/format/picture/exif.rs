//! The orientation tag of EXIF data, which JPEG, PNG and TIFF share.
//!
//! A camera that was held upright stores the picture as its sensor saw it, and the tag tells how to turn it. Some programs turn it and
//! others do not, so that a mask drawn in one of them may not fit the pixels. A picture that is to be turned is therefore refused.

use super::PictureFormat;
use crate::error::IoErrorKind;

/// The tag `Orientation`.
const ORIENTATION: u16 = 0x0112;

/// Checks that the picture is stored as it is shown. A damaged directory states nothing.
pub(super) fn check_exif(exif: &[u8], format: PictureFormat) -> Result<(), IoErrorKind> {
    orientation(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)).map_or(Ok(()), |value| check(value, format))
}

/// Checks a value of the tag: 1 is upright, 0 and values above 8 are not defined.
pub(super) fn check(orientation: u16, format: PictureFormat) -> Result<(), IoErrorKind> {
    let what = match orientation {
        2 => "mirrored",
        3 => "turned by 180°",
        4 => "mirrored from top to bottom",
        5 | 7 => "turned by 90° and mirrored",
        6 | 8 => "turned by 90°",
        _ => return Ok(()),
    };
    Err(IoErrorKind::Picture {
        format: format.name(),
        what: format!(
            "its EXIF orientation is {orientation}, so that some programs show it {what} and others do not, and a mask may belong to \
             either"
        ),
        hint: "save it upright, without this tag, together with its mask",
    })
}

/// Reads the tag from a TIFF header and its first directory.
fn orientation(tiff: &[u8]) -> Option<u16> {
    let big_endian = match tiff.first_chunk::<4>()? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<4>()?;
        Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let directory = usize::try_from(long(4)?).ok()?;
    let entries = usize::from(short(directory)?);
    let start = directory.checked_add(2)?;
    let mut at = (0..entries).filter_map(|i| start.checked_add(i * 12));
    let entry = at.find(|at| short(*at) == Some(ORIENTATION))?;
    short(entry.checked_add(8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientation_is_found_in_both_byte_orders() {
        let little = [b"II*\0".as_slice(), &[8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]].concat();
        let big =
            [b"Exif\0\0MM\0*".as_slice(), &[0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0]].concat();
        for exif in [little.clone(), big] {
            let error = check_exif(&exif, PictureFormat::Jpeg).unwrap_err().to_string();
            assert!(error.contains("orientation is 6") && error.contains("turned by 90°"), "{error}");
        }
        assert!((0..little.len()).all(|end| {
            // What is cut off before the value states nothing.
            end > 18 || check_exif(&little[..end], PictureFormat::Jpeg).is_ok()
        }));
        assert!(check(1, PictureFormat::Tiff).is_ok() && check(9, PictureFormat::Tiff).is_ok());
    }
}
