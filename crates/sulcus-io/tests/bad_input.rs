//! Inconsistent, truncated and foreign files: each is an error that states what is wrong and what to do.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use sulcus_io::{read_labels_bytes, read_scan_bytes, read_scan_pair_bytes};
use sulcus_testing::{NiftiFile, Random, gzip};

#[track_caller]
fn refused(bytes: &[u8], expected: &str) {
    let found = read_scan_bytes(bytes).map(|i| i.info).unwrap_err().to_string();
    assert_eq!(found, expected);
    let packed = read_scan_bytes(&gzip(bytes, false)).map(|i| i.info).unwrap_err().to_string();
    assert!(packed.starts_with("cannot "), "{packed}");
}

#[test]
fn announced_voxels_beyond_the_file_are_refused() {
    let file = NiftiFile { dim: [3, 2000, 3000, 4000, 1, 1, 1, 1], ..NiftiFile::default() };
    refused(
        &file.bytes(),
        "cannot read the voxels: the header announces shape 2000 × 3000 × 4000 of uint8, 24000000352 bytes with what comes before them, but the file holds 376; it was cut short or its header is wrong, get it again",
    );
    // Refused before 24 GB are allocated: 70 bytes of deflate data cannot contain that much.
    let error = read_scan_bytes(&gzip(&file.bytes(), false)).unwrap_err().to_string();
    assert!(error.contains("but the file holds") && error.contains("at most"), "{error}");
    // Possible by the compression ratio, but not present.
    let file = NiftiFile { dim: [3, 2, 3, 5, 1, 1, 1, 1], ..NiftiFile::default() };
    let error = read_scan_bytes(&gzip(&file.bytes(), false)).unwrap_err().to_string();
    assert!(error.contains("382 bytes with what comes before them, but the file holds 376"), "{error}");
    let file = NiftiFile {
        dim: [4, 32767, 32767, 32767, 32767, 1, 1, 1],
        datatype: 64,
        bitpix: 64,
        ..NiftiFile::default()
    };
    assert!(read_scan_bytes(&file.bytes()).unwrap_err().to_string().contains("2^40"));
}

#[test]
fn invalid_axis_lengths_and_ranks_are_refused() {
    let with = |dim| NiftiFile { dim, ..NiftiFile::default() }.bytes();
    refused(
        &with([3, 2, -3, 4, 1, 1, 1, 1]),
        "cannot read the NIfTI header: expected at least one voxel along axis 2 (dim[2]), found -3; the header is damaged, get the file again",
    );
    refused(
        &with([3, 2, 3, 0, 1, 1, 1, 1]),
        "cannot read the NIfTI header: expected at least one voxel along axis 3 (dim[3]), found 0; the header is damaged, get the file again",
    );
    for rank in [0, 8, -1] {
        refused(
            &with([rank, 2, 3, 4, 1, 1, 1, 1]),
            &format!(
                "cannot read the NIfTI header: expected 1 to 7 axes (dim[0]), found {rank}; the header is damaged, get the file again"
            ),
        );
    }
    refused(
        &with([5, 2, 3, 1, 2, 2, 1, 1]),
        "cannot read the image: expected x, y, z and one more axis with channels, found shape 2 × 3 × 1 × 2 × 2; split the file, or put its channels along the fourth axis",
    );
}

