//! Programs that the tests need and a new machine lacks: ONNX Runtime and a headless browser. Each is searched for, and
//! fetched if possible. Tests whose programs are still missing are reported as ignored.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step;

/// A fixed version, for the same results on every machine; any release from 1.22 on works.
const ONNX_RUNTIME: &str = "1.32.0";

/// The programs that were found or fetched.
pub(crate) struct Found {
    /// ONNX Runtime's shared library.
    pub(crate) onnx_runtime: Option<PathBuf>,
    /// A Chromium that supports headless mode.
    pub(crate) browser: Option<PathBuf>,
}

/// Finds or fetches everything. Programs that cannot be fetched are reported and left out.
///
/// # Errors
/// If the user named a library that does not exist: the tests would silently use another one.
pub(crate) fn all() -> Result<Found, String> {
    let onnx_runtime = step::timed("ONNX Runtime for the tests", || {
        let found = onnx_runtime()?;
        match &found {
            Some(path) => println!("    {}", path.display()),
            None => println!(
                "    none: its tests will be ignored. Set SULCUS_ORT_LIB to an ONNX Runtime library, or install python3 with pip"
            ),
        }
        Ok(found)
    })?;
    let browser = step::timed("Chromium for the viewer's tests", || {
        let found = browser();
        match &found {
            Some(path) => println!("    {}", path.display()),
            None => println!("    none: the viewer's tests will be ignored. Install chromium"),
        }
        Ok(found)
    })?;
    Ok(Found { onnx_runtime, browser })
}

fn onnx_runtime() -> Result<Option<PathBuf>, String> {
    for variable in ["SULCUS_ORT_LIB", "ORT_DYLIB_PATH"] {
        if let Some(path) = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from) {
            return if path.is_file() {
                Ok(Some(path))
            } else {
                Err(format!("{variable} does not name a file: unset it, or correct it: {}", path.display()))
            };
        }
    }
    let folder = step::cache_folder().join(format!("onnxruntime-{ONNX_RUNTIME}"));
    if let Some(library) = library_in(&folder) {
        return Ok(Some(library));
    }
    match fetch_onnx_runtime(&folder) {
        Ok(()) => Ok(library_in(&folder)),
        Err(why) => {
            println!("    the wheel cannot be fetched: {why}");
            Ok(None)
        }
    }
}

/// Downloads the PyPI wheel with pip and unpacks it into `folder`, which appears only when it is complete.
fn fetch_onnx_runtime(folder: &Path) -> Result<(), String> {
    let python = step::find_program(&["python3", "python"]).ok_or("there is no python3 on the search path")?;
    let partial = folder.with_extension(format!("{}.partial", std::process::id()));
    std::fs::create_dir_all(&partial).map_err(|e| format!("making {}: {e}", partial.display()))?;
    let outcome = (|| {
        step::capture(
            Command::new(&python)
                .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(["--only-binary=:all:", &format!("onnxruntime=={ONNX_RUNTIME}"), "-d"])
                .arg(&partial),
        )?;
        let wheel = files_of(&partial)
            .into_iter()
            .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
            .ok_or("pip downloaded no wheel")?;
        step::capture(Command::new(&python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&partial))?;
        std::fs::remove_file(&wheel).map_err(|e| format!("removing {}: {e}", wheel.display()))?;
        std::fs::rename(&partial, folder).map_err(|e| format!("renaming to {}: {e}", folder.display()))
    })();
    if outcome.is_err() {
        // The first error is reported.
        let _ = std::fs::remove_dir_all(&partial);
    }
    outcome
}

/// The library of ONNX Runtime in an unpacked wheel, as opposed to its providers and its Python module.
fn library_in(wheel: &Path) -> Option<PathBuf> {
    files_of(&wheel.join("onnxruntime").join("capi")).into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unix = name.starts_with("libonnxruntime.") && (name.contains(".so") || name.ends_with(".dylib"));
        unix || name == "onnxruntime.dll"
    })
}

/// The entries of a folder, sorted; empty if it cannot be read.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    step::find_program(&names).or_else(|| {
        install_chromium();
        step::find_program(&names)
    })
}

/// Debian's package, if this user may install it.
fn install_chromium() {
    let Some(apt) = step::find_program(&["apt-get"]) else { return };
    let root = step::capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !root {
        println!("    only root can install it: apt-get install chromium");
        return;
    }
    let quiet = |arguments: &[&str]| {
        let mut command = Command::new(&apt);
        step::capture(command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments)).map(|_| ())
    };
    let installed = quiet(&["update"])
        .and_then(|()| quiet(&["install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"]));
    if let Err(why) = installed {
        println!("    it cannot be installed: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folder of a wheel with these files.
    fn wheel(name: &str, files: &[&str]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let capi = folder.join("onnxruntime").join("capi");
        std::fs::create_dir_all(&capi).unwrap();
        for file in files {
            std::fs::write(capi.join(file), b"").unwrap();
        }
        folder
    }

    #[test]
    fn library_is_distinguished_from_its_providers() {
        let folder = wheel(
            "linux",
            &["libonnxruntime_providers_shared.so", "onnxruntime_pybind11_state.so", "libonnxruntime.so.1.32.0"],
        );
        let found = library_in(&folder).unwrap();
        assert!(found.ends_with("libonnxruntime.so.1.32.0"), "{found:?}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn wheel_without_the_library_gives_none() {
        let folder = wheel("empty", &["libonnxruntime_providers_shared.so"]);
        assert_eq!(library_in(&folder), None);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
