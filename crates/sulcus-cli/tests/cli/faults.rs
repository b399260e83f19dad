//! Closed pipes, control characters, two processes in one folder, and precisions that a device lacks.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::{Ended, RAS, ended, file, nifti, predict, run, scan, sulcus, tiny_model, truth};
use super::train::small_set;

/// Text that would clear a terminal and change its colours.
const HOSTILE: &str = "\u{1b}[2J\u{1b}[31mHead\u{9b}1m\u{202e}";

fn has_control_characters(text: &str) -> bool {
    text.contains(|c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || c == '\u{202e}')
}

/// A folder with copies of the bundled scan.
fn cohort(home: &Path, names: &[&str]) -> PathBuf {
    let bytes = std::fs::read(scan()).unwrap();
    for name in names {
        file(home, &format!("in/{name}.nii.gz"), &bytes);
    }
    home.join("in")
}

#[test]
fn closed_pipe_does_not_end_a_cohort_early() {
    let home = tempfile::tempdir().unwrap();
    let (cases, out) = (cohort(home.path(), &["a", "b", "c"]), home.path().join("out"));
    let mut child = sulcus(home.path())
        .args(["predict", "--engine", "tract", "--json", "-m"])
        .arg(tiny_model())
        .arg(&cases)
        .arg("-o")
        .arg(&out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    ended(child.wait_with_output().unwrap()).code(0).says("3 cases: 3 done, 0 failed");
    assert!(["a", "b", "c"].iter().all(|name| out.join(format!("{name}.nii.gz")).is_file()));
}

#[test]
fn closed_pipe_does_not_prevent_the_report() {
    let home = tempfile::tempdir().unwrap();
    let report = home.path().join("report.html");
    let mut child = sulcus(home.path())
        .args(["evaluate", "--json", "-p"])
        .arg(truth())
        .arg("-t")
        .arg(truth())
        .arg("--report")
        .arg(&report)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    ended(child.wait_with_output().unwrap()).code(0);
    assert!(report.is_file());
}

#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(tiny_model()).unwrap();
    let mut spec = sulcus_onnx::read_spec(&bytes).unwrap();
    spec.name = format!("{HOSTILE} model");
    let entries = spec.labels.entries().iter().enumerate().map(|(index, entry)| {
        let mut entry = entry.clone();
        entry.name = format!("{HOSTILE}{index}");
        entry
    });
    spec.labels = sulcus_volume::LabelTable::new(entries.collect()).unwrap();
    let model = file(home.path(), "model.onnx", &sulcus_onnx::with_spec(&bytes, &spec).unwrap());
    let mask = home.path().join("mask.nii.gz");
    let words: [&dyn AsRef<std::ffi::OsStr>; 9] =
        [&"predict", &"--engine", &"tract", &"-m", &model, &scan(), &"-o", &mask, &"--json"];
    let predicted = run(home.path(), &words).code(0);
    let lines = predicted.json_lines();
    let labels = lines[0]["labels"].as_object().unwrap();
    assert!(labels.contains_key(&format!("{HOSTILE}0")), "JSON keeps the name: {labels:?}");
    let info = run(home.path(), &[&"info", &model]).code(0);
    let json = run(home.path(), &[&"info", &model, &"--json"]).code(0);
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap()["name"], format!("{HOSTILE} model").as_str());
    let table = run(home.path(), &[&"evaluate", &"-p", &mask, &"-t", &truth(), &"--labels", &model]);
    // The name of a file may be hostile as well.
    let missing = run(home.path(), &[&"info", &home.path().join(format!("{HOSTILE}.nii"))]).code(1);
    for Ended { stdout, stderr, .. } in [predicted, info, json, table, missing] {
        assert!(!has_control_characters(&stdout), "{stdout:?}");
        assert!(!has_control_characters(&stderr), "{stderr:?}");
        assert!(stdout.contains(r"\u001b") || stderr.contains(r"\u001b"), "{stdout} {stderr}");
    }
}

/// A process that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn second_training_in_a_folder_is_refused_until_the_first_is_killed() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (small_set(home.path()), home.path().join("run"));
    let train = |epochs: &str, more: &[&str]| {
        let mut command = sulcus(home.path());
        command.arg("train").arg(&set).arg("-o").arg(&folder).args(["--device", "cpu", "--patch", "48,32"]);
        command.args(["--preset", "unet2d-lite", "--epochs", epochs]).args(more);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let epochs = || std::fs::read_to_string(folder.join("history.jsonl")).unwrap_or_default().lines().count();
    let mut first = Running(train("500", &[]).spawn().unwrap());
    wait_until("an epoch", || epochs() > 0);
    for more in [&[][..], &["--resume"]] {
        ended(train("501", more).output().unwrap())
            .code(1)
            .says("another sulcus process")
            .says(&format!("(process {})", first.0.id()))
            .says(folder.to_str().unwrap());
    }
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    assert!(folder.join(".sulcus.lock").exists(), "a killed process leaves its lock file");
    ended(train(&(epochs() + 1).to_string(), &["--resume"]).output().unwrap()).code(0);
    assert!(!folder.join(".sulcus.lock").exists());
}

