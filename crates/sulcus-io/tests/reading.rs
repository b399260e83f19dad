//! The meaning of NIfTI files: types, byte orders, scales, transforms, containers. The expected values follow from the
//! standard; the same rules were compared with nibabel 5.4 on 800 generated files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use sulcus_io::{
    read_image_bytes_without_statistics, read_info_bytes, read_labels_bytes, read_scan_bytes, read_scan_pair_bytes,
};
use sulcus_testing::{NiftiFile, gzip};
use sulcus_volume::OrientationSource;

const VALUES: [i32; 24] =
    [0, 1, 2, 3, 100, 101, 50, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 127];

/// The 24 values in a type and byte order.
fn typed(datatype: i16, big: bool) -> NiftiFile {
    fn all<const N: usize>(big: bool, le: impl Fn(i32) -> [u8; N]) -> Vec<u8> {
        let turn = |mut b: [u8; N]| {
            if big {
                b.reverse();
            }
            b
        };
        VALUES.iter().flat_map(|v| turn(le(*v))).collect()
    }
    let (bits, voxels) = match datatype {
        2 => (8, all(big, |v| (v as u8).to_le_bytes())),
        256 => (8, all(big, |v| (v as i8).to_le_bytes())),
        512 => (16, all(big, |v| (v as u16).to_le_bytes())),
        4 => (16, all(big, |v| (v as i16).to_le_bytes())),
        768 => (32, all(big, |v| (v as u32).to_le_bytes())),
        8 => (32, all(big, |v| v.to_le_bytes())),
        1280 => (64, all(big, |v| (v as u64).to_le_bytes())),
        1024 => (64, all(big, |v| i64::from(v).to_le_bytes())),
        16 => (32, all(big, |v| (v as f32).to_le_bytes())),
        64 => (64, all(big, |v| f64::from(v).to_le_bytes())),
        other => panic!("no such type: {other}"),
    };
    NiftiFile { big_endian: big, datatype, bitpix: bits, voxels, ..NiftiFile::default() }
}

#[test]
fn every_type_reads_in_both_byte_orders() {
    let names = [
        (2, "uint8"),
        (256, "int8"),
        (512, "uint16"),
        (4, "int16"),
        (768, "uint32"),
        (8, "int32"),
        (1280, "uint64"),
        (1024, "int64"),
        (16, "float32"),
        (64, "float64"),
    ];
    for (datatype, name) in names {
        for big in [false, true] {
            let bytes = typed(datatype, big).bytes();
            let read = read_scan_bytes(&bytes).unwrap();
            assert_eq!(read.info.dtype, name);
            assert!(read.image.data().iter().zip(VALUES).all(|(a, b)| *a == b as f32), "{name}, big-endian {big}");
            assert_eq!((read.info.min, read.info.max), (Some(0.0), Some(127.0)));
            assert_eq!(read_image_bytes_without_statistics(&bytes).unwrap(), (read.image, read.metadata));
            assert_eq!(read.info.mean, Some(f64::from(VALUES.iter().sum::<i32>()) / 24.0));
            let (labels, _) = read_labels_bytes(&bytes).unwrap();
            assert!(labels.data().iter().zip(VALUES).all(|(a, b)| i32::from(*a) == b), "{name}, big-endian {big}");
        }
    }
}

#[test]
fn large_integers_are_rounded_once_and_statistics_are_exact() {
    let values = [i64::MIN, i64::MAX, (1 << 24) + 1, -((1 << 53) + 1)];
    let file = NiftiFile {
        dim: [3, 4, 1, 1, 1, 1, 1, 1],
        datatype: 1024,
        bitpix: 64,
        voxels: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..NiftiFile::default()
    };
    let read = read_scan_bytes(&file.bytes()).unwrap();
    assert_eq!(read.image.data(), values.map(|v| v as f32));
    assert_eq!((read.info.min, read.info.max), (Some(i64::MIN as f64), Some(i64::MAX as f64)));
}

#[test]
fn invalid_slope_means_unscaled() {
    let scaled = |slope, inter| {
        let read = read_scan_bytes(&NiftiFile { slope, inter, ..NiftiFile::default() }.bytes()).unwrap();
        (read.image.data()[5], read.info.min.unwrap(), read.info.max.unwrap(), read.info.mean.unwrap())
    };
    assert_eq!(scaled(2.0, -1024.0), (-1014.0, -1024.0, -978.0, -1001.0));
    // A negative slope exchanges minimum and maximum.
    assert_eq!(scaled(-0.5, 1.0), (-1.5, -10.5, 1.0, -4.75));
    for none in [0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(scaled(none, 7.0), (5.0, 0.0, 23.0, 11.5), "slope {none}");
        assert_eq!(scaled(none, f32::NAN), (5.0, 0.0, 23.0, 11.5), "slope {none}");
    }
}

