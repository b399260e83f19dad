//! Runs the binary, and makes volumes for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
pub(crate) use sulcus_testing::{bundled, bundled_scan as scan, bundled_truth as truth, nifti};

/// The tiny model that is part of the binary.
pub(crate) fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny.onnx")
}

/// The binary without environment variables that affect it, and with its own data folder.
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

/// The exit code and the output of a command.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The lines of standard output as JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Asserts the exit code, and shows the output if it differs.
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error contains a text.
    pub(crate) fn says(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "expected `{part}` in: {}", self.stderr);
        self
    }
}

/// Runs a command line, whose arguments may be paths.
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

/// Predicts with the tiny model on the built-in engine.
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

/// The sform of a grid in RAS with voxels of 1 mm.
pub(crate) const RAS: [[f32; 4]; 3] = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];

/// Writes a file and returns its path.
pub(crate) fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    sulcus_testing::write_file(&path, bytes);
    path
}
