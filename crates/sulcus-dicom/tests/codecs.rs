//! Compressed slices that GDCM encoded and decoded (tests/peers/dicom_fixtures.py), compared with our decoders.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::{Path, PathBuf};

use sulcus_io::dicom::read_series;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dicom")
}

fn values(name: &str) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixtures().join(name), folder.path().join(name)).unwrap();
    let read = read_series(folder.path(), None).unwrap_or_else(|e| panic!("{name}: {e}"));
    read.scan.image.data().to_vec()
}

#[test]
fn lossless_codecs_restore_every_value() {
    for name in ["u8", "u12", "u16", "i16", "flat"] {
        let plain = values(&format!("{name}.dcm"));
        for codec in ["rle", "jpeg_lossless", "jpegls", "j2k"] {
            assert_eq!(values(&format!("{name}_{codec}.dcm")), plain, "{name} {codec}");
        }
    }
}

/// Decoders round inverse cosine transforms and wavelets in single precision differently.
const ROUNDING: f32 = 1.0;

#[test]
fn lossy_codecs_agree_with_gdcm() {
    for (name, tolerance) in [("u8_jpeg", ROUNDING), ("u12_jpegls_near", 0.0), ("u12_j2k_lossy", ROUNDING)] {
        let (ours, theirs) = (values(&format!("{name}.dcm")), values(&format!("{name}_decoded.dcm")));
        let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= tolerance && ours.len() == theirs.len(), "{name}: {apart}");
    }
    // The fixtures did lose information, or the test would be vacuous.
    assert_ne!(values("u12.dcm"), values("u12_jpegls_near.dcm"));
    assert_ne!(values("u8.dcm"), values("u8_jpeg.dcm"));
}
