//! Describes files of no known format.

use crate::error::IoErrorKind;

/// Signatures of other kinds of files: offset and bytes, the kind of file, what to do.
const SIGNATURES: &[(usize, &[u8], &str, &str)] = &[
    (128, b"DICM", "a DICOM file", "give the folder of its series, or convert it with dcm2niix"),
    // For builds without the feature `pictures`.
    (0, b"\x89PNG", "a PNG image", "give the volume that the image was made from"),
    (0, b"\xff\xd8\xff", "a JPEG image", "give the volume that the image was made from"),
    (0, b"II*\0", "a TIFF image", "give the volume that the image was made from"),
    (0, b"MM\0*", "a TIFF image", "give the volume that the image was made from"),
    (0, b"II+\0", "a TIFF image (BigTIFF)", "give the volume that the image was made from"),
    (0, b"MM\0+", "a TIFF image (BigTIFF)", "give the volume that the image was made from"),
    (0, b"\x78\x9c", "zlib data (the voxels of a MetaImage perhaps)", "give the header beside it (.mhd)"),
    (0, b"\x89HDF", "an HDF5 file (MINC-2 perhaps)", "convert it to NIfTI, with mnc2nii for example"),
    (0, b"CDF\x01", "a netCDF file (MINC-1 perhaps)", "convert it to NIfTI, with mnc2nii for example"),
    // For builds without the feature `text-formats`.
    (0, b"NRRD000", "an NRRD file", "convert it to NIfTI first"),
    (0, b"NRRD", "an NRRD file of an unknown version", "save the file again with a current 3D Slicer or teem"),
    (0, b"ObjectType", "a MetaImage header (.mha or .mhd)", "convert it to NIfTI first"),
    (0, b"\0\0\0\x01\0\0", "an MGH file (FreeSurfer)", "convert it to NIfTI with mri_convert"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it and give a volume from it"),
    (257, b"ustar", "a tar archive", "unpack it and give a volume from it"),
    (0, b"BZh", "bzip2 data", "unpack it with bunzip2"),
    (0, b"\xfd7zXZ", "xz data", "unpack it with unxz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data", "unpack it with unzstd"),
    (0, b"\x1f\x8b", "gzip data inside gzip data", "unpack it once with gunzip"),
    (0, b"%PDF", "a PDF document", "give the volume itself"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
    (0, b"/annex/objects", "a git-annex pointer", "fetch the file itself with git annex get"),
    (0, b"<?xml", "an XML document (GIFTI perhaps)", "give the volume itself"),
    (0, b"<!DOCTYPE", "a web page", "the server sent a page instead of the file: download it again"),
    (0, b"<html", "a web page", "the server sent a page instead of the file: download it again"),
];

/// The error for a file of no known format, from its first bytes.
pub(super) fn describe(bytes: &[u8]) -> IoErrorKind {
    /// The shortest header, that of NIfTI-1.
    const MIN_HEADER_BYTES: usize = 348;
    if bytes.is_empty() {
        return IoErrorKind::Empty;
    }
    let too_short = IoErrorKind::ShortHeader { expected: MIN_HEADER_BYTES, found: bytes.len() };
    if bytes.len() < 4 {
        return too_short;
    }
    let known =
        SIGNATURES.iter().find(|(at, signature, ..)| bytes.get(*at..).is_some_and(|b| b.starts_with(signature)));
    if let Some((_, _, found, hint)) = known {
        return IoErrorKind::UnknownFormat { found: (*found).into(), hint };
    }
    let start = bytes.get(..bytes.len().min(64)).unwrap_or_default();
    let printable = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace();
    if start.iter().all(|b| *b == 0) {
        return IoErrorKind::UnknownFormat {
            found: "only zeros at its start".into(),
            hint: "it was not written completely, get it again",
        };
    }
    if start.iter().all(printable) {
        return IoErrorKind::UnknownFormat { found: "text".into(), hint: "give the volume itself" };
    }
    if bytes.len() < MIN_HEADER_BYTES {
        return too_short;
    }
    let head: Vec<String> = start.iter().take(4).map(|b| format!("{b:02x}")).collect();
    IoErrorKind::UnknownFormat {
        found: format!("a file that starts with the bytes {}", head.join(" ")),
        hint: "the file is damaged or of another kind",
    }
}
