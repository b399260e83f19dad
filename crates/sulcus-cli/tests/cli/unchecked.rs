//! Models that did not pass their check when they were exported.

use serde_json::Value;

use super::support::{file, predict, run, scan, tiny_model};

/// The tiny model with the mark.
fn marked(home: &std::path::Path) -> std::path::PathBuf {
    let bytes = std::fs::read(tiny_model()).unwrap();
    let mut spec = sulcus_onnx::read_spec(&bytes).unwrap();
    spec.unchecked = Some("logits differ by up to 3e-2".into());
    spec.format_version = spec.min_format_version();
    file(home, "marked.onnx", &sulcus_onnx::with_spec(&bytes, &spec).unwrap())
}

#[test]
fn unchecked_model_is_refused_unless_it_is_allowed() {
    let home = tempfile::tempdir().unwrap();
    let (model, mask) = (marked(home.path()), home.path().join("mask.nii.gz"));
    let segment = |more: &[&str]| {
        let mut command = super::support::sulcus(home.path());
        command
            .args(["predict", "--engine", "tract", "-m"])
            .arg(&model)
            .arg(scan())
            .arg("-o")
            .arg(&mask)
            .args(more);
        super::support::ended(command.output().unwrap())
    };
    let refused = segment(&[]).code(1);
    assert!(!mask.exists());
    let refused = refused.says("did not pass its check").says("logits differ by up to 3e-2");
    refused.says("marked.onnx").says("`--allow-unchecked`");
    // An ensemble with an unchecked member is unchecked.
    predict(home.path(), &[&scan()], &mask, &["-m", model.to_str().unwrap()]).code(1).says("marked.onnx");
    run(home.path(), &[&"serve", &"-m", &model, &"--port", &"0"]).code(1).says("did not pass its check");
    run(home.path(), &[&"doctor", &"-m", &model]).code(1).says("did not pass its check");
    run(home.path(), &[&"export", &model, &"--triton", &home.path().join("served")])
        .code(1)
        .says("did not pass its check");

    segment(&["--allow-unchecked"]).code(0).says("its masks may be wrong");
    assert!(mask.exists());
}

#[test]
fn unchecked_model_is_described_as_unchecked() {
    let home = tempfile::tempdir().unwrap();
    let model = marked(home.path());
    let info = run(home.path(), &[&"info", &model]).code(0).stdout;
    let line = info.lines().find(|line| line.contains("unchecked")).unwrap();
    assert!(line.contains("logits differ by up to 3e-2"), "{info}");
    let json = run(home.path(), &[&"info", &model, &"--json"]).code(0).stdout;
    let info: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(info["unchecked"], "logits differ by up to 3e-2");
    let plain = run(home.path(), &[&"info", &tiny_model(), &"--json"]).code(0).stdout;
    assert!(!plain.contains("unchecked"), "{plain}");
}
