//! The cache of optimised graphs on disk: results are the same, and only intact files are used.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use std::path::{Path, PathBuf};

use common::{graph, model, noise_scan, onnx_runtime, search, spec};
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, SELF_TEST_MODEL, SegmentOptions, Segmenter};
use sulcus_volume::{Image, LabelMap};

fn segment(model: &[u8], scan: &Image, folder: Option<&Path>) -> (LabelMap, Image) {
    let builder = Segmenter::builder().engine(Engine::Ort).device(Device::Cpu).threads(2);
    let mut builder = builder.ort_library(OrtLibrary::Search(search())).model_bytes(model.to_vec());
    if let Some(folder) = folder {
        builder = builder.cache_folder(folder);
    }
    let found = builder.build().unwrap().segment(scan, SegmentOptions::default().with_probabilities()).unwrap();
    (found.labels, found.probabilities.unwrap())
}

/// All files of a folder, including hidden ones.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A folder with the cached graph of one model, and the model's logits.
struct Kept {
    folder: tempfile::TempDir,
    file: PathBuf,
    scan: Image,
    expected: (LabelMap, Image),
}

fn kept() -> Kept {
    onnx_runtime();
    let folder = tempfile::tempdir().unwrap();
    let scan = noise_scan([20, 18, 9], 6);
    let expected = segment(&model(3), &scan, Some(folder.path()));
    let file = files(folder.path()).pop().unwrap();
    Kept { folder, file, scan, expected }
}

#[test]
fn cached_graph_gives_identical_logits() {
    onnx_runtime();
    for axes in [2, 3] {
        let folder = tempfile::tempdir().unwrap();
        // Created on the first use.
        let folder = folder.path().join("kept");
        // Large enough for several sessions of a 3-D network, which share the file.
        let scan = noise_scan([40, 33, 21], 6);
        let expected = segment(&model(axes), &scan, None);
        assert!(segment(&model(axes), &scan, Some(&folder)) == expected, "{axes}-D, written");
        let written = files(&folder);
        assert_eq!(written.len(), 1, "{written:?}");
        let bytes = std::fs::read(&written[0]).unwrap();
        assert!(segment(&model(axes), &scan, Some(&folder)) == expected, "{axes}-D, read");
        assert_eq!((files(&folder), std::fs::read(&written[0]).unwrap()), (written, bytes));
    }
}

#[test]
fn each_model_has_its_own_file_which_is_used() {
    onnx_runtime();
    let folder = tempfile::tempdir().unwrap();
    let scan = noise_scan([20, 18, 9], 6);
    let spec = spec(3);
    // The same nodes with other weights.
    let [one, other] = [7, 8].map(|seed| graph(&spec, seed).finish(&spec, "", "test").unwrap());
    let of_one = segment(&one, &scan, Some(folder.path()));
    let file_of_one = files(folder.path()).pop().unwrap();
    let of_other = segment(&other, &scan, Some(folder.path()));
    assert!(of_one != of_other);
    let both = files(folder.path());
    let file_of_other = both.iter().find(|file| **file != file_of_one).unwrap();
    assert_eq!(both.len(), 2);
    assert!(segment(&one, &scan, Some(folder.path())) == of_one);
    assert!(segment(&other, &scan, Some(folder.path())) == of_other);
    // Exchanged files show which one a result comes from.
    std::fs::copy(file_of_other, &file_of_one).unwrap();
    assert!(segment(&one, &scan, Some(folder.path())) == of_other);
}

#[test]
fn damaged_file_is_replaced() {
    let Kept { folder, file, scan, expected } = kept();
    let whole = std::fs::read(&file).unwrap();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for damaged in [Vec::new(), vec![0; 7], whole[..middle].to_vec(), whole[1..].to_vec(), changed] {
        std::fs::write(&file, damaged).unwrap();
        assert!(segment(&model(3), &scan, Some(folder.path())) == expected);
        assert_eq!((files(folder.path()), std::fs::read(&file).unwrap()), (vec![file.clone()], whole.clone()));
    }
}

#[test]
fn model_runs_if_the_cache_is_not_writable() {
    let Kept { folder, file, scan, expected } = kept();
    // A folder at the path of the file can be neither read nor replaced.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    assert!(segment(&model(3), &scan, Some(folder.path())) == expected);
    assert_eq!(files(folder.path()), vec![file]);
}

#[test]
fn cached_graph_replays_the_golden_case() {
    onnx_runtime();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let builder = Segmenter::builder().engine(Engine::Ort).device(Device::Cpu).cache_folder(folder.path());
        let builder = builder.ort_library(OrtLibrary::Search(search())).model_bytes(SELF_TEST_MODEL);
        builder.build().unwrap().replay_golden().unwrap();
    }
    assert_eq!(files(folder.path()).len(), 1);
}

sulcus_harness::main!();
