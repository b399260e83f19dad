use std::ffi::{c_char, c_int};

use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, Segmenter, SegmenterBuilder};

use crate::SulcusStatus;
use crate::border::{Failure, Out, borrowed_mut, free, guard, path, slice, text};

/// What a segmenter is to be made of. Made by `sulcus_options_new`, freed by `sulcus_options_free`; one thread at a time.
pub struct SulcusOptions {
    builder: SegmenterBuilder,
}

impl SulcusOptions {
    pub(crate) fn builder(&self) -> SegmenterBuilder {
        self.builder.clone()
    }

    fn change(&mut self, change: impl FnOnce(SegmenterBuilder) -> SegmenterBuilder) {
        self.builder = change(std::mem::take(&mut self.builder));
    }
}

/// Makes options with nothing in them: no model, engine and device `auto`, all threads, no mirroring, each model's own
/// step, no memory limit.
///
/// `options` is filled in; the caller frees it with `sulcus_options_free`. Any thread may call it.
///
/// # Safety
/// `options` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_new(options: *mut *mut SulcusOptions) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::handle(options, "options") }?;
        out.give(SulcusOptions { builder: Segmenter::builder() });
        Ok(())
    })
}

/// Frees options; null is nothing. Segmenters that were made with them live on.
///
/// # Safety
/// `options` is null or from `sulcus_options_new`, was not freed before, and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_free(options: *mut SulcusOptions) {
    // SAFETY: as the caller promises.
    unsafe { free(options) }
}

unsafe fn change(options: *mut SulcusOptions, make: impl FnOnce() -> Result<Change, Failure>) -> SulcusStatus {
    guard(|| {
        // SAFETY: the callers pass on their callers' promise: options of ours that one thread uses.
        let options = unsafe { borrowed_mut(options, "options") }?;
        options.change(make()?);
        Ok(())
    })
}

type Change = Box<dyn FnOnce(SegmenterBuilder) -> SegmenterBuilder>;

/// Adds a model file. Several models are averaged, as the folds of a cross-validation are; they must agree on channels and
/// labels. The file is read by `sulcus_segmenter_new`.
///
/// The path is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `model` is a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_add_model_file(
    options: *mut SulcusOptions,
    model: *const c_char,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || {
            let model = path(model, "model")?.to_path_buf();
            Ok(Box::new(move |builder| builder.model(model)))
        })
    }
}

/// Adds a model that is in memory: the bytes of its file, which are copied.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `bytes` points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_add_model_bytes(
    options: *mut SulcusOptions,
    bytes: *const u8,
    length: usize,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || {
            let bytes = slice(bytes, length, "bytes")?;
            if bytes.is_empty() {
                return Err(Failure::argument("a model of no bytes was given: expected those of an .onnx file"));
            }
            let bytes = bytes.to_vec();
            Ok(Box::new(move |builder| builder.model_bytes(bytes)))
        })
    }
}

/// What runs the network: `auto` (ONNX Runtime where it is found, the embedded engine otherwise), `ort` or `tract`. What
/// was taken, `sulcus_segmenter_info` says.
///
/// The name is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `engine` is a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_engine(
    options: *mut SulcusOptions,
    engine: *const c_char,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || {
            let engine: Engine = text(engine, "engine")?.parse().map_err(unknown)?;
            Ok(Box::new(move |builder| builder.engine(engine)))
        })
    }
}

/// Where it runs: `auto`, `cpu`, `openvino`, `cuda`, `cuda:N`, `tensorrt` or `tensorrt:N`. A device that is named is used, or
/// `sulcus_segmenter_new` says why not: nothing falls back.
///
/// The name is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `device` is a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_device(
    options: *mut SulcusOptions,
    device: *const c_char,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || {
            let device: Device = text(device, "device")?.parse().map_err(unknown)?;
            Ok(Box::new(move |builder| builder.device(device)))
        })
    }
}

fn unknown(error: impl std::fmt::Display) -> Failure {
    Failure::argument(error.to_string())
}

/// Threads for the network, at least 1; all that the process may use unless this is called.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_threads(options: *mut SulcusOptions, threads: usize) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || {
            if threads == 0 {
                return Err(Failure::argument("the number of threads must be at least 1, found 0"));
            }
            Ok(Box::new(move |builder| builder.threads(threads)))
        })
    }
}

/// Whether it also predicts mirrored along the axes that the model was trained for, and averages: slower, often a little
/// better. 0 is no, anything else yes.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_mirror(options: *mut SulcusOptions, mirror: c_int) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe { change(options, || Ok(Box::new(move |builder| builder.mirror(mirror != 0)))) }
}

/// By what share of a tile the window advances, more than 0 and at most 1; the model's own unless this is called.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_step(options: *mut SulcusOptions, step: f64) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || {
            if !(step > 0.0 && step <= 1.0) {
                return Err(Failure::argument(format!("the window step must lie in (0, 1], found {step}")));
            }
            Ok(Box::new(move |builder| builder.step(Some(step))))
        })
    }
}

/// What the process may hold, in bytes, everything else in it included; no limit unless this is called. It is kept by
/// working on a part of a scan at a time, which takes longer and gives the same mask; a scan that needs more is refused.
/// The caller's own copy of the scan's voxels is memory of the process that the library does not count.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_max_memory(options: *mut SulcusOptions, bytes: u64) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || {
            if bytes == 0 {
                return Err(Failure::argument("the memory limit must be at least 1 byte, found 0"));
            }
            Ok(Box::new(move |builder| builder.max_memory(bytes)))
        })
    }
}

/// Whether it computes in half precision: bf16 on `openvino`, fp16 on `tensorrt`. Faster; voxels at the borders may change.
/// Any other device is then an error of `sulcus_segmenter_new`. 0 is no, anything else yes.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_half(options: *mut SulcusOptions, half: c_int) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || Ok(Box::new(move |builder| if half == 0 { builder } else { builder.half_precision() })))
    }
}

/// A folder that keeps what ONNX Runtime makes of a model for the processor, and TensorRT, which takes minutes, for a GPU,
/// so that the next process starts sooner; nowhere unless this is called. It is made when there is none. What lies in it
/// is trusted: keep it where others can't write.
///
/// The path is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `folder` is a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_cache_folder(
    options: *mut SulcusOptions,
    folder: *const c_char,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || {
            let folder = path(folder, "folder")?.to_path_buf();
            Ok(Box::new(move |builder| builder.cache_folder(folder)))
        })
    }
}

/// The ONNX Runtime library, or a folder that holds it: version 1.22 or newer. Unless this is called it is looked for beside
/// the executable and in the system's folders; no environment variable is asked. A process holds one: naming another than
/// the one that is loaded is an error of `sulcus_segmenter_new`.
///
/// The path is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `library` is a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_ort_library(
    options: *mut SulcusOptions,
    library: *const c_char,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe {
        change(options, || {
            let library = path(library, "library")?.to_path_buf();
            Ok(Box::new(move |builder| builder.ort_library(OrtLibrary::Path(library))))
        })
    }
}
