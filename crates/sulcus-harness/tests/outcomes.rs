//! The reports of the harness, tested from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::Command;

/// Runs the program of `reports.rs`, which cargo builds beside this one. Its name ends with a hash.
fn report(arguments: &[&str]) -> (bool, String) {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let programs = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_program = path.extension().is_none_or(|extension| extension == std::env::consts::EXE_EXTENSION);
        name.starts_with("reports-") && is_program
    });
    let newest = programs.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
    let mut command = Command::new(newest);
    let output = command.args(arguments).env("SULCUS_HARNESS_FAIL", "1").output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// The line that reports a test, without alignment.
fn line(report: &str, test: &str) -> String {
    let line = report.lines().find(|line| line.starts_with(&format!("test {test} ")));
    line.unwrap_or_else(|| panic!("no test {test} in {report}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn test_that_cannot_run_is_ignored_with_its_reason() {
    let (_, report) = report(&[]);
    assert_eq!(
        line(&report, "inner::cannot_run"),
        "test inner::cannot_run ... ignored (there is no such program)"
    );
}

#[test]
fn partly_skipped_test_is_ignored_unless_it_fails() {
    let (_, report) = report(&[]);
    assert_eq!(
        line(&report, "inner::runs_in_part"),
        "test inner::runs_in_part ... ignored (there is no such engine)"
    );
    assert!(line(&report, "inner::fails_in_the_other_part").ends_with("FAILED"), "{report}");
}

#[test]
fn failures_are_reported_with_their_message() {
    let (success, report) = report(&[]);
    assert!(!success);
    assert!(report.contains("the test panicked: the message of a panic"), "{report}");
    assert!(report.contains("the error of a result"), "{report}");
    assert!(report.contains("test result: FAILED. 1 passed; 3 failed; 2 ignored; 0 measured"), "{report}");
}

#[test]
fn filter_selects_tests() {
    let (success, report) = report(&["inner::cannot"]);
    assert!(success);
    assert!(report.contains("0 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out"), "{report}");
}

#[test]
#[should_panic(expected = "needs `harness = false`")]
fn skipping_under_the_standard_harness_fails() {
    sulcus_harness::skip("no reason");
}
