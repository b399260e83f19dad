//! Real scans, where this machine has them.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test says when it skips, and stops where it cannot go on"
)]

use std::path::PathBuf;

use sulcus_io::{read_image, read_info, read_labels};

fn data(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {name} is not on this machine");
    None
}

#[test]
fn every_hippocampus_case_reads_and_its_labels_fit_its_image() {
    let Some(folder) = data("Task04_Hippocampus") else { return };
    let mut cases = 0;
    for entry in std::fs::read_dir(folder.join("imagesTr")).unwrap() {
        let path = entry.unwrap().path();
        let image = read_image(&path).unwrap();
        let (labels, _) = read_labels(&folder.join("labelsTr").join(path.file_name().unwrap())).unwrap();
        image.image.geometry().check_same_grid(labels.geometry()).unwrap();
        assert!(labels.counts().keys().copied().eq([0, 1, 2]), "{}", path.display());
        assert_eq!(image.info.non_finite, 0);
        cases += 1;
    }
    assert_eq!(cases, 208);
}

#[test]
fn the_mni_template_is_what_nibabel_says() {
    let Some(path) = data("mni152/t1.nii.gz") else { return };
    let info = read_info(&path).unwrap();
    assert_eq!((info.shape, info.dtype), (vec![197, 233, 189], "uint8"));
}
