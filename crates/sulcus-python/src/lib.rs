//! The native half of the Python package `sulcus`: one class each for the segmenter, the scan and the segmentation.
//!
//! The public package is in `python/sulcus`. It checks its arguments and converts them for this module, so nothing else
//! should use this module.

mod error;
mod ort_library;
mod progress;
mod scan;
mod segmentation;
mod segmenter;
mod viewer;

/// The module `sulcus._sulcus`.
#[pyo3::pymodule]
mod _sulcus {
    #[pymodule_export]
    use crate::scan::Scan;
    #[pymodule_export]
    use crate::segmentation::NativeSegmentation;
    #[pymodule_export]
    use crate::segmenter::Segmenter;
    #[pymodule_export]
    use crate::viewer::{decode_labels, encode_labels, encode_scan, viewer_page, viewer_script};

    /// The version of Sulcus.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