#[test]
fn statistics_exclude_and_count_non_finite_values() {
    let mut values = [f32::NAN; 24];
    values[3..6].copy_from_slice(&[1.0, -2.0, f32::INFINITY]);
    let mut file = NiftiFile { datatype: 16, bitpix: 32, ..NiftiFile::default() };
    file.voxels = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let info = read_info_bytes(&file.bytes()).unwrap();
    assert_eq!((info.min, info.max, info.mean, info.non_finite), (Some(-2.0), Some(1.0), Some(-0.5), 22));
    file.voxels = [f32::NAN; 24].iter().flat_map(|v| v.to_le_bytes()).collect();
    let info = read_info_bytes(&file.bytes()).unwrap();
    assert_eq!((info.min, info.max, info.mean, info.non_finite), (None, None, None, 24));
}

/// Asserts the transform to the patient, within the rounding of single precision, and its source.
fn assert_places(file: &NiftiFile, expected: [[f64; 4]; 3], source: OrientationSource) {
    let read = read_scan_bytes(&file.bytes()).unwrap();
    let geometry = read.image.geometry();
    assert_eq!(geometry.source(), source);
    for (a, b) in geometry.ras_from_voxel().rows().iter().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() < 1e-5, "{:?} is not {expected:?}", geometry.ras_from_voxel().rows());
    }
}

#[test]
fn sform_precedes_qform_precedes_voxel_sizes() {
    let half = std::f32::consts::FRAC_1_SQRT_2;
    // A quarter turn about z: x runs to anterior, y to the left.
    let file = NiftiFile { qform_code: 2, quatern: [0.0, 0.0, half, 5.0, 6.0, 7.0], ..NiftiFile::default() };
    let sform = [[-1.0, 0.0, 0.0, 10.0], [0.0, 2.0, 0.0, -20.0], [0.0, 0.0, 3.0, 30.0]];
    assert_places(&file, sform, OrientationSource::Sform);
    let qform = [[0.0, -2.0, 0.0, 5.0], [1.0, 0.0, 0.0, 6.0], [0.0, 0.0, 3.0, 7.0]];
    let file = NiftiFile { sform_code: 0, ..file };
    assert_places(&file, qform, OrientationSource::Qform);
    // Codes that the standard does not define are treated as 0.
    assert_places(&NiftiFile { sform_code: -3, ..file.clone() }, qform, OrientationSource::Qform);
    let centred = [[-1.0, 0.0, 0.0, 0.5], [0.0, 2.0, 0.0, -2.0], [0.0, 0.0, 3.0, -4.5]];
    assert_places(&NiftiFile { qform_code: 0, ..file.clone() }, centred, OrientationSource::None);
    assert_places(&NiftiFile { qform_code: 17, ..file }, centred, OrientationSource::None);
}

#[test]
fn qform_handedness_half_turns_and_invalid_sizes_follow_nibabel() {
    let qform = NiftiFile { qform_code: 1, sform_code: 0, ..NiftiFile::default() };
    let mut file = NiftiFile { quatern: [0.0; 6], ..qform.clone() };
    file.pixdim[0] = -1.0;
    let mirrored = [[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, -3.0, 0.0]];
    assert_places(&file, mirrored, OrientationSource::Qform);
    // Anything but −1 and 1 is 1; a size of 0 is 1, a negative one its magnitude.
    file.pixdim[..4].copy_from_slice(&[0.3, 0.0, -2.0, 3.0]);
    let mended = [[1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]];
    assert_places(&file, mended, OrientationSource::Qform);
    // A half turn whose b² + c² + d² rounds to a little more than 1.
    let c = std::f32::consts::FRAC_1_SQRT_2 + f32::EPSILON / 2.0;
    let file = NiftiFile { quatern: [c, c, 0.0, 0.0, 0.0, 0.0], ..qform };
    assert!(2.0 * f64::from(c) * f64::from(c) > 1.0);
    let turned = [[0.0, 2.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -3.0, 0.0]];
    assert_places(&file, turned, OrientationSource::Qform);
}

