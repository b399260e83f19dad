use std::ffi::c_char;

use crate::border::guarded;

/// The version of this interface. It is raised when a function or a struct changes so that a program has to be compiled
/// again; new functions don't raise it.
pub const SULCUS_ABI_VERSION: u32 = 1;

/// The `SULCUS_ABI_VERSION` of the library that was loaded; compare it with the header's, as a program that loads the
/// library at run time should.
///
/// Any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn sulcus_abi_version() -> u32 {
    guarded(0, || SULCUS_ABI_VERSION)
}

/// The version of the kit, such as `0.1.0`.
///
/// The text is the library's and stays for good; any thread may call it.
#[unsafe(no_mangle)]
pub extern "C" fn sulcus_version() -> *const c_char {
    guarded(c"".as_ptr(), || concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast())
}
