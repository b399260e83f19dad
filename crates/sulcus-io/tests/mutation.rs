//! Thousands of damaged files: each reads or is refused, none panics, and nothing is read beyond what is there.

mod common;

use common::{Random, RawFile, gzip};
use sulcus_io::{read_labels_bytes, read_scan_bytes, read_scan_pair_bytes};

/// Files whose bytes exercise each branch: both byte orders, qform, scale, 4-D, extensions.
fn seeds() -> Vec<RawFile> {
    let plain = RawFile::new();
    let qform =
        RawFile { sform_code: 0, qform_code: 1, quatern: [0.1, 0.7, -0.7, 1.0, 2.0, 3.0], ..RawFile::new() };
    let scaled = RawFile {
        datatype: 4,
        bitpix: 16,
        slope: 0.5,
        inter: 3.0,
        dim: [4, 2, 3, 2, 1, 1, 1, 1],
        ..RawFile::new()
    };
    let floats = RawFile { big: true, datatype: 64, bitpix: 64, dim: [3, 3, 1, 1, 1, 1, 1, 1], ..RawFile::new() };
    let extension =
        [&[1, 0, 0, 0, 32, 0, 0, 0, 6, 0, 0, 0], b"{\"labels\":[]}\0\0\0\0\0\0\0\0\0\0\0".as_slice()].concat();
    let extended = RawFile { vox_offset: 384.0, between: extension, ..RawFile::new() };
    vec![plain, qform, scaled, floats, extended]
}

/// Overwrites a field or some bytes, drops or repeats a piece, cuts the end off.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    const FIELDS: [usize; 19] = [0, 40, 42, 44, 46, 48, 70, 72, 76, 80, 84, 88, 108, 112, 116, 252, 254, 256, 348];
    const EXTREMES: [[u8; 4]; 8] = [
        [0; 4],
        [0xff; 4],
        [0xff, 0xff, 0xff, 0x7f],
        [0, 0, 0, 0x80],
        [0, 0, 0xc0, 0x7f],
        [0, 0, 0x80, 0x7f],
        [0, 0, 0, 0x4f],
        [1, 0, 0, 0],
    ];
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return;
        }
        match random.below(6) {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
            2 => {
                let (at, n) = (random.below(bytes.len()), random.below(16));
                bytes.drain(at..(at + n).min(bytes.len()));
            }
            _ => {
                let at = FIELDS[random.below(FIELDS.len())];
                let mut value = EXTREMES[random.below(EXTREMES.len())];
                if random.below(2) == 0 {
                    value.reverse();
                }
                if random.below(3) == 0 {
                    value = (random.next() as u32).to_le_bytes();
                }
                let end = (at + 4).min(bytes.len());
                if at < end {
                    bytes[at..end].copy_from_slice(&value[..end - at]);
                }
            }
        }
    }
}

#[test]
fn no_damage_makes_reading_panic() {
    let mut random = Random(0x5eed_1234_9abc_def1);
    let seeds = seeds();
    let (mut whole, mut refused) = (0, 0);
    for round in 0..6000 {
        let seed = &seeds[round % seeds.len()];
        let mut bytes = seed.bytes();
        damage(&mut bytes, &mut random);
        let bytes = match random.below(3) {
            0 => gzip(&bytes, false),
            1 => {
                let mut packed = gzip(&bytes, true);
                damage(&mut packed, &mut random);
                packed
            }
            _ => bytes,
        };
        match read_scan_bytes(&bytes) {
            Ok(read) => {
                let image = &read.image;
                assert_eq!(image.data().len(), image.geometry().voxels() * image.channels());
                assert_eq!(read.info.shape.iter().product::<usize>(), image.data().len());
                whole += 1;
            }
            Err(error) => {
                assert!(error.to_string().starts_with("cannot "), "{error}");
                refused += 1;
            }
        }
        // Whether labels can be read too depends on the values; it must not panic either.
        let _ = read_labels_bytes(&bytes);
    }
    // Both kinds occur, or the damage is too little or too much to test anything.
    assert!(whole > 500 && refused > 500, "{whole} read, {refused} refused");
}

#[test]
fn no_damage_to_a_pair_makes_reading_panic() {
    let mut random = Random(0x0dd_ba11);
    let pair = RawFile { magic: *b"ni1\0", vox_offset: 0.0, ..RawFile::new() };
    for _ in 0..2000 {
        let (mut header, mut voxels) = (pair.header(), pair.voxels.clone());
        damage(&mut header, &mut random);
        damage(&mut voxels, &mut random);
        if let Err(error) = read_scan_pair_bytes(&header, &voxels) {
            assert!(error.to_string().starts_with("cannot "), "{error}");
        }
    }
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let plain = RawFile::new().bytes();
    let packed = gzip(&plain, true);
    for file in [plain, packed] {
        assert!(read_scan_bytes(&file).is_ok());
        for length in 0..file.len() {
            assert!(read_scan_bytes(&file[..length]).is_err(), "{length} of {} bytes", file.len());
        }
    }
}