#[test]
fn two_to_seven_axes_become_a_volume_with_channels() {
    let shape = |dim: [i16; 8]| {
        let read = read_scan_bytes(&NiftiFile { dim, ..NiftiFile::default() }.bytes()).unwrap();
        (read.image.geometry().shape(), read.image.channels(), read.info.shape)
    };
    // Lengths beyond the rank are ignored.
    assert_eq!(shape([2, 4, 6, 0, -7, 1, 1, 1]), ([4, 6, 1], 1, vec![4, 6]));
    assert_eq!(shape([1, 24, 0, 0, 0, 0, 0, 0]), ([24, 1, 1], 1, vec![24]));
    assert_eq!(shape([3, 2, 3, 4, 9, 1, 1, 1]), ([2, 3, 4], 1, vec![2, 3, 4]));
    assert_eq!(shape([4, 2, 3, 4, 1, 1, 1, 1]), ([2, 3, 4], 1, vec![2, 3, 4, 1]));
    assert_eq!(shape([4, 2, 3, 2, 2, 0, 0, 0]), ([2, 3, 2], 2, vec![2, 3, 2, 2]));
    assert_eq!(shape([7, 2, 3, 2, 2, 1, 1, 1]), ([2, 3, 2], 2, vec![2, 3, 2, 2, 1, 1, 1]));
    // Vectors have their components along the fifth axis.
    assert_eq!(shape([5, 2, 3, 2, 1, 2, 1, 1]), ([2, 3, 2], 2, vec![2, 3, 2, 1, 2]));
    let read =
        read_scan_bytes(&NiftiFile { dim: [4, 2, 3, 2, 2, 1, 1, 1], ..NiftiFile::default() }.bytes()).unwrap();
    assert_eq!(read.image.channel(1), (12..24).map(|v| v as f32).collect::<Vec<_>>());
}

#[test]
fn vox_offset_is_used_without_extensions() {
    // The crate `nifti` silently reads these voxels 48 bytes too early.
    let file = NiftiFile { vox_offset: 400.0, between: vec![0; 52], ..NiftiFile::default() };
    assert_eq!(read_scan_bytes(&file.bytes()).unwrap().image.data()[23], 23.0);
    // Bytes after the last voxel are padding.
    let mut padded = file.bytes();
    padded.extend([0xee; 1000]);
    assert_eq!(read_scan_bytes(&padded).unwrap().image.data()[23], 23.0);
    assert_eq!(read_scan_bytes(&gzip(&padded, false)).unwrap().image.data()[23], 23.0);
}

#[test]
fn gzip_may_have_several_members() {
    let plain = NiftiFile::default().bytes();
    let expected = read_scan_bytes(&plain).unwrap().image;
    assert_eq!(read_scan_bytes(&gzip(&plain, false)).unwrap().image, expected);
    assert_eq!(read_scan_bytes(&gzip(&plain, true)).unwrap().image, expected);
    // Members that end inside the header, at its end and inside the voxels; an empty one; zeros after the last.
    let mut members = Vec::new();
    for part in [&plain[..3], &plain[3..352], &[], &plain[352..360], &plain[360..]] {
        members.extend(gzip(part, part.len() % 2 == 1));
    }
    assert_eq!(read_scan_bytes(&members).unwrap().image, expected);
    members.extend([0; 512]);
    assert_eq!(read_scan_bytes(&members).unwrap().image, expected);
}

#[test]
fn pairs_are_read_from_bytes_gzipped_or_not() {
    let pair = NiftiFile { magic: *b"ni1\0", vox_offset: 0.0, ..NiftiFile::default() };
    let single = read_scan_bytes(&NiftiFile::default().bytes()).unwrap().image;
    for header in [pair.header(), gzip(&pair.header(), false)] {
        for voxels in [pair.voxels.clone(), gzip(&pair.voxels, false)] {
            assert_eq!(read_scan_pair_bytes(&header, &voxels).unwrap().image, single);
        }
    }
    let later = NiftiFile { vox_offset: 16.0, ..pair.clone() };
    let voxels = [vec![0xee; 16], pair.voxels].concat();
    assert_eq!(read_scan_pair_bytes(&later.header(), &voxels).unwrap().image, single);
}

