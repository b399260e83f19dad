//! Thousands of damaged files: each is read or refused, and none causes a panic.

use sulcus_io::{read_labels_bytes, read_scan_bytes, read_scan_pair_bytes};
use sulcus_testing::{NiftiFile, Random, gzip};

/// Files that cover all branches: both byte orders, qform, scale, 4-D, extensions.
fn seeds() -> Vec<NiftiFile> {
    let plain = NiftiFile::default();
    let qform = NiftiFile {
        sform_code: 0,
        qform_code: 1,
        quatern: [0.1, 0.7, -0.7, 1.0, 2.0, 3.0],
        ..NiftiFile::default()
    };
    let scaled = NiftiFile {
        datatype: 4,
        bitpix: 16,
        slope: 0.5,
        inter: 3.0,
        dim: [4, 2, 3, 2, 1, 1, 1, 1],
        ..NiftiFile::default()
    };
    let floats = NiftiFile {
        big_endian: true,
        datatype: 64,
        bitpix: 64,
        dim: [3, 3, 1, 1, 1, 1, 1, 1],
        ..NiftiFile::default()
    };
    let extension =
        [&[1, 0, 0, 0, 32, 0, 0, 0, 6, 0, 0, 0], b"{\"labels\":[]}\0\0\0\0\0\0\0\0\0\0\0".as_slice()].concat();
    let extended = NiftiFile { vox_offset: 384.0, between: extension, ..NiftiFile::default() };
    vec![plain, qform, scaled, floats, extended]
}

/// Overwrites a field or some bytes, removes a part, or truncates the file.
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
fn damaged_files_never_panic() {
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
        // The values decide whether these are labels; reading them must not panic either.
        let _ = read_labels_bytes(&bytes);
    }
    // If one kind is rare, the damage is too small or too large for a useful test.
    assert!(whole > 500 && refused > 500, "{whole} read, {refused} refused");
}

#[test]
fn damaged_pairs_never_panic() {
    let mut random = Random(0x0dd_ba11);
    let pair = NiftiFile { magic: *b"ni1\0", vox_offset: 0.0, ..NiftiFile::default() };
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
    let plain = NiftiFile::default().bytes();
    let packed = gzip(&plain, true);
    for file in [plain, packed] {
        assert!(read_scan_bytes(&file).is_ok());
        for length in 0..file.len() {
            assert!(read_scan_bytes(&file[..length]).is_err(), "{length} of {} bytes", file.len());
        }
    }
}
