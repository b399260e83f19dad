use std::ffi::{CString, c_char};

use sulcus_runtime::{Report, ScanWarning, Segmentation};

use crate::ffi::{FfiError, OutPointer, borrowed, c_string, call, free};
use crate::growing::{Growing, OutStruct};
use crate::segmenter::no_such;
use crate::{SulcusGrid, SulcusStatus};

/// A segmented scan. Created by `sulcus_segment` and `sulcus_segment_file`, freed by `sulcus_segmentation_free`. It stays
/// valid when its segmenter is freed.
pub struct SulcusSegmentation {
    segmentation: Segmentation,
    report: Report,
    report_json: CString,
    structures: Vec<CString>,
    /// Kind and message of each warning.
    warnings: Vec<(CString, CString)>,
    engine: CString,
    device: CString,
    precision: CString,
}

impl From<Segmentation> for SulcusSegmentation {
    fn from(segmentation: Segmentation) -> Self {
        let report = segmentation.report();
        let warning = |warning: &ScanWarning| (c_string(warning.kind()), c_string(&warning.to_string()));
        Self {
            // A report has no number or key that JSON lacks.
            report_json: c_string(&serde_json::to_string(&report).unwrap_or_default()),
            structures: report.labels.iter().map(|volume| c_string(&volume.name)).collect(),
            warnings: report.warnings.iter().map(warning).collect(),
            engine: c_string(&report.engine),
            device: c_string(&report.device),
            precision: c_string(&report.precision),
            report,
            segmentation,
        }
    }
}

/// A structure and its volume in the mask. Its pointers belong to the segmentation and are valid until it is freed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusStructure {
    /// Set by the caller: sizeof(SulcusStructure).
    pub struct_size: usize,
    /// The name.
    pub name: *const c_char,
    /// All label values that belong to the structure: those of a region, or the only one.
    pub values: *const u16,
    /// The number of values.
    pub values_length: usize,
    /// The structure's value in the mask. A region has it where no other region overlaps.
    pub value: u16,
    /// The number of voxels that have any of the values.
    pub voxels: u64,
    /// The volume of these voxels in millilitres; NaN in a picture, whose pixels have no volume.
    pub ml: f64,
}

// SAFETY: the struct is `repr(C)`, starts with `struct_size`, and each field ends before or at the next multiple of its
// alignment.
unsafe impl Growing for SulcusStructure {
    const NAME: &'static str = "SulcusStructure";
}

/// Engine, device and timings of a segmentation. Its texts belong to the segmentation and are valid until it is freed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusReport {
    /// Set by the caller: sizeof(SulcusReport).
    pub struct_size: usize,
    /// The engine that ran the network: `native`, `ort` or `tract`.
    pub engine: *const c_char,
    /// The device that it ran on, such as `cpu` or `cuda:0`.
    pub device: *const c_char,
    /// The precision of the network, such as `fp32`; of an ensemble with several precisions all, as `fp32+int8`.
    pub precision: *const c_char,
    /// The number of structures; `sulcus_segmentation_structure` gives them.
    pub structures: usize,
    /// The number of tiles that the scan was divided into.
    pub tiles: usize,
    /// Peak memory of the process so far, in bytes; 0 where the operating system does not report it.
    pub peak_memory_bytes: u64,
    /// Seconds spent on reorienting, resampling and normalising the scan (wall clock, as all timings here).
    pub preprocess_seconds: f64,
    /// Seconds spent on predicting tiles, blending them and choosing labels.
    pub infer_seconds: f64,
    /// The part of `infer_seconds` inside the engine.
    pub engine_seconds: f64,
    /// Seconds spent on postprocessing the mask.
    pub postprocess_seconds: f64,
    /// The number of warnings: reasons to doubt the mask. `sulcus_segmentation_warning` gives them.
    pub warnings: usize,
}

// SAFETY: the struct is `repr(C)`, starts with `struct_size`, and each field ends before or at the next multiple of its
// alignment.
unsafe impl Growing for SulcusReport {
    const NAME: &'static str = "SulcusReport";
}

