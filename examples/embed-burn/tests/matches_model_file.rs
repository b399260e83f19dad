//! The compiled model gives the same results as the model file in an engine.

use std::path::Path;
use std::process::Command;

use sulcus_io::read_labels;
use sulcus_metrics::count_labels;

#[test]
fn compiled_model_reproduces_the_golden_case() {
    let run = Command::new(env!("CARGO_BIN_EXE_embed-burn")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn held_out_scan_is_segmented_without_an_onnx_runtime() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/case");
    let folder = tempfile::tempdir().unwrap();
    let mask = folder.path().join("mask.nii.gz");
    let run =
        Command::new(env!("CARGO_BIN_EXE_embed-burn")).arg(case.join("image.nii.gz")).arg(&mask).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let (found, _) = read_labels(&mask).unwrap();
    let (truth, _) = read_labels(&case.join("truth.nii.gz")).unwrap();
    for counts in count_labels(&found, &truth, &[1, 2]).unwrap() {
        assert!(counts.dice().unwrap() > 0.75, "{counts:?}");
    }
}
