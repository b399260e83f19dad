use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{Ended, ended, file, run, scan, sulcus};
use super::train::small_set;

const CASES: [&str; 4] = ["hippocampus_008", "hippocampus_011", "hippocampus_023", "hippocampus_040"];

/// Two folds over the four cases, each held out once.
fn two_folds(home: &Path) -> PathBuf {
    let [a, b, c, d] = CASES;
    let folds = serde_json::json!([{"train": [a, b], "val": [c, d]}, {"train": [c, d], "val": [a, b]}]);
    file(home, "folds.json", folds.to_string().as_bytes())
}

fn train(home: &Path, set: &Path, folder: &Path, more: &[&str]) -> Ended {
    let mut command = sulcus(home);
    command.arg("train").arg(set).arg("-o").arg(folder).args(["--device", "cpu", "--patch", "48,32"]).args(more);
    ended(command.output().unwrap())
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_fold_is_trained_scored_resumed_exported_and_averaged() {
    let home = tempfile::tempdir().unwrap();
    let (set, folds, folder) = (small_set(home.path()), two_folds(home.path()), home.path().join("run"));
    let splits = folds.to_str().unwrap();
    let all = ["--fold", "all", "--epochs", "1"];
    train(home.path(), &set, &folder, &[&all[..], &["--splits", splits]].concat())
        .code(0)
        .says("fold 0 (2 in all)")
        .says("fold 1: mean Dice")
        .says("each predicted by the fold that held it out")
        .says("next:");
    for fold in ["fold_0", "fold_1"] {
        for part in ["run.json", "history.jsonl", "checkpoints/best.ckpt", "model.onnx", "validation/summary.json"]
        {
            assert!(folder.join(fold).join(part).is_file(), "{fold}/{part}");
        }
    }

    // Each case once, predicted by the fold that held it out, with the scores that this fold gave it.
    let summary = json(&folder.join("summary.json"));
    let cases = summary["metric_per_case"].as_array().unwrap();
    let predicted: Vec<&str> = cases.iter().map(|c| c["prediction_file"].as_str().unwrap()).collect();
    let expected: Vec<String> =
        [("fold_0", CASES[2]), ("fold_0", CASES[3]), ("fold_1", CASES[0]), ("fold_1", CASES[1])]
            .iter()
            .map(|(fold, case)| folder.join(fold).join(format!("validation/{case}.nii.gz")).display().to_string())
            .collect();
    assert_eq!(predicted, expected);
    let of_folds = [0, 1].map(|k| json(&folder.join(format!("fold_{k}/validation/summary.json"))));
    assert_eq!(cases[3], of_folds[1]["metric_per_case"][1]);
    let mean = |s: &Value, label: &str| s["mean"][label]["Dice"].as_f64().unwrap();
    for label in ["1", "2"] {
        let both = (mean(&of_folds[0], label) + mean(&of_folds[1], label)) / 2.0;
        assert!((mean(&summary, label) - both).abs() < 1e-9, "the folds hold out two cases each");
    }
    let record = json(&folder.join("crossvalidation.json"));
    assert_eq!(record["folds"][1]["result"]["mean_dice"], of_folds[1]["foreground_mean"]["Dice"]);
    assert_eq!(
        (&record["scores"]["cases"], record["folds"][0]["result"]["epochs"].as_u64()),
        (&4.into(), Some(1))
    );

    let info = run(home.path(), &[&"info", &folder, &"--json"]).code(0).json_lines();
    assert_eq!(info[0]["kind"], "cross-validation");
    let info = run(home.path(), &[&"info", &folder]).code(0).stdout;
    assert!(info.contains("2 of 2 folds done") && info.contains("fold_1 Dice"), "{info}");

    // Without the second fold: the first one is not trained again, and the scores are the same.
    let first = std::fs::read(folder.join("fold_0/run.json")).unwrap();
    std::fs::remove_dir_all(folder.join("fold_1")).unwrap();
    train(home.path(), &set, &folder, &all).code(1).says("--resume");
    train(home.path(), &set, &folder, &["--resume", "--fold", "0"]).code(2).says("contains a cross-validation");
    train(home.path(), &set, &folder, &["--resume", "--batch-size", "3"]).code(2).says("other settings");
    train(home.path(), &set, &folder, &["--resume", "--epochs", "2"])
        .code(1)
        .says("fold 0 is done, with 1 epoch(s)");
    train(home.path(), &set, &folder, &["--resume", "--epochs", "1"]).code(0).says("fold 0 (2 in all) is done");
    assert_eq!(std::fs::read(folder.join("fold_0/run.json")).unwrap(), first);
    assert_eq!(json(&folder.join("summary.json")), summary);

    let models = home.path().join("models");
    run(home.path(), &[&"export", &folder, &"-o", &models]).code(0);
    run(home.path(), &[&"export", &folder, &"-o", &home.path().join("m.onnx")]).code(2).says("must be a folder");
    run(home.path(), &[&"export", &folder, &"--triton", &models]).code(2).says("a model for each fold");
    let (one, two) = (models.join("fold_0.onnx"), folder.join("fold_1/model.onnx"));
    let mask = home.path().join("mask.nii.gz");
    let engine: [&dyn AsRef<std::ffi::OsStr>; 2] = [&"--engine", &"tract"];
    let words: [&dyn AsRef<std::ffi::OsStr>; 8] = [&"predict", &"-m", &one, &"-m", &two, &scan(), &"-o", &mask];
    run(home.path(), &[&words[..], &engine[..]].concat()).code(0).says("averaging 2 models");
    assert!(mask.is_file());
}

#[cfg(unix)]
#[test]
fn stopped_fold_is_resumed() {
    let home = tempfile::tempdir().unwrap();
    let (set, folds, folder) = (small_set(home.path()), two_folds(home.path()), home.path().join("run"));
    let child = sulcus(home.path())
        .arg("train")
        .arg(&set)
        .arg("-o")
        .arg(&folder)
        .args(["--fold", "all", "--epochs", "500", "--device", "cpu", "--patch", "48,32", "--splits"])
        .arg(&folds)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !folder.join("fold_0/history.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("/bin/kill").args(["-INT", &pid]).status().unwrap().success());
    ended(child.wait_with_output().unwrap()).code(1).says("stopped in fold 0").says("--resume");
    assert!(!folder.join("summary.json").exists() && !folder.join("fold_1").exists());
    let info = run(home.path(), &[&"info", &folder]).code(0).stdout;
    assert!(info.contains("0 of 2 folds done") && info.contains("fold_1 not done"), "{info}");

    let done = json(&folder.join("fold_0/run.json"))["progress"]["epochs"].as_u64().unwrap() + 1;
    train(home.path(), &set, &folder, &["--fold", "all", "--resume", "--epochs", &done.to_string()]).code(0);
    let record = json(&folder.join("crossvalidation.json"));
    for fold in 0..2 {
        assert_eq!(record["folds"][fold]["result"]["epochs"].as_u64(), Some(done), "fold {fold}");
    }
    assert_eq!(record["scores"]["cases"], 4);
}

#[test]
fn invalid_folds_leave_no_files_and_unused_cases_are_named() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (small_set(home.path()), home.path().join("run"));
    let [a, b, c, d] = CASES;
    let with = |folds: Value| {
        let splits = file(home.path(), "folds.json", folds.to_string().as_bytes());
        train(home.path(), &set, &folder, &["--fold", "all", "--splits", splits.to_str().unwrap()])
    };
    with(serde_json::json!([{"train": [a], "val": [b]}, {"train": [c], "val": [b]}]))
        .code(1)
        .says("both hold out the case `hippocampus_011`");
    assert!(!folder.exists());
    // The data are checked when the first fold starts.
    std::fs::write(set.join(format!("labels/{a}.nii.gz")), b"no mask").unwrap();
    with(serde_json::json!([{"train": [a], "val": [b]}, {"train": [b], "val": [c]}]))
        .code(1)
        .says("1 case in no fold and not used: hippocampus_040")
        .says("1 case held out by no fold and not scored: hippocampus_008")
        .says("training fold 0: the data set has 1 problem(s)")
        .says(a);
    assert!(!folder.exists());
    assert!(set.join(format!("images/{d}.nii.gz")).is_file());
    run(home.path(), &[&"train", &set, &"-o", &folder, &"--fold", &"some"]).code(2).says("or `all`");
    run(home.path(), &[&"train", &set, &"-o", &folder, &"--fold", &"all", &"--all"]).code(2);
}

/// nnU-Net's models have one plan for all folds.
#[test]
fn folds_of_one_plan_are_resumed_and_exported_as_one_nnunet_model() {
    let home = tempfile::tempdir().unwrap();
    let (set, folds, folder) = (small_set(home.path()), two_folds(home.path()), home.path().join("run"));
    let plan = home.path().join("plan.json");
    let options: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"--device", &"cpu", &"--patch", &"48,32"];
    let of_all: [&dyn AsRef<std::ffi::OsStr>; 6] = [&"plan", &set, &"--fold", &"all", &"-o", &plan];
    run(home.path(), &[&of_all[..], &options, &[&"--splits", &folds]].concat()).code(2).says("leave out --splits");
    run(home.path(), &[&of_all[..], &options].concat()).code(0).says("--fold all --plan");
    assert_eq!(json(&plan)["fingerprint"]["cases"], CASES.len());

    let train = |more: &[&str]| {
        let mut command = sulcus(home.path());
        command.arg("train").arg(&set).arg("-o").arg(&folder).args(["--fold", "all"]).args(more);
        ended(command.output().unwrap())
    };
    let (plan_path, splits) = (plan.to_str().unwrap(), folds.to_str().unwrap());
    train(&["--epochs", "1", "--plan", plan_path, "--splits", splits]).code(0);
    let record = json(&folder.join("crossvalidation.json"));
    assert_eq!(record["one_plan"], true);
    for fold in ["fold_0", "fold_1"] {
        let trained = json(&folder.join(fold).join("run.json"));
        assert_eq!(trained["plan"]["network"], json(&plan)["plan"]["network"]);
        assert_eq!(trained["plan"]["patch"], json(&plan)["plan"]["patch"]);
    }

    // The plan is kept, so that a fold can be trained again without it, and only with it.
    std::fs::remove_dir_all(folder.join("fold_1")).unwrap();
    let mut other = json(&plan);
    other["plan"]["batch_size"] = 3.into();
    let other = file(home.path(), "other.json", other.to_string().as_bytes());
    train(&["--resume", "--plan", other.to_str().unwrap()]).code(2).says("other settings");
    train(&["--resume", "--plan", plan_path]).code(0).says("fold 0 (2 in all) is done");
    std::fs::remove_dir_all(folder.join("fold_1")).unwrap();
    train(&["--resume"]).code(0);

    let exported = home.path().join("exported");
    run(home.path(), &[&"export", &folder, &"--nnunet", &exported]).code(0).says("fold 0, 1");
    for part in ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth"] {
        assert!(exported.join(part).is_file(), "{part}");
    }
    std::fs::remove_file(folder.join("plan.json")).unwrap();
    train(&["--resume"]).code(1).says("plan.json");
}

#[test]
fn resumed_cross_validation_keeps_the_stated_patients() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (small_set(home.path()), home.path().join("run"));
    let lines: Vec<String> =
        CASES.iter().zip(["x", "x", "y", "y"]).map(|(case, p)| format!("{case},{p}")).collect();
    let patients = file(home.path(), "of.csv", format!("case,patient\n{}\n", lines.join("\n")).as_bytes());
    let all = ["--fold", "all", "--epochs", "1"];
    train(home.path(), &set, &folder, &[&all[..], &["--patients", patients.to_str().unwrap()]].concat()).code(0);
    let recorded = json(&folder.join("crossvalidation.json"))["patients"].clone();
    assert!(recorded.is_object(), "{recorded}");
    // As if the training had ended before this fold.
    std::fs::remove_dir_all(folder.join("fold_1")).unwrap();
    train(home.path(), &set, &folder, &["--resume"]).code(0);
    assert_eq!(json(&folder.join("fold_1/run.json"))["patients"], recorded);
}
