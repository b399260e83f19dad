use serde_json::Value;

use super::support::{RAS, bundled, file, nifti, predict, run, scan, sulcus};

/// Three training cases and one held out: enough for an end-to-end run, not for a useful network.
pub(crate) fn small_set(home: &std::path::Path) -> std::path::PathBuf {
    let root = home.join("set");
    for name in ["hippocampus_008", "hippocampus_011", "hippocampus_023", "hippocampus_040"] {
        for (from, to) in [("imagesTr", "images"), ("labelsTr", "labels")] {
            let bytes = std::fs::read(bundled(&format!("hippocampus/{from}/{name}.nii.gz"))).unwrap();
            file(&root, &format!("{to}/{name}.nii.gz"), &bytes);
        }
    }
    root
}

#[test]
fn run_is_trained_exported_described_resumed_and_used() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (small_set(home.path()), home.path().join("run"));
    let train = |more: &[&str]| {
        let mut command = sulcus(home.path());
        command
            .arg("train")
            .arg(&set)
            .arg("-o")
            .arg(&folder)
            .args(["--device", "cpu", "--preset", "unet2d-lite", "--patch", "48,32"])
            .args(more);
        super::support::ended(command.output().unwrap())
    };
    let ended =
        train(&["--epochs", "1"]).code(0).says("logits against the trainer's: native within").says("next:");
    assert!(ended.stdout.contains("mean Dice"), "{}", ended.stdout);
    for part in [
        "run.json",
        "plan.json",
        "history.jsonl",
        "curves.svg",
        "checkpoints",
        "model.onnx",
        "validation/summary.json",
    ] {
        assert!(folder.join(part).exists(), "{part}");
    }
    let report = std::fs::read_to_string(folder.join("report.html")).unwrap();
    for part in ["data:image/svg+xml;base64,", "Worst case: hippocampus_", "<h2>Plan</h2>", "NSD at 1 mm", "seed"]
    {
        assert!(report.contains(part), "{part}");
    }
    train(&["--epochs", "1"]).code(1).says("--resume");
    train(&["--resume", "--batch-size", "3"]).code(2).says("other settings");
    train(&["--resume", "--init", "model.onnx"]).code(2).says("other settings");
    train(&["--resume", "--epochs", "2"]).code(0);
    assert_eq!(std::fs::read_to_string(folder.join("history.jsonl")).unwrap().lines().count(), 2);

    let json = run(home.path(), &[&"info", &folder, &"--json"]).code(0).stdout;
    let info: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&info["kind"], &info["progress"]["epochs"]), (&"run".into(), &2.into()));
    let model = home.path().join("last.onnx");
    run(home.path(), &[&"export", &folder, &"-o", &model, &"--checkpoint", &"last"]).code(0);
    // The same network for Triton, with and without a file beside it.
    let (served, beside) = (home.path().join("served"), home.path().join("beside.onnx"));
    run(home.path(), &[&"export", &folder, &"--triton", &served]).code(0).says("golden case passed in native");
    run(home.path(), &[&"export", &folder, &"-o", &beside, &"--triton", &served])
        .code(0)
        .says("has this model already");
    let models: Vec<_> = std::fs::read_dir(&served).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(models.len(), 1, "{models:?}");
    assert_eq!(std::fs::read(models[0].join("1/model.onnx")).unwrap(), std::fs::read(&beside).unwrap());
    run(home.path(), &[&"doctor", &"-m", &model]).code(0);
    let mask = home.path().join("mask.nii.gz");
    let out = run(home.path(), &[&"predict", &"-m", &model, &scan(), &"-o", &mask, &"--engine", &"tract"]);
    out.code(0);
    assert!(mask.is_file());
    // Models with different labels cannot be averaged.
    predict(home.path(), &[&scan()], &mask, &["-m", model.to_str().unwrap()]).code(1).says("cannot be averaged");
}