#[test]
fn unsupported_voxel_types_are_named() {
    const COLOUR: &str = "it is a colour image: give the scan that the colours were made from, or separate red, green and blue into three channels along a fourth axis with nibabel: `python -c \"import sys, nibabel as n, numpy as np; i = n.load(sys.argv[1]); a = np.asarray(i.dataobj); n.save(n.Nifti1Image(np.stack([a[c] for c in 'RGB'], -1), i.affine), sys.argv[2])\" IN OUT`; if the picture is grey, `a['R']` instead of `np.stack([a[c] for c in 'RGB'], -1)` gives its only channel";
    let types = [
        (32, 64, "complex64", "save its magnitude as float32"),
        (1792, 128, "complex128", "save its magnitude as float32"),
        (2048, 256, "complex256", "save its magnitude as float32"),
        (1536, 128, "float128", "save it as float64 or float32"),
        (128, 24, "RGB", COLOUR),
        (2304, 32, "RGBA", COLOUR),
    ];
    for (datatype, bitpix, name, hint) in types {
        refused(
            &NiftiFile { datatype, bitpix, ..NiftiFile::default() }.bytes(),
            &format!(
                "cannot read the voxels: type {name} is not supported, expected whole numbers of 8 to 64 bits, float32 or float64; {hint}"
            ),
        );
    }
    refused(
        &NiftiFile { datatype: 3, ..NiftiFile::default() }.bytes(),
        "cannot read the NIfTI header: expected a voxel type that NIfTI knows (datatype), found code 3; the header is damaged, or the type has one bit per voxel: save the volume as uint8",
    );
}

#[test]
fn invalid_vox_offset_is_refused() {
    for (offset, shown) in
        [(0.0, "0"), (348.0, "348"), (-16.0, "-16"), (f32::NAN, "NaN"), (1e30, "1000000015047466200000000000000")]
    {
        refused(
            &NiftiFile { vox_offset: offset, ..NiftiFile::default() }.bytes(),
            &format!(
                "cannot read the NIfTI header: expected voxels that begin at byte 352 or later (vox_offset), found {shown}; the header is damaged, get the file again"
            ),
        );
    }
    refused(
        &NiftiFile { vox_offset: 360.0, ..NiftiFile::default() }.bytes(),
        "cannot read the voxels: the header announces shape 2 × 3 × 4 of uint8, 384 bytes with what comes before them, but the file holds 376; it was cut short or its header is wrong, get it again",
    );
}

#[test]
fn invalid_magic_is_refused() {
    refused(
        &NiftiFile { magic: *b"n*1\0", ..NiftiFile::default() }.bytes(),
        r"cannot read the NIfTI header: expected the magic n+1 or ni1, found `n*1\x00`; the header is damaged, get the file again",
    );
    refused(
        &NiftiFile { magic: [0; 4], ..NiftiFile::default() }.bytes(),
        "cannot read a volume: this is an Analyze 7.5 header, not NIfTI (no magic n+1 or ni1), and it does not state which side is left; convert it to NIfTI with the software that created it",
    );
    refused(
        &NiftiFile { sizeof_hdr: 540, ..NiftiFile::default() }.bytes(),
        "cannot read the NIfTI header: expected at least 540 bytes, found 376; the file is cut short or is not a NIfTI file, get it again",
    );
    let longer = NiftiFile { sizeof_hdr: 540, voxels: vec![0; 400], ..NiftiFile::default() };
    refused(
        &longer.bytes(),
        r"cannot read the NIfTI header: expected the magic n+2 or ni2, found `\x00\x00\x00\x00`; the header is damaged, get the file again",
    );
    refused(
        &NiftiFile { magic: *b"ni1\0", ..NiftiFile::default() }.bytes(),
        "cannot read a volume: the header says (magic ni1 or ni2) that its voxels are in a separate .img file; give the .hdr and .img files, or convert the pair to .nii",
    );
    let error = read_scan_pair_bytes(&NiftiFile::default().bytes(), &[0; 24]).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot read the NIfTI header: expected the magic ni1 or ni2 in the header of a .hdr/.img pair, found n+1 or n+2, which says that the voxels follow in the same file; rename the file to .nii if they do, or repair the header"
    );
}

