//! Invalid inputs: each is refused with the reason, and no file is written.

use super::support::{RAS, file, nifti, predict, run, scan, sulcus, tiny_model, truth};

#[test]
fn broken_volumes_are_refused_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let values = vec![1.0; 8 * 8 * 8];
    let whole = nifti(&[8, 8, 8], &values, Some(RAS));
    let mut lying = whole.clone();
    lying[42..44].copy_from_slice(&3000_i16.to_le_bytes());
    let mut negative = whole.clone();
    negative[42..44].copy_from_slice(&(-8_i16).to_le_bytes());
    let mut nan = values.clone();
    nan[100] = f32::NAN;
    for (name, bytes, parts) in [
        ("lying.nii", lying, vec!["3000"]),
        ("negative.nii", negative, vec!["-8"]),
        ("empty.nii", Vec::new(), vec!["empty"]),
        ("text.nii", b"hello, I am not a scan at all, whatever my name says".to_vec(), vec!["NIfTI"]),
        ("five.nii", nifti(&[2, 2, 2, 2, 2], &[0.0; 32], Some(RAS)), vec!["2 × 2 × 2 × 2 × 2"]),
        ("nan.nii", nifti(&[8, 8, 8], &nan, Some(RAS)), vec!["1 voxel(s) that are not finite"]),
        ("channels.nii", nifti(&[8, 8, 8, 2], &vec![1.0; 1024], Some(RAS)), vec!["expects 1 channel(s), found 2"]),
    ] {
        let path = file(home.path(), name, &bytes);
        let out = home.path().join(format!("out_{name}"));
        let ended = predict(home.path(), &[&path], &out, &[]).code(1).says(name);
        for part in parts {
            assert!(ended.stderr.contains(part), "{name}: expected `{part}` in: {}", ended.stderr);
        }
        assert!(!out.exists(), "{name}");
    }
}

#[test]
fn foreign_models_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut no_spec = std::fs::read(tiny_model()).unwrap();
    while let Some(at) = no_spec.windows(11).position(|w| w == b"sulcus.spec") {
        no_spec[at..at + 11].copy_from_slice(b"another.key");
    }
    let cut = std::fs::read(tiny_model()).unwrap()[..1000].to_vec();
    for (name, bytes, part) in [
        ("scan.onnx", std::fs::read(scan()).unwrap(), "gzip"),
        ("text.onnx", b"a model, honestly".to_vec(), "not an ONNX file"),
        ("nospec.onnx", no_spec, "sulcus.spec"),
        ("cut.onnx", cut, "damaged"),
    ] {
        let model = file(home.path(), name, &bytes);
        let out = home.path().join("mask.nii.gz");
        run(home.path(), &[&"predict", &"-m", &model, &scan(), &"-o", &out]).code(1).says(part).says(name);
        run(home.path(), &[&"info", &model]).code(1).says(part);
        assert!(!out.exists(), "{name}");
    }
    let missing = home.path().join("missing.onnx");
    run(home.path(), &[&"predict", &"-m", &missing, &scan(), &"-o", &"x.nii"]).code(1).says("missing.onnx");
}

#[test]
fn masks_on_another_grid_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut shifted = RAS;
    shifted[0][3] = 5.0;
    let image = file(home.path(), "image.nii", &nifti(&[4, 4, 4], &[1.0; 64], Some(RAS)));
    let moved = file(home.path(), "moved.nii", &nifti(&[4, 4, 4], &[1.0; 64], Some(shifted)));
    let smaller = file(home.path(), "smaller.nii", &nifti(&[4, 4, 3], &[1.0; 48], Some(RAS)));
    let picture = home.path().join("f.png");
    for (mask, part) in [(&moved, "lies at"), (&smaller, "[4, 4, 3]")] {
        run(home.path(), &[&"figure", &"-i", &image, &"-t", mask, &"-o", &picture]).code(1).says(part);
        run(home.path(), &[&"evaluate", &"-p", mask, &"-t", &image]).code(1).says(part).says("1 of 1 case failed");
    }
    assert!(!picture.exists());
}

#[test]
fn label_values_outside_the_table_are_an_error() {
    let home = tempfile::tempdir().unwrap();
    let mut values = vec![1.0; 64];
    values[5] = 7.0;
    let odd = file(home.path(), "odd.nii", &nifti(&[4, 4, 4], &values, Some(RAS)));
    let model = tiny_model();
    run(home.path(), &[&"evaluate", &"-p", &odd, &"-t", &odd, &"--labels", &model]).code(1).says("[7]");
    values[5] = 1.5;
    let half = file(home.path(), "half.nii", &nifti(&[4, 4, 4], &values, Some(RAS)));
    run(home.path(), &[&"evaluate", &"-p", &half, &"-t", &odd]).code(1).says("1.5");
}

#[test]
fn each_problem_of_a_data_set_is_named() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("set");
    for name in ["a.nii.gz", "b.nii.gz"] {
        file(&root, &format!("images/{name}"), &std::fs::read(scan()).unwrap());
    }
    file(&root, "labels/a.nii.gz", &std::fs::read(truth()).unwrap());
    file(&root, "labels/b.nii.gz", &nifti(&[4, 4, 4], &[1.0; 64], Some(RAS)));
    file(&root, "images/c.nii.gz", b"rubbish");
    let run_folder = home.path().join("run");
    let ended = run(home.path(), &[&"train", &root, &"-o", &run_folder, &"--all"]).code(1);
    for part in ["b: ", "c: ", "labels/c.nii.gz"] {
        assert!(ended.stderr.contains(part), "expected `{part}` in: {}", ended.stderr);
    }
    assert!(!run_folder.join("run.json").exists());
    run(home.path(), &[&"train", &home.path().join("nowhere"), &"-o", &run_folder]).code(1).says("data set");
    run(home.path(), &[&"export", &home.path(), &"-o", &home.path().join("m.onnx")]).code(1).says("no run");
}

#[test]
fn invalid_wheel_is_refused_and_nothing_is_installed() {
    let home = tempfile::tempdir().unwrap();
    let wheel = file(home.path(), "x.whl", b"PK but not really");
    let ended = sulcus(home.path()).args(["runtime", "install", "--from"]).arg(&wheel).output().unwrap();
    super::support::ended(ended).code(1).says("wheel");
    assert!(!home.path().join("data/sulcus/onnxruntime").exists());
}

#[test]
fn volume_that_announces_more_than_the_memory_is_refused_by_its_header() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let mut scan = nifti(&[8, 8, 8], &[1.0; 512], Some(RAS));
    for axis in 0..3 {
        scan[42 + 2 * axis..44 + 2 * axis].copy_from_slice(&10_000_i16.to_le_bytes());
    }
    // Whether the file holds the voxels is known only after it is inflated.
    let scan = file(home, "scan.nii.gz", &sulcus_testing::gzip(&scan, false));
    let (picture, copy) = (home.join("picture.png"), home.join("copy.nii"));
    let commands: [&[&dyn AsRef<std::ffi::OsStr>]; 3] = [
        &[&"evaluate", &"-p", &scan, &"-t", &scan],
        &[&"figure", &"--image", &scan, &"-o", &picture],
        &[&"convert", &scan, &copy],
    ];
    for command in commands {
        run(home, command)
            .code(1)
            .says("the volume needs ")
            .says(" of memory, but this machine ")
            .says("scan.nii.gz");
    }
    assert!(!picture.exists() && !copy.exists());
}
