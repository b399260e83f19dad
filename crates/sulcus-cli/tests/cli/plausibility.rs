//! Scans on which the model is unreliable: warnings, `--strict` and `--allow-constant`.

use std::path::{Path, PathBuf};

use sulcus_model::{AxisRange, ChannelRange, TrainingScans};

use super::support::{RAS, ended, file, nifti, predict, scan, sulcus, tiny_model};

/// The tiny model with a description of its training scans: crops of the hippocampus.
fn described_model(home: &Path) -> PathBuf {
    let bytes = std::fs::read(tiny_model()).unwrap();
    let mut spec = sulcus_onnx::read_spec(&bytes).unwrap();
    let channel = ChannelRange {
        percentile_00_5: [0.0, 20_000.0],
        percentile_99_5: [90.0, 600_000.0],
        max_mode_fraction: 0.05,
    };
    spec.training_scans = Some(TrainingScans {
        cases: 2,
        spacing_mm: AxisRange { min: [1.0; 3], median: [1.0; 3], max: [1.0; 3] },
        extent_mm: AxisRange { min: [31.0, 40.0, 24.0], median: [35.0, 50.0, 36.0], max: [42.0, 58.0, 45.0] },
        channels: vec![channel],
    });
    spec.format_version = spec.min_format_version();
    file(home, "described.onnx", &sulcus_onnx::with_spec(&bytes, &spec).unwrap())
}

fn predict_with(home: &Path, model: &Path, input: &Path, output: &Path, more: &[&str]) -> super::support::Ended {
    let mut command = sulcus(home);
    command.args(["predict", "--engine", "tract", "-m"]).args([model, input]).arg("-o").arg(output).args(more);
    ended(command.output().unwrap())
}

fn wide(home: &Path) -> PathBuf {
    let values: Vec<f32> = (0..120 * 40 * 30).map(|i| (i % 977) as f32).collect();
    file(home, "wide.nii", &nifti(&[120, 40, 30], &values, Some(RAS)))
}

#[test]
fn constant_scan_is_refused_and_the_hint_names_the_option_that_allows_it() {
    let home = tempfile::tempdir().unwrap();
    let blank = file(home.path(), "blank.nii", &nifti(&[35, 51, 35], &vec![7.0; 35 * 51 * 35], Some(RAS)));
    let out = home.path().join("mask.nii");
    predict(home.path(), &[&blank], &out, &["--json"])
        .code(1)
        .says("channel `MRI` is 7 in every voxel, so it shows nothing")
        .says("--allow-constant");
    assert!(!out.exists());
    let ended =
        predict(home.path(), &[&blank], &out, &["--json", "--allow-constant"]).code(0).says("in every voxel");
    assert_eq!(ended.json_lines()[0]["warnings"][0]["kind"], "constant_channel");
    assert!(out.exists());
    predict(home.path(), &[&blank], &out, &["--strict", "--allow-constant"]).code(2);
}

#[test]
fn scan_unlike_the_training_scans_gives_a_warning_and_with_strict_no_mask() {
    let home = tempfile::tempdir().unwrap();
    let (model, wide, out) = (described_model(home.path()), wide(home.path()), home.path().join("mask.nii"));
    let ended = predict_with(home.path(), &model, &wide, &out, &["--json"])
        .code(0)
        .says("the scan covers 120 × 40 × 30 mm");
    let line = &ended.json_lines()[0];
    assert_eq!(line["warnings"][0]["kind"], "field_of_view");
    assert_eq!(line["warnings"][0]["found_mm"], serde_json::json!([120.0, 40.0, 30.0]));
    std::fs::remove_file(&out).unwrap();
    let ended = predict_with(home.path(), &model, &wide, &out, &["--json", "--strict"])
        .code(1)
        .says("wide.nii")
        .says("--strict");
    let refused = &ended.json_lines()[0];
    assert!(refused["error"].as_str().unwrap().contains("the scan covers 120 × 40 × 30 mm"));
    // The same objects as in the warnings of a case that is predicted.
    assert_eq!(refused["warnings"], line["warnings"]);
    assert!(!out.exists());
    // A scan like those of the training.
    let ended = predict_with(home.path(), &model, &scan(), &out, &["--json", "--strict"]).code(0);
    assert_eq!(ended.json_lines()[0].get("warnings"), None);
}

#[test]
fn resumed_cohort_repeats_the_warnings_and_checks_again_with_strict() {
    let home = tempfile::tempdir().unwrap();
    let (model, wide, out) = (described_model(home.path()), wide(home.path()), home.path().join("masks"));
    std::fs::create_dir(&out).unwrap();
    predict_with(home.path(), &model, &wide, &out, &["--resume"]).code(0).says("the scan covers");
    predict_with(home.path(), &model, &wide, &out, &["--resume"])
        .code(0)
        .says("done before")
        .says("the scan covers");
    predict_with(home.path(), &model, &wide, &out, &["--resume", "--strict"]).code(1).says("the scan covers");
}

#[test]
fn info_shows_what_the_training_scans_looked_like() {
    let home = tempfile::tempdir().unwrap();
    let model = described_model(home.path());
    let ended = super::support::run(home.path(), &[&"info", &model]).code(0);
    let expected = "voxels of 1 × 1 × 1 mm, field of view 31–42 × 40–58 × 24–45 mm (R × A × S)";
    assert!(ended.stdout.contains(expected), "{}", ended.stdout);
    let json = &super::support::run(home.path(), &[&"info", &model, &"--json"]).code(0).json_lines()[0];
    assert_eq!(json["training_scans"]["cases"], 2);
}
