//! `export --triton`: what is added to a model repository, and what is refused. `tests/python` checks the configuration with
//! Triton's own reader.

use std::path::{Path, PathBuf};

use super::support::{Ended, ended, file, run, sulcus, tiny_model};

fn export(home: &Path, model: &Path, more: &[&str]) -> Ended {
    ended(
        sulcus(home)
            .arg("export")
            .arg(model)
            .arg("--triton")
            .arg(home.join("models"))
            .args(more)
            .output()
            .unwrap(),
    )
}

/// Every file below a folder, relative to it, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/")),
            }
        }
    }
    found.sort();
    found
}

/// The tiny model with a changed specification.
fn other(home: &Path, name: &str, change: impl FnOnce(&mut sulcus_model::ModelSpec)) -> PathBuf {
    let bytes = std::fs::read(tiny_model()).unwrap();
    let mut spec = sulcus_onnx::read_spec(&bytes).unwrap();
    change(&mut spec);
    file(home, name, &sulcus_onnx::with_spec(&bytes, &spec).unwrap())
}

#[test]
fn model_file_becomes_a_repository_and_a_new_training_its_next_version() {
    let home = tempfile::tempdir().unwrap();
    let models = home.path().join("models");
    let exported = export(home.path(), &tiny_model(), &["--triton-name", "Tiny"]).code(0);
    assert!(exported.stdout.is_empty(), "{}", exported.stdout);
    exported.says("version 1").says("golden case passed in native").says("up to the client");
    assert_eq!(files(&models), ["Tiny/1/model.onnx", "Tiny/config.pbtxt", "Tiny/labels.txt"]);
    assert_eq!(
        std::fs::read(models.join("Tiny/1/model.onnx")).unwrap(),
        std::fs::read(tiny_model()).unwrap(),
        "the file is the same to the byte"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| std::fs::metadata(models.join(name)).unwrap().permissions().mode() & 0o777;
        file(home.path(), "plain/x", b"");
        let plain = std::fs::metadata(home.path().join("plain")).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("Tiny"), mode("Tiny/1")), (plain, plain), "the server may run as another user");
    }

    export(home.path(), &tiny_model(), &["--triton-name", "Tiny"]).code(0).says("has this model already");
    let later = other(home.path(), "later.onnx", |spec| spec.training.epochs += 1);
    export(home.path(), &later, &["--triton-name", "Tiny"]).code(0).says("version 2");
    assert_eq!(files(&models), ["Tiny/1/model.onnx", "Tiny/2/model.onnx", "Tiny/config.pbtxt", "Tiny/labels.txt"]);
    // Under another name it is another model.
    export(home.path(), &tiny_model(), &[]).code(0).says("version 1");
    assert_eq!(files(&models).len(), 7);
}

#[test]
fn model_with_other_preprocessing_is_no_version_of_the_existing_one() {
    let home = tempfile::tempdir().unwrap();
    export(home.path(), &tiny_model(), &["--triton-name", "tiny"]).code(0);
    let models = home.path().join("models");
    let before = files(&models);
    let turned = other(home.path(), "turned.onnx", |spec| spec.tile_step = 0.25);
    export(home.path(), &turned, &["--triton-name", "tiny"])
        .code(1)
        .says("another model has this name")
        .says("--triton-name")
        .says("2/model.onnx");
    // The same holds for another device, and for a configuration that was edited.
    export(home.path(), &tiny_model(), &["--triton-name", "tiny", "--triton-device", "cpu"]).code(1);
    let config = models.join("tiny/config.pbtxt");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("count: 1", "count: 2")).unwrap();
    export(home.path(), &tiny_model(), &["--triton-name", "tiny"]).code(1).says("instance counts");
    assert!(std::fs::read_to_string(&config).unwrap().contains("count: 2"), "it stays as it was");
    assert_eq!(files(&models), before);
    // A folder with other files.
    file(&models, "mine/notes.txt", b"x");
    export(home.path(), &tiny_model(), &["--triton-name", "mine"]).code(1).says("another model has this name");
    assert_eq!(files(&models.join("mine")), ["notes.txt"]);
    std::fs::create_dir(models.join("empty")).unwrap();
    export(home.path(), &tiny_model(), &["--triton-name", "empty"]).code(0);
}

#[test]
fn unusable_models_are_refused_and_no_file_is_written() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let models = at("models");
    let wrong = other(home.path(), "wrong.onnx", |spec| {
        let golden = spec.golden_case.as_mut().unwrap();
        golden.labels_sha256 = "0".repeat(64);
    });
    export(home.path(), &wrong, &[]).code(1).says("its golden case gives another mask here");
    let none = other(home.path(), "none.onnx", |spec| spec.golden_case = None);
    export(home.path(), &none, &[]).code(1).says("contains no golden case");
    let int8 = other(home.path(), "int8.onnx", |spec| {
        spec.precision = Some(sulcus_model::QuantizationReport {
            kind: sulcus_model::Precision::Int8,
            dice_fp32: 0.9,
            dice: 0.9,
            cases: 1,
            calibration: None,
        });
    });
    export(home.path(), &int8, &["--triton-device", "tensorrt"]).code(2).says("centred on zero");
    let text = file(home.path(), "model.txt", b"no model");
    export(home.path(), &text, &[]).code(1).says("not an ONNX file");
    export(home.path(), &at("gone"), &[]).code(1);
    assert!(files(&models).is_empty(), "{:?}", files(&models));

    export(home.path(), &tiny_model(), &["-o", "m.onnx"]).code(2).says("this is a file");
    export(home.path(), &tiny_model(), &["--precision", "int8"]).code(2).says("this is a file");
    export(home.path(), &tiny_model(), &["--checkpoint", "last"]).code(2).says("this is a file");
    run(home.path(), &[&"export", &tiny_model(), &"-o", &at("m.onnx")]).code(2).says("--triton DIR");
    export(home.path(), &tiny_model(), &["--triton-name", "tiny"]).code(0);
    run(home.path(), &[&"export", &tiny_model(), &"--triton", &models.join("tiny")])
        .code(2)
        .says("give the folder above it");
}
