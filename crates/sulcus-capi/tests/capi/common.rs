//! The interface, called with the least trouble, and what it is tested on.

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use sulcus_capi::*;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, Segmenter, SegmenterBuilder};
use sulcus_volume::Image;

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

pub(crate) fn shipped_model() -> PathBuf {
    repository().join("models/hippocampus/model.onnx")
}

pub(crate) fn bundled_scan() -> PathBuf {
    repository().join("examples/data/case/image.nii.gz")
}

/// The engines that this machine has, each with the library that it needs.
pub(crate) fn engines() -> Vec<(Engine, Option<PathBuf>)> {
    let mut engines = vec![(Engine::Tract, None)];
    match std::env::var_os("SULCUS_ORT_LIB") {
        Some(library) => engines.push((Engine::Ort, Some(library.into()))),
        None => println!("skipped: the engine ort: set SULCUS_ORT_LIB"),
    }
    engines
}

/// The same in Rust.
pub(crate) fn rust_builder(engine: Engine, library: Option<&Path>) -> SegmenterBuilder {
    let builder = Segmenter::builder().engine(engine).device(Device::Cpu);
    match library {
        Some(library) => builder.ort_library(OrtLibrary::Path(library.to_path_buf())),
        None => builder,
    }
}

pub(crate) fn c_path(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

/// A text of the library's.
pub(crate) fn text(pointer: *const c_char) -> String {
    assert!(!pointer.is_null());
    // SAFETY: texts of the library end with a zero byte and live as long as their owner, which the caller holds.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
}

pub(crate) fn last_error() -> String {
    text(sulcus_last_error())
}

pub(crate) fn ok(status: SulcusStatus) {
    assert_eq!(status, SulcusStatus::Ok, "{}", last_error());
}

/// The message of a call that must fail like this.
pub(crate) fn refused(status: SulcusStatus, expected: SulcusStatus) -> String {
    let message = last_error();
    assert_eq!(status, expected, "{message}");
    message
}

/// A handle with what frees it.
pub(crate) struct Handle<T> {
    pub(crate) pointer: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

// SAFETY: the header promises that these handles may be used by several threads, and one alone drops it.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: the handle is the library's and is freed here alone.
        unsafe { (self.free)(self.pointer) }
    }
}

/// What a call that makes a handle gives: the handle, or its status.
pub(crate) fn made<T>(
    free: unsafe extern "C" fn(*mut T),
    make: impl FnOnce(*mut *mut T) -> SulcusStatus,
) -> Result<Handle<T>, SulcusStatus> {
    // Not null, so that a failure has to make it so.
    let mut pointer = std::ptr::dangling_mut::<T>();
    match make(&mut pointer) {
        SulcusStatus::Ok => {
            assert!(!pointer.is_null());
            Ok(Handle { pointer, free })
        }
        status => {
            assert!(pointer.is_null(), "a handle after a failure");
            Err(status)
        }
    }
}

pub(crate) type Options = Handle<SulcusOptions>;
pub(crate) type CSegmenter = Handle<SulcusSegmenter>;
pub(crate) type CSegmentation = Handle<SulcusSegmentation>;

pub(crate) fn options() -> Options {
    // SAFETY: room for a pointer.
    made(sulcus_options_free, |out| unsafe { sulcus_options_new(out) }).unwrap()
}

pub(crate) fn options_with(model: &[u8], engine: Engine, library: Option<&Path>) -> Options {
    let options = options();
    let engine = CString::new(engine.name()).unwrap();
    // SAFETY: a live handle, and texts and bytes that outlive the calls.
    unsafe {
        ok(sulcus_options_add_model_bytes(options.pointer, model.as_ptr(), model.len()));
        ok(sulcus_options_set_engine(options.pointer, engine.as_ptr()));
        ok(sulcus_options_set_device(options.pointer, c"cpu".as_ptr()));
        if let Some(library) = library {
            ok(sulcus_options_set_ort_library(options.pointer, c_path(library).as_ptr()));
        }
    }
    options
}

pub(crate) fn segmenter(options: &Options) -> Result<CSegmenter, SulcusStatus> {
    // SAFETY: a live handle, and room for a pointer.
    made(sulcus_segmenter_free, |out| unsafe { sulcus_segmenter_new(options.pointer, out) })
}

/// The self-test model in the embedded engine.
pub(crate) fn self_test() -> CSegmenter {
    segmenter(&options_with(sulcus_runtime::SELF_TEST_MODEL, Engine::Tract, None)).unwrap()
}

/// An image as C has it: arrays of numbers.
#[derive(Clone)]
pub(crate) struct Arrays {
    pub(crate) voxels: Vec<f32>,
    pub(crate) shape: Vec<usize>,
    pub(crate) ras_from_voxel: Vec<f64>,
}

impl Arrays {
    pub(crate) fn of(image: &Image) -> Self {
        Self {
            voxels: image.data().to_vec(),
            shape: image.geometry().shape().to_vec(),
            ras_from_voxel: image.geometry().ras_from_voxel().matrix().concat(),
        }
    }

    /// A ramp in a box of this shape, 1 mm a voxel.
    pub(crate) fn ramp(shape: &[usize]) -> Self {
        let voxels = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
        let ras_from_voxel = (0..16).map(|i| f64::from(u8::from(i % 5 == 0))).collect();
        Self { voxels, shape: shape.to_vec(), ras_from_voxel }
    }

    pub(crate) fn scan(&self) -> SulcusScan {
        SulcusScan {
            voxels: self.voxels.as_ptr(),
            length: self.voxels.len(),
            shape: self.shape.as_ptr(),
            rank: self.shape.len(),
            ras_from_voxel: self.ras_from_voxel.as_ptr(),
        }
    }
}

pub(crate) fn segment(
    segmenter: &CSegmenter,
    scan: &SulcusScan,
    run: Option<&SulcusRun>,
) -> Result<CSegmentation, SulcusStatus> {
    let run = run.map_or(null(), std::ptr::from_ref);
    // SAFETY: live handles, a scan that is as long as it says, and room for a pointer.
    made(sulcus_segmentation_free, |out| unsafe { sulcus_segment(segmenter.pointer, scan, run, out) })
}

/// The message with which a scan is refused.
pub(crate) fn refused_scan(segmenter: &CSegmenter, scan: &SulcusScan, expected: SulcusStatus) -> String {
    match segment(segmenter, scan, None) {
        Ok(_) => panic!("the scan was segmented"),
        Err(status) => refused(status, expected),
    }
}

pub(crate) fn labels(segmentation: &CSegmentation) -> Vec<u16> {
    let (mut labels, mut length) = (null(), 0);
    // SAFETY: a live handle, and room for what is filled in; the labels live as long as the handle.
    unsafe {
        ok(sulcus_segmentation_labels(segmentation.pointer, &mut labels, &mut length));
        std::slice::from_raw_parts(labels, length).to_vec()
    }
}

pub(crate) fn report(segmentation: &CSegmentation) -> SulcusReport {
    let mut report = std::mem::MaybeUninit::uninit();
    // SAFETY: a live handle, and room for a report, which is filled in after success.
    unsafe {
        ok(sulcus_segmentation_report(segmentation.pointer, report.as_mut_ptr()));
        report.assume_init()
    }
}

pub(crate) fn nobody() -> SulcusRun {
    SulcusRun { flags: 0, max_memory: 0, progress: None, user_data: null_mut() }
}
