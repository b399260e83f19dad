//! A process can load only one ONNX Runtime, so everything before and after loading it is tested in one function, in
//! order.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{model, search, spec};
use sulcus_onnx::{Axis, GraphBuilder, attribute};
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

    // Without a library, `auto` runs a built-in engine: native, and for graphs that it does not know tract, which is reported. A named
    // engine `ort` or GPU is an error.
    let builder = || Segmenter::builder().model_bytes(model(2)).ort_library(OrtLibrary::Search(local.clone()));
    let segmenter = builder().build().unwrap();
    assert_eq!((segmenter.engine(), segmenter.device()), (fastest(Engine::Tract), Device::Cpu));
    let of_others =
        Segmenter::builder().ort_library(OrtLibrary::Search(local.clone())).model_bytes(unknown_to_native());
    let segmenter = of_others.clone().build().unwrap();
    assert_eq!((segmenter.engine(), segmenter.device()), (Engine::Tract, Device::Cpu));
    let notes = segmenter.notes();
    assert!(notes.iter().any(|note| matches!(note, Note::OnnxRuntimeNotFound { .. })), "{notes:?}");
    if fastest(Engine::Tract) == Engine::Native {
        let (note, refused) =
            (notes[0].to_string(), of_others.clone().engine(Engine::Native).build().unwrap_err());
        assert!(note.starts_with("running on the engine tract: the native engine cannot run the model"), "{note}");
        assert!(note.contains("Sqrt") && matches!(refused.kind(), ErrorKind::Graph { .. }), "{note}, {refused}");
    }
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
    assert_eq!(builder().build().unwrap().engine(), fastest(Engine::Ort));
    let segmenter = of_others.build().unwrap();
    assert_eq!(segmenter.engine(), Engine::Ort);
    assert!(!segmenter.notes().iter().any(|note| matches!(note, Note::OnnxRuntimeNotFound { .. })));
}

/// What `auto` takes on this processor, where the other engine is the next.
fn fastest(next: Engine) -> Engine {
    if sulcus_engine::has_vector_kernels() { Engine::Native } else { next }
}

/// A model with an operator that the native engine does not know.
fn unknown_to_native() -> Vec<u8> {
    let mut graph = GraphBuilder::new("foreign");
    let axes = |channels| [Axis::Dynamic("n"), Axis::Fixed(channels), Axis::Dynamic("h"), Axis::Dynamic("w")];
    graph.input("image", &axes(1), "");
    graph.output("logits", &axes(3), "");
    graph.constant("w", &[3, 1, 1, 1], &[1.0, 2.0, 3.0]);
    graph.constant("b", &[3], &[0.0; 3]);
    graph.node("Conv", &["image", "w", "b"], "sums", vec![attribute::ints("kernel_shape", &[1, 1])]);
    graph.node("Sqrt", &["sums"], "logits", vec![]);
    graph.finish(&spec(2), "", "test").unwrap()
}

sulcus_harness::main!();