/// Scans with a wide margin of zeros, as after skull stripping.
#[test]
fn scans_with_zero_margins_are_cropped_and_masks_cover_the_whole_scan() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (home.path().join("set"), home.path().join("run"));
    for name in ["hippocampus_008", "hippocampus_011", "hippocampus_023", "hippocampus_040"] {
        for (from, to) in [("imagesTr", "images"), ("labelsTr", "labels")] {
            let narrow = bundled(&format!("hippocampus/{from}/{name}.nii.gz"));
            let geometry = *sulcus_io::read_metadata(&narrow).unwrap().geometry();
            let mut rows = geometry.ras_from_voxel().rows();
            let first = geometry.ras_from_voxel().apply([-12.0; 3]).0;
            rows.iter_mut().zip(first).for_each(|(row, origin)| row[3] = origin);
            let wide = geometry.shape().map(|n| n + 24);
            let rows = rows.map(|row| row.map(|v| v as f32));
            let grid = nifti(&wide.map(|n| n as i16), &vec![0.0; wide.iter().product()], Some(rows));
            let grid = file(home.path(), "grid.nii", &grid);
            let file = set.join(to).join(format!("{name}.nii.gz"));
            std::fs::create_dir_all(set.join(to)).unwrap();
            run(home.path(), &[&"convert", &narrow, &file, &"--like", &grid]).code(0);
        }
    }
    let ended = run(
        home.path(),
        &[&"train", &set, &"-o", &folder, &"--device", &"cpu", &"--preset", &"unet3d-lite", &"--epochs", &"1"],
    );
    ended.code(0);
    let plan = std::fs::read_to_string(folder.join("plan.json")).unwrap();
    assert!(plan.contains("cropped to the bounding box of the nonzero voxels"), "{plan}");
    let model = folder.join("model.onnx");
    let info = run(home.path(), &[&"info", &model]).code(0).stdout;
    assert!(
        info.contains("z-score of the non-zero part") && info.contains("cropped to the box of non-zero voxels"),
        "{info}"
    );
    // The mask is the same with and without the margin, which the model never sees, and has the position of the scan.
    let mask_of = |scan: &std::path::Path, name: &str, more: &[&str]| {
        let mask = home.path().join(name);
        let mut command = sulcus(home.path());
        command.arg("predict").arg(scan).arg("-m").arg(&model).arg("-o").arg(&mask);
        super::support::ended(command.args(["--engine", "tract"]).args(more).output().unwrap()).code(0);
        sulcus_io::read_labels(&mask).unwrap().0
    };
    let bare = mask_of(&bundled("hippocampus/imagesTr/hippocampus_040.nii.gz"), "bare.nii.gz", &[]);
    let margins = set.join("images/hippocampus_040.nii.gz");
    let wide = mask_of(&margins, "wide.nii.gz", &[]);
    assert_eq!(wide, mask_of(&margins, "limited.nii.gz", &["--max-memory", "900MB"]));
    let shape = bare.geometry().shape();
    assert_eq!(wide.geometry().shape(), shape.map(|n| n + 24));
    for (i, label) in bare.data().iter().enumerate() {
        let [x, y, z] = [i % shape[0], i / shape[0] % shape[1], i / shape[0] / shape[1]].map(|at| at + 12);
        assert_eq!(wide.get(sulcus_volume::VoxelIndex([x, y, z])), Some(label), "voxel {i}");
    }
    let inside: usize = bare.data().iter().filter(|label| **label != 0).count();
    assert!(inside > 0);
    assert_eq!(wide.data().iter().filter(|label| **label != 0).count(), inside);
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_the_state_and_hints_at_resume() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (small_set(home.path()), home.path().join("run"));
    let child = sulcus(home.path())
        .arg("train")
        .arg(&set)
        .arg("-o")
        .arg(&folder)
        .args(["--preset", "unet2d-lite", "--epochs", "500", "--device", "cpu"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // This file is created when training starts.
    while !folder.join("history.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("/bin/kill").args(["-INT", &pid]).status().unwrap().success());
    super::support::ended(child.wait_with_output().unwrap()).code(1).says("stopped after").says("--resume");
    assert!(folder.join("checkpoints/last.ckpt").is_file());
    // Without a best checkpoint, as after a stop in the first epoch, the export gives a hint.
    std::fs::remove_file(folder.join("checkpoints/best.ckpt")).ok();
    run(home.path(), &[&"export", &folder, &"-o", &home.path().join("model.onnx")])
        .code(1)
        .says("`--checkpoint last`")
        .says("--resume");
}

/// How far a run is: finished epochs, and whether its manifest says that it is being trained.
fn progress(folder: &std::path::Path) -> (usize, bool) {
    let history = std::fs::read_to_string(folder.join("history.jsonl")).unwrap_or_default();
    let manifest = std::fs::read_to_string(folder.join("run.json")).unwrap_or_default();
    (history.lines().count(), manifest.contains("\"status\": \"training\""))
}

/// The process is killed, not interrupted. (sulcus-train's test `kill` kills at exact points of the loop.)
#[test]
fn resume_after_kill_gives_identical_weights() {
    const EPOCHS: usize = 5;
    let home = tempfile::tempdir().unwrap();
    let set = small_set(home.path());
    let train = |folder: &std::path::Path, more: &[&str]| {
        let mut command = sulcus(home.path());
        command.arg("train").arg(&set).arg("-o").arg(folder);
        command
            .args(["--device", "cpu", "--preset", "unet2d-lite", "--patch", "48,32", "--epochs", "5"])
            .args(more);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        command
    };
    let weights = |folder: &std::path::Path| {
        let model = folder.join("last.onnx");
        run(home.path(), &[&"export", &folder, &"-o", &model, &"--checkpoint", &"last"]).code(0);
        std::fs::read(model).unwrap()
    };
    let unbroken = home.path().join("unbroken");
    super::support::ended(train(&unbroken, &[]).output().unwrap()).code(0);
    let expected = weights(&unbroken);
    // In the first epoch, between, and in the last one.
    for after_epochs in [0, 2, EPOCHS - 1] {
        let folder = home.path().join(format!("killed-{after_epochs}"));
        let mut child = train(&folder, &[]).spawn().unwrap();
        while progress(&folder).0 < after_epochs || !folder.join("history.jsonl").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (epochs, is_training) = progress(&folder);
        assert!(is_training && (after_epochs..EPOCHS).contains(&epochs), "killed too late: {epochs} epochs");
        super::support::ended(train(&folder, &["--resume"]).output().unwrap()).code(0);
        assert!(weights(&folder) == expected, "killed after {after_epochs} epochs");
    }

    // Killed before there is a run: the same command begins it.
    let folder = home.path().join("killed-early");
    let mut child = train(&folder, &[]).spawn().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.join("run.json").exists());
    super::support::ended(train(&folder, &[]).output().unwrap()).code(0);
    assert!(weights(&folder) == expected);
}

#[test]
fn refused_training_leaves_no_folder() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (small_set(home.path()), home.path().join("run"));
    run(home.path(), &[&"train", &set, &"-o", &folder, &"--fold", &"9"]).code(1).says("there is no fold 9");
    assert!(!folder.exists());
    std::fs::create_dir(&folder).unwrap();
    run(home.path(), &[&"train", &set, &"-o", &folder, &"--fold", &"9"]).code(1);
    assert!(folder.is_dir(), "a folder of the user's own stays");
}

