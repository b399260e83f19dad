use std::ffi::{CString, c_char};

use sulcus_pipeline::PipelineError;
use sulcus_runtime::{ErrorKind, Segmenter};

use crate::border::{Failure, Out, borrowed, c_string, free, guard};
use crate::{SulcusOptions, SulcusStatus};

/// One or more models, loaded and ready. Made by `sulcus_segmenter_new`, freed by `sulcus_segmenter_free`. Several threads
/// may segment with it at once; how many of their tiles run at a time is the engine's affair.
pub struct SulcusSegmenter {
    segmenter: Segmenter,
    name: CString,
    engine: CString,
    device: CString,
    channels: Vec<CString>,
    notes: Vec<CString>,
}

impl SulcusSegmenter {
    pub(crate) fn segmenter(&self) -> &Segmenter {
        &self.segmenter
    }
}

impl From<Segmenter> for SulcusSegmenter {
    fn from(segmenter: Segmenter) -> Self {
        let spec = segmenter.spec();
        Self {
            name: c_string(&spec.name),
            engine: c_string(segmenter.engine().name()),
            device: c_string(&segmenter.device().to_string()),
            channels: spec.channels.iter().map(|channel| c_string(&channel.name)).collect(),
            notes: segmenter.notes().iter().map(|note| c_string(&note.to_string())).collect(),
            segmenter,
        }
    }
}

/// What a segmenter is. Its texts belong to the segmenter and live as long.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusSegmenterInfo {
    /// What people call the model; of several the first one's.
    pub model_name: *const c_char,
    /// What runs the network: `ort` or `tract`.
    pub engine: *const c_char,
    /// Where it runs, such as `cpu` or `cuda:0`.
    pub device: *const c_char,
    /// Models that are averaged.
    pub models: usize,
    /// Channels that a scan must have; `sulcus_segmenter_channel` names them.
    pub channels: usize,
    /// Sentences that a person should read; `sulcus_segmenter_note` gives them.
    pub notes: usize,
}

/// Reads the models and gets the engine ready, which may take seconds.
///
/// `segmenter` is filled in; the caller frees it with `sulcus_segmenter_free`. The options are copied: they may be used
/// again, changed or freed. Any thread may call it.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `segmenter` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_new(
    options: *const SulcusOptions,
    segmenter: *mut *mut SulcusSegmenter,
) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::handle(segmenter, "segmenter") }?;
        // SAFETY: as the caller promises.
        let options = unsafe { borrowed(options, "options") }?;
        out.give(options.builder().build()?.into());
        Ok(())
    })
}

/// Frees a segmenter; null is nothing. Segmentations that it made live on.
///
/// # Safety
/// `segmenter` is null or from `sulcus_segmenter_new`, was not freed before, and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_free(segmenter: *mut SulcusSegmenter) {
    // SAFETY: as the caller promises.
    unsafe { free(segmenter) }
}

/// Fills in what a segmenter is, and what engine and device were taken.
///
/// The texts belong to the segmenter. Several threads may ask at once.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`; `info` points to room for a `SulcusSegmenterInfo`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_info(
    segmenter: *const SulcusSegmenter,
    info: *mut SulcusSegmenterInfo,
) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::new(info, "info") }?;
        // SAFETY: as the caller promises.
        let segmenter = unsafe { borrowed(segmenter, "segmenter") }?;
        out.write(SulcusSegmenterInfo {
            model_name: segmenter.name.as_ptr(),
            engine: segmenter.engine.as_ptr(),
            device: segmenter.device.as_ptr(),
            models: segmenter.segmenter.models(),
            channels: segmenter.channels.len(),
            notes: segmenter.notes.len(),
        });
        Ok(())
    })
}

/// Fills in the name of a channel that scans must have, such as `MRI`, in their order from 0.
///
/// The text belongs to the segmenter. Several threads may ask at once.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`; `name` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_channel(
    segmenter: *const SulcusSegmenter,
    index: usize,
    name: *mut *const c_char,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe { text_at(segmenter, |s| &s.channels, index, name, ("channel", "name")) }
}

/// Fills in a sentence about what `auto` chose, from 0: for people, and worth showing.
///
/// The text belongs to the segmenter. Several threads may ask at once.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`; `note` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_note(
    segmenter: *const SulcusSegmenter,
    index: usize,
    note: *mut *const c_char,
) -> SulcusStatus {
    // SAFETY: as the caller promises.
    unsafe { text_at(segmenter, |s| &s.notes, index, note, ("note", "note")) }
}

/// # Safety
/// As [`sulcus_segmenter_note`].
unsafe fn text_at(
    segmenter: *const SulcusSegmenter,
    texts: fn(&SulcusSegmenter) -> &[CString],
    index: usize,
    text: *mut *const c_char,
    (what, argument): (&str, &str),
) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { Out::new(text, argument) }?;
        out.write(std::ptr::null());
        // SAFETY: as the caller promises.
        let texts = texts(unsafe { borrowed(segmenter, "segmenter") }?);
        out.write(texts.get(index).ok_or_else(|| no_such(what, index, texts.len()))?.as_ptr());
        Ok(())
    })
}

/// An index beyond the last.
pub(crate) fn no_such(what: &str, index: usize, count: usize) -> Failure {
    Failure::new(
        SulcusStatus::NotAvailable,
        format!("there is no {what} {index}: there are {count}, counted from 0"),
    )
}

/// Segments the small scan that each model carries and compares the mask with the one that is recorded: a check of the file,
/// the engine and this machine together.
///
/// Several threads may call it at once.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_replay_golden(segmenter: *const SulcusSegmenter) -> SulcusStatus {
    guard(|| {
        // SAFETY: as the caller promises.
        let segmenter = unsafe { borrowed(segmenter, "segmenter") }?;
        segmenter.segmenter.replay_golden().map_err(|error| {
            let of_golden_case = matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Spec(_)));
            let failure = Failure::from(error);
            if of_golden_case { failure.with_status(SulcusStatus::GoldenCase) } else { failure }
        })
    })
}