/// A reason to doubt the mask. Its texts belong to the segmentation and are valid until it is freed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusWarning {
    /// Set by the caller: sizeof(SulcusWarning).
    pub struct_size: usize,
    /// The stable name of its kind: `unknown_orientation`, `constant_channel`, `nearly_constant_channel`, `identical_channels`,
    /// `voxel_size`, `field_of_view`, `intensities`, `negative_intensities` or `nothing_located`. Later versions may have more.
    pub kind: *const c_char,
    /// The warning for people, in one sentence. Its numbers are in `sulcus_segmentation_report_json`.
    pub message: *const c_char,
}

// SAFETY: the struct is `repr(C)`, starts with `struct_size`, and each field ends before or at the next multiple of its
// alignment.
unsafe impl Growing for SulcusWarning {
    const NAME: &'static str = "SulcusWarning";
}

/// Frees a segmentation; null is allowed.
///
/// # Safety
/// `segmentation` is null or from this library, was not freed before, and no other thread uses it or its pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_free(segmentation: *mut SulcusSegmentation) {
    // SAFETY: as the caller promises.
    unsafe { free(segmentation) }
}

/// Fills in the mask: a label value for each voxel of the scan's own grid, with the first axis fastest; 0 is the background.
///
/// The labels belong to the segmentation and are valid until it is freed. Several threads may call this function at once.
///
/// # Safety
/// `segmentation` is from this library; the other pointers point to writable memory of their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_labels(
    segmentation: *const SulcusSegmentation,
    labels: *mut *const u16,
    length: *mut usize,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let (labels, length) = unsafe { (OutPointer::new(labels, "labels")?, OutPointer::new(length, "length")?) };
        // SAFETY: as the caller promises.
        let segmentation = &unsafe { borrowed(segmentation, "segmentation") }?.segmentation;
        labels.write(segmentation.labels.data().as_ptr());
        length.write(segmentation.labels.data().len());
        Ok(())
    })
}

/// Fills in the grid of the mask and the probabilities: the scan's own.
///
/// Several threads may call this function at once.
///
/// # Safety
/// `segmentation` is from this library; `grid` points to room for a `SulcusGrid`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_grid(
    segmentation: *const SulcusSegmentation,
    grid: *mut SulcusGrid,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutPointer::new(grid, "grid") }?;
        // SAFETY: as the caller promises.
        out.write(unsafe { borrowed(segmentation, "segmentation") }?.segmentation.labels.geometry().into());
        Ok(())
    })
}

/// Fills in the probabilities of each class, which must be requested with SULCUS_SEGMENT_PROBABILITIES. The probability of
/// class k for voxel (x, y, z) is at ((k * nz + z) * ny + y) * nx + x. Class 0 is the background, and the labels follow by
/// ascending value; a model with one sigmoid output or with regions has no class for the background.
///
/// The values belong to the segmentation and are valid until it is freed. Several threads may call this function at once.
///
/// # Safety
/// `segmentation` is from this library; the other pointers point to writable memory of their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_probabilities(
    segmentation: *const SulcusSegmentation,
    probabilities: *mut *const f32,
    classes: *mut usize,
    length: *mut usize,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let (probabilities, classes, length) = unsafe {
            (
                OutPointer::new(probabilities, "probabilities")?,
                OutPointer::new(classes, "classes")?,
                OutPointer::new(length, "length")?,
            )
        };
        // SAFETY: as the caller promises.
        let segmentation = &unsafe { borrowed(segmentation, "segmentation") }?.segmentation;
        let image = segmentation.probabilities.as_ref().ok_or_else(|| {
            FfiError::new(
                SulcusStatus::NotAvailable,
                "this segmentation has no probabilities: request them with SULCUS_SEGMENT_PROBABILITIES",
            )
        })?;
        probabilities.write(image.data().as_ptr());
        classes.write(image.channels());
        length.write(image.data().len());
        Ok(())
    })
}

