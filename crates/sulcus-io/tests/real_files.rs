//! Real scans, if this machine has them.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
extern crate sulcus_harness;

use sulcus_io::{read_info, read_labels, read_scan, write_labels};
use sulcus_testing::shared_data;
use sulcus_volume::LabelTable;

#[test]
fn hippocampus_labels_match_their_images() {
    let Some(folder) = shared_data("Task04_Hippocampus") else { return };
    let mut cases = 0;
    for entry in std::fs::read_dir(folder.join("imagesTr")).unwrap() {
        let path = entry.unwrap().path();
        let image = read_scan(&path).unwrap();
        let (labels, _) = read_labels(&folder.join("labelsTr").join(path.file_name().unwrap())).unwrap();
        image.image.geometry().check_same_grid(labels.geometry()).unwrap();
        assert!(labels.counts().keys().copied().eq([0, 1, 2]), "{}", path.display());
        assert_eq!(image.info.non_finite, 0);
        cases += 1;
    }
    assert_eq!(cases, 208);
}

/// Means are sums of millions of values, whose last digits depend on the order of summation.
const MEAN_TOLERANCE: f64 = 1e-9;

#[test]
fn templates_match_nibabel() {
    let expected = [
        ("mni152/t1.nii.gz", vec![197, 233, 189], [-98.0, -134.0, -72.0], 255.0, 38.438930276559084),
        ("colin27/t1.nii.gz", vec![181, 217, 181], [-90.0, -125.0, -71.0], 254.0, 44.61177355282364),
    ];
    for (name, shape, origin, max, mean) in expected {
        let Some(path) = shared_data(name) else { continue };
        let info = read_info(&path).unwrap();
        assert_eq!((info.shape, info.dtype, info.orientation.to_string()), (shape, "uint8", "RAS".into()));
        let [[a, _, _, x], [_, b, _, y], [_, _, c, z], _] = info.ras_from_voxel;
        assert_eq!(([a, b, c], [x, y, z]), ([1.0; 3], origin));
        assert_eq!((info.min, info.max), (Some(0.0), Some(max)));
        assert!((info.mean.unwrap() - mean).abs() < MEAN_TOLERANCE, "{:?}", info.mean);
    }
}

#[test]
fn mask_of_a_real_scan_has_identical_position_bytes() {
    let Some(path) = shared_data("Task04_Hippocampus/labelsTr/hippocampus_001.nii.gz") else { return };
    let (labels, header) = read_labels(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [plain, packed] = ["mask.nii", "mask.nii.gz"].map(|name| folder.path().join(name));
    for out in [&plain, &packed] {
        write_labels(out, &labels, &header, &LabelTable::default()).unwrap();
        assert_eq!(read_labels(out).unwrap().0, labels);
    }
    let original = inflate(&std::fs::read(&path).unwrap());
    let mask = std::fs::read(&plain).unwrap();
    for range in [76..108, 123..124, 252..328] {
        assert_eq!(mask[range.clone()], original[range]);
    }
    assert_eq!(inflate(&std::fs::read(&packed).unwrap()), mask);
}

fn inflate(gzip: &[u8]) -> Vec<u8> {
    let (_, length) = gzip.split_last_chunk::<4>().unwrap();
    let mut out = vec![0; u32::from_le_bytes(*length) as usize];
    libdeflater::Decompressor::new().gzip_decompress(gzip, &mut out).unwrap();
    out
}

sulcus_harness::main!();
