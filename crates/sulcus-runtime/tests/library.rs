//! A process can load only one ONNX Runtime, so everything before and after loading it is tested in one function, in
//! order.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{model, search};
use sulcus_runtime::ort::{LibraryOrigin, OrtLibrary, OrtSearch, SearchOutcome, find_onnx_runtime};
use sulcus_runtime::{Device, Engine, ErrorKind, Note, Segmenter};

/// Compiles a shared library from Rust source with the compiler of the test machine.
fn shared_library(folder: &Path, name: &str, source: &str) -> PathBuf {
    let (file, library) = (folder.join(format!("{name}.rs")), folder.join(name));
    std::fs::write(&file, source).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "fake", "-C", "panic=abort", "-o"])
        .arg(&library)
        .arg(&file)
        .status();
    assert!(status.unwrap().success());
    library
}

const TOO_OLD: &str = r#"
#[repr(C)]
pub struct Base { api: extern "C" fn(u32) -> *const u8, version: extern "C" fn() -> *const u8 }
extern "C" fn api(_: u32) -> *const u8 { std::ptr::null() }
extern "C" fn version() -> *const u8 { c"1.17.3".as_ptr().cast() }
static BASE: Base = Base { api, version };
#[unsafe(no_mangle)]
pub extern "C" fn OrtGetApiBase() -> *const Base { &BASE }
"#;

fn message(library: OrtLibrary) -> String {
    find_onnx_runtime(&library).unwrap_err().to_string()
}

fn named(path: &Path) -> OrtLibrary {
    OrtLibrary::Path(path.to_path_buf())
}

#[test]
fn onnx_runtime_is_found_once() {
    let folder = tempfile::tempdir().unwrap();
    let file_name = if cfg!(windows) {
        "onnxruntime.dll"
    } else if cfg!(target_vendor = "apple") {
        "libonnxruntime.dylib"
    } else {
        "libonnxruntime.so"
    };

    // A named library that is missing, not a library, not ONNX Runtime, or too old is an error with the reason.
    let missing = folder.path().join("missing").join(file_name);
    let error = message(named(&missing));
    assert!(error.contains("there is no such file") && error.ends_with(file_name), "{error}");
    let text = folder.path().join("text.so");
    std::fs::write(&text, "hello").unwrap();
    let error = message(named(&text));
    assert!(error.contains("the system cannot load it") && error.contains("1.22 or newer"), "{error}");
    let other = shared_library(folder.path(), "other.so", "");
    let error = message(named(&other));
    assert!(error.contains("it is not ONNX Runtime"), "{error}");
    let old = shared_library(folder.path(), file_name, TOO_OLD);
    let error = message(named(&old));
    assert!(error.contains("it is ONNX Runtime 1.17.3; expected 1.22 or newer"), "{error}");
    // A folder stands for the library in it.
    let error = message(named(folder.path()));
    assert!(error.contains("1.17.3") && error.ends_with(file_name), "{error}");

    // A search skips unusable libraries and records the reasons.
    let local = OrtSearch { data_folder: Some(folder.path().to_path_buf()), ..OrtSearch::default() };
    let (runtime, places) = find_onnx_runtime(&OrtLibrary::Search(local.clone())).unwrap();
    assert!(runtime.is_none());
    assert_eq!((places.len(), &places[0].origin, &places[0].path), (1, &LibraryOrigin::DataFolder, &old));
    assert!(matches!(&places[0].outcome, SearchOutcome::Refused(reason) if reason.contains("1.17.3")));

    // Without a library, `auto` runs the built-in engine and reports it; a named engine `ort` or GPU is an error.
    let builder = || Segmenter::builder().model_bytes(model(2)).ort_library(OrtLibrary::Search(local.clone()));
    let segmenter = builder().build().unwrap();
    assert_eq!((segmenter.engine(), segmenter.device()), (Engine::Tract, Device::Cpu));
    assert!(matches!(segmenter.notes()[0], Note::OnnxRuntimeNotFound { .. }), "{:?}", segmenter.notes());
    for builder in [builder().engine(Engine::Ort), builder().device(Device::Cuda(0))] {
        let error = builder.build().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::LibraryNotFound { looked: 1 }), "{error}");
    }
    let error = builder().device(Device::Vulkan(0)).build().unwrap_err().to_string();
    assert!(error.contains("vulkan is a training device"), "{error}");
    let error = builder().ort_library(named(&old)).build().unwrap_err().to_string();
    assert!(error.contains("1.17.3"), "a named library is never skipped: {error}");

    // After all these failures, the process can still load a usable library.
    let (runtime, places) = find_onnx_runtime(&OrtLibrary::Search(search())).unwrap();
    let Some(runtime) = runtime else {
        sulcus_harness::skip("the rest, which needs ONNX Runtime; set SULCUS_ORT_LIB");
    };
    assert!(runtime.version().split('.').count() >= 2, "{}", runtime.version());
    assert_eq!(places.iter().filter(|p| p.outcome == SearchOutcome::Used).count(), 1);

    // From here on every search returns this library, the same name is accepted, and another one is refused.
    let (again, places) = find_onnx_runtime(&OrtLibrary::Search(OrtSearch::default())).unwrap();
    assert_eq!(again.unwrap().path(), runtime.path());
    assert_eq!((&places[0].origin, &places[0].outcome), (&LibraryOrigin::Process, &SearchOutcome::Used));
    assert!(find_onnx_runtime(&named(runtime.path())).unwrap().0.is_some());
    let error = message(named(&old));
    assert!(error.contains("can load only one ONNX Runtime"), "{error}");
    assert_eq!(builder().build().unwrap().engine(), Engine::Ort);
}

sulcus_harness::main!();
