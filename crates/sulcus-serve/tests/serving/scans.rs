//! Scans, and the masks that the server must return for them.

use sulcus_io::Compression;
use sulcus_runtime::{SegmentOptions, Segmenter};

/// A NIfTI-1 file with float32 voxels and an optional sform.
pub(crate) fn nifti(shape: &[i16], values: &[f32], sform: Option<[[f32; 4]; 3]>) -> Vec<u8> {
    let mut header = vec![0_u8; 352];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348_i32.to_le_bytes());
    put(40, &(shape.len() as i16).to_le_bytes());
    for axis in 0..7 {
        put(42 + 2 * axis, &shape.get(axis).copied().unwrap_or(1).to_le_bytes());
        put(80 + 4 * axis, &1.0_f32.to_le_bytes());
    }
    put(70, &16_i16.to_le_bytes());
    put(72, &32_i16.to_le_bytes());
    put(76, &1.0_f32.to_le_bytes());
    put(108, &352.0_f32.to_le_bytes());
    if let Some(rows) = sform {
        put(254, &1_i16.to_le_bytes());
        for (row, at) in rows.iter().zip([280, 296, 312]) {
            for (column, value) in row.iter().enumerate() {
                put(at + 4 * column, &value.to_le_bytes());
            }
        }
    }
    put(344, b"n+1\0");
    header.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    header
}

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
    sulcus_io::encode_labels(&found.labels, &scan.source, &found.table, compression).unwrap()
}
