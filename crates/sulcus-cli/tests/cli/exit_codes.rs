//! Exit codes of every command (0 all done, 1 something failed, 2 wrong usage) with missing, invalid, empty and unwritable
//! files.

use std::path::Path;

use super::support::{ended, file, scan, sulcus, tiny_model, truth};

/// Mistakes of users, and the exit code of each.
fn mistakes(home: &Path) -> Vec<(i32, Vec<String>)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (gone, empty) = (text(&home.join("gone.nii.gz")), text(&home.join("empty")));
    let (gone_set, rubbish) = (text(&home.join("gone-set")), text(&home.join("rubbish.nii")));
    // The parent of these paths is a file.
    let below = |name: &str| text(&home.join("rubbish.nii").join(name));
    let (scan, truth, model) = (text(&scan()), text(&truth()), text(&tiny_model()));
    let out = |name: &str| text(&home.join("new").join(name));
    let rows: Vec<(i32, Vec<&str>)> = vec![
        (1, vec!["info", &gone]),
        (1, vec!["info", &empty]),
        (1, vec!["info", &rubbish]),
        (1, vec!["info", &rubbish, "--json"]),
        (1, vec!["plan", &gone_set]),
        (1, vec!["plan", &empty]),
        (1, vec!["plan", &rubbish]),
        (1, vec!["train", &gone_set, "-o", "RUN"]),
        (1, vec!["train", &empty, "-o", "RUN"]),
        (1, vec!["export", &gone_set, "-o", "M.onnx"]),
        (1, vec!["export", &empty, "-o", "M.onnx"]),
        (1, vec!["predict", "-m", &gone, &scan, "-o", "MASK.nii"]),
        (1, vec!["predict", "-m", &empty, &scan, "-o", "MASK.nii"]),
        (1, vec!["predict", "-m", &rubbish, &scan, "-o", "MASK.nii"]),
        (1, vec!["predict", "-m", &model, &gone, "-o", "MASK.nii"]),
        (1, vec!["predict", "-m", &model, &empty, "-o", "MASKS"]),
        (1, vec!["predict", "-m", &model, &rubbish, "-o", "MASK.nii"]),
        (1, vec!["predict", "-m", &model, &scan, "-o", "BELOW/MASK.nii"]),
        (2, vec!["predict", "-m", &model, &scan, &truth, "-o", "MASK.nii"]),
        (1, vec!["evaluate", "-p", &gone, "-t", &truth]),
        (1, vec!["evaluate", "-p", &truth, "-t", &gone]),
        (1, vec!["evaluate", "-p", &empty, "-t", &empty]),
        (1, vec!["evaluate", "-p", &rubbish, "-t", &truth]),
        (2, vec!["evaluate", "-p", &empty, "-t", &truth]),
        (1, vec!["evaluate", "-p", &truth, "-t", &truth, "--labels", &gone]),
        (1, vec!["evaluate", "-p", &truth, "-t", &truth, "--report", "BELOW/R.html"]),
        (1, vec!["figure", "-i", &gone, "-o", "F.png"]),
        (1, vec!["figure", "-i", &empty, "-o", "F.png"]),
        (1, vec!["figure", "-i", &scan, "-t", &rubbish, "-o", "F.png"]),
        (1, vec!["figure", "-i", &scan, "-o", "BELOW/F.png"]),
        (1, vec!["convert", &gone, "C.nii"]),
        (1, vec!["convert", &empty, "C.nii"]),
        (1, vec!["convert", &rubbish, "C.nii"]),
        (1, vec!["convert", &scan, "C.nii", "--like", &gone]),
        (1, vec!["convert", &scan, "BELOW/C.nii"]),
        (2, vec!["convert", &scan, "C.bmp"]),
        (2, vec!["convert", &scan, "C.nii", "--spacing", "1,1"]),
        (2, vec!["convert", &scan, "C.nii", "--orient", "RAX"]),
        (2, vec!["convert", &scan, "C.nii", "--like", &truth, "--orient", "RAS"]),
        (1, vec!["view", "--no-open", &gone]),
        (1, vec!["view", "--no-open", &empty]),
        (1, vec!["doctor", "-m", &gone]),
        (1, vec!["doctor", "-m", &empty]),
        (1, vec!["runtime", "install", "--from", &gone]),
    ];
    let place = |word: &str| match word.strip_prefix("BELOW/") {
        Some(name) => below(name),
        None if ["RUN", "M.onnx", "MASK.nii", "MASKS", "F.png", "C.nii", "C.bmp"].contains(&word) => out(word),
        None => word.to_owned(),
    };
    rows.into_iter().map(|(code, words)| (code, words.into_iter().map(place).collect())).collect()
}

#[test]
fn every_command_has_the_documented_exit_code() {
    let home = tempfile::tempdir().unwrap();
    file(home.path(), "rubbish.nii", b"neither a scan nor a folder");
    std::fs::create_dir(home.path().join("empty")).unwrap();
    let mut wrong = Vec::new();
    for (code, arguments) in mistakes(home.path()) {
        let ended = ended(sulcus(home.path()).args(&arguments).output().unwrap());
        let has_message = !ended.stderr.trim().is_empty() && !ended.stderr.contains("panicked");
        if ended.code != code || !has_message {
            wrong.push(format!("{arguments:?}: expected {code}, ended with {}: {}", ended.code, ended.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
