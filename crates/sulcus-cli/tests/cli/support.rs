//! Running the binary, and volumes to run it on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
pub(crate) use sulcus_testing::{bundled, bundled_scan as scan, bundled_truth as truth, nifti};

/// The tiny model that the binary carries.
pub(crate) fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny.onnx")
}

/// The binary in an environment that says nothing, with a data folder of its own.
pub(crate) fn sulcus(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sulcus"));
    for name in [
        "SULCUS_ORT_LIB",
        "SULCUS_TOKEN",
        "ORT_DYLIB_PATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PATH",
        "COLUMNS",
        "NO_COLOR",
    ] {
        command.env_remove(name);
    }
    command.env("HOME", home).env("XDG_DATA_HOME", home.join("data"));
    command
}

/// What a command left behind.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The lines of stdout as JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Asserts on the exit code, showing what was said.
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts on a part of stderr.
    pub(crate) fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "expected `{part}` in: {}", self.stderr);
        self
    }
}

/// Runs a command line; arguments that are paths go in as they are.
pub(crate) fn run(home: &Path, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Ended {
    let mut command = sulcus(home);
    for argument in arguments {
        command.arg(argument);
    }
    ended(command.output().unwrap())
}

pub(crate) fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Predicts with the tiny model on the embedded engine.
pub(crate) fn predict(home: &Path, inputs: &[&Path], output: &Path, more: &[&str]) -> Ended {
    let mut command = sulcus(home);
    command
        .args(["predict", "--engine", "tract", "-m"])
        .arg(tiny_model())
        .args(inputs)
        .arg("-o")
        .arg(output)
        .args(more);
    ended(command.output().unwrap())
}

/// The plain RAS grid.
pub(crate) const RAS: [[f32; 4]; 3] = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];

/// Writes a file and returns where.
pub(crate) fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}
