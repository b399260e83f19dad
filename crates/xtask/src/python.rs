//! Python for the tests and the comparisons: environments in the cache, and the tests that use Python packages of other
//! projects (nibabel, SimpleITK, Snakemake, the wheel of `sulcus-python`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::setup::Found;
use crate::step;

/// Tests that need the `sulcus` binary and other projects' packages.
const SUITES: &[&str] =
    &["tests/python", "crates/sulcus-serve/tests/test_openapi.py", "examples/cluster/test_cluster.py"];
/// Tests of the Python package, which run in an environment with only the wheel and the packages of its users.
const WHEEL: &str = "crates/sulcus-python";
/// Further packages that the tests of the wheel import, in the versions of the list for the other tests.
const WHEEL_NEEDS: &[&str] = &["numpy", "nibabel", "pytest", "mypy", "anywidget"];
/// The only package of the test in a notebook; without it that test is skipped, because it installs a hundred others.
const JUPYTER: &str = "jupyterlab==4.6.6";

/// The counts that pytest reports.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    /// The names of the tests that failed.
    pub(crate) failures: Vec<String>,
}

/// Runs the tests written in Python. Without Python each suite counts as skipped.
///
/// # Errors
/// If a test failed, or the wheel cannot be built.
pub(crate) fn tests(root: &Path, found: &Found, counts: &mut Counts) -> Result<(), String> {
    let python = match environment("tests", &requirements(root)) {
        Ok(python) => python,
        Err(why) => {
            println!("ignored: the tests written in Python: {why}");
            counts.skipped += SUITES.len() + 1;
            return Ok(());
        }
    };
    let mut failures = Vec::new();
    let suites: Vec<PathBuf> = SUITES.iter().map(|suite| root.join(suite)).collect();
    if let Err(why) = pytest(root, found, &python, &suites, counts) {
        failures.push(why);
    }
    if let Err(why) = wheel(root, found, &python, &[], "tests", counts) {
        failures.push(why);
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\nerror: ")) }
}

/// The list of the packages that the tests use.
fn requirements(root: &Path) -> PathBuf {
    root.join("tests").join("python").join("requirements.txt")
}

/// A Python with the packages in `requirements`, created once per set of packages and kept in the cache.
///
/// # Errors
/// When there is no Python, or a package cannot be installed.
pub(crate) fn environment(name: &str, requirements: &Path) -> Result<PathBuf, String> {
    let wanted = std::fs::read(requirements)
        .map_err(|e| format!("reading the list of packages: {e}: {}", requirements.display()))?;
    let hash: String = Sha256::digest(&wanted).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let folder = step::cache_folder().join(format!("{name}-{hash}"));
    let complete = folder.join("complete");
    if !complete.is_file() {
        let python = fresh(&folder)?;
        install(&python, |pip| pip.arg("-r").arg(requirements))?;
        std::fs::write(&complete, b"").map_err(|e| format!("writing {}: {e}", complete.display()))?;
    }
    Ok(interpreter(&folder))
}

/// Runs the test of the viewer in JupyterLab.
///
/// # Errors
/// If the packages cannot be installed, or the test failed or was skipped.
pub(crate) fn jupyter(root: &Path) -> Result<(), String> {
    let python = environment("tests", &requirements(root))?;
    let mut counts = Counts::default();
    let found = Found { onnx_runtime: None, browser: None };
    wheel(root, &found, &python, &[JUPYTER], "tests/test_jupyter.py", &mut counts)?;
    if counts.skipped == 0 { Ok(()) } else { Err("the test of the viewer in JupyterLab was skipped".to_owned()) }
}

/// Builds the wheel like a user, installs it into a new environment with some more packages, and runs tests there. The feature changes nothing
/// in the wheel; with it the build shares packages with that of the other tests.
fn wheel(
    root: &Path,
    found: &Found,
    python: &Path,
    more: &[&str],
    tests: &str,
    counts: &mut Counts,
) -> Result<(), String> {
    let scratch = std::env::temp_dir().join(format!("sulcus-wheel-{}", std::process::id()));
    let outcome = (|| {
        let wheels = scratch.join("wheels");
        step::run(
            Command::new(python)
                .current_dir(root)
                .args(["-m", "maturin", "build", "--release", "--locked", "--quiet"])
                .args(["--features", "workspace-build", "--manifest-path"])
                .arg(root.join(WHEEL).join("Cargo.toml"))
                .arg("--out")
                .arg(&wheels),
        )?;
        let built = std::fs::read_dir(&wheels)
            .map_err(|e| format!("listing the output of maturin: {e}: {}", wheels.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .ok_or("maturin built no wheel")?;
        let clean = fresh(&scratch.join("environment"))?;
        // The list pins the versions. It is given as a constraint, so that none of its other packages is installed.
        install(&clean, |pip| pip.args(WHEEL_NEEDS).args(more).arg("-c").arg(requirements(root)).arg(&built))?;
        pytest(root, found, &clean, &[root.join(WHEEL).join(tests)], counts)
    })();
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).map_err(|e| format!("removing {}: {e}", scratch.display()))?;
    }
    outcome
}

/// An environment that contains only pip.
fn fresh(folder: &Path) -> Result<PathBuf, String> {
    let base = step::find_program(&["python3", "python"]).ok_or("there is no python3 on the search path")?;
    step::run(Command::new(base).args(["-m", "venv", "--clear"]).arg(folder))?;
    Ok(interpreter(folder))
}

fn interpreter(environment: &Path) -> PathBuf {
    if cfg!(windows) {
        environment.join("Scripts").join("python.exe")
    } else {
        environment.join("bin").join("python")
    }
}

fn install(python: &Path, wanted: impl FnOnce(&mut Command) -> &mut Command) -> Result<(), String> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    step::run(wanted(&mut pip))
}

