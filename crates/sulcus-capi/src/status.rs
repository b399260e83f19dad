//! The statuses of the library's errors.

use std::ffi::c_char;

use sulcus_io::IoError;
use sulcus_pipeline::PipelineError;
use sulcus_runtime::{Error as RuntimeError, ErrorKind, with_causes};
use sulcus_volume::VolumeError;

use crate::ffi::{FfiError, SulcusStatus, call_or};

/// A short description of a status; `sulcus_last_error` has the details. An unknown number gets a description too.
///
/// The text is static. Any thread may call this function.
#[unsafe(no_mangle)]
pub extern "C" fn sulcus_status_text(status: i32) -> *const c_char {
    // The parameter is a number and not the enum, because C may pass a value that the enum lacks.
    call_or(c"".as_ptr(), || {
        let known = SulcusStatus::ALL.into_iter().find(|known| *known as i32 == status);
        known.map_or(c"not a status of this library".as_ptr(), |known| known.text().as_ptr())
    })
}

impl From<VolumeError> for FfiError {
    /// A grid that the caller described.
    fn from(error: VolumeError) -> Self {
        Self::new(SulcusStatus::InvalidArgument, with_causes(&error))
    }
}

impl From<IoError> for FfiError {
    fn from(error: IoError) -> Self {
        Self::new(SulcusStatus::File, with_causes(&error))
    }
}

impl From<RuntimeError> for FfiError {
    fn from(error: RuntimeError) -> Self {
        let mut message = with_causes(&error);
        let warnings = error.scan_warnings();
        let status = match error.kind() {
            ErrorKind::NoModel => SulcusStatus::InvalidArgument,
            ErrorKind::ReadModel { .. }
            | ErrorKind::Model { .. }
            | ErrorKind::Unchecked { .. }
            | ErrorKind::Ensemble { .. } => SulcusStatus::Model,
            ErrorKind::LibraryNotFound { .. } => {
                message.push_str("; sulcus_options_set_ort_library sets its path");
                SulcusStatus::Engine
            }
            ErrorKind::Graph { .. }
            | ErrorKind::EngineNotBuilt { .. }
            | ErrorKind::NeedsOnnxRuntime { .. }
            | ErrorKind::Library { .. }
            | ErrorKind::OtherLibraryLoaded { .. } => SulcusStatus::Engine,
            ErrorKind::Device { .. } | ErrorKind::Precision { .. } => SulcusStatus::Device,
            ErrorKind::WouldOverwrite { .. } | ErrorKind::CacheFolder { .. } | ErrorKind::Io(_) => {
                SulcusStatus::File
            }
            ErrorKind::NoGoldenCase { .. } => SulcusStatus::GoldenCase,
            ErrorKind::Pipeline(error) => pipeline_status(error),
            _ => SulcusStatus::Failed,
        };
        Self::new(status, message).with_warnings(warnings)
    }
}

fn pipeline_status(error: &PipelineError) -> SulcusStatus {
    match error {
        PipelineError::Spec(_) | PipelineError::Ensemble(_) | PipelineError::NotFromNnunet { .. } => {
            SulcusStatus::Model
        }
        error if error.is_about_scan() => SulcusStatus::Scan,
        PipelineError::AnswerShape { .. }
        | PipelineError::AnswerNotFinite
        | PipelineError::HalfPrecisionRange
        | PipelineError::Predictor(_) => SulcusStatus::Inference,
        PipelineError::Memory { .. } => SulcusStatus::OutOfMemory,
        PipelineError::MemoryLimit { .. } => SulcusStatus::MemoryLimit,
        PipelineError::Cancelled => SulcusStatus::Cancelled,
        _ => SulcusStatus::Failed,
    }
}
