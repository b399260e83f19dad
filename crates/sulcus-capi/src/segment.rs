use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;

use sulcus_pipeline::Progress;
use sulcus_runtime::SegmentOptions;

use crate::ffi::{FfiError, OutPointer, borrowed, call, path};
use crate::growing::{Growing, read_growing};
use crate::{SulcusScan, SulcusSegmentation, SulcusSegmenter, SulcusStatus, scan};

/// In `SulcusSegmentOptions.flags`: also compute the probabilities of each class.
pub const SULCUS_SEGMENT_PROBABILITIES: u32 = 1;

/// Called after each tile, in the thread that called `sulcus_segment` or `sulcus_segment_file`. The return value 0 continues;
/// any other value stops the work with SULCUS_STATUS_CANCELLED. The callback must return: no exception and no longjmp may
/// leave it. It may call functions of this library.
pub type SulcusProgress =
    Option<unsafe extern "C" fn(user_data: *mut c_void, tiles_done: usize, tiles_total: usize) -> c_int>;

/// Options of one segmentation. Set the struct to zero, then `struct_size`, then the fields that should differ from their
/// default, which is zero.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusSegmentOptions {
    /// Set by the caller: sizeof(SulcusSegmentOptions).
    pub struct_size: usize,
    /// SULCUS_SEGMENT_PROBABILITIES, or 0.
    pub flags: u32,
    /// Memory limit of the process during this segmentation, in bytes; 0 uses the segmenter's own limit.
    pub max_memory: u64,
    /// Called after each tile; may be null.
    pub progress: SulcusProgress,
    /// Passed to `progress`.
    pub user_data: *mut c_void,
}

// SAFETY: the struct is `repr(C)`, starts with `struct_size`, and is valid as zeros; each field ends before or at the next
// multiple of its alignment.
unsafe impl Growing for SulcusSegmentOptions {
    const NAME: &'static str = "SulcusSegmentOptions";
}

/// Segments a scan in memory. `options` may be null, which means the defaults.
///
/// `segmentation` receives the handle; the caller frees it with `sulcus_segmentation_free`. The scan is copied and may be
/// changed afterwards. Several threads may segment with one segmenter at once.
///
/// A scan smaller than the model's patch is padded. A scan with NaN or infinite voxels is refused, because nothing says what
/// they mean.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`; `scan` points to one whose pointers point to as many values as it says;
/// `options` is null or points to as many bytes as its `struct_size` says; `segmentation` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segment(
    segmenter: *const SulcusSegmenter,
    scan: *const SulcusScan,
    options: *const SulcusSegmentOptions,
    segmentation: *mut *mut SulcusSegmentation,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutPointer::handle(segmentation, "segmentation") }?;
        // SAFETY: as the caller promises.
        let segmenter = unsafe { borrowed(segmenter, "segmenter") }?.segmenter();
        // SAFETY: as the caller promises.
        let options = unsafe { read_options(options) }?;
        // SAFETY: as the caller promises.
        let image = unsafe { scan::image(scan) }?;
        let mut observer = observer(&options);
        out.give(segmenter.segment_owned(image, segment_options(&options, &mut observer)?)?.into());
        Ok(())
    })
}

/// Segments a file and writes the mask on the same grid, with the names of the labels. The file names decide the formats:
/// NIfTI, NRRD or MetaImage. The mask is written under a temporary name and renamed, so a failure leaves no mask. The mask
/// cannot overwrite the scan. `options` may be null, which means the defaults.
///
/// `segmentation` receives the handle, and the caller frees it with `sulcus_segmentation_free`; it may be null when the
/// segmentation is not needed. Several threads may segment with one segmenter at once.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`; the paths are zero-terminated strings; `options` is null or points to as many
/// bytes as its `struct_size` says; `segmentation` is null or points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segment_file(
    segmenter: *const SulcusSegmenter,
    scan: *const c_char,
    mask: *const c_char,
    options: *const SulcusSegmentOptions,
    segmentation: *mut *mut SulcusSegmentation,
) -> SulcusStatus {
    call(|| {
        let out = match segmentation.is_null() {
            true => None,
            // SAFETY: as the caller promises.
            false => Some(unsafe { OutPointer::handle(segmentation, "segmentation") }?),
        };
        // SAFETY: as the caller promises.
        let segmenter = unsafe { borrowed(segmenter, "segmenter") }?.segmenter();
        // SAFETY: as the caller promises.
        let (scan, mask) = unsafe { (path(scan, "scan")?, path(mask, "mask")?) };
        // SAFETY: as the caller promises.
        let options = unsafe { read_options(options) }?;
        let mut observer = observer(&options);
        let segmentation = segmenter.segment_file_with(scan, mask, segment_options(&options, &mut observer)?)?;
        if let Some(out) = out {
            out.give(segmentation.into());
        }
        Ok(())
    })
}

/// The caller's options, or the defaults for a null pointer.
///
/// # Safety
/// As [`read_growing`].
unsafe fn read_options(options: *const SulcusSegmentOptions) -> Result<SulcusSegmentOptions, FfiError> {
    if options.is_null() {
        return Ok(SulcusSegmentOptions {
            struct_size: size_of::<SulcusSegmentOptions>(),
            flags: 0,
            max_memory: 0,
            progress: None,
            user_data: std::ptr::null_mut(),
        });
    }
    // SAFETY: as the caller promises.
    unsafe { read_growing(options, "options") }
}

/// Calls the caller's callback, if there is one.
fn observer(options: &SulcusSegmentOptions) -> impl FnMut(Progress) -> ControlFlow<()> {
    let SulcusSegmentOptions { progress, user_data, .. } = *options;
    move |Progress { done, total }| {
        // SAFETY: the caller passed both, and promises that they belong together and that the callback returns.
        let stop = progress.is_some_and(|progress| unsafe { progress(user_data, done, total) } != 0);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn segment_options<'a>(
    options: &SulcusSegmentOptions,
    observer: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<SegmentOptions<'a>, FfiError> {
    let with_observer = SegmentOptions::default().with_observer(observer);
    let with_outputs = match options.flags {
        0 => with_observer,
        SULCUS_SEGMENT_PROBABILITIES => with_observer.with_probabilities(),
        other => {
            return Err(FfiError::argument(format!(
                "`flags` must be 0 or SULCUS_SEGMENT_PROBABILITIES ({SULCUS_SEGMENT_PROBABILITIES}), found {other}"
            )));
        }
    };
    Ok(match options.max_memory {
        0 => with_outputs,
        bytes => with_outputs.with_max_memory(bytes),
    })
}