/// The voxel size follows from the sform by a square root.
#[test]
fn voxel_sizes_in_messages_have_no_rounding_noise() {
    const XYZT_UNITS: usize = 123;
    let srow = [[0.3, -0.4, 0.0, 0.0], [0.4, 0.3, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
    let mut bytes = NiftiFile { srow, ..NiftiFile::default() }.bytes();
    bytes[XYZT_UNITS] = 1;
    let message = read_scan_bytes(&bytes).unwrap_err().to_string();
    assert!(message.contains("the header gives 0.5 × 0.5 × 1 in metres"), "{message}");
}

#[test]
fn other_kinds_of_files_are_named() {
    let mut dicom = vec![0; 128];
    dicom.extend(b"DICM and the rest of the scan");
    let not = |found: &str, hint: &str| {
        format!("cannot read a volume: expected NIfTI (.nii, .nii.gz or .hdr/.img), found {found}; {hint}")
    };
    refused(&dicom, &not("a DICOM file", "give the folder of its series, or convert it with dcm2niix"));
    refused(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "cannot read the PNG picture: its data ends early: the file was cut short; get the file again",
    );
    refused(
        b"II+\0\x08\0\0\0",
        "cannot read the TIFF picture: its data ends early: the file was cut short; get the file again",
    );
    refused(
        b"NRRD1004\ntype: short\n",
        &not("an NRRD file of an unknown version", "save the file again with a current 3D Slicer or teem"),
    );
    refused(
        b"\x78\x9c\x15\x97",
        &not("zlib data (the voxels of a MetaImage perhaps)", "give the header beside it (.mhd)"),
    );
    refused(
        b"version https://git-lfs.github.com/spec/v1\n",
        &not("a Git LFS pointer", "fetch the file itself with git lfs pull"),
    );
    refused(
        b"<!DOCTYPE html><title>404</title>",
        &not("a web page", "the server sent a page instead of the file: download it again"),
    );
    refused(b"{\"name\": \"Hippocampus\"}", &not("text", "give the volume itself"));
    refused(&[0; 4096], &not("only zeros at its start", "it was not written completely, get it again"));
    refused(
        &[0xa5; 4096],
        &not("a file that starts with the bytes a5 a5 a5 a5", "the file is damaged or of another kind"),
    );
    let twice =
        read_scan_bytes(&gzip(&gzip(&NiftiFile::default().bytes(), false), false)).unwrap_err().to_string();
    assert_eq!(twice, not("gzip data inside gzip data", "unpack it once with gunzip"));
}

#[test]
fn truncated_files_are_refused() {
    refused(
        &[],
        "cannot read a volume: the file is empty (0 bytes); it was not copied or written to its end, get it again",
    );
    let whole = NiftiFile::default().bytes();
    refused(
        &whole[..100],
        "cannot read the NIfTI header: expected at least 348 bytes, found 100; the file is cut short or is not a NIfTI file, get it again",
    );
    refused(
        &whole[..350],
        "cannot read the voxels: the header announces shape 2 × 3 × 4 of uint8, 376 bytes with what comes before them, but the file holds 350; it was cut short or its header is wrong, get it again",
    );
}

/// A volume with incompressible voxels, so that truncation affects them.
fn noise_gz() -> Vec<u8> {
    let mut random = Random(42);
    let voxels = (0..8000).map(|_| random.next() as u8).collect();
    gzip(&NiftiFile { dim: [3, 20, 20, 20, 1, 1, 1, 1], voxels, ..NiftiFile::default() }.bytes(), false)
}

#[test]
fn truncated_and_damaged_gzip_is_refused() {
    let whole = noise_gz();
    let error = |bytes: &[u8]| read_scan_bytes(bytes).map(|i| i.info).unwrap_err().to_string();
    let cut = error(&whole[..whole.len() / 2]);
    let found = cut.strip_prefix("cannot decompress the file: its gzip data ends after ").unwrap();
    let (found, rest) = found.split_once(' ').unwrap();
    assert!((352..8352).contains(&found.parse::<usize>().unwrap()));
    assert_eq!(rest, "of 8352 bytes; the download or copy was cut short, get the file again");
    assert!(error(&whole[..5]).starts_with("cannot decompress the file: its gzip data ends after 0 of 348 bytes"));
    // All voxels are present, but the checksum is not.
    let no_trailer = error(&whole[..whole.len() - 8]);
    assert!(no_trailer.contains("ends after 8352 of 8352 bytes"), "{no_trailer}");
    let mut damaged = whole.clone();
    *damaged.last_chunk_mut::<8>().unwrap() = [1, 2, 3, 4, 0xa0, 0x20, 0, 0];
    assert_eq!(
        error(&damaged),
        "cannot decompress the file: its gzip data is damaged (its checksum is wrong) after 8352 bytes; get the file again"
    );
}

#[test]
fn invalid_transforms_are_refused() {
    let zero = NiftiFile { srow: [[0.0; 4]; 3], ..NiftiFile::default() };
    let error = read_scan_bytes(&zero.bytes()).unwrap_err().to_string();
    assert!(error.starts_with("cannot place the volume in the patient from its sform: "), "{error}");
    assert!(
        error.contains("one of its columns is zero") && error.ends_with("repair the header before using the file")
    );
    let mut nan = NiftiFile { sform_code: 0, ..NiftiFile::default() };
    nan.pixdim[2] = f32::NAN;
    let error = read_scan_bytes(&nan.bytes()).unwrap_err().to_string();
    assert!(error.contains("from its pixdim") && error.contains("not a finite number"), "{error}");
    refused(
        &NiftiFile {
            sform_code: 0,
            qform_code: 1,
            quatern: [0.9, 0.9, 0.9, 0.0, 0.0, 0.0],
            ..NiftiFile::default()
        }
        .bytes(),
        "cannot read the NIfTI header: expected a qform quaternion (b, c, d) no longer than 1, found (0.9, 0.9, 0.9); the orientation is damaged: set sform or qform again before using the file",
    );
    let nan = NiftiFile { sform_code: 0, qform_code: 1, quatern: [f32::NAN; 6], ..NiftiFile::default() };
    assert!(read_scan_bytes(&nan.bytes()).unwrap_err().to_string().contains("(NaN, NaN, NaN)"));
}

#[test]
fn invalid_intercept_and_range_are_refused() {
    refused(
        &NiftiFile { slope: 2.0, inter: f32::NAN, ..NiftiFile::default() }.bytes(),
        "cannot read the NIfTI header: expected a finite intercept (scl_inter) with the slope 2, found NaN; the header is damaged: set scl_inter (0 in most files) before using it",
    );
    let voxels = [1e300, -2.5].repeat(12).iter().flat_map(|v: &f64| v.to_le_bytes()).collect();
    refused(
        &NiftiFile { datatype: 64, bitpix: 64, voxels, ..NiftiFile::default() }.bytes(),
        "cannot read the image: its values run from -2.5e0 to 1e300, more than single precision holds (±3.4e38); rescale the image first",
    );
}

#[test]
fn values_that_are_not_labels_are_refused() {
    let labels = |file: &NiftiFile| read_labels_bytes(&file.bytes()).unwrap_err().to_string();
    let floats = |values: [f32; 24]| NiftiFile {
        datatype: 16,
        bitpix: 32,
        voxels: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..NiftiFile::default()
    };
    let mut values = [1.0; 24];
    values[7..10].copy_from_slice(&[0.5, 1.25, -1.0]);
    assert_eq!(
        labels(&floats(values)),
        "cannot read labels: expected whole numbers from 0 to 65535, found other values in 3 voxel(s), such as 0.5; this is an image or a probability map, not a label map, or it was resampled with interpolation"
    );
    for (value, shown) in [(65536.0, "65536"), (f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-2.0, "-2")] {
        let mut values = [0.0; 24];
        values[23] = value;
        assert!(labels(&floats(values)).contains(&format!("found other values in 1 voxel(s), such as {shown};")));
    }
    let voxels = [-1_i16, 300].repeat(12).iter().flat_map(|v| v.to_le_bytes()).collect();
    let signed = NiftiFile { datatype: 4, bitpix: 16, voxels, ..NiftiFile::default() };
    assert!(labels(&signed).contains("found other values in 12 voxel(s), such as -1;"));
    assert_eq!(
        labels(&NiftiFile { dim: [4, 2, 3, 2, 2, 1, 1, 1], ..NiftiFile::default() }),
        "cannot read labels: expected one value per voxel (a 3-D volume), found 2 along the fourth axis; give one 3-D label map"
    );
}
