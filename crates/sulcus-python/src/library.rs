//! Which ONNX Runtime a Python program gets.

use std::path::PathBuf;

use pyo3::PyErr;
use sulcus_runtime::ort::{NamedLibrary, OrtLibrary, OrtSearch, SearchOutcome, SearchedPlace, find_onnx_runtime};
use sulcus_runtime::{Device, Engine, Error as RuntimeError};

use crate::error::{self, SulcusError};

/// Where to look, as the Python half found it out.
pub(crate) struct Places {
    /// The library that the caller named.
    pub(crate) named: Option<PathBuf>,
    /// Folders with an `onnxruntime` package.
    pub(crate) packages: Vec<PathBuf>,
    /// Where `sulcus runtime install` puts the library.
    pub(crate) data: Option<PathBuf>,
}

impl Places {
    /// The program's own folder, which is Python's, is none of them.
    pub(crate) fn library(self) -> OrtLibrary {
        let named = self.named.map(|path| NamedLibrary { origin: "`ort_library`".into(), path });
        OrtLibrary::Search(OrtSearch {
            named: named.into_iter().collect(),
            executable_folder: None,
            // What the environment has counts before what lies in the user's folder.
            data_folder: self.data.filter(|_| self.packages.is_empty()),
            python_prefixes: self.packages,
            system: true,
        })
    }
}

/// The engine that is to be used, with a sentence for people where `auto` took the slower one.
///
/// The runtime decides the same; what it has to say names options of the command line.
pub(crate) fn engine(
    wanted: Engine,
    device: Device,
    library: &OrtLibrary,
) -> Result<(Engine, Option<String>), PyErr> {
    if wanted == Engine::Tract {
        return Ok((Engine::Tract, None));
    }
    let (runtime, places) = find_onnx_runtime(library).map_err(|e: RuntimeError| error::of_runtime(&e))?;
    if runtime.is_some() {
        return Ok((Engine::Ort, None));
    }
    let looked = looked(&places);
    let by_device = matches!(device, Device::OpenVino | Device::Cuda(_) | Device::TensorRt(_));
    if wanted == Engine::Ort || by_device {
        let asked =
            if wanted == Engine::Ort { format!("engine `{wanted}`") } else { format!("device `{device}`") };
        return Err(SulcusError::new_err(format!(
            "the {asked} needs the ONNX Runtime library, which was not found{looked}\nhint: `pip install onnxruntime` \
             (`onnxruntime-gpu` for CUDA, `onnxruntime-openvino` for OpenVINO) or `sulcus runtime install` fetches it, `ort_library` names one"
        )));
    }
    let note = format!(
        "ONNX Runtime was not found{looked}\nrunning on the embedded engine (tract), which is slower; \
         `pip install onnxruntime` fetches it"
    );
    Ok((Engine::Tract, Some(note)))
}

fn looked(places: &[SearchedPlace]) -> String {
    let line = |p: &SearchedPlace| format!("\n  {}: {}: {}", p.origin, p.outcome, p.path.display());
    places.iter().filter(|p| p.outcome != SearchOutcome::NotTried).map(line).collect()
}
