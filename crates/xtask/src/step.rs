//! Runs a command as a named step: prints what it runs and how long it took.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Runs `command` with its output shown.
///
/// # Errors
/// If it cannot be started or its exit code is not 0.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    timed(&shown(command), || {
        let status = command.status().map_err(|e| format!("{} could not be started: {e}", shown(command)))?;
        if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", shown(command))) }
    })
}

/// Runs `command` without showing its output, and returns its standard output.
///
/// # Errors
/// If it cannot be started or its exit code is not 0; the message ends with its standard error.
pub(crate) fn capture(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{} could not be started: {e}", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} failed ({}): {}", shown(command), output.status, said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `work` under a heading and prints how long it took.
pub(crate) fn timed<T>(name: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    println!("==> {name}");
    let begun = Instant::now();
    let outcome = work();
    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
    println!("    {verdict} after {:.1} s", begun.elapsed().as_secs_f64());
    outcome
}

/// The first of `names` that is an executable file on the search path.
pub(crate) fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| {
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        folders.iter().map(|folder| folder.join(&file)).find(|candidate| candidate.is_file())
    })
}

/// The folder of fetched tools: outside the clone, so that a new clone finds them again.
pub(crate) fn cache_folder() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("XDG_CACHE_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".cache")))
        .or_else(|| from("LOCALAPPDATA"))
        .unwrap_or_else(std::env::temp_dir)
        .join("sulcus")
}

/// The folder into which cargo builds the workspace at `root`.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

fn shown(command: &Command) -> String {
    let assignments = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
    });
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let arguments = command.get_args().map(|a| a.to_string_lossy().into_owned());
    assignments.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_command_is_named() {
        let message = run(cargo().args(["no-such-subcommand-at-all"])).unwrap_err();
        assert!(message.contains("no-such-subcommand-at-all failed"), "{message}");
    }

    #[test]
    fn missing_program_is_an_error() {
        let message = capture(&mut Command::new("no-such-program-at-all")).unwrap_err();
        assert!(message.starts_with("no-such-program-at-all could not be started"), "{message}");
    }

    #[test]
    fn programs_are_found_on_the_path_only() {
        assert!(find_program(&["no-such-program-at-all"]).is_none());
        assert!(find_program(&["no-such-program-at-all", "cargo"]).is_some());
    }
}
