//! Which ONNX Runtime a Python program uses.

use std::path::PathBuf;

use pyo3::PyErr;
use sulcus_runtime::ort::{NamedLibrary, OrtLibrary, OrtSearch, SearchOutcome, SearchedPlace, find_onnx_runtime};
use sulcus_runtime::{Device, Engine, Error as RuntimeError, Note};

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

/// Refuses an engine or device that needs ONNX Runtime if it is not found.
///
/// The runtime does the same. This function does it first, to give hints for Python.
pub(crate) fn require_library(wanted: Engine, device: Device, library: &OrtLibrary) -> Result<(), PyErr> {
    let device_needs_ort = matches!(device, Device::OpenVino | Device::Cuda(_) | Device::TensorRt(_));
    if matches!(wanted, Engine::Native | Engine::Tract) || !(wanted == Engine::Ort || device_needs_ort) {
        return Ok(());
    }
    let (runtime, places) = find_onnx_runtime(library).map_err(|e: RuntimeError| error::runtime_error(&e))?;
    if runtime.is_some() {
        return Ok(());
    }
    let setting = if wanted == Engine::Ort { format!("engine `{wanted}`") } else { format!("device `{device}`") };
    Err(SulcusError::new_err(format!(
        "the {setting} needs the ONNX Runtime library, which was not found{}\nhint: `pip install onnxruntime` \
         (`onnxruntime-gpu` for CUDA, `onnxruntime-openvino` for OpenVINO) or `sulcus runtime install` installs it, and \
         `ort_library` sets its path",
        describe(&places)
    )))
}

/// A note of the runtime, with a hint for Python.
pub(crate) fn note_text(note: &Note, library: &OrtLibrary) -> String {
    match (note, find_places(note, library)) {
        (Note::OnnxRuntimeNotFound { .. }, Some(places)) => format!(
            "ONNX Runtime was not found{}\nrunning on the built-in engine (tract), which is slower; \
             `pip install onnxruntime` installs it",
            describe(&places)
        ),
        _ => note.to_string(),
    }
}

/// Where ONNX Runtime was searched, for the note that says so.
fn find_places(note: &Note, library: &OrtLibrary) -> Option<Vec<SearchedPlace>> {
    matches!(note, Note::OnnxRuntimeNotFound { .. }).then(|| find_onnx_runtime(library).ok())?.map(|found| found.1)
}

fn describe(places: &[SearchedPlace]) -> String {
    let line = |p: &SearchedPlace| format!("\n  {}: {}: {}", p.origin, p.outcome, p.path.display());
    places.iter().filter(|p| p.outcome != SearchOutcome::NotTried).map(line).collect()
}
