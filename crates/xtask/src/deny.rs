//! Checks licences, sources and banned crates with cargo-deny, which is installed into the cache if it is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::step;

/// A fixed version, so that a new release does not cause failures.
const VERSION: &str = "0.20.2";
/// Time limit for the server of the advisory database.
const ADVISORIES_LIMIT: Duration = Duration::from_secs(120);

/// Runs `cargo deny` on the workspace at `root`.
///
/// # Errors
/// If it finds something that deny.toml refuses, or cannot be installed.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let program = program()?;
    step::run(Command::new(&program).current_dir(root).args(["--log-level", "error"]).args([
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))?;
    advisories(root, &program)
}

/// Checks for known vulnerabilities and crates without a maintainer. Their database is a git repository. If it cannot be
/// reached, the copy of an earlier run is used; without a copy, this is printed and nothing fails.
fn advisories(root: &Path, program: &Path) -> Result<(), String> {
    let mut fetch = Command::new(program);
    fetch
        .current_dir(root)
        .args(["--log-level", "off", "fetch", "db"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    fetch.stdin(Stdio::null()).env("GIT_TERMINAL_PROMPT", "0");
    if !succeeds_within(&mut fetch, ADVISORIES_LIMIT) {
        if !has_database() {
            println!("    advisories not checked: the RustSec database cannot be reached from this machine");
            return Ok(());
        }
        println!("    the RustSec database cannot be reached: advisories are checked with an earlier copy");
    }
    step::run(Command::new(program).current_dir(root).args(["--offline", "check", "advisories"]))
}

/// Whether there is a copy of the database from an earlier run.
fn has_database() -> bool {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    cargo_home.is_some_and(|folder| {
        let entries = std::fs::read_dir(folder.join("advisory-dbs"));
        // A failed fetch leaves only a lock file.
        entries.is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join(".git").is_dir()))
    })
}

fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let Ok(mut child) = command.spawn() else { return false };
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if begun.elapsed() < limit => std::thread::sleep(Duration::from_millis(50)),
            _ => {
                // The process may have ended by itself in the meantime.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// cargo-deny from the search path or the cache; otherwise it is installed into the cache (a few minutes, once).
fn program() -> Result<PathBuf, String> {
    if let Some(found) = step::find_program(&["cargo-deny"]) {
        return Ok(found);
    }
    let folder = step::cache_folder().join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin").join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    if !program.is_file() {
        // Outside the workspace, whose settings must not affect it. Unoptimised, because it then compiles in half the
        // time and still runs in seconds.
        let install = step::run(
            step::cargo()
                .current_dir(std::env::temp_dir())
                .env("CARGO_PROFILE_DEV_DEBUG", "0")
                .args(["install", "cargo-deny", "--quiet", "--locked", "--debug", "--version", VERSION, "--root"])
                .arg(&folder),
        );
        install.map_err(|e| {
            format!("{e}\nhint: cargo-deny holds the licence rules; install it by hand and run again")
        })?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_that_exceeds_its_time_limit_is_ended() {
        // Without the time limit it would succeed.
        assert!(!succeeds_within(Command::new("sleep").arg("30"), Duration::from_millis(100)));
    }

    #[test]
    fn failed_or_missing_command_has_not_succeeded() {
        assert!(!succeeds_within(&mut Command::new("false"), Duration::from_secs(20)));
        assert!(!succeeds_within(&mut Command::new("no-such-program-at-all"), Duration::from_secs(20)));
    }
}
