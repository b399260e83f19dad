//! Compares the NIfTI reader with the crate `nifti`, an independent implementation, on files that it reads correctly: all
//! integer and floating-point types in both byte orders, with slope and intercept, up to four axes, gzipped or not. (It reads
//! other files incorrectly, such as those with a `vox_offset` beyond 352 or a NaN slope.)

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use nifti::{InMemNiftiObject, NiftiObject, RandomAccessNiftiVolume};
use sulcus_io::{read_scan_bytes, read_scan_pair_bytes};
use sulcus_testing::{NiftiFile, Random, gzip};

/// `datatype` and `bitpix` of all types.
const TYPES: [(i16, i16); 10] =
    [(2, 8), (256, 8), (4, 16), (512, 16), (8, 32), (768, 32), (16, 32), (1024, 64), (1280, 64), (64, 64)];

/// Random voxels of a type. Floating-point values are finite and of moderate size.
fn voxels(datatype: i16, bytes: usize, count: usize, big_endian: bool, random: &mut Random) -> Vec<u8> {
    let mut value = || {
        let number = random.next();
        let mut value = match datatype {
            16 => ((number >> 40) as f32 / 1000.0 - 5000.0).to_le_bytes().to_vec(),
            64 => ((number >> 20) as f64 / 1e6 - 5e6).to_le_bytes().to_vec(),
            _ => number.to_le_bytes()[..bytes].to_vec(),
        };
        if big_endian {
            value.reverse();
        }
        value
    };
    (0..count).flat_map(|_| value()).collect()
}

/// All values of a file in the order of our images, as the crate `nifti` reads them.
fn oracle(object: &InMemNiftiObject, dim: &[i16; 8]) -> Vec<f64> {
    let rank = usize::try_from(dim[0]).unwrap();
    let shape: Vec<u16> = dim[1..=rank].iter().map(|n| u16::try_from(*n).unwrap()).collect();
    let count: usize = shape.iter().map(|n| usize::from(*n)).product();
    let value = |index: usize| {
        let mut rest = index;
        let mut coordinates = Vec::new();
        for n in &shape {
            coordinates.push((rest % usize::from(*n)) as u16);
            rest /= usize::from(*n);
        }
        object.volume().get_f64(&coordinates).unwrap()
    };
    (0..count).map(value).collect()
}

/// Scaled values of the crate may be rounded to single precision at another step than ours.
const ROUNDING: f64 = 4.0 * f32::EPSILON as f64;

#[test]
fn values_equal_those_of_the_nifti_crate() {
    let mut random = Random(0x0a11_ce5e_ed12_3457);
    for (datatype, bitpix) in TYPES {
        for big_endian in [false, true] {
            for (slope, inter) in [(1.0, 0.0), (0.5, -3.0), (-2.0, 1024.0)] {
                for dim in [[3, 5, 4, 3, 1, 1, 1, 1], [4, 3, 4, 2, 3, 1, 1, 1], [2, 7, 5, 1, 1, 1, 1, 1]] {
                    let rank = usize::try_from(dim[0]).unwrap();
                    let count: i16 = dim[1..=rank].iter().product();
                    let bytes = usize::try_from(bitpix / 8).unwrap();
                    let voxels = voxels(datatype, bytes, usize::try_from(count).unwrap(), big_endian, &mut random);
                    let file = NiftiFile {
                        big_endian,
                        datatype,
                        bitpix,
                        slope,
                        inter,
                        dim,
                        voxels,
                        ..NiftiFile::default()
                    };
                    let expected = oracle(&InMemNiftiObject::from_reader(file.bytes().as_slice()).unwrap(), &dim);
                    let scale = expected.iter().fold(1.0_f64, |max, v| max.max(v.abs()));
                    for content in [file.bytes(), gzip(&file.bytes(), true)] {
                        let read = read_scan_bytes(&content).unwrap().image;
                        assert_eq!(read.data().len(), expected.len());
                        for (ours, theirs) in read.data().iter().zip(&expected) {
                            let apart = (f64::from(*ours) - theirs).abs();
                            assert!(
                                apart <= ROUNDING * scale,
                                "type {datatype}, big-endian {big_endian}, slope {slope}, {dim:?}: {ours} and {theirs}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn pairs_equal_those_of_the_nifti_crate() {
    let pair = NiftiFile { magic: *b"ni1\0", vox_offset: 0.0, ..NiftiFile::default() };
    let folder = tempfile::tempdir().unwrap();
    let (header, voxels) = (folder.path().join("a.hdr"), folder.path().join("a.img"));
    std::fs::write(&header, pair.header()).unwrap();
    std::fs::write(&voxels, &pair.voxels).unwrap();
    let expected = oracle(&nifti::ReaderOptions::new().read_file_pair(&header, &voxels).unwrap(), &pair.dim);
    let read = read_scan_pair_bytes(&pair.header(), &pair.voxels).unwrap().image;
    assert!(read.data().iter().map(|v| f64::from(*v)).eq(expected));
}
