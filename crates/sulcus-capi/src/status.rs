use std::ffi::c_char;

use sulcus_io::IoError;
use sulcus_pipeline::PipelineError;
use sulcus_runtime::{RuntimeError, with_causes};
use sulcus_volume::VolumeError;

use crate::ffi::{FfiError, call_or};

/// How a call ended. 0 is success. Later versions may add numbers, so treat unknown ones as failures.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SulcusStatus {
    /// Success.
    Ok = 0,
    /// An argument cannot be used: a null pointer, a wrong rank or length, a transform without inverse, an unknown name.
    InvalidArgument = 1,
    /// A model cannot be used: the file is missing, is not a model, has a newer format, or does not match the other models.
    Model = 2,
    /// The engine is not available, or cannot run the model.
    Engine = 3,
    /// The requested device is not available, or not in the requested precision.
    Device = 4,
    /// The scan does not suit the model, or has voxels that are NaN or infinite.
    Scan = 5,
    /// A file cannot be read or written.
    File = 6,
    /// The scan cannot be segmented within the memory limit.
    MemoryLimit = 7,
    /// The progress callback stopped the work.
    Cancelled = 8,
    /// The engine failed, or its output is unusable.
    Inference = 9,
    /// The model has no golden case, or its mask differs from the recorded one.
    GoldenCase = 10,
    /// The requested item does not exist: probabilities that were not requested, or an index beyond the last.
    NotAvailable = 11,
    /// There is not enough memory.
    OutOfMemory = 12,
    /// A bug in the library was caught. Free the handles that were passed to this call and do not use them again.
    Panic = 13,
    /// Any other failure.
    Failed = 14,
}

impl SulcusStatus {
    const ALL: [Self; 15] = [
        Self::Ok,
        Self::InvalidArgument,
        Self::Model,
        Self::Engine,
        Self::Device,
        Self::Scan,
        Self::File,
        Self::MemoryLimit,
        Self::Cancelled,
        Self::Inference,
        Self::GoldenCase,
        Self::NotAvailable,
        Self::OutOfMemory,
        Self::Panic,
        Self::Failed,
    ];

    const fn text(self) -> &'static std::ffi::CStr {
        match self {
            Self::Ok => c"success",
            Self::InvalidArgument => c"an argument cannot be used",
            Self::Model => c"a model cannot be used",
            Self::Engine => c"the engine is not available or cannot run the model",
            Self::Device => c"the device is not available",
            Self::Scan => c"the scan cannot be used with this model",
            Self::File => c"a file cannot be read or written",
            Self::MemoryLimit => c"the memory limit is too small for the scan",
            Self::Cancelled => c"stopped on request",
            Self::Inference => c"the engine failed",
            Self::GoldenCase => c"the golden case is missing or its mask differs",
            Self::NotAvailable => c"the requested item does not exist",
            Self::OutOfMemory => c"there is not enough memory",
            Self::Panic => c"a bug in the library was caught",
            Self::Failed => c"failed",
        }
    }
}

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
        let status = match error {
            RuntimeError::NoModel => SulcusStatus::InvalidArgument,
            RuntimeError::ReadModel { .. } | RuntimeError::Model { .. } | RuntimeError::Ensemble { .. } => {
                SulcusStatus::Model
            }
            RuntimeError::LibraryNotFound { .. } => {
                message.push_str("; sulcus_options_set_ort_library sets its path");
                SulcusStatus::Engine
            }
            RuntimeError::Graph { .. }
            | RuntimeError::EngineNotBuilt { .. }
            | RuntimeError::NeedsOnnxRuntime { .. }
            | RuntimeError::Library { .. }
            | RuntimeError::OtherLibraryLoaded { .. } => SulcusStatus::Engine,
            RuntimeError::Device { .. } | RuntimeError::Arithmetic { .. } => SulcusStatus::Device,
            RuntimeError::WouldOverwrite { .. } | RuntimeError::CacheFolder { .. } | RuntimeError::Io(_) => {
                SulcusStatus::File
            }
            RuntimeError::NoGoldenCase { .. } => SulcusStatus::GoldenCase,
            RuntimeError::Pipeline(error) => pipeline_status(&error),
            _ => SulcusStatus::Failed,
        };
        Self::new(status, message)
    }
}

fn pipeline_status(error: &PipelineError) -> SulcusStatus {
    match error {
        PipelineError::Spec(_) | PipelineError::Ensemble(_) => SulcusStatus::Model,
        PipelineError::Channels { .. } | PipelineError::NonFinite { .. } | PipelineError::Volume(_) => {
            SulcusStatus::Scan
        }
        PipelineError::AnswerShape { .. } | PipelineError::AnswerNotFinite | PipelineError::Predictor(_) => {
            SulcusStatus::Inference
        }
        PipelineError::Memory { .. } => SulcusStatus::OutOfMemory,
        PipelineError::MemoryLimit { .. } => SulcusStatus::MemoryLimit,
        PipelineError::Cancelled => SulcusStatus::Cancelled,
        _ => SulcusStatus::Failed,
    }
}
