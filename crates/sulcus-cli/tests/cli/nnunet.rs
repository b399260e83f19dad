//! `import nnunet`, `predict --exact`, `export --nnunet` and `export --bundle`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{file, run, tiny_model};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sulcus-nnunet/tests/fixtures").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn imported_model_predicts_as_nnunet_does() {
    let home = tempfile::tempdir().unwrap();
    let (model, mask) = (home.path().join("model.onnx"), home.path().join("mask.nii.gz"));
    let archive = fixture("plain_3d.zip");
    let imported = run(home.path(), &[&"import", &"nnunet", &archive, &"-o", &model, &"--json"]).code(0);
    let record = &imported.json_lines()[0];
    assert_eq!(
        (record["configuration"].as_str(), record["network"].as_str()),
        (Some("3d_fullres"), Some("PlainConvUNet"))
    );
    let scan = sulcus_testing::bundled_scan();
    let predicted =
        run(home.path(), &[&"predict", &"-m", &model, &scan, &"-o", &mask, &"--exact", &"--json"]).code(0);
    assert_eq!(predicted.json_lines()[0]["numerics"], "nnunet");
    let labels = |path: &Path| sulcus_io::read_labels(path).unwrap().0;
    let (found, expected) = (labels(&mask), labels(&fixture("plain_3d.nii.gz")));
    assert_eq!(found.data(), expected.data(), "the mask of nnU-Net's own predictor");
    // Models of Sulcus have no counterpart in nnU-Net.
    run(home.path(), &[&"predict", &"-m", &tiny_model(), &scan, &"-o", &mask, &"--exact"]).code(1);
}

/// Both stages of a cascade in one file, which every command takes like another model.
#[test]
fn imported_cascade_predicts_as_nnunet_does() {
    let home = tempfile::tempdir().unwrap();
    let (model, mask) = (home.path().join("model.onnx"), home.path().join("mask.nii.gz"));
    let archive = fixture("cascade_3d.zip");
    let import: [&dyn AsRef<std::ffi::OsStr>; 5] = [&"import", &"nnunet", &archive, &"-o", &model];
    run(home.path(), &import).code(1).says("choose one by its configuration");
    let imported = run(
        home.path(),
        &[&"import", &"nnunet", &archive, &"--configuration", &"3d_cascade_fullres", &"-o", &model, &"--json"],
    )
    .code(0);
    assert_eq!(imported.json_lines()[0]["previous"][0], "3d_lowres");
    let info = run(home.path(), &[&"info", &model]).code(0).stdout;
    assert!(info.contains("whose mask becomes 2 input channels"), "{info}");
    run(home.path(), &[&"doctor", &"-m", &model]).code(0);
    let scan = fixture("turned.nii.gz");
    let predict = |options: &[&str]| {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"predict", &"-m", &model, &scan, &"-o", &mask, &"--json"];
        options.iter().for_each(|option| arguments.push(option));
        run(home.path(), &arguments)
    };
    let line = predict(&["--exact"]).code(0).json_lines()[0].clone();
    assert_eq!(line["numerics"], "nnunet");
    let labels = |path: &Path| sulcus_io::read_labels(path).unwrap().0;
    let (found, expected) = (labels(&mask), labels(&fixture("cascade_3d.nii.gz")));
    let different = found.data().iter().zip(expected.data()).filter(|(a, b)| a != b).count();
    assert!(different <= 2, "{different} voxels differ from the mask of nnU-Net's own predictor");
    predict(&["--max-memory", "10MB"]).code(1).says("at least");
    run(home.path(), &[&"export", &model, &"--bundle", &home.path().join("bundle")]).code(1).says("`3d_lowres`");
}

#[test]
fn model_file_becomes_a_monai_bundle() {
    let home = tempfile::tempdir().unwrap();
    let bundle = home.path().join("bundle");
    run(home.path(), &[&"export", &tiny_model(), &"--bundle", &bundle]).code(0).says("python -m monai.bundle run");
    let copied = std::fs::read(bundle.join("models/model.onnx")).unwrap();
    assert_eq!(copied, std::fs::read(tiny_model()).unwrap(), "the file is the same to the byte");
    let spec = sulcus_onnx::read_spec(&copied).unwrap();
    let metadata = json(&bundle.join("configs/metadata.json"));
    let data = &metadata["network_data_format"];
    assert_eq!(data["inputs"]["image"]["num_channels"], spec.channels.len());
    assert_eq!(data["outputs"]["pred"]["num_channels"], spec.classes());
    // The properties that MONAI requires of metadata.
    for key in [
        "version",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "description",
        "task",
        "authors",
        "copyright",
    ] {
        assert!(metadata[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
    let config = json(&bundle.join("configs/inference.json"));
    for key in ["bundle_root", "device", "dataset_dir", "dataset", "evaluator", "network_def", "inferer", "run"] {
        assert!(!config[key].is_null(), "{key}");
    }
    assert!(bundle.join("docs/README.md").is_file());
    run(home.path(), &[&"export", &tiny_model(), &"--bundle", &bundle]).code(2).says("has content");
}

#[test]
fn only_runs_are_written_for_nnunet() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("target");
    run(home.path(), &[&"export", &tiny_model(), &"--nnunet", &target]).code(2).says("a run is a folder");
    run(home.path(), &[&"export", &home.path().join("run"), &"--nnunet", &target]).code(1).says("run");
    file(home.path(), "target/file", b"");
    run(home.path(), &[&"export", &home.path().join("run"), &"--nnunet", &target]).code(2).says("has content");
    let archive = file(home.path(), "damaged.zip", b"PK");
    let model = home.path().join("model.onnx");
    run(home.path(), &[&"import", &"nnunet", &archive, &"-o", &model]).code(1).says("cannot import this");
    assert!(!model.exists());
}
