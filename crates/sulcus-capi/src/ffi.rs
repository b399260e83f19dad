//! The boundary between C and Rust: statuses and messages out, checked pointers in, and no panic across it.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::NonNull;

use sulcus_pipeline::ScanWarning;

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
    pub(crate) const ALL: [Self; 15] = [
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

    pub(crate) const fn text(self) -> &'static std::ffi::CStr {
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

thread_local! {
    static LAST_ERROR: RefCell<Option<LastError>> = const { RefCell::new(None) };
}

/// What the thread keeps of its last failed call.
struct LastError {
    message: CString,
    /// A JSON array.
    warnings: CString,
}

/// A failed call: its status, the message for `sulcus_last_error`, and the warnings for `sulcus_last_error_warnings_json`.
#[derive(Debug)]
pub(crate) struct FfiError {
    status: SulcusStatus,
    message: String,
    warnings: Vec<ScanWarning>,
}

impl FfiError {
    pub(crate) fn new(status: SulcusStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), warnings: Vec::new() }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(SulcusStatus::InvalidArgument, message)
    }

    /// Why the scan was refused as implausible.
    pub(crate) fn with_warnings(self, warnings: &[ScanWarning]) -> Self {
        Self { warnings: warnings.to_vec(), ..self }
    }

    pub(crate) fn with_status(self, status: SulcusStatus) -> Self {
        Self { status, ..self }
    }
}

/// The message of this thread's last failed call, one sentence in UTF-8; an empty text when no call has failed. It contains
/// no patient data, apart from the paths that the caller passed.
///
/// The text belongs to the library. It is valid until the next failure in this thread or the end of the thread, so copy it
/// to keep it longer. Any thread may call this function and sees only its own errors. Calls that succeed do not clear the
/// message, so check the status first.
#[unsafe(no_mangle)]
pub extern "C" fn sulcus_last_error() -> *const c_char {
    let none = c"".as_ptr();
    call_or(none, || {
        // The text keeps its address until it is replaced, which takes another failure in this thread.
        let last = LAST_ERROR.try_with(|last| last.borrow().as_ref().map(|last| last.message.as_ptr()));
        last.ok().flatten().unwrap_or(none)
    })
}

/// Why the scan of this thread's last failed call was refused as implausible, for example with `sulcus_options_set_strict`: a JSON
/// array of objects with `kind`, `message` and further fields, like the warnings of `sulcus_segmentation_report_json`. An empty array
/// (`[]`) for other failures, and when no call has failed.
///
/// The text is valid as long as that of `sulcus_last_error`. Any thread may call this function and sees only its own errors.
#[unsafe(no_mangle)]
pub extern "C" fn sulcus_last_error_warnings_json() -> *const c_char {
    let none = c"[]".as_ptr();
    call_or(none, || {
        let last = LAST_ERROR.try_with(|last| last.borrow().as_ref().map(|last| last.warnings.as_ptr()));
        last.ok().flatten().unwrap_or(none)
    })
}

fn set_last_error(error: &FfiError) {
    let warnings = serde_json::to_string(&error.warnings).unwrap_or_else(|_| "[]".into());
    let last_error = LastError { message: c_string(&error.message), warnings: c_string(&warnings) };
    // A thread that is ending can no longer store it. The status still reports the failure.
    LAST_ERROR.try_with(|last| *last.borrow_mut() = Some(last_error)).ok();
}

/// A text for C. A zero byte inside it becomes a replacement character.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// Runs the body of an exported function. An error or a panic becomes its status and the thread's last error.
pub(crate) fn call(work: impl FnOnce() -> Result<(), FfiError>) -> SulcusStatus {
    let error = match catch_panic(work) {
        Ok(Ok(())) => return SulcusStatus::Ok,
        Ok(Err(error)) | Err(error) => error,
    };
    set_last_error(&error);
    error.status
}

/// Runs the body of an exported function that returns no status. After a panic it returns `fallback`.
pub(crate) fn call_or<T>(fallback: T, work: impl FnOnce() -> T) -> T {
    catch_panic(work).unwrap_or_else(|error| {
        set_last_error(&error);
        fallback
    })
}

fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, FfiError> {
    // A panic can leave only the caller's handle half changed, and `SulcusStatus::Panic` forbids its further use.
    catch_unwind(AssertUnwindSafe(|| {
        #[cfg(test)]
        crate::tests::panic_if_armed();
        work()
    }))
    .map_err(panic_error)
}

fn panic_error(payload: Box<dyn Any + Send>) -> FfiError {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    // Dropping the payload could panic again, outside of `catch_unwind`.
    std::mem::forget(payload);
    FfiError::new(SulcusStatus::Panic, format!("this is a bug in the library, please report it: {message}"))
}

