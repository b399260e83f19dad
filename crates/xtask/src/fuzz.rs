//! Runs the fuzzer manually: `tests/fuzz` contains the targets and the corpus, which the tests read too.

use std::path::Path;
use std::process::Command;

use crate::step;

/// The targets of tests/fuzz.
const TARGETS: [&str; 13] = [
    "nifti",
    "dicom",
    "nrrd",
    "metaimage",
    "pictures",
    "tables",
    "model",
    "spec",
    "plan",
    "checkpoint",
    "weights",
    "dataset",
    "nnunet",
];

/// A few kilobytes reach every branch of a reader. Longer files slow down the fuzzer, and compressed voxels may then
/// legitimately need more memory than the limit.
const MAX_FILE_BYTES: u32 = 4096;
/// Twice the size of the voxels that a compressed file of this length may contain as float32. Larger allocations are
/// findings.
const MAX_ALLOCATED_MB: u32 = 48;
const DEFAULT_MINUTES: u64 = 20;

/// Runs one target, or all one after the other, for the given number of minutes each.
///
/// # Errors
/// If a target is unknown, cargo-fuzz or a nightly compiler is missing, or a target finds something.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<(), String> {
    let (minutes, targets) = arguments(words)?;
    let folder = root.join("tests").join("fuzz");
    let hint = |e: String| format!("{e}\nhint: `rustup toolchain install nightly` and `cargo install cargo-fuzz`");
    let cargo = || {
        let mut command = Command::new("cargo");
        command.current_dir(&folder);
        command
    };
    step::run(cargo().args(["run", "--release", "--quiet", "--bin", "seeds"]))?;
    for target in targets {
        let mut command = cargo();
        command.args(["+nightly", "fuzz", "run", "--fuzz-dir", ".", target]);
        // New findings are not added to the committed corpus.
        command.args([format!("found/{target}"), format!("corpus/{target}")]);
        command.arg("--");
        command.arg(format!("-max_total_time={}", minutes * 60));
        command.arg(format!("-max_len={MAX_FILE_BYTES}"));
        command.arg(format!("-malloc_limit_mb={MAX_ALLOCATED_MB}"));
        command.args(["-rss_limit_mb=2048", "-timeout=20", "-print_final_stats=1"]);
        let found = folder.join("found").join(target);
        std::fs::create_dir_all(&found).map_err(|e| format!("creating {}: {e}", found.display()))?;
        step::run(&mut command).map_err(hint)?;
    }
    Ok(())
}

/// `[--minutes M] [TARGET]`.
fn arguments<'a>(words: &[&'a str]) -> Result<(u64, Vec<&'a str>), String> {
    let (minutes, rest) = match words {
        ["--minutes", minutes, rest @ ..] => {
            let minutes = minutes.parse().map_err(|_| format!("--minutes takes a number, found '{minutes}'"))?;
            (minutes, rest)
        }
        rest => (DEFAULT_MINUTES, rest),
    };
    match rest {
        [] => Ok((minutes, TARGETS.to_vec())),
        [target] if TARGETS.contains(target) => Ok((minutes, vec![target])),
        _ => Err(format!("expected [--minutes M] [TARGET], where TARGET is one of {}", TARGETS.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_and_minutes_are_parsed() {
        assert_eq!(arguments(&["--minutes", "3", "nrrd"]).unwrap(), (3, vec!["nrrd"]));
        assert_eq!(arguments(&[]).unwrap(), (DEFAULT_MINUTES, TARGETS.to_vec()));
        assert!(arguments(&["dicom-in-space"]).unwrap_err().contains("one of nifti, dicom, nrrd"));
        assert!(arguments(&["--minutes", "x"]).is_err());
    }

    #[test]
    fn every_target_has_a_program() {
        let manifest = include_str!("../../../tests/fuzz/Cargo.toml");
        let named = manifest.lines().filter(|line| line.starts_with("path = \"fuzz_targets/")).count();
        assert_eq!(named, TARGETS.len());
        assert!(TARGETS.iter().all(|target| manifest.contains(&format!("name = \"{target}\""))));
    }
}
