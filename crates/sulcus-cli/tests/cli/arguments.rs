use std::process::Stdio;

use super::support::{run, scan, sulcus, tiny_model};

#[test]
fn help_lists_the_commands() {
    let home = tempfile::tempdir().unwrap();
    let help = run(home.path(), &[&"--help"]).code(0).stdout;
    insta::assert_snapshot!(help);
}

#[test]
fn predict_help_matches_the_documented_options() {
    let home = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(run(home.path(), &[&"predict", &"--help"]).code(0).stdout);
}

#[test]
fn convert_help_matches_the_documented_options() {
    let home = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(run(home.path(), &[&"convert", &"--help"]).code(0).stdout);
}

#[test]
fn mesh_help_matches_the_documented_options() {
    let home = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(run(home.path(), &[&"mesh", &"--help"]).code(0).stdout);
}

#[test]
fn train_help_matches_the_documented_options() {
    let home = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(run(home.path(), &[&"train", &"--help"]).code(0).stdout);
}

#[test]
fn wrong_usage_exits_with_2() {
    let home = tempfile::tempdir().unwrap();
    let model = tiny_model();
    for arguments in [
        vec!["fly"],
        vec!["plan"],
        vec!["plan", "x", "--preset", "unet4d"],
        vec!["plan", "x", "--memory", "8"],
        vec!["train", "x", "-o", "y", "--plan", "p.json", "--preset", "auto"],
        vec!["train", "x", "-o", "y", "--plan", "p.json", "--batch-size", "2"],
        vec!["convert", "a", "b"],
        vec!["predict", "x.nii", "-o", "y.nii"],
        vec!["predict", "-m", model.to_str().unwrap(), "x.nii", "-o", "y", "--device", "gpu"],
        vec!["predict", "-m", model.to_str().unwrap(), "x.nii", "-o", "y", "--engine", "torch"],
        vec!["predict", "-m", model.to_str().unwrap(), "x.nii", "-o", "y", "--step", "0"],
        vec!["predict", "-m", model.to_str().unwrap(), "x.nii", "-o", "y", "--cache", "c", "--engine", "tract"],
        vec!["predict", "-m", model.to_str().unwrap(), "x.nii", "-o", "y", "--cache", "c", "--device", "cuda"],
        vec!["train", "x", "-o", "y", "--time-budget", "15"],
        vec!["train", "x", "-o", "y", "--preset", "unet9d"],
        vec!["train", "x", "-o", "y", "--all", "--fold", "1"],
        vec!["train", "x", "-o", "y", "--device", "tensorrt"],
        vec!["train", "x", "-o", "y", "--device", "cuda:0,0"],
        vec!["train", "x", "-o", "y", "--device", "cpu,cpu"],
        vec!["train", "x", "-o", "y", "--precision", "int8"],
        vec!["export", "run", "-o", "m.onnx", "--precision", "int4"],
        vec!["export", "run", "-o", "m.onnx", "--precision", "bf16"],
        vec!["export", "run", "-o", "m.pt"],
        vec!["export", "run"],
        vec!["export", "run", "-o", "m.onnx", "--triton-name", "x"],
        vec!["export", "run", "-o", "m.onnx", "--triton-device", "cpu"],
        vec!["export", "run", "--triton", "r", "--triton-name", "../x"],
        vec!["figure", "-i", "x.nii", "-o", "f.jpg"],
        vec!["figure", "-i", "x.nii", "--series", "1.2", "-o", "f.png"],
        vec!["mesh", "x.nii"],
        vec!["mesh", "x.nii", "-o", "y.obj"],
        vec!["mesh", "x.nii", "-o", "y.stl", "--smooth", "101"],
        vec!["view", "--no-open", "--series", "1.2"],
        vec!["completions", "tcsh"],
        vec!["-q", "-v", "doctor"],
    ] {
        let mut command = sulcus(home.path());
        let ended = super::support::ended(command.args(&arguments).output().unwrap());
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.stderr);
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn no_arguments_print_help_and_exit_with_2() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), &[]).code(2).says("Usage: sulcus");
}

#[test]
fn version_is_the_package_version() {
    let home = tempfile::tempdir().unwrap();
    let ended = run(home.path(), &[&"--version"]).code(0);
    assert_eq!(ended.stdout.trim(), concat!("sulcus ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_contain_the_commands() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(home.path(), &[&"completions", &shell]).code(0);
        assert!(ended.stdout.contains("evaluate") && ended.stderr.is_empty(), "{shell}");
    }
}

/// `sulcus … | head -0` must end without a panic or an error.
#[test]
fn closed_pipe_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let mut child = sulcus(home.path())
        .args(["info", "--json"])
        .arg(scan())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = super::support::ended(child.wait_with_output().unwrap()).code(0);
    assert_eq!(ended.stderr, "");
}