#[test]
fn cases_without_foreground_and_missing_folds_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let set = home.path().join("set");
    let values: Vec<f32> = (0..20 * 20 * 8).map(|i| (i % 37) as f32).collect();
    for (name, value) in [("a", 0.0), ("b", 0.0), ("c", 1.0)] {
        file(&set, &format!("images/{name}.nii"), &nifti(&[20, 20, 8], &values, Some(RAS)));
        file(&set, &format!("labels/{name}.nii"), &nifti(&[20, 20, 8], &[value; 20 * 20 * 8], Some(RAS)));
    }
    let splits = file(home.path(), "splits.json", br#"[{"train": ["a", "b"], "val": ["c"]}]"#);
    let train = |fold: &str| {
        let folder = home.path().join("run");
        let ended = run(home.path(), &[&"train", &set, &"-o", &folder, &"--splits", &splits, &"--fold", &fold]);
        assert!(!folder.exists());
        ended.code(1)
    };
    train("0").says("2 problem(s)").says("a: the mask has no foreground").says("b: the mask has no foreground");
    train("1").says("there is no fold 1: only fold 0 exists");
}

#[test]
fn unavailable_devices_and_precisions_are_refused_before_files_are_written() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (small_set(home.path()), home.path().join("run"));
    let train = |device: &str, precision: &str| {
        let options: [&dyn AsRef<std::ffi::OsStr>; 8] =
            [&"train", &set, &"-o", &folder, &"--device", &device, &"--precision", &precision];
        let ended = run(home.path(), &options);
        assert!(!folder.exists());
        ended.code(1)
    };
    train("cpu", "fp16").says("cannot train in fp16").says("mixed precision needs a GPU");
    // One of several devices is not used silently.
    train("cuda:0,1", "fp32").says("cannot train on `cuda:0`");
    train("vulkan:0,1", "fp32").says("cannot train on `vulkan:0`");
}

/// A processor with AMX trains in bfloat16, any other refuses it.
#[test]
fn bfloat16_trains_on_processors_with_amx_or_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder) = (small_set(home.path()), home.path().join("run"));
    let options: [&dyn AsRef<std::ffi::OsStr>; 10] =
        [&"train", &set, &"-o", &folder, &"--preset", &"unet2d-lite", &"--precision", &"bf16", &"--epochs", &"1"];
    let ended = run(home.path(), &options);
    if ended.code == 1 {
        assert!(!folder.exists());
        ended.says("cannot train in bf16").says("or a processor with AMX");
        return;
    }
    ended.code(0);
    let run: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["config"]["precision"], "bf16");
    assert!(folder.join("model.onnx").is_file());
}

/// The plan describes the scans of its own fold; a run describes those that it is trained on.
#[test]
fn training_with_the_plan_of_another_fold_can_be_resumed() {
    let home = tempfile::tempdir().unwrap();
    let (set, folder, plan) = (small_set(home.path()), home.path().join("run"), home.path().join("plan.json"));
    let options: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"--preset", &"unet2d-lite", &"--patch", &"48,32"];
    let fold_0: [&dyn AsRef<std::ffi::OsStr>; 6] = [&"plan", &set, &"--fold", &"0", &"-o", &plan];
    run(home.path(), &[&fold_0[..], &options[..]].concat()).code(0);
    let train = |more: &[&dyn AsRef<std::ffi::OsStr>]| {
        let all: [&dyn AsRef<std::ffi::OsStr>; 8] =
            [&"train", &set, &"-o", &folder, &"--plan", &plan, &"--fold", &"1"];
        run(home.path(), &[&all[..], more].concat())
    };
    train(&[&"--epochs", &"1"]).code(0);
    let scans = |file: &std::path::Path| {
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        json["plan"]["training_scans"].clone()
    };
    assert_ne!(scans(&plan), scans(&folder.join("run.json")));
    train(&[&"--epochs", &"2", &"--resume"]).code(0);
}
