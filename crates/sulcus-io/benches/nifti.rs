//! Reading and writing a 256 × 256 × 180 volume: inflating should be most of it.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up has failed")]

use divan::{Bencher, black_box};
use sulcus_io::{Compression, VolumeMetadata, encode_image, encode_labels, read_labels_bytes, read_scan_bytes};
use sulcus_volume::{
    Geometry, Image, LabelMap, LabelTable, Orientation, OrientationSource, RasFromVoxel, Spacing,
};

const SHAPE: [usize; 3] = [256, 256, 180];

fn geometry() -> Geometry {
    let spacing = Spacing::new([1.0; 3]).unwrap();
    Geometry::new(SHAPE, RasFromVoxel::aligned(Orientation::RAS, spacing), OrientationSource::Sform).unwrap()
}

/// A ball with noise, much as compressible as a scan.
fn scan() -> Vec<i16> {
    let mut state = 1_u32;
    (0..geometry().voxels())
        .map(|i| {
            let (x, y, z) = (i % 256, i / 256 % 256, i / 65536);
            let from_middle = [(x, 128), (y, 128), (z, 90)].map(|(a, b)| (a as f32 - b as f32).powi(2));
            let inside = from_middle.iter().sum::<f32>() < 80.0 * 80.0;
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            if inside { 500 + (state % 128) as i16 + (x % 64) as i16 } else { (state % 8) as i16 }
        })
        .collect()
}

/// The scan as an int16 file.
fn int16_file() -> Vec<u8> {
    let header = VolumeMetadata::from(geometry());
    let labels = LabelMap::new(geometry(), scan().into_iter().map(|v| v as u16).collect()).unwrap();
    let mut file = encode_labels(&labels, &header, &LabelTable::default(), Compression::None).unwrap();
    file[70..72].copy_from_slice(&4_i16.to_le_bytes());
    file
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(6).unwrap());
    let mut out = vec![0; compressor.gzip_compress_bound(content.len())];
    let length = compressor.gzip_compress(content, &mut out).unwrap();
    out.truncate(length);
    out
}

#[divan::bench]
fn inflate_alone(bencher: Bencher) {
    let file = int16_file();
    let (compressed, mut out) = (gzip(&file), vec![0; file.len()]);
    let mut inflate = libdeflater::Decompressor::new();
    bencher.bench_local(|| inflate.gzip_decompress(black_box(&compressed), &mut out).unwrap());
}

#[divan::bench]
fn read_int16_gz(bencher: Bencher) {
    let file = gzip(&int16_file());
    bencher.bench_local(|| read_scan_bytes(black_box(&file)).unwrap());
}

#[divan::bench]
fn read_int16(bencher: Bencher) {
    let file = int16_file();
    bencher.bench_local(|| read_scan_bytes(black_box(&file)).unwrap());
}

#[divan::bench]
fn read_int16_scaled(bencher: Bencher) {
    let mut file = int16_file();
    file[112..116].copy_from_slice(&0.5_f32.to_le_bytes());
    bencher.bench_local(|| read_scan_bytes(black_box(&file)).unwrap());
}

#[divan::bench]
fn read_float32(bencher: Bencher) {
    let header = VolumeMetadata::from(geometry());
    let image = Image::new(geometry(), 1, scan().into_iter().map(f32::from).collect()).unwrap();
    let file = encode_image(&image, &header, Compression::None).unwrap();
    bencher.bench_local(|| read_scan_bytes(black_box(&file)).unwrap());
}

fn mask() -> LabelMap {
    LabelMap::new(geometry(), scan().into_iter().map(|v| u16::from(v > 500) + u16::from(v > 600)).collect())
        .unwrap()
}

#[divan::bench]
fn read_labels_uint8(bencher: Bencher) {
    let header = VolumeMetadata::from(geometry());
    let file = encode_labels(&mask(), &header, &LabelTable::default(), Compression::None).unwrap();
    bencher.bench_local(|| read_labels_bytes(black_box(&file)).unwrap());
}

#[divan::bench]
fn write_mask_gz(bencher: Bencher) {
    let (header, mask) = (VolumeMetadata::from(geometry()), mask());
    bencher.bench_local(|| encode_labels(&mask, &header, &LabelTable::default(), Compression::Gzip).unwrap());
}

#[divan::bench]
fn write_mask(bencher: Bencher) {
    let (header, mask) = (VolumeMetadata::from(geometry()), mask());
    bencher.bench_local(|| encode_labels(&mask, &header, &LabelTable::default(), Compression::None).unwrap());
}

fn main() {
    divan::main();
}