/// Fills in a structure of the model and its volume in the mask. Structures are counted from 0, by ascending label value or
/// in the order of the model's regions; `sulcus_segmentation_report` gives their number.
///
/// The pointers belong to the segmentation. Several threads may call this function at once.
///
/// # Safety
/// `segmentation` is from this library; `structure` points to as many bytes as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_structure(
    segmentation: *const SulcusSegmentation,
    index: usize,
    structure: *mut SulcusStructure,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutStruct::new(structure, "structure") }?;
        // SAFETY: as the caller promises.
        let SulcusSegmentation { report, structures, .. } = unsafe { borrowed(segmentation, "segmentation") }?;
        let structure = structures.get(index).zip(report.labels.get(index));
        let (name, volume) = structure.ok_or_else(|| no_such("structure", index, structures.len()))?;
        out.write(&SulcusStructure {
            struct_size: size_of::<SulcusStructure>(),
            name: name.as_ptr(),
            values: volume.values.as_ptr(),
            values_length: volume.values.len(),
            value: volume.value,
            voxels: volume.voxels as u64,
            ml: volume.ml.unwrap_or(f64::NAN),
        });
        Ok(())
    })
}

/// Fills in engine, device and timings.
///
/// The texts belong to the segmentation. Several threads may call this function at once.
///
/// # Safety
/// `segmentation` is from this library; `report` points to as many bytes as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_report(
    segmentation: *const SulcusSegmentation,
    report: *mut SulcusReport,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutStruct::new(report, "report") }?;
        // SAFETY: as the caller promises.
        let SulcusSegmentation { report, structures, warnings, engine, device, precision, .. } =
            unsafe { borrowed(segmentation, "segmentation") }?;
        out.write(&SulcusReport {
            struct_size: size_of::<SulcusReport>(),
            engine: engine.as_ptr(),
            device: device.as_ptr(),
            precision: precision.as_ptr(),
            structures: structures.len(),
            tiles: report.tiles,
            peak_memory_bytes: report.peak_memory_bytes.unwrap_or(0),
            preprocess_seconds: report.seconds.preprocess,
            infer_seconds: report.seconds.infer,
            engine_seconds: report.seconds.engine,
            postprocess_seconds: report.seconds.postprocess,
            warnings: warnings.len(),
        });
        Ok(())
    })
}

/// Fills in a warning: a reason to doubt the mask. Warnings are counted from 0; `sulcus_segmentation_report` gives their number.
///
/// The texts belong to the segmentation. Several threads may call this function at once.
///
/// # Safety
/// `segmentation` is from this library; `warning` points to as many bytes as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_warning(
    segmentation: *const SulcusSegmentation,
    index: usize,
    warning: *mut SulcusWarning,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutStruct::new(warning, "warning") }?;
        // SAFETY: as the caller promises.
        let warnings = &unsafe { borrowed(segmentation, "segmentation") }?.warnings;
        let (kind, message) = warnings.get(index).ok_or_else(|| no_such("warning", index, warnings.len()))?;
        out.write(&SulcusWarning {
            struct_size: size_of::<SulcusWarning>(),
            kind: kind.as_ptr(),
            message: message.as_ptr(),
        });
        Ok(())
    })
}

/// Fills in the report as a JSON object: engine, device, timings, warnings with their numbers, and the volumes of the structures. It has
/// the fields of `sulcus predict --json` that are about the segmentation.
///
/// The text belongs to the segmentation and is valid until it is freed. Several threads may call this function at once.
///
/// # Safety
/// `segmentation` is from this library; `json` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_report_json(
    segmentation: *const SulcusSegmentation,
    json: *mut *const c_char,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutPointer::new(json, "json") }?;
        out.write(std::ptr::null());
        // SAFETY: as the caller promises.
        out.write(unsafe { borrowed(segmentation, "segmentation") }?.report_json.as_ptr());
        Ok(())
    })
}
