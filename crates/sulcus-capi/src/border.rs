//! What crosses the border between C and Rust: errors out, checked pointers in, and never a panic.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr::NonNull;

use crate::SulcusStatus;

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: SulcusStatus,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: SulcusStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(SulcusStatus::InvalidArgument, message)
    }

    pub(crate) fn with_status(self, status: SulcusStatus) -> Self {
        Self { status, ..self }
    }
}

/// What went wrong in this thread's last call that failed, a sentence for people in UTF-8; an empty text when none has.
/// It carries no patient data but the paths that it was given.
///
/// The text is the library's: it stays until the next failure in this thread, or the thread's end, so copy what is needed
/// longer. Any thread may call it and sees its own errors alone. Calls that succeed leave it as it is: look at the status
/// first.
#[unsafe(no_mangle)]
pub extern "C" fn sulcus_last_error() -> *const c_char {
    let none = c"".as_ptr();
    guarded(none, || {
        // The text stays where it is on the heap until it is replaced, which needs another failure in this thread.
        let last = LAST_ERROR.try_with(|last| last.borrow().as_ref().map(|text| text.as_ptr()));
        last.ok().flatten().unwrap_or(none)
    })
}

fn remember(failure: &Failure) {
    let text = c_string(&failure.message);
    // A thread that is ending has no place for it any more; the status still says that the call failed.
    LAST_ERROR.try_with(|last| *last.borrow_mut() = Some(text)).ok();
}

/// Text for C. A zero byte, which C can't have inside, becomes a replacement character.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// Runs what an entry does: a failure and a panic become a status and the thread's last error.
pub(crate) fn guard(work: impl FnOnce() -> Result<(), Failure>) -> SulcusStatus {
    let failure = match caught(work) {
        Ok(Ok(())) => return SulcusStatus::Ok,
        Ok(Err(failure)) | Err(failure) => failure,
    };
    remember(&failure);
    failure.status
}

/// Runs what an entry does that can't fail; after a panic it gives `fallback`.
pub(crate) fn guarded<T>(fallback: T, work: impl FnOnce() -> T) -> T {
    caught(work).unwrap_or_else(|failure| {
        remember(&failure);
        fallback
    })
}

fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    // What a panic leaves half done is the caller's handle, which `SulcusStatus::Panic` says not to use any more.
    catch_unwind(AssertUnwindSafe(|| {
        #[cfg(test)]
        crate::tests::trip();
        work()
    }))
    .map_err(panicked)
}

fn panicked(payload: Box<dyn Any + Send>) -> Failure {
    let what = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    // Dropping it could panic again, outside of any net.
    std::mem::forget(payload);
    Failure::new(SulcusStatus::Panic, format!("this is a bug in the library, please report it: {what}"))
}

fn check<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("`{name}` is a null pointer")));
    }
    if !pointer.is_aligned() {
        return Err(Failure::argument(format!(
            "`{name}` must lie at a multiple of {} bytes, found address {:#x}",
            align_of::<T>(),
            pointer.addr()
        )));
    }
    Ok(())
}

/// What a pointer from C points to.
///
/// # Safety
/// Unless it is null or misaligned, it points to a `T` that lives and is not changed while the reference is used.
pub(crate) unsafe fn borrowed<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    check(pointer, name)?;
    // SAFETY: it is neither null nor misaligned, and the caller promises the rest.
    Ok(unsafe { &*pointer })
}

/// What a pointer from C points to, to be changed.
///
/// # Safety
/// As [`borrowed`], and nobody else uses it meanwhile.
pub(crate) unsafe fn borrowed_mut<'a, T>(pointer: *mut T, name: &str) -> Result<&'a mut T, Failure> {
    check(pointer, name)?;
    // SAFETY: it is neither null nor misaligned, and the caller promises the rest.
    Ok(unsafe { &mut *pointer })
}

/// An array from C. Its pointer counts only if it has a length.
///
/// # Safety
/// As [`borrowed`], for so many `T`s.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, length: usize, name: &str) -> Result<&'a [T], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    check(pointer, name)?;
    if length > isize::MAX as usize / size_of::<T>() {
        return Err(Failure::argument(format!(
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
pub(crate) unsafe fn array<const N: usize>(pointer: *const f64, name: &str) -> Result<[f64; N], Failure> {
    // SAFETY: as the caller promises; an array is as aligned as its elements.
    unsafe { borrowed(pointer.cast::<[f64; N]>(), name) }.copied()
}

/// A text from C.
///
/// # Safety
/// As [`borrowed`], up to a zero byte.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    // SAFETY: as the caller promises.
    let text = unsafe { bytes(pointer, name) }?;
    std::str::from_utf8(text).map_err(|e| Failure::argument(format!("`{name}` must be UTF-8: {e}")))
}

/// A path from C.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn path<'a>(pointer: *const c_char, name: &str) -> Result<&'a Path, Failure> {
    #[cfg(unix)]
    // SAFETY: as the caller promises.
    let path =
        unsafe { bytes(pointer, name) }.map(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes)?;
    #[cfg(not(unix))]
    // SAFETY: as the caller promises.
    let path = unsafe { text(pointer, name) }?;
    let path = Path::new(path);
    if path.as_os_str().is_empty() {
        return Err(Failure::argument(format!("`{name}` is an empty path")));
    }
    Ok(path)
}

unsafe fn bytes<'a>(pointer: *const c_char, name: &str) -> Result<&'a [u8], Failure> {
    check(pointer, name)?;
    // SAFETY: it is not null, and the caller promises that a zero byte ends it.
    Ok(unsafe { CStr::from_ptr(pointer) }.to_bytes())
}

/// A place of the caller's that is to be filled in.
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// # Safety
    /// Unless it is null or misaligned, there is room for a `T` that nobody else uses while this lives.
    pub(crate) unsafe fn new(pointer: *mut T, name: &str) -> Result<Self, Failure> {
        check(pointer, name)?;
        NonNull::new(pointer).map(Self).ok_or_else(|| Failure::argument(format!("`{name}` is a null pointer")))
    }

    pub(crate) fn write(&self, value: T) {
        // SAFETY: `new`'s caller promises that there is room; what was there is C's and needs no drop.
        unsafe { self.0.write(value) }
    }
}

impl<T> Out<*mut T> {
    /// For a handle, which is null until it is filled in.
    ///
    /// # Safety
    /// As [`Out::new`].
    pub(crate) unsafe fn handle(pointer: *mut *mut T, name: &str) -> Result<Self, Failure> {
        // SAFETY: as the caller promises.
        let out = unsafe { Self::new(pointer, name) }?;
        out.write(std::ptr::null_mut());
        Ok(out)
    }

    /// Gives C what it has to free.
    pub(crate) fn give(&self, value: T) {
        self.write(Box::into_raw(Box::new(value)));
    }
}

/// Takes back what [`Out::give`] gave; null is nothing.
///
/// # Safety
/// It is null, or came from [`Out::give`] and was not taken back before.
pub(crate) unsafe fn free<T>(pointer: *mut T) {
    guarded((), || {
        if !pointer.is_null() {
            // SAFETY: the caller promises that it is a box of ours.
            drop(unsafe { Box::from_raw(pointer) });
        }
    });
}
