//! Runs the binary, and makes volumes for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The tiny model that is part of the binary.
pub(crate) fn tiny_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny.onnx")
}

/// A file of the bundled scans.
pub(crate) fn bundled(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data").join(path)
}

/// The bundled case that is not used for training.
pub(crate) fn scan() -> PathBuf {
    bundled("case/image.nii.gz")
}

/// Its truth.
pub(crate) fn truth() -> PathBuf {
    bundled("case/truth.nii.gz")
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

/// A NIfTI-1 file with a shape, float32 values, and an sform or none.
pub(crate) fn nifti(shape: &[i16], values: &[f32], sform: Option<[[f32; 4]; 3]>) -> Vec<u8> {
    let mut header = vec![0_u8; 352];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &348_i32.to_le_bytes());
    put(40, &(shape.len() as i16).to_le_bytes());
    for axis in 0..7 {
        put(42 + 2 * axis, &shape.get(axis).copied().unwrap_or(1).to_le_bytes());
        put(80 + 4 * axis, &1.0_f32.to_le_bytes());
    }
    put(70, &16_i16.to_le_bytes());
    put(72, &32_i16.to_le_bytes());
    put(76, &1.0_f32.to_le_bytes());
    put(108, &352.0_f32.to_le_bytes());
    if let Some(rows) = sform {
        put(254, &1_i16.to_le_bytes());
        for (row, at) in rows.iter().zip([280, 296, 312]) {
            for (column, value) in row.iter().enumerate() {
                put(at + 4 * column, &value.to_le_bytes());
            }
        }
    }
    put(344, b"n+1\0");
    header.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    header
}

/// The sform of a grid in RAS with voxels of 1 mm.
pub(crate) const RAS: [[f32; 4]; 3] = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];

/// Writes a file and returns its path.
pub(crate) fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}
