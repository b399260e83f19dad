//! Short forms of the calls, and the models and scans of the tests.

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr::null;

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

/// The engines that this machine has, each with its library.
pub(crate) fn engines() -> Vec<(Engine, Option<PathBuf>)> {
    let mut engines = vec![(Engine::Tract, None), (Engine::Native, None)];
    match std::env::var_os("SULCUS_ORT_LIB") {
        Some(library) => engines.push((Engine::Ort, Some(library.into()))),
        None => sulcus_harness::skip_part("there is no ONNX Runtime; set SULCUS_ORT_LIB"),
    }
    engines
}

/// A builder with the same settings in Rust.
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

/// Copies a text of the library.
pub(crate) fn text(pointer: *const c_char) -> String {
    assert!(!pointer.is_null());
    // SAFETY: texts of the library end with a zero byte and are valid while the caller holds their owner.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
}

pub(crate) fn last_error() -> String {
    text(sulcus_last_error())
}

pub(crate) fn ok(status: SulcusStatus) {
    assert_eq!(status, SulcusStatus::Ok, "{}", last_error());
}

/// Checks the status of a failed call. Returns its message.
pub(crate) fn refused(status: SulcusStatus, expected: SulcusStatus) -> String {
    let message = last_error();
    assert_eq!(status, expected, "{message}");
    message
}

/// A handle, freed when it is dropped.
pub(crate) struct Handle<T> {
    pub(crate) pointer: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

// SAFETY: the header promises that several threads may use these handles, and only one drops it.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: the handle belongs to the library and is freed only here.
        unsafe { (self.free)(self.pointer) }
    }
}

/// Runs a call that creates a handle. Returns the handle, or the status.
pub(crate) fn create<T>(
    free: unsafe extern "C" fn(*mut T),
    call: impl FnOnce(*mut *mut T) -> SulcusStatus,
) -> Result<Handle<T>, SulcusStatus> {
    // Not null, so the test sees that a failure sets it to null.
    let mut pointer = std::ptr::dangling_mut::<T>();
    match call(&mut pointer) {
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
    create(sulcus_options_free, |out| unsafe { sulcus_options_new(out) }).unwrap()
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
    create(sulcus_segmenter_free, |out| unsafe { sulcus_segmenter_new(options.pointer, out) })
}

/// The self-test model in the built-in engine.
pub(crate) fn self_test() -> CSegmenter {
    segmenter(&options_with(sulcus_runtime::SELF_TEST_MODEL, Engine::Tract, None)).unwrap()
}

/// An image as arrays of numbers.
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

    /// A ramp of intensities with voxels of 1 mm.
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
    options: Option<&SulcusSegmentOptions>,
) -> Result<CSegmentation, SulcusStatus> {
    let options = options.map_or(null(), std::ptr::from_ref);
    // SAFETY: live handles, a scan that is as long as it says, and room for a pointer.
    create(sulcus_segmentation_free, |out| unsafe { sulcus_segment(segmenter.pointer, scan, options, out) })
}

/// Checks that a scan is refused. Returns the message.
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

/// A struct with nothing but its `struct_size`, as C programs create it.
pub(crate) fn zeroed<T>() -> T {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: the structs of the header that start with `struct_size` are valid as zeros.
    unsafe {
        value.as_mut_ptr().cast::<usize>().write(size_of::<T>());
        value.assume_init()
    }
}

pub(crate) fn report(segmentation: &CSegmentation) -> SulcusReport {
    let mut report: SulcusReport = zeroed();
    // SAFETY: a live handle and a report.
    ok(unsafe { sulcus_segmentation_report(segmentation.pointer, &mut report) });
    report
}

pub(crate) fn structure(segmentation: &CSegmentation, index: usize) -> Result<SulcusStructure, SulcusStatus> {
    let mut structure: SulcusStructure = zeroed();
    // SAFETY: a live handle and a structure.
    match unsafe { sulcus_segmentation_structure(segmentation.pointer, index, &mut structure) } {
        SulcusStatus::Ok => Ok(structure),
        status => Err(status),
    }
}

pub(crate) fn default_options() -> SulcusSegmentOptions {
    zeroed()
}