#[test]
fn one_cohort_has_one_writer_per_part() {
    let home = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..150 * 140 * 40).map(|i| ((i * i) % 371) as f32).collect();
    let slow = nifti(&[150, 140, 40], &values, Some(RAS));
    // Parts take every second case by name: the first one has all the large scans.
    for number in 0..60 {
        let name = format!("in/case{number:03}.nii");
        file(home.path(), &name, if number % 2 == 0 { &slow } else { b"not a scan" });
    }
    let (cases, out) = (home.path().join("in"), home.path().join("out"));
    let spawn = |more: &[&str]| {
        let mut command = sulcus(home.path());
        command.args(["predict", "--engine", "tract", "-m"]).arg(tiny_model()).arg(&cases).arg("-o").arg(&out);
        Running(command.args(more).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let locks = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&out).into_iter().flatten().flatten().map(|e| e.path());
        entries.filter(|path| path.extension().is_some_and(|e| e == "lock")).collect()
    };
    let is_refused = |more: &[&str]| {
        predict(home.path(), &[&cases], &out, more)
            .code(1)
            .says("another sulcus process")
            .says(out.to_str().unwrap());
    };
    let mut part = spawn(&["--part", "1/2"]);
    wait_until("a lock", || locks().len() == 2);
    is_refused(&["--part", "1/2"]);
    is_refused(&[]);
    predict(home.path(), &[&cases], &out, &["--part", "2/2"]).code(1).says("30 of 30 cases failed");
    // Another cohort may share the folder.
    predict(home.path(), &[&scan()], &out, &[]).code(0);
    part.0.kill().unwrap();
    part.0.wait().unwrap();
    assert_eq!(locks().len(), 2, "a killed process leaves its lock files");

    std::fs::remove_dir_all(&out).unwrap();
    let mut whole = spawn(&[]);
    wait_until("a mask", || out.join("case000.nii.gz").exists());
    is_refused(&[]);
    is_refused(&["--part", "2/2"]);
    whole.0.kill().unwrap();
    whole.0.wait().unwrap();
    let few = home.path().join("few");
    std::fs::create_dir(&few).unwrap();
    std::fs::rename(cases.join("case000.nii"), few.join("case000.nii")).unwrap();
    predict(home.path(), &[&few], &home.path().join("out2"), &["--part", "1/1"]).code(0);
    assert_eq!(std::fs::read_dir(home.path().join("out2")).unwrap().count(), 1, "no lock file is left");
}

#[test]
fn precision_must_be_that_of_the_model_or_of_the_device() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("mask.nii.gz");
    let with = |more: &[&str]| predict(home.path(), &[&scan()], &out, more);
    assert_eq!(with(&["--precision", "fp32", "--json"]).code(0).json_lines()[0]["precision"], "fp32");
    std::fs::remove_file(&out).unwrap();
    for precision in ["int8", "fp16"] {
        with(&["--precision", precision])
            .code(1)
            .says("computes in the precision of the model, fp32")
            .says("hint: leave `--precision` out")
            .says("sulcus export --precision");
    }
    with(&["--precision", "bf16"]).code(2).says("or ONNX Runtime on the device openvino").says("hint: ");
    with(&["--precision", "fp64"]).code(2).says("fp32, bf16, fp16, int8");
    with(&["--half", "--precision", "fp32"]).code(2).says("cannot be used with");
    with(&["--half"]).code(1).says("hint: leave `--precision` out");
    assert!(!out.exists());
}

#[test]
fn missing_library_is_followed_by_one_hint() {
    let home = tempfile::tempdir().unwrap();
    let words: [&dyn AsRef<std::ffi::OsStr>; 7] =
        [&"predict", &"--engine=ort", &"-m", &tiny_model(), &scan(), &"-o", &home.path().join("mask.nii.gz")];
    let library = sulcus(home.path()).arg("doctor").arg("--json").output().unwrap();
    let report: Value = serde_json::from_slice(&library.stdout).unwrap();
    if report["onnx_runtime"]["found"] == true {
        println!("skipped: this system has an ONNX Runtime library");
        return;
    }
    run(home.path(), &words).code(1).says("hint: `sulcus runtime install` fetches ONNX Runtime");
}
