//! Which ONNX Runtime a Python program uses.

use std::path::PathBuf;

use pyo3::PyErr;
use sulcus_runtime::ort::{NamedLibrary, OrtLibrary, OrtSearch, SearchOutcome, SearchedPlace, find_onnx_runtime};
use sulcus_runtime::{Device, Engine, Error as RuntimeError};

use crate::error::{self, SulcusError};

/// Where to search, as the Python half has determined it.
pub(crate) struct SearchPaths {
    /// The library that the caller named.
    pub(crate) library: Option<PathBuf>,
    /// Folders with an `onnxruntime` package.
    pub(crate) package_folders: Vec<PathBuf>,
    /// The folder that `sulcus runtime install` uses.
    pub(crate) data_folder: Option<PathBuf>,
}

impl SearchPaths {
    /// The folder of the executable is not searched, because the executable is Python's.
    pub(crate) fn into_library(self) -> OrtLibrary {
        let named = self.library.map(|path| NamedLibrary { origin: "`ort_library`".into(), path });
        OrtLibrary::Search(OrtSearch {
            named: named.into_iter().collect(),
            executable_folder: None,
            // A package in the environment takes precedence over the user's folder.
            data_folder: self.data_folder.filter(|_| self.package_folders.is_empty()),
            python_prefixes: self.package_folders,
            system: true,
        })
    }
}

/// The engine to use, with a note for the user when `auto` selects the slower one.
///
/// The runtime makes the same decision. This function makes it first, to give hints for Python.
pub(crate) fn choose_engine(
    wanted: Engine,
    device: Device,
    library: &OrtLibrary,
) -> Result<(Engine, Option<String>), PyErr> {
    if matches!(wanted, Engine::Native | Engine::Tract) {
        return Ok((wanted, None));
    }
    let (runtime, places) = find_onnx_runtime(library).map_err(|e: RuntimeError| error::runtime_error(&e))?;
    if runtime.is_some() {
        return Ok((Engine::Ort, None));
    }
    let searched = describe(&places);
    let device_needs_ort = matches!(device, Device::OpenVino | Device::Cuda(_) | Device::TensorRt(_));
    if wanted == Engine::Ort || device_needs_ort {
        let setting =
            if wanted == Engine::Ort { format!("engine `{wanted}`") } else { format!("device `{device}`") };
        return Err(SulcusError::new_err(format!(
            "the {setting} needs the ONNX Runtime library, which was not found{searched}\nhint: `pip install onnxruntime` \
             (`onnxruntime-gpu` for CUDA, `onnxruntime-openvino` for OpenVINO) or `sulcus runtime install` installs it, and \
             `ort_library` sets its path"
        )));
    }
    let note = format!(
        "ONNX Runtime was not found{searched}\nrunning on the built-in engine (tract), which is slower; \
         `pip install onnxruntime` installs it"
    );
    Ok((Engine::Tract, Some(note)))
}

fn describe(places: &[SearchedPlace]) -> String {
    let line = |p: &SearchedPlace| format!("\n  {}: {}: {}", p.origin, p.outcome, p.path.display());
    places.iter().filter(|p| p.outcome != SearchOutcome::NotTried).map(line).collect()
}
