use std::ffi::c_char;

use crate::ffi::call_or;

/// The version of this interface. It is raised when a function or a struct changes in a way that requires programs to be
/// compiled again. New functions, and new fields at the end of a struct that starts with `struct_size`, do not raise it.
pub const SULCUS_ABI_VERSION: u32 = 2;

/// The `SULCUS_ABI_VERSION` of the loaded library. Compare it with the header's, above all when the library is loaded at run
/// time.
///
/// Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn sulcus_abi_version() -> u32 {
    call_or(0, || SULCUS_ABI_VERSION)
}

/// The version of Sulcus, such as `0.1.0`.
///
/// The text is static. Any thread may call this function.
#[unsafe(no_mangle)]
pub extern "C" fn sulcus_version() -> *const c_char {
    call_or(c"".as_ptr(), || concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast())
}
