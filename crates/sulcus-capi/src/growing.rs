//! Structs that can get more fields in later versions: they start with `struct_size`, which the caller sets.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::ffi::{FfiError, check_pointer};

/// A struct that can get more fields at its end. It starts with `struct_size`, which the caller sets to the size that its
/// header gives the struct.
///
/// # Safety
/// The type is `repr(C)`, its first field is `struct_size: usize`, it is valid when all its bytes are zero, and no multiple
/// of its alignment lies inside one of its fields.
pub(crate) unsafe trait Growing: Copy {
    /// The name in C.
    const NAME: &'static str;
}

/// The caller's `struct_size`, checked.
///
/// # Safety
/// As [`borrowed`], for a `usize`.
unsafe fn struct_size<T: Growing>(pointer: *const T, name: &str) -> Result<usize, FfiError> {
    /// Far more than any version of a struct has. A larger value was never set.
    const MAX_SIZE: usize = 4096;
    check_pointer(pointer, name)?;
    // SAFETY: the first field is a `usize`, and the caller promises that it is there.
    let size = unsafe { pointer.cast::<usize>().read() };
    if !(size_of::<usize>()..=MAX_SIZE).contains(&size) || !size.is_multiple_of(align_of::<T>()) {
        let found = if size > MAX_SIZE { format!("more than {MAX_SIZE}") } else { size.to_string() };
        return Err(FfiError::argument(format!(
            "`{name}.struct_size` must be sizeof({}), {} in this version, found {found}",
            T::NAME,
            size_of::<T>(),
        )));
    }
    Ok(size)
}

/// Reads a struct from C. Fields that a smaller, older struct lacks are zero, which is their default. A larger, newer
/// struct is accepted when the bytes that this library does not know are zero.
///
/// # Safety
/// If the pointer is neither null nor misaligned, it points to as many bytes as its `struct_size` says.
pub(crate) unsafe fn read_growing<T: Growing>(pointer: *const T, name: &str) -> Result<T, FfiError> {
    // SAFETY: as the caller promises.
    let size = unsafe { struct_size(pointer, name) }?;
    let known = size_of::<T>();
    let bytes = pointer.cast::<u8>();
    if size > known {
        // SAFETY: the caller promises `size` bytes.
        let unknown = unsafe { std::slice::from_raw_parts(bytes.add(known), size - known) };
        if unknown.iter().any(|byte| *byte != 0) {
            return Err(FfiError::argument(format!(
                "`{name}` sets a field that this library does not have: it knows the first {known} of {size} bytes of \
                 {}; use the library that belongs to the header, or set the field to zero",
                T::NAME
            )));
        }
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: both are at least as long as what is copied, and `Growing` makes any mix of whole fields and zeros valid.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes, value.as_mut_ptr().cast::<u8>(), size.min(known));
        Ok(value.assume_init())
    }
}

/// A struct of the caller. Only the fields within its `struct_size` are filled in.
pub(crate) struct OutStruct<T> {
    place: NonNull<T>,
    size: usize,
}

impl<T: Growing> OutStruct<T> {
    /// # Safety
    /// If the pointer is neither null nor misaligned, it points to as many bytes as its `struct_size` says, and no other
    /// code uses them while this lives.
    pub(crate) unsafe fn new(pointer: *mut T, name: &str) -> Result<Self, FfiError> {
        // SAFETY: as the caller promises.
        let size = unsafe { struct_size(pointer, name) }?;
        let place = NonNull::new(pointer);
        let place = place.ok_or_else(|| FfiError::argument(format!("`{name}` is a null pointer")))?;
        Ok(Self { place, size })
    }

    /// Fills in the fields that the caller's struct has and keeps its `struct_size`. Bytes that this library does not know
    /// become zero.
    pub(crate) fn write(&self, value: &T) {
        let (to, from) = (self.place.as_ptr().cast::<u8>(), std::ptr::from_ref(value).cast::<u8>());
        let (first, known) = (size_of::<usize>(), self.size.min(size_of::<T>()));
        // SAFETY: `new`'s caller promises `size` bytes, and `known` is at least `first`, the size of `struct_size`.
        unsafe {
            std::ptr::copy_nonoverlapping(from.add(first), to.add(first), known - first);
            to.add(known).write_bytes(0, self.size - known);
        }
    }
}
