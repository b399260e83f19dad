use std::ffi::{c_char, c_int};

use sulcus_model::Precision;
use sulcus_pipeline::Numerics;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, Segmenter, SegmenterBuilder};

use crate::SulcusStatus;
use crate::ffi::{FfiError, OutPointer, borrowed_mut, call, free, path, slice, text};

/// The settings of a segmenter. Created by `sulcus_options_new`, freed by `sulcus_options_free`. One thread at a time may use
/// them.
pub struct SulcusOptions {
    builder: SegmenterBuilder,
    device: Device,
    precision: SulcusPrecision,
}

/// The number format that the device computes in.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SulcusPrecision {
    /// The model's own: single precision, unless it was exported in fewer bits.
    Native = 0,
    /// bfloat16, in the engine `native` on processors with AVX512-BF16, and on `openvino`.
    Bf16 = 1,
    /// IEEE half precision, on `tensorrt`.
    Fp16 = 2,
}

impl SulcusPrecision {
    const ALL: [Self; 3] = [Self::Native, Self::Bf16, Self::Fp16];

    fn to_runtime(self) -> Option<Precision> {
        match self {
            Self::Native => None,
            Self::Bf16 => Some(Precision::Bf16),
            Self::Fp16 => Some(Precision::Fp16),
        }
    }
}

impl SulcusOptions {
    pub(crate) fn builder(&self) -> SegmenterBuilder {
        let builder = self.builder.clone().device(self.device);
        self.precision.to_runtime().into_iter().fold(builder, SegmenterBuilder::precision)
    }

    fn change(&mut self, change: impl FnOnce(SegmenterBuilder) -> SegmenterBuilder) {
        self.builder = change(std::mem::take(&mut self.builder));
    }
}

/// Creates options with the defaults: no model, engine and device `auto`, the model's own precision, all threads, no
/// mirroring, each model's own step, the memory of the machine or its container as the memory limit.
///
/// `options` receives the handle; the caller frees it with `sulcus_options_free`. Any thread may call this function.
///
/// # Safety
/// `options` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_new(options: *mut *mut SulcusOptions) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutPointer::handle(options, "options") }?;
        out.give(SulcusOptions {
            builder: Segmenter::builder(),
            device: Device::default(),
            precision: SulcusPrecision::Native,
        });
        Ok(())
    })
}

/// Frees options; null is allowed. Segmenters that were created with them stay valid.
///
/// # Safety
/// `options` is null or from `sulcus_options_new`, was not freed before, and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_free(options: *mut SulcusOptions) {
    // SAFETY: as the caller promises.
    unsafe { free(options) }
}

/// Applies the change that `parse` returns.
///
/// # Safety
/// `options` is null or from `sulcus_options_new`, and no other thread uses it.
unsafe fn change(options: *mut SulcusOptions, parse: impl FnOnce() -> Result<Change, FfiError>) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let options = unsafe { borrowed_mut(options, "options") }?;
        options.change(parse()?);
        Ok(())
    })
}

type Change = Box<dyn FnOnce(SegmenterBuilder) -> SegmenterBuilder>;

/// Adds a model file. Several models, such as the folds of a cross-validation, are averaged; they must have the same
/// channels and labels. `sulcus_segmenter_new` reads the file.
///
/// The path is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `model` is a zero-terminated string.
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

/// Adds a model in memory. The bytes of its file are copied.
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
                return Err(FfiError::argument("the model has no bytes: expected those of an .onnx file"));
            }
            let bytes = bytes.to_vec();
            Ok(Box::new(move |builder| builder.model_bytes(bytes)))
        })
    }
}

/// Sets the engine: `native`, `ort`, `tract` or `auto`: on processors with AVX2 the built-in engine `native`; for models that it does not
/// run, and on GPUs, ONNX Runtime if it is found and otherwise the built-in engine `tract`.
/// `sulcus_segmenter_info` reports the engine in use.
///
/// The name is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `engine` is a zero-terminated string.
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

/// Sets the device: `auto`, `cpu`, `openvino`, `cuda`, `cuda:N`, `tensorrt` or `tensorrt:N`. If a named device is not
/// available, `sulcus_segmenter_new` fails with the reason; there is no fallback.
///
/// The name is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `device` is a zero-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_device(
    options: *mut SulcusOptions,
    device: *const c_char,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let (options, device) = unsafe { (borrowed_mut(options, "options")?, text(device, "device")?) };
        options.device = device.parse().map_err(unknown)?;
        Ok(())
    })
}

fn unknown(error: impl std::fmt::Display) -> FfiError {
    FfiError::argument(error.to_string())
}