/// Runs `suites` with pytest and adds their counts.
fn pytest(
    root: &Path,
    found: &Found,
    python: &Path,
    suites: &[PathBuf],
    counts: &mut Counts,
) -> Result<(), String> {
    let mut command = Command::new(python);
    // Bytecode and the cache of pytest would create files in the clone.
    command.current_dir(root).args(["-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rsfE"]).args(suites);
    let binary = format!("sulcus{}", std::env::consts::EXE_SUFFIX);
    command.env("SULCUS_BIN", step::target_folder(root).join("release").join(binary)).env("SULCUS_REPO", root);
    if let Ok(this) = std::env::current_exe() {
        command.env("SULCUS_XTASK", this);
    }
    if let Some(library) = &found.onnx_runtime {
        command.env("SULCUS_ORT_LIB", library);
    }
    // Programs of the environment, such as Snakemake, start each other by name.
    if let (Some(programs), Some(path)) = (python.parent(), std::env::var_os("PATH")) {
        let folders = std::iter::once(programs.to_path_buf()).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(folders).map_err(|e| format!("putting Python on the search path: {e}"))?;
        command.env("PATH", path);
    }
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let shown: Vec<String> =
        suites.iter().map(|suite| suite.strip_prefix(root).unwrap_or(suite).display().to_string()).collect();
    step::timed(&format!("pytest {}", shown.join(" ")), || {
        let output = command.output().map_err(|e| format!("pytest could not be started: {e}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        print!("{said}");
        let counted = said.lines().rev().find_map(counted).ok_or("pytest printed no counts")?;
        counts.passed += counted.passed;
        counts.failed += counted.failed;
        counts.skipped += counted.skipped;
        counts.failures.extend(said.lines().filter_map(failure));
        if output.status.success() { Ok(()) } else { Err(format!("pytest failed ({})", output.status)) }
    })
}

/// The last line of pytest's output, such as `1 failed, 12 passed, 2 skipped, 3 warnings in 4.56s`.
fn counted(line: &str) -> Option<Counts> {
    let (numbers, _) = line.trim_matches(['=', ' ']).rsplit_once(" in ")?;
    let mut counts = Counts::default();
    for part in numbers.split(", ") {
        let (number, what) = part.split_once(' ')?;
        let number: usize = number.parse().ok()?;
        match what {
            "passed" | "xpassed" => counts.passed += number,
            "failed" | "error" | "errors" => counts.failed += number,
            "skipped" | "xfailed" | "deselected" => counts.skipped += number,
            _ => {}
        }
    }
    Some(counts)
}

/// The name of a failed test in pytest's summary, such as `FAILED tests/x.py::a - assert 1 in [2]`.
fn failure(line: &str) -> Option<String> {
    let rest = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR "))?;
    let name = rest.split_once(" - ").map_or(rest, |(name, _)| name);
    (name.contains(".py::") || name.ends_with(".py")).then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_named_by_the_summary_of_pytest() {
        assert_eq!(failure("FAILED tests/x.py::a[b c] - assert 1 in [2]").as_deref(), Some("tests/x.py::a[b c]"));
        assert_eq!(failure("FAILED tests/x.py::a").as_deref(), Some("tests/x.py::a"));
        assert_eq!(failure("ERROR tests/x.py - ImportError").as_deref(), Some("tests/x.py"));
        assert_eq!(failure("ERROR root:logging.py:12 something"), None);
        assert_eq!(failure("1 failed, 12 passed in 4.56s"), None);
    }

    #[test]
    fn only_the_last_line_of_pytest_is_parsed() {
        let counts = |passed, failed, skipped| Some(Counts { passed, failed, skipped, failures: Vec::new() });
        assert_eq!(counted("12 passed in 4.56s"), counts(12, 0, 0));
        assert_eq!(counted("1 failed, 12 passed, 2 skipped, 3 warnings in 64.10s (0:01:04)"), counts(12, 1, 2));
        assert_eq!(counted("==== 3 passed, 2 errors in 0.1s ===="), counts(3, 2, 0));
        assert_eq!(counted("SKIPPED [1] tests/x.py:3: no browser in sight"), None);
        assert_eq!(counted("FAILED tests/x.py::a - assert 1 in [2]"), None);
    }
}
