//! The effect of signals on commands that take long, and on files that are being written.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::{ended, file, scan, sulcus, tiny_model};

/// The files in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn each_signal_stops_a_cohort_after_whole_masks() {
    const CASES: usize = 400;
    let home = tempfile::tempdir().unwrap();
    let (scans, bytes) = (home.path().join("scans"), std::fs::read(scan()).unwrap());
    for case in 0..CASES {
        file(&scans, &format!("case_{case:03}.nii.gz"), &bytes);
    }
    for signal in ["-INT", "-TERM", "-HUP"] {
        let masks = home.path().join(signal);
        let mut child = sulcus(home.path())
            .args(["predict", "--engine", "tract", "--json", "-m"])
            .arg(tiny_model())
            .arg(&scans)
            .arg("-o")
            .arg(&masks)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        assert!(Command::new("/bin/kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let told = 1 + lines.count();
        ended(child.wait_with_output().unwrap())
            .code(1)
            .says(&format!("stopped: {told} of {CASES} cases are done"));
        let written = names(&masks);
        assert_eq!(written.len(), told, "{signal}");
        assert!(written.iter().all(|name| name.ends_with(".nii.gz") && !name.starts_with('.')), "{written:?}");
    }
}

#[test]
fn file_size_limit_is_an_error_that_leaves_no_file() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -f 8; exec \"$@\"", "sh"]).arg(sulcus(home.path()).get_program());
    command.arg("convert").arg(scan()).arg(out.join("scan.nii"));
    ended(command.output().unwrap()).code(1).says("cannot write the file").says("scan.nii");
    assert_eq!(names(&out), Vec::<String>::new());
}
