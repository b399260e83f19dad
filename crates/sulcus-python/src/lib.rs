//! The native half of the Python package `sulcus`: the runtime's segmenter for Python, one class each for it, for the scan
//! that goes in and for what comes out.
//!
//! What a person calls is in `python/sulcus`, which checks what it is given and brings it into the form that this module
//! takes; so nothing here is for use from anywhere else.

mod error;
mod found;
mod library;
mod scan;
mod segmenter;
mod watch;

/// The module `sulcus._sulcus`.
#[pyo3::pymodule]
mod _sulcus {
    #[pymodule_export]
    use crate::found::Found;
    #[pymodule_export]
    use crate::scan::Scan;
    #[pymodule_export]
    use crate::segmenter::Segmenter;

    /// The version of Sulcus.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