#[test]
fn info_json_is_stable() {
    let json = |file: &NiftiFile| serde_json::to_string(&read_info_bytes(&file.bytes()).unwrap()).unwrap();
    assert_eq!(
        json(&NiftiFile { slope: 0.5, ..NiftiFile::default() }),
        r#"{"kind":"volume","format":"nifti-1","shape":[2,3,4],"dtype":"uint8","spacing_mm":[1.0,2.0,3.0],"orientation":"LAS","ras_from_voxel":[[-1.0,0.0,0.0,10.0],[0.0,2.0,0.0,-20.0],[0.0,0.0,3.0,30.0],[0.0,0.0,0.0,1.0]],"min":0.0,"max":11.5,"mean":5.75,"non_finite":0}"#
    );
    let unplaced = json(&NiftiFile { sform_code: 0, ..NiftiFile::default() });
    assert!(unplaced.ends_with(r#""non_finite":0,"orientation_source":"none"}"#), "{unplaced}");
}

#[test]
fn scaled_labels_tolerate_only_the_rounding_of_the_slope() {
    // SPM stores masks as 0 and 255 with a slope of 1/255.
    let file = NiftiFile { slope: 1.0 / 255.0, voxels: [0, 255].repeat(12), ..NiftiFile::default() };
    let (labels, _) = read_labels_bytes(&file.bytes()).unwrap();
    assert_eq!(labels.data()[..4], [0, 1, 0, 1]);
    let half = NiftiFile { slope: 0.501, voxels: [0, 2].repeat(12), ..NiftiFile::default() };
    assert!(read_labels_bytes(&half.bytes()).is_err());
}

/// A gzipped file is converted while it is inflated, by two threads if it is large.
#[test]
fn gzipped_file_equals_uncompressed_file() {
    let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 9) as u8;
    let extension = [&[1, 0, 0, 0, 32, 0, 0, 0, 6, 0, 0, 0], b"a note that is kept.....".as_slice()].concat();
    for (datatype, bitpix, slope) in [(2, 8, 1.0), (4, 16, 1.0), (512, 16, 0.5), (16, 32, 1.0), (64, 64, 2.0)] {
        // The last one consists of several inflated chunks, the last of them incomplete.
        for dim in [[3, 5, 7, 3, 1, 1, 1, 1], [4, 31, 33, 9, 5, 1, 1, 1], [3, 131, 133, 127, 1, 1, 1, 1]] {
            for big in [false, true] {
                let values: usize = dim[1..=usize::from(dim[0] as u16)].iter().map(|n| *n as usize).product();
                let bytes = usize::from(bitpix as u16) / 8;
                let mut voxels: Vec<u8> = (0..values * bytes).map(noise).collect();
                if bitpix > 16 {
                    // Exponents within single precision, and some NaN.
                    let (top, next) = if big { (0, 1) } else { (bytes - 1, bytes - 2) };
                    for value in voxels.chunks_mut(bytes) {
                        let nan = value[top] > 250;
                        value[top] = if nan { 0x7f } else { 0x40 };
                        value[next] = if nan { 0xff } else { value[next] };
                    }
                }
                let between = extension.clone();
                let file = NiftiFile {
                    big_endian: big,
                    dim,
                    datatype,
                    bitpix,
                    slope,
                    voxels,
                    vox_offset: 384.0,
                    between,
                    ..NiftiFile::default()
                };
                let file = if big { NiftiFile { between: vec![0; 36], ..file } } else { file };
                let plain = read_scan_bytes(&file.bytes()).unwrap();
                let packed = gzip(&file.bytes(), true);
                let read = read_scan_bytes(&packed).unwrap();
                let bits =
                    |scan: &sulcus_io::Scan| scan.image.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(bits(&read) == bits(&plain), "type {datatype}, {dim:?}, big-endian {big}");
                assert_eq!((&read.info, &read.metadata), (&plain.info, &plain.metadata));
                for cut in [1, 9] {
                    let error = read_scan_bytes(&packed[..packed.len() - cut]).unwrap_err().to_string();
                    assert!(error.contains("gzip data ends after"), "{error}");
                }
                assert!(read_scan_bytes(&packed[..packed.len() / 2]).is_err());
                let mut damaged = packed;
                let at = damaged.len() - 8;
                damaged[at] ^= 1;
                let error = read_scan_bytes(&damaged).unwrap_err().to_string();
                assert!(error.contains("its checksum is wrong"), "{error}");
                let short = NiftiFile { voxels: file.voxels[..file.voxels.len() - 1].to_vec(), ..file };
                let error = read_scan_bytes(&gzip(&short.bytes(), true)).unwrap_err().to_string();
                assert!(error.contains("but the file holds"), "{error}");
            }
        }
    }
}