/// Sets the number of threads for the network, at least 1. Defaults to all threads that the process may use.
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
                return Err(FfiError::argument("the number of threads must be at least 1, found 0"));
            }
            Ok(Box::new(move |builder| builder.threads(threads)))
        })
    }
}

/// Also predicts the scan mirrored along the axes that the model was trained with mirrored, and averages. This is slower and
/// often a little better. 0 is off, any other number is on.
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

/// Computes as nnU-Net's own predictor does on a processor, so that masks are equal to its masks. 0 is off, any other number is on.
/// `sulcus_segmenter_new` refuses models that were not imported from nnU-Net. nnU-Net mirrors by default: add
/// `sulcus_options_set_mirror`.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_exact(options: *mut SulcusOptions, exact: c_int) -> SulcusStatus {
    let numerics = if exact == 0 { Numerics::Float32 } else { Numerics::Nnunet };
    // SAFETY: as the caller promises.
    unsafe { change(options, || Ok(Box::new(move |builder| builder.numerics(numerics)))) }
}

/// Sets the step of the sliding window as a fraction of a tile, more than 0 and at most 1. Defaults to the model's own.
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
                return Err(FfiError::argument(format!("the window step must lie in (0, 1], found {step}")));
            }
            Ok(Box::new(move |builder| builder.step(Some(step))))
        })
    }
}

/// Limits the memory of the whole process, in bytes. Defaults to the memory of the machine or its container where the system
/// tells (Linux); UINT64_MAX removes the limit. The limit is enforced by processing a scan in chunks, which takes longer and
/// gives the same mask. A scan that needs more is refused. The library does not count the caller's own copy of the voxels.
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
                return Err(FfiError::argument("the memory limit must be at least 1 byte, found 0"));
            }
            Ok(Box::new(move |builder| builder.max_memory(bytes)))
        })
    }
}

/// Sets the precision to a `SulcusPrecision`. Half precision is faster, and voxels at the surface of structures may change.
/// `sulcus_segmenter_new` fails when the device does not have the precision.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_precision(
    options: *mut SulcusOptions,
    precision: i32,
) -> SulcusStatus {
    // The parameter is a number and not the enum, because C may pass a value that the enum lacks.
    call(|| {
        // SAFETY: as the caller promises.
        let options = unsafe { borrowed_mut(options, "options") }?;
        let known = SulcusPrecision::ALL.into_iter().find(|known| *known as i32 == precision);
        options.precision = known.ok_or_else(|| {
            FfiError::argument(format!(
                "the precision must be SULCUS_PRECISION_NATIVE (0), SULCUS_PRECISION_BF16 (1) or SULCUS_PRECISION_FP16 (2), \
                 found {precision}"
            ))
        })?;
        Ok(())
    })
}

/// Whether models are accepted that did not pass their check when they were exported. Their masks may be wrong. Defaults to 0 (no):
/// `sulcus_segmenter_new` refuses such a model. Any other value is yes.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_allow_unchecked(
    options: *mut SulcusOptions,
    allow: c_int,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe { change(options, || Ok(Box::new(move |builder| builder.allow_unchecked(allow != 0)))) }
}

/// Whether a scan is refused with SULCUS_STATUS_SCAN if there is any warning about it: it differs from the scans that the model was
/// trained on, or its orientation is unknown. Defaults to 0 (no): `sulcus_segmentation_warning` gives the warnings. Any other value
/// is yes.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_strict(options: *mut SulcusOptions, strict: c_int) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe { change(options, || Ok(Box::new(move |builder| builder.strict(strict != 0)))) }
}

/// Whether scans are accepted in which a channel has the same value in every voxel. Defaults to 0 (no): such a scan is refused with
/// SULCUS_STATUS_SCAN, because it shows nothing. Any other value is yes.
///
/// One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_options_set_allow_constant(
    options: *mut SulcusOptions,
    allow: c_int,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe { change(options, || Ok(Box::new(move |builder| builder.allow_constant(allow != 0)))) }
}

/// Sets a cache folder for the graphs that ONNX Runtime optimises for the CPU and the engines that TensorRT builds for a GPU,
/// which takes minutes. The next process then starts sooner. Defaults to no cache. The folder is created if it is missing.
/// Its files are trusted, so other users must not be able to write to it.
///
/// The path is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `folder` is a zero-terminated string.
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

/// Sets the path of the ONNX Runtime library (version 1.22 or newer) or of the folder that contains it. By default the
/// library is searched beside the executable and in the system's folders; no environment variable is read. A process can
/// load one ONNX Runtime: `sulcus_segmenter_new` fails when another one is already loaded.
///
/// The path is copied. One thread at a time may use the options.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `library` is a zero-terminated string.
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
