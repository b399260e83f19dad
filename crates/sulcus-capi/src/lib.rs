//! The C interface of `sulcus-runtime`: opaque handles, status codes, arrays as input and labels as output. Rust programs use
//! `sulcus-runtime` itself.
//!
//! cbindgen generates `include/sulcus.h` from the public items of this crate and their docs, so the docs are written for
//! readers of the header. A test compares the two. README.md in the folder of the crate shows how to build, link and call
//! the library, and has the shortest program; `examples/segment.c` and `examples/segment.cpp` use all of it.
//!
//! Every exported function uses the module `ffi`, which catches panics, checks pointers and stores the message of the
//! thread's last error.

#![allow(unsafe_code, reason = "C passes pointers, which Rust cannot check")]
#![warn(clippy::undocumented_unsafe_blocks)]

#[cfg(panic = "abort")]
compile_error!("sulcus-capi catches panics, which needs a profile that unwinds: not `panic = \"abort\"`");

mod ffi;
mod growing;
mod image;
mod options;
mod scan;
mod segment;
mod segmentation;
mod segmenter;
mod status;
#[cfg(test)]
mod tests;
mod version;

pub use ffi::{SulcusStatus, sulcus_last_error, sulcus_last_error_warnings_json};
pub use image::{SulcusImage, sulcus_image_free, sulcus_image_grid, sulcus_image_read, sulcus_image_scan};
pub use options::{
    SulcusOptions, SulcusPrecision, sulcus_options_add_model_bytes, sulcus_options_add_model_file,
    sulcus_options_free, sulcus_options_new, sulcus_options_set_allow_constant,
    sulcus_options_set_allow_unchecked, sulcus_options_set_cache_folder, sulcus_options_set_device,
    sulcus_options_set_engine, sulcus_options_set_exact, sulcus_options_set_max_memory, sulcus_options_set_mirror,
    sulcus_options_set_ort_library, sulcus_options_set_precision, sulcus_options_set_step,
    sulcus_options_set_strict, sulcus_options_set_threads,
};
pub use scan::{SULCUS_WORLD_LPS, SULCUS_WORLD_RAS, SulcusGrid, SulcusScan, sulcus_ras_from_directions};
pub use segment::{
    SULCUS_SEGMENT_PROBABILITIES, SulcusProgress, SulcusSegmentOptions, sulcus_segment, sulcus_segment_file,
};
pub use segmentation::{
    SulcusReport, SulcusSegmentation, SulcusStructure, SulcusWarning, sulcus_segmentation_free,
    sulcus_segmentation_grid, sulcus_segmentation_labels, sulcus_segmentation_probabilities,
    sulcus_segmentation_report, sulcus_segmentation_report_json, sulcus_segmentation_structure,
    sulcus_segmentation_warning,
};
pub use segmenter::{
    SulcusSegmenter, SulcusSegmenterInfo, sulcus_segmenter_channel, sulcus_segmenter_free, sulcus_segmenter_info,
    sulcus_segmenter_new, sulcus_segmenter_note, sulcus_segmenter_replay_golden,
};
pub use status::sulcus_status_text;
pub use version::{SULCUS_ABI_VERSION, sulcus_abi_version, sulcus_version};
