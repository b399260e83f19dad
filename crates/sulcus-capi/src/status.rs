use std::ffi::c_char;

use sulcus_io::IoError;
use sulcus_pipeline::PipelineError;
use sulcus_runtime::{Error as RuntimeError, ErrorKind, with_causes};
use sulcus_volume::VolumeError;

use crate::border::{Failure, guarded};

/// How a call ended. 0 is success; new numbers may come, so treat those that you don't know as failures.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SulcusStatus {
    /// All was done.
    Ok = 0,
    /// An argument can't be used: a null pointer, a wrong rank or length, a transform without inverse, an unknown name.
    InvalidArgument = 1,
    /// A model can't be used: no such file, not a model, of a newer format, or several that don't fit each other.
    Model = 2,
    /// The engine can't be had, or doesn't take the model.
    Engine = 3,
    /// The device that was named can't be had, or not in half precision.
    Device = 4,
    /// The scan doesn't suit the model, or holds voxels that are NaN or infinite.
    Scan = 5,
    /// A file can't be read or written.
    File = 6,
    /// The scan can't be segmented within the memory limit.
    MemoryLimit = 7,
    /// The progress callback asked to stop.
    Cancelled = 8,
    /// The engine failed at work, or its answer is unusable.
    Inference = 9,
    /// The model carries no golden case, or gives another mask than the one recorded.
    GoldenCase = 10,
    /// There is no such thing: probabilities that were not asked for, or an index beyond the last.
    NotAvailable = 11,
    /// There is not enough memory.
    OutOfMemory = 12,
    /// A bug in the library, which was caught. The handles of this call should be freed and not used any more.
    Panic = 13,
    /// Anything else.
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
            Self::Ok => c"all was done",
            Self::InvalidArgument => c"an argument cannot be used",
            Self::Model => c"a model cannot be used",
            Self::Engine => c"the engine cannot be had or does not take the model",
            Self::Device => c"the device cannot be had",
            Self::Scan => c"the scan cannot be used with this model",
            Self::File => c"a file cannot be read or written",
            Self::MemoryLimit => c"the memory limit is too small for the scan",
            Self::Cancelled => c"stopped on request",
            Self::Inference => c"the engine failed at work",
            Self::GoldenCase => c"the golden case is missing or gives another mask",
            Self::NotAvailable => c"there is no such thing",
            Self::OutOfMemory => c"there is not enough memory",
            Self::Panic => c"a bug in the library was caught",
            Self::Failed => c"failed",
        }
    }
}

/// What a status means, in a few words; `sulcus_last_error` says more. A number that is no status gives a text too.
///
/// The text is the library's and stays for good; any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn sulcus_status_text(status: i32) -> *const c_char {
    // A number, not the enum: C may pass one that is none.
    guarded(c"".as_ptr(), || {
        let known = SulcusStatus::ALL.into_iter().find(|known| *known as i32 == status);
        known.map_or(c"this is no status of this library".as_ptr(), |known| known.text().as_ptr())
    })
}

impl From<VolumeError> for Failure {
    /// Of a grid that the caller described.
    fn from(error: VolumeError) -> Self {
        Self::new(SulcusStatus::InvalidArgument, with_causes(&error))
    }
}

impl From<IoError> for Failure {
    fn from(error: IoError) -> Self {
        Self::new(SulcusStatus::File, with_causes(&error))
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let mut message = with_causes(&error);
        let status = match error.kind() {
            ErrorKind::NoModel => SulcusStatus::InvalidArgument,
            ErrorKind::ReadModel { .. } | ErrorKind::Model { .. } | ErrorKind::Ensemble { .. } => {
                SulcusStatus::Model
            }
            ErrorKind::LibraryNotFound { .. } => {
                message.push_str("; from C, sulcus_options_set_ort_library names one");
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
            ErrorKind::Pipeline(error) => of_pipeline(error),
            _ => SulcusStatus::Failed,
        };
        Self::new(status, message)
    }
}

fn of_pipeline(error: &PipelineError) -> SulcusStatus {
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
