//! Real scans, where this machine has them.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test says when it skips, and stops where it cannot go on"
)]

#[macro_use]
extern crate sulcus_harness;

use std::path::PathBuf;

use sulcus_io::{read_info, read_labels, read_scan, write_labels};
use sulcus_volume::LabelTable;

/// A file of the shared development data. Where it is missing, that part of the test counts as skipped.
fn data(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.exists() {
        sulcus_harness::skip_part(format_args!("{name} is not on this machine"));
        return None;
    }
    Some(path)
}

#[test]
fn every_hippocampus_case_reads_and_its_labels_fit_its_image() {
    let Some(folder) = data("Task04_Hippocampus") else { return };
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

/// Means are sums of millions of values; the order of adding may show in the last digits.
const MEAN_TOLERANCE: f64 = 1e-9;

#[test]
fn the_templates_are_what_nibabel_says() {
    let expected = [
        ("mni152/t1.nii.gz", vec![197, 233, 189], [-98.0, -134.0, -72.0], 255.0, 38.438930276559084),
        ("colin27/t1.nii.gz", vec![181, 217, 181], [-90.0, -125.0, -71.0], 254.0, 44.61177355282364),
    ];
    for (name, shape, origin, max, mean) in expected {
        let Some(path) = data(name) else { continue };
        let info = read_info(&path).unwrap();
        assert_eq!((info.shape, info.dtype, info.orientation.to_string()), (shape, "uint8", "RAS".into()));
        let [[a, _, _, x], [_, b, _, y], [_, _, c, z], _] = info.ras_from_voxel;
        assert_eq!(([a, b, c], [x, y, z]), ([1.0; 3], origin));
        assert_eq!((info.min, info.max), (Some(0.0), Some(max)));
        assert!((info.mean.unwrap() - mean).abs() < MEAN_TOLERANCE, "{:?}", info.mean);
    }
}

#[test]
fn a_mask_of_a_real_scan_says_where_it_is_in_the_same_bytes() {
    let Some(path) = data("Task04_Hippocampus/labelsTr/hippocampus_001.nii.gz") else { return };
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
