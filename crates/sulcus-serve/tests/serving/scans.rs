//! Scans, and the masks that the server must return for them.

use sulcus_io::Compression;
use sulcus_runtime::{SegmentOptions, Segmenter};
pub(crate) use sulcus_testing::nifti;

/// An oblique grid, unlike any default.
pub(crate) const OBLIQUE: [[f32; 4]; 3] = [[0.9, 0.1, 0.0, -7.5], [-0.1, 0.9, 0.0, 3.25], [0.0, 0.0, 1.5, 11.0]];

/// A scan whose shape and bright boxes differ from those of other numbers. The self-test model labels the boxes.
pub(crate) fn scan(number: usize) -> Vec<u8> {
    let shape = [16 + number % 5, 14 + number % 7, 6 + number % 3];
    let mut values = Vec::new();
    for z in 0..shape[2] {
        for y in 0..shape[1] {
            for x in 0..shape[0] {
                let far = x.abs_diff(4 + number % 6).max(y.abs_diff(5 + number % 4)).max(z.abs_diff(2));
                let level = [970.0, 960.0, 560.0][far.min(2)] * if far > 3 { 0.05 } else { 1.0 };
                values.push(level + ((x * 7 + y * 3 + z * 5 + number) % 11) as f32);
            }
        }
    }
    nifti(&shape.map(|edge| edge as i16), &values, Some(OBLIQUE))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut out = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let length = compressor.gzip_compress(bytes, &mut out).unwrap();
    out.truncate(length);
    out
}

/// The mask that the runtime gives without a server.
pub(crate) fn expected(segmenter: &Segmenter, scan: &[u8], compression: Compression) -> Vec<u8> {
    let scan = sulcus_io::read_scan_bytes(scan).unwrap();
    let found = segmenter.segment(&scan.image, SegmentOptions::default()).unwrap();
    sulcus_io::encode_labels(&found.labels, &scan.metadata, &found.table, compression).unwrap()
}