pub(crate) fn check_pointer<T>(pointer: *const T, name: &str) -> Result<(), FfiError> {
    if pointer.is_null() {
        return Err(FfiError::argument(format!("`{name}` is a null pointer")));
    }
    if !pointer.is_aligned() {
        return Err(FfiError::argument(format!(
            "`{name}` must be aligned to {} bytes, found address {:#x}",
            align_of::<T>(),
            pointer.addr()
        )));
    }
    Ok(())
}

/// Dereferences a pointer from C.
///
/// # Safety
/// If the pointer is neither null nor misaligned, it points to a live `T` that is not changed while the reference is used.
pub(crate) unsafe fn borrowed<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, FfiError> {
    check_pointer(pointer, name)?;
    // SAFETY: it is neither null nor misaligned, and the caller promises the rest.
    Ok(unsafe { &*pointer })
}

/// Dereferences a mutable pointer from C.
///
/// # Safety
/// As [`borrowed`], and no other code uses the `T` meanwhile.
pub(crate) unsafe fn borrowed_mut<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T, FfiError> {
    check_pointer(pointer, name)?;
    // SAFETY: it is neither null nor misaligned, and the caller promises the rest.
    Ok(unsafe { &mut *pointer })
}

/// An array from C. With length 0 the pointer is not used.
///
/// # Safety
/// As [`borrowed`], for `length` values of type `T`.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, length: usize, name: &str) -> Result<&'a [T], FfiError> {
    if length == 0 {
        return Ok(&[]);
    }
    check_pointer(pointer, name)?;
    if length > isize::MAX as usize / size_of::<T>() {
        return Err(FfiError::argument(format!(
            "`{name}` cannot have {length} elements, more than memory can hold"
        )));
    }
    // SAFETY: it is neither null nor misaligned nor longer than Rust's largest object, and the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// An array of a fixed length from C.
///
/// # Safety
/// As [`borrowed`], for `N` values.
pub(crate) unsafe fn array<const N: usize>(pointer: *const f64, name: &str) -> Result<[f64; N], FfiError> {
    // SAFETY: as the caller promises; an array is as aligned as its elements.
    unsafe { borrowed(pointer.cast::<[f64; N]>(), name) }.copied()
}

/// A text from C.
///
/// # Safety
/// As [`borrowed`], up to a zero byte.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, FfiError> {
    // SAFETY: as the caller promises.
    let text = unsafe { bytes(pointer, name) }?;
    std::str::from_utf8(text).map_err(|e| FfiError::argument(format!("`{name}` must be UTF-8: {e}")))
}

/// A path from C.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a Path, FfiError> {
    #[cfg(unix)]
    // SAFETY: as the caller promises.
    let path =
        unsafe { bytes(pointer, name) }.map(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes)?;
    #[cfg(not(unix))]
    // SAFETY: as the caller promises.
    let path = unsafe { text(pointer, name) }?;
    let path = Path::new(path);
    if path.as_os_str().is_empty() {
        return Err(FfiError::argument(format!("`{name}` is an empty path")));
    }
    Ok(path)
}

unsafe fn bytes<'a>(pointer: *const c_char, name: &str) -> Result<&'a [u8], FfiError> {
    check_pointer(pointer, name)?;
    // SAFETY: it is not null, and the caller promises that a zero byte ends it.
    Ok(unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// A place of the caller's that is filled in.
pub(crate) struct OutPointer<T>(NonNull<T>);

impl<T> OutPointer<T> {
    /// # Safety
    /// If the pointer is neither null nor misaligned, there is room for a `T` that no other code uses while this lives.
    pub(crate) unsafe fn new(pointer: *mut T, name: &str) -> Result<Self, FfiError> {
        check_pointer(pointer, name)?;
        NonNull::new(pointer).map(Self).ok_or_else(|| FfiError::argument(format!("`{name}` is a null pointer")))
    }

    pub(crate) fn write(&self, value: T) {
        // SAFETY: `new`'s caller promises that there is room; the previous content is C's and needs no drop.
        unsafe { self.0.write(value) }
    }
}

impl<T> OutPointer<*mut T> {
    /// For a handle, which is null until it is filled in.
    ///
    /// # Safety
    /// As [`OutPointer::new`].
    pub(crate) unsafe fn handle(pointer: *mut *mut T, name: &str) -> Result<Self, FfiError> {
        // SAFETY: as the caller promises.
        let out = unsafe { Self::new(pointer, name) }?;
        out.write(std::ptr::null_mut());
        Ok(out)
    }

    /// Passes the ownership of `value` to C, which frees it with [`free`].
    pub(crate) fn give(&self, value: T) {
        self.write(Box::into_raw(Box::new(value)));
    }
}

/// Frees what [`OutPointer::give`] gave; null is allowed.
///
/// # Safety
/// The pointer is null, or came from [`OutPointer::give`] and was not freed before.
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    call_or((), || {
        if !pointer.is_null() {
            // SAFETY: the caller promises that this library created the box.
            drop(unsafe { Box::from_raw(pointer) });
        }
    });
}
