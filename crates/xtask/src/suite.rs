//! Runs every test of the workspace, then those written in Python, and adds the counts of the harnesses.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::python::{self, Counts};
use crate::setup::Found;
use crate::step;

/// Runs the tests, doc tests included, and prints the sum as the last line.
///
/// # Errors
/// If a test failed or did not compile, or none ran.
pub(crate) fn all(root: &Path, found: &Found) -> Result<(), String> {
    // The documentation pages that are run as tests use the programs of the examples, which `cargo test` does not build. They are built together
    // with the tests, because the dependencies of tests add features to shared packages, which would otherwise be compiled twice.
    step::run(step::cargo().current_dir(root).args(["build", "--release", "--workspace", "--bins", "--tests"]))?;
    let mut command = step::cargo();
    command.current_dir(root).args(["test", "--release", "--workspace", "--no-fail-fast"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    if let Some(library) = &found.onnx_runtime {
        command.env("SULCUS_ORT_LIB", library);
    }
    if let Some(browser) = &found.browser {
        command.env("SULCUS_CHROMIUM", browser);
    }
    let mut tally = Tally::default();
    let outcome = step::timed("cargo test --release --workspace", || {
        let mut child = command.spawn().map_err(|e| format!("cargo test could not be started: {e}"))?;
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).split(b'\n') {
                let line = line.map_err(|e| format!("reading the output of cargo test: {e}"))?;
                let line = String::from_utf8_lossy(&line);
                tally.read(line.trim_end_matches('\r'));
                println!("{line}");
            }
        }
        let status = child.wait().map_err(|e| format!("waiting for cargo test: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("cargo test failed ({status})")) }
    });
    // They run the binary that was built by the tests above.
    let mut python = Counts::default();
    let python_outcome = if outcome.is_ok() { python::tests(root, found, &mut python) } else { Ok(()) };
    for reason in &tally.reasons {
        println!("ignored: {reason}");
    }
    for name in tally.failures.iter().chain(&python.failures) {
        println!("failed: {name}");
    }
    let (passed, failed) = (tally.passed + python.passed, tally.failed + python.failed);
    println!("{passed} passed, {failed} failed, {} skipped", tally.ignored + python.skipped);
    outcome.and(python_outcome)?;
    if passed == 0 { Err("no test ran".into()) } else { Ok(()) }
}

/// Adds the reports of the harnesses. `sulcus-harness` reports in the form of Rust's own harness.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    /// Each ignored test with the reason that its harness reports.
    reasons: Vec<String>,
    /// The name of each failed test.
    failures: Vec<String>,
}

impl Tally {
    fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.trim_end().to_string());
        } else if let Some((name, reason)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored"))
        {
            // Rust's harness writes `ignored, reason`, `sulcus-harness` writes `ignored (reason)`.
            let inside = reason.trim().strip_prefix('(').and_then(|reason| reason.strip_suffix(')'));
            let reason = inside.unwrap_or_else(|| reason.trim_start_matches([',', ' ']));
            self.reasons.push(format!("{}: {reason}", name.trim_end()));
        }
    }
}

/// The number before `word` in `ok. 3 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> usize {
    counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
running 3 tests
test a ... ok
test b::takes_long ... ignored, needs a whole day
test c ... ok

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 2 tests
test engines::both  ... ignored (no ONNX Runtime; set SULCUS_ORT_LIB)
skipped: what a test prints counts for nothing
test d              ... FAILED

failures:

---- d stdout ----
skip this line: it belongs to a failure

failures:
    d

test result: FAILED. 0 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn counts_are_added_and_names_come_only_from_the_harness() {
        let mut tally = Tally::default();
        TARGETS.lines().for_each(|line| tally.read(line));
        assert_eq!((tally.passed, tally.failed, tally.ignored), (2, 1, 2));
        assert_eq!(tally.failures, ["d"]);
        assert_eq!(
            tally.reasons,
            ["b::takes_long: needs a whole day", "engines::both: no ONNX Runtime; set SULCUS_ORT_LIB"]
        );
    }
}
