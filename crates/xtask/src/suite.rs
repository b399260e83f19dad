//! Runs every test of the workspace, then those written in Python, and adds up what the suites report.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::python::{self, Counts};
use crate::setup::Found;
use crate::step;

/// Runs the tests, doc tests included, and prints the sum as the last line.
///
/// # Errors
/// When a test failed, did not compile, or none ran.
pub(crate) fn all(root: &Path, found: &Found) -> Result<(), String> {
    let mut command = step::cargo();
    // Passing tests' output is asked for because a test that can't run here says so in it.
    command.current_dir(root).args(["test", "--release", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    if let Some(library) = &found.onnx_runtime {
        command.env("SULCUS_ORT_LIB", library);
    }
    if let Some(browser) = &found.browser {
        command.env("SULCUS_CHROMIUM", browser);
    }
    let mut tally = Tally::default();
    let outcome = step::timed("cargo test --release --workspace", || {
        let mut child = command.spawn().map_err(|e| format!("can't start cargo test: {e}"))?;
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).split(b'\n') {
                let line = line.map_err(|e| format!("reading what cargo test prints: {e}"))?;
                let line = String::from_utf8_lossy(&line);
                if tally.read(line.trim_end_matches('\r')) {
                    println!("{line}");
                }
            }
        }
        let status = child.wait().map_err(|e| format!("waiting for cargo test: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("cargo test failed ({status})")) }
    });
    // They walk the binary that the tests above have built.
    let mut python = Counts::default();
    let python_outcome = if outcome.is_ok() { python::tests(root, found, &mut python) } else { Ok(()) };
    for reason in &tally.reasons {
        println!("skipped: {reason}");
    }
    let (passed, failed) = (tally.passed() + python.passed, tally.failed + python.failed);
    println!("{passed} passed, {failed} failed, {} skipped", tally.skipped() + python.skipped);
    outcome.and(python_outcome)?;
    if passed == 0 { Err("no test ran".into()) } else { Ok(()) }
}

/// Adds up what libtest prints, suite after suite.
#[derive(Default)]
struct Tally {
    reported_passed: usize,
    failed: usize,
    ignored: usize,
    /// Why each test that passed without testing did so.
    reasons: Vec<String>,
    /// Inside the output of the tests that passed.
    in_successes: bool,
    /// The test whose output is being read, until it has given its reason.
    test: Option<String>,
}

impl Tally {
    /// Takes a line in; true when people should see it.
    fn read(&mut self, line: &str) -> bool {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.in_successes = false;
            self.reported_passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
            return true;
        }
        match line {
            "successes:" => {
                self.in_successes = true;
                self.test = None;
            }
            "failures:" => self.in_successes = false,
            _ if self.in_successes => {
                if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
                    self.test = Some(name.to_string());
                } else if line.to_lowercase().starts_with("skip")
                    && let Some(name) = self.test.take()
                {
                    self.reasons.push(format!("{name}: {line}"));
                }
            }
            _ => {}
        }
        !self.in_successes
    }

    fn skipped(&self) -> usize {
        self.ignored + self.reasons.len()
    }

    /// Tests that passed by testing something.
    fn passed(&self) -> usize {
        self.reported_passed.saturating_sub(self.reasons.len())
    }
}

/// The number before `word` in `ok. 3 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> usize {
    counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> (Tally, Vec<String>) {
        let mut tally = Tally::default();
        let shown = text.lines().filter(|line| tally.read(line)).map(String::from).collect();
        (tally, shown)
    }

    const SUITES: &str = "\
running 3 tests
test a ... ok
test b ... ok
test c ... ok

successes:

---- b stdout ----
skipped: the hippocampus data set is not beside the clone
skipped: said twice

---- c stdout ----
wrote 3 files, skipped none

successes:
    a
    b
    c

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 2 tests
test d ... FAILED

failures:

---- d stdout ----
skip this line: it belongs to a failure

failures:
    d

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn suites_add_up_and_a_test_that_skips_has_not_passed() {
        let (tally, _) = tally(SUITES);
        assert_eq!((tally.passed(), tally.failed, tally.skipped()), (3, 1, 2));
        assert_eq!(tally.reasons, ["b: skipped: the hippocampus data set is not beside the clone"]);
    }

    #[test]
    fn failures_are_shown_and_the_chatter_of_passing_tests_is_not() {
        let (_, shown) = tally(SUITES);
        assert!(shown.iter().any(|line| line.starts_with("skip this line")), "{shown:?}");
        assert!(!shown.iter().any(|line| line.contains("wrote 3 files")), "{shown:?}");
        assert_eq!(shown.iter().filter(|line| line.starts_with("test result")).count(), 2);
    }
}
