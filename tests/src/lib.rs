//! Shared by the suites: the bundled cases, the shipped models and the engines.

use std::path::{Path, PathBuf};

use sulcus_model::ModelSpec;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Engine, Segmenter, SegmenterBuilder};

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The shipped 2-D model, which most tests use.
pub fn shipped_model() -> PathBuf {
    root().join("models/hippocampus/model.onnx")
}

/// The shipped model in 8-bit integers, which tract does not support.
pub fn shipped_int8_model() -> PathBuf {
    root().join("models/hippocampus-3d/model-int8.onnx")
}

/// Every shipped model: 2-D, 3-D, and 3-D in 8-bit integers.
pub fn shipped_models() -> [PathBuf; 3] {
    [shipped_model(), root().join("models/hippocampus-3d/model.onnx"), shipped_int8_model()]
}

/// The specification of the shipped model.
///
/// # Errors
/// If the file cannot be read or is not a model.
pub fn shipped_spec() -> Result<ModelSpec, Box<dyn std::error::Error>> {
    Ok(sulcus_onnx::read_spec(&std::fs::read(shipped_model())?)?)
}

/// Image and reference of each bundled case that was not in the training data of the shipped model, by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn held_out_cases() -> std::io::Result<Vec<(String, PathBuf, PathBuf)>> {
    let folder = root().join("examples/data/hippocampus");
    let splits = std::fs::read_to_string(folder.join("splits_final.json"))?;
    // `[{"train": [...], "val": [...]}]`: the names after "val".
    let names = splits.split("\"val\"").nth(1).unwrap_or_default();
    let mut cases: Vec<(String, PathBuf, PathBuf)> = names
        .split('"')
        .filter(|name| name.starts_with("hippocampus_"))
        .map(|name| {
            let file = |kind: &str| folder.join(kind).join(format!("{name}.nii.gz"));
            (name.to_owned(), file("imagesTr"), file("labelsTr"))
        })
        .collect();
    cases.sort();
    Ok(cases)
}

/// A volume of the shared development data, which a clone may lack. If it is missing, that part of the test counts as
/// skipped.
pub fn development_data(path: &str) -> Option<PathBuf> {
    let path = root().join("../shared/data").join(path);
    if !path.exists() {
        sulcus_harness::skip_part(format_args!("{} is not on this machine", path.display()));
        return None;
    }
    Some(path)
}

/// A builder for this engine, without a model. ONNX Runtime comes from `SULCUS_ORT_LIB`, which `cargo xtask test` sets.
/// If it is missing, that part of the test counts as skipped.
pub fn builder(engine: Engine) -> Option<SegmenterBuilder> {
    let builder = Segmenter::builder().engine(engine);
    if engine != Engine::Ort {
        return Some(builder);
    }
    onnx_runtime().map(|library| builder.ort_library(library))
}

/// The ONNX Runtime of the environment. If there is none, that part of the test counts as skipped.
pub fn onnx_runtime() -> Option<OrtLibrary> {
    let library = std::env::var_os("SULCUS_ORT_LIB");
    if library.is_none() {
        sulcus_harness::skip_part("there is no ONNX Runtime; set SULCUS_ORT_LIB");
    }
    library.map(|library| OrtLibrary::Path(library.into()))
}

/// All engines. If one is missing, that part of the test counts as skipped.
pub fn engines() -> Vec<(Engine, SegmenterBuilder)> {
    [Engine::Tract, Engine::Native, Engine::Ort]
        .into_iter()
        .filter_map(|engine| Some((engine, builder(engine)?)))
        .collect()
}
