use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;

use sulcus_pipeline::Progress;
use sulcus_runtime::SegmentOptions;

use crate::border::{Failure, Out, borrowed, guard, path};
use crate::{SulcusScan, SulcusSegmentation, SulcusSegmenter, SulcusStatus, scan};

/// In `SulcusRun.flags`: also give each class's probability.
pub const SULCUS_RUN_PROBABILITIES: u32 = 1;

/// Is told of each tile done, in the thread that called `sulcus_segment` or `sulcus_segment_file`. 0 goes on, anything else
/// stops with SULCUS_STATUS_CANCELLED. It must return: no exception and no longjmp may leave it. It may call functions of
/// this library.
pub type SulcusProgress =
    Option<unsafe extern "C" fn(user_data: *mut c_void, tiles_done: usize, tiles_total: usize) -> c_int>;

/// What is wanted of one segmentation. All zero (`SulcusRun run = {0}`) is the same as none.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusRun {
    /// SULCUS_RUN_PROBABILITIES, or 0.
    pub flags: u32,
    /// What the process may hold during this segmentation, in place of the segmenter's own limit; 0 keeps that one.
    pub max_memory: u64,
    /// Is told how far it is; null for nobody.
    pub progress: SulcusProgress,
    /// Given to `progress` as it is.
    pub user_data: *mut c_void,
}

/// Segments a scan that is in memory. `run` may be null.
///
/// `segmentation` is filled in; the caller frees it with `sulcus_segmentation_free`. The scan is copied and may be changed
/// afterwards. Several threads may segment with one segmenter at once.
///
/// A scan smaller than the model's patch is padded; one that is not finite everywhere is refused, as nobody knows what its
/// NaN and infinite voxels mean.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`; `scan` points to one whose pointers point to as much as it says;
/// `segmentation` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segment(
    segmenter: *const SulcusSegmenter,
    scan: *const SulcusScan,
    run: *const SulcusRun,
    segmentation: *mut *mut SulcusSegmentation,
) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::handle(segmentation, "segmentation") }?;
        // SAFETY: as the caller promises.
        let segmenter = unsafe { borrowed(segmenter, "segmenter") }?.segmenter();
        // SAFETY: as the caller promises.
        let run = unsafe { wanted(run) }?;
        // SAFETY: as the caller promises.
        let image = unsafe { scan::image(scan) }?;
        let mut observer = observer(&run);
        out.give(segmenter.segment_owned(image, options(&run, &mut observer)?)?.into());
        Ok(())
    })
}

/// Segments a file and writes the mask, on the same grid and with the names of the labels: NIfTI, NRRD or MetaImage, by
/// their names. The mask is written under a temporary name and renamed, so that there is none after a failure; it can't
/// overwrite the scan. `run` may be null.
///
/// `segmentation` is filled in and the caller frees it with `sulcus_segmentation_free`; it may be null, when nobody wants it.
/// Several threads may segment with one segmenter at once.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`; the paths are texts that end with a zero byte; `segmentation` is null or
/// points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segment_file(
    segmenter: *const SulcusSegmenter,
    scan: *const c_char,
    mask: *const c_char,
    run: *const SulcusRun,
    segmentation: *mut *mut SulcusSegmentation,
) -> SulcusStatus {
    guard(|| {
        let out = match segmentation.is_null() {
            true => None,
            // SAFETY: as the caller promises.
            false => Some(unsafe { Out::handle(segmentation, "segmentation") }?),
        };
        // SAFETY: as the caller promises.
        let segmenter = unsafe { borrowed(segmenter, "segmenter") }?.segmenter();
        // SAFETY: as the caller promises.
        let (scan, mask) = unsafe { (path(scan, "scan")?, path(mask, "mask")?) };
        // SAFETY: as the caller promises.
        let run = unsafe { wanted(run) }?;
        let mut observer = observer(&run);
        let found = segmenter.segment_file_with(scan, mask, options(&run, &mut observer)?)?;
        if let Some(out) = out {
            out.give(found.into());
        }
        Ok(())
    })
}

/// What is wanted: nothing in particular where the pointer is null.
///
/// # Safety
/// As [`borrowed`].
unsafe fn wanted(run: *const SulcusRun) -> Result<SulcusRun, Failure> {
    if run.is_null() {
        return Ok(SulcusRun { flags: 0, max_memory: 0, progress: None, user_data: std::ptr::null_mut() });
    }
    // SAFETY: as the caller promises.
    unsafe { borrowed(run, "run") }.copied()
}

/// Asks the callback, and goes on where there is none.
fn observer(run: &SulcusRun) -> impl FnMut(Progress) -> ControlFlow<()> {
    let SulcusRun { progress, user_data, .. } = *run;
    move |Progress { done, total }| {
        // SAFETY: the caller gave both, and promises that they go together and return.
        let stop = progress.is_some_and(|progress| unsafe { progress(user_data, done, total) } != 0);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn options<'a>(
    run: &SulcusRun,
    observer: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<SegmentOptions<'a>, Failure> {
    let options = SegmentOptions::default().with_observer(observer);
    let options = match run.flags {
        0 => options,
        SULCUS_RUN_PROBABILITIES => options.with_probabilities(),
        other => {
            return Err(Failure::argument(format!(
                "the flags of a run are 0 or SULCUS_RUN_PROBABILITIES ({SULCUS_RUN_PROBABILITIES}), found {other}"
            )));
        }
    };
    Ok(if run.max_memory > 0 { options.with_max_memory(run.max_memory) } else { options })
}
