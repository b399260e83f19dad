use crate::error::Problem;

/// What a file that is no NIfTI looks like: offset and bytes, what it is, what to do.
const SIGNATURES: &[(usize, &[u8], &str, &str)] = &[
    (128, b"DICM", "a DICOM file", "give the folder of its series, or convert it with dcm2niix"),
    (0, b"\x89PNG", "a PNG picture", "give the volume that the picture was made from"),
    (0, b"\xff\xd8\xff", "a JPEG picture", "give the volume that the picture was made from"),
    (0, b"II*\0", "a TIFF picture", "give the volume that the picture was made from"),
    (0, b"MM\0*", "a TIFF picture", "give the volume that the picture was made from"),
    (0, b"\x89HDF", "an HDF5 file (MINC-2 perhaps)", "convert it to NIfTI, with mnc2nii for example"),
    (0, b"CDF\x01", "a netCDF file (MINC-1 perhaps)", "convert it to NIfTI, with mnc2nii for example"),
    // Read outside WebAssembly, so these are for the browser.
    (0, b"NRRD0", "an NRRD file", "convert it to NIfTI, with `sulcus convert` for example"),
    (
        0,
        b"ObjectType",
        "a MetaImage header (.mha or .mhd)",
        "convert it to NIfTI, with `sulcus convert` for example",
    ),
    (0, b"\0\0\0\x01\0\0", "an MGH file (FreeSurfer)", "convert it to NIfTI with mri_convert"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it and give a volume that it holds"),
    (257, b"ustar", "a tar archive", "unpack it and give a volume that it holds"),
    (0, b"BZh", "bzip2 data", "unpack it with bunzip2"),
    (0, b"\xfd7zXZ", "xz data", "unpack it with unxz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data", "unpack it with unzstd"),
    (0, b"\x1f\x8b", "gzip data inside gzip data", "unpack it once with gunzip"),
    (0, b"%PDF", "a PDF document", "give the volume itself"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with git lfs pull"),
    (0, b"/annex/objects", "a git-annex pointer", "fetch the file itself with git annex get"),
    (0, b"<?xml", "an XML document (GIFTI perhaps)", "give the volume itself"),
    (0, b"<!DOCTYPE", "a web page", "a download answered with a page: get the file again"),
    (0, b"<html", "a web page", "a download answered with a page: get the file again"),
];

/// A file that is no NIfTI: says what it looks like.
pub(crate) fn not_nifti(bytes: &[u8]) -> Problem {
    let known =
        SIGNATURES.iter().find(|(at, signature, ..)| bytes.get(*at..).is_some_and(|b| b.starts_with(signature)));
    if let Some((_, _, found, hint)) = known {
        return Problem::NotNifti { found: (*found).into(), hint };
    }
    let start = bytes.get(..bytes.len().min(64)).unwrap_or_default();
    let printable = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace();
    if start.iter().all(|b| *b == 0) {
        return Problem::NotNifti {
            found: "nothing but zeros at its start".into(),
            hint: "it was not written to its end, get it again",
        };
    }
    if start.iter().all(printable) {
        return Problem::NotNifti { found: "text".into(), hint: "give the volume itself" };
    }
    if bytes.len() < 348 {
        return Problem::ShortHeader { expected: 348, found: bytes.len() };
    }
    let head: Vec<String> = start.iter().take(4).map(|b| format!("{b:02x}")).collect();
    Problem::NotNifti {
        found: format!("a file that starts with the bytes {}", head.join(" ")),
        hint: "the file is damaged or of another kind",
    }
}
