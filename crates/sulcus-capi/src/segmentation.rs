use std::ffi::{CString, c_char};

use sulcus_runtime::{LabelVolume, Segmentation};

use crate::border::{Failure, Out, borrowed, c_string, free, guard};
use crate::segmenter::no_such;
use crate::{SulcusGrid, SulcusStatus};

/// A segmented scan. Made by `sulcus_segment` and `sulcus_segment_file`, freed by `sulcus_segmentation_free`; it needs its
/// segmenter no more.
pub struct SulcusSegmentation {
    found: Segmentation,
    structures: Vec<(CString, LabelVolume)>,
    engine: CString,
    device: CString,
    precision: CString,
}

impl From<Segmentation> for SulcusSegmentation {
    fn from(found: Segmentation) -> Self {
        let named = |volume: LabelVolume| (c_string(&volume.name), volume);
        Self {
            structures: found.label_volumes().into_iter().map(named).collect(),
            engine: c_string(found.engine.name()),
            device: c_string(&found.device.to_string()),
            precision: c_string(&found.precision),
            found,
        }
    }
}

/// How much of a mask a structure takes. Its pointers belong to the segmentation and live as long.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusStructure {
    /// Its name.
    pub name: *const c_char,
    /// All label values that belong to it: those of a region, or the one.
    pub values: *const u16,
    /// Their number.
    pub values_length: usize,
    /// Its value in the mask; a region's, where no other region lies over it.
    pub value: u16,
    /// Voxels that have any of the values.
    pub voxels: u64,
    /// Their volume in millilitres.
    pub ml: f64,
}

/// What ran where, and where the time went. Its texts belong to the segmentation and live as long.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusReport {
    /// What ran the network: `ort` or `tract`.
    pub engine: *const c_char,
    /// Where it ran, such as `cpu` or `cuda:0`.
    pub device: *const c_char,
    /// The numbers that the network is written in, such as `fp32`; of an ensemble of several kinds all, as `fp32+int8`.
    pub precision: *const c_char,
    /// Structures that `sulcus_segmentation_structure` gives.
    pub structures: usize,
    /// Tiles that the scan was cut into.
    pub tiles: usize,
    /// The most memory that the process has held up to then, in bytes; 0 where the system doesn't say.
    pub peak_memory_bytes: u64,
    /// Turning, resampling and normalising the scan, in seconds of the wall clock.
    pub preprocess_seconds: f64,
    /// Asking the network tile by tile, blending and deciding.
    pub infer_seconds: f64,
    /// The part of that during which the engine worked.
    pub engine_seconds: f64,
    /// What is done to the whole mask.
    pub postprocess_seconds: f64,
}

/// Frees a segmentation; null is nothing.
///
/// # Safety
/// `segmentation` is null or from this library, was not freed before, and no other thread uses it or what belongs to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_free(segmentation: *mut SulcusSegmentation) {
    // SAFETY: as the caller promises.
    unsafe { free(segmentation) }
}

/// Fills in the mask: a label value for each voxel of the scan's own grid, first axis fastest; 0 is the background.
///
/// The labels belong to the segmentation and live as long. Several threads may ask at once.
///
/// # Safety
/// `segmentation` is from this library; the other pointers point to room for what is filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_labels(
    segmentation: *const SulcusSegmentation,
    labels: *mut *const u16,
    length: *mut usize,
) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let (labels, length) = unsafe { (Out::new(labels, "labels")?, Out::new(length, "length")?) };
        // SAFETY: as the caller promises.
        let found = &unsafe { borrowed(segmentation, "segmentation") }?.found;
        labels.write(found.labels.data().as_ptr());
        length.write(found.labels.data().len());
        Ok(())
    })
}

/// Fills in the grid that mask and probabilities lie on: the scan's own.
///
/// `grid` is the caller's. Several threads may ask at once.
///
/// # Safety
/// `segmentation` is from this library; `grid` points to room for a `SulcusGrid`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_grid(
    segmentation: *const SulcusSegmentation,
    grid: *mut SulcusGrid,
) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::new(grid, "grid") }?;
        // SAFETY: as the caller promises.
        out.write(unsafe { borrowed(segmentation, "segmentation") }?.found.labels.geometry().into());
        Ok(())
    })
}

/// Fills in each class's probability, which has to be asked for with SULCUS_RUN_PROBABILITIES: that of class k for voxel
/// (x, y, z) is at ((k * nz + z) * ny + y) * nx + x. Class 0 is the background and the labels follow by rising value; a
/// model with one sigmoid output or with regions has no class for the background.
///
/// The values belong to the segmentation and live as long. Several threads may ask at once.
///
/// # Safety
/// `segmentation` is from this library; the other pointers point to room for what is filled in.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_probabilities(
    segmentation: *const SulcusSegmentation,
    probabilities: *mut *const f32,
    classes: *mut usize,
    length: *mut usize,
) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let (probabilities, classes, length) = unsafe {
            (Out::new(probabilities, "probabilities")?, Out::new(classes, "classes")?, Out::new(length, "length")?)
        };
        // SAFETY: as the caller promises.
        let found = &unsafe { borrowed(segmentation, "segmentation") }?.found;
        let image = found.probabilities.as_ref().ok_or_else(|| {
            Failure::new(
                SulcusStatus::NotAvailable,
                "this segmentation has no probabilities: ask for them with SULCUS_RUN_PROBABILITIES",
            )
        })?;
        probabilities.write(image.data().as_ptr());
        classes.write(image.channels());
        length.write(image.data().len());
        Ok(())
    })
}

/// Fills in a structure that the model knows and how much of it was found, from 0, by rising label value or in the order of
/// its regions; `sulcus_segmentation_report` says how many there are.
///
/// The pointers belong to the segmentation. Several threads may ask at once.
///
/// # Safety
/// `segmentation` is from this library; `structure` points to room for a `SulcusStructure`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_structure(
    segmentation: *const SulcusSegmentation,
    index: usize,
    structure: *mut SulcusStructure,
) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::new(structure, "structure") }?;
        // SAFETY: as the caller promises.
        let structures = &unsafe { borrowed(segmentation, "segmentation") }?.structures;
        let (name, volume) = structures.get(index).ok_or_else(|| no_such("structure", index, structures.len()))?;
        out.write(SulcusStructure {
            name: name.as_ptr(),
            values: volume.values.as_ptr(),
            values_length: volume.values.len(),
            value: volume.value,
            voxels: volume.voxels as u64,
            ml: volume.ml,
        });
        Ok(())
    })
}

/// Fills in what ran where, and where the time went.
///
/// The texts belong to the segmentation. Several threads may ask at once.
///
/// # Safety
/// `segmentation` is from this library; `report` points to room for a `SulcusReport`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmentation_report(
    segmentation: *const SulcusSegmentation,
    report: *mut SulcusReport,
) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::new(report, "report") }?;
        // SAFETY: as the caller promises.
        let segmentation = unsafe { borrowed(segmentation, "segmentation") }?;
        let found = &segmentation.found;
        out.write(SulcusReport {
            engine: segmentation.engine.as_ptr(),
            device: segmentation.device.as_ptr(),
            precision: segmentation.precision.as_ptr(),
            structures: segmentation.structures.len(),
            tiles: found.tiles,
            peak_memory_bytes: found.peak_memory_bytes.unwrap_or(0),
            preprocess_seconds: found.seconds.preprocess,
            infer_seconds: found.seconds.infer,
            engine_seconds: found.seconds.engine,
            postprocess_seconds: found.seconds.postprocess,
        });
        Ok(())
    })
}
