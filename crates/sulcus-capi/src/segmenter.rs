use std::ffi::{CString, c_char};

use sulcus_pipeline::PipelineError;
use sulcus_runtime::{ErrorKind, Segmenter};

use crate::ffi::{FfiError, OutPointer, borrowed, c_string, call, free};
use crate::growing::{Growing, OutStruct};
use crate::{SulcusOptions, SulcusStatus};

/// One or more loaded models. Created by `sulcus_segmenter_new`, freed by `sulcus_segmenter_free`. Several threads may segment
/// with it at once; the engine decides how many tiles run at a time.
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

/// A description of a segmenter. Its texts belong to the segmenter and are valid until it is freed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SulcusSegmenterInfo {
    /// Set by the caller: sizeof(SulcusSegmenterInfo).
    pub struct_size: usize,
    /// The name of the model; of several models the name of the first.
    pub model_name: *const c_char,
    /// The engine in use: `native`, `ort` or `tract`.
    pub engine: *const c_char,
    /// The device in use, such as `cpu` or `cuda:0`.
    pub device: *const c_char,
    /// The number of models, which are averaged.
    pub models: usize,
    /// The number of channels that a scan must have; `sulcus_segmenter_channel` gives their names.
    pub channels: usize,
    /// The number of notes for the user; `sulcus_segmenter_note` gives them.
    pub notes: usize,
}

// SAFETY: the struct is `repr(C)`, starts with `struct_size`, and has pointers and numbers of the same alignment.
unsafe impl Growing for SulcusSegmenterInfo {
    const NAME: &'static str = "SulcusSegmenterInfo";
}

/// Loads the models into the engine, which may take seconds.
///
/// `segmenter` receives the handle; the caller frees it with `sulcus_segmenter_free`. The options are copied, so they may be
/// used again, changed or freed. Any thread may call this function.
///
/// # Safety
/// `options` is from `sulcus_options_new`; `segmenter` points to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_new(
    options: *const SulcusOptions,
    segmenter: *mut *mut SulcusSegmenter,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutPointer::handle(segmenter, "segmenter") }?;
        // SAFETY: as the caller promises.
        let options = unsafe { borrowed(options, "options") }?;
        out.give(options.builder().build()?.into());
        Ok(())
    })
}

/// Frees a segmenter; null is allowed. Its segmentations stay valid.
///
/// # Safety
/// `segmenter` is null or from `sulcus_segmenter_new`, was not freed before, and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_free(segmenter: *mut SulcusSegmenter) {
    // SAFETY: as the caller promises.
    unsafe { free(segmenter) }
}

/// Fills in a description of the segmenter, with the engine and the device in use.
///
/// The texts belong to the segmenter. Several threads may call this function at once.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`; `info` points to as many bytes as its `struct_size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_info(
    segmenter: *const SulcusSegmenter,
    info: *mut SulcusSegmenterInfo,
) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutStruct::new(info, "info") }?;
        // SAFETY: as the caller promises.
        let segmenter = unsafe { borrowed(segmenter, "segmenter") }?;
        out.write(&SulcusSegmenterInfo {
            struct_size: size_of::<SulcusSegmenterInfo>(),
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

/// Fills in the name of a channel that scans must have, such as `MRI`. Channels are counted from 0.
///
/// The text belongs to the segmenter. Several threads may call this function at once.
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

/// Fills in a note for the user, such as what `auto` chose. Notes are counted from 0.
///
/// The text belongs to the segmenter. Several threads may call this function at once.
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
    call(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { OutPointer::new(text, argument) }?;
        out.write(std::ptr::null());
        // SAFETY: as the caller promises.
        let texts = texts(unsafe { borrowed(segmenter, "segmenter") }?);
        out.write(texts.get(index).ok_or_else(|| no_such(what, index, texts.len()))?.as_ptr());
        Ok(())
    })
}

/// The error for an index beyond the last item.
pub(crate) fn no_such(what: &str, index: usize, count: usize) -> FfiError {
    FfiError::new(
        SulcusStatus::NotAvailable,
        format!("there is no {what} {index}: there are {count}, counted from 0"),
    )
}

/// Segments the small scan inside each model (its golden case) and compares the mask with the recorded one. This checks the
/// file, the engine and the machine together.
///
/// Several threads may call this function at once.
///
/// # Safety
/// `segmenter` is from `sulcus_segmenter_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sulcus_segmenter_replay_golden(segmenter: *const SulcusSegmenter) -> SulcusStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let segmenter = unsafe { borrowed(segmenter, "segmenter") }?;
        segmenter.segmenter.replay_golden().map_err(|error| {
            let mask_differs = matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Spec(_)));
            let error = FfiError::from(error);
            if mask_differs { error.with_status(SulcusStatus::GoldenCase) } else { error }
        })
    })
}
