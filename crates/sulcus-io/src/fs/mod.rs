//! Reads and writes the files of volumes.

mod atomic;
mod input;
mod pairs;
mod read;
mod write;

pub use atomic::{remove_temporary_files, write_atomically};
pub use read::{input_files, read_info, read_labels, read_metadata, read_scan, read_stored};
#[cfg(feature = "label-tables")]
pub use write::write_label_table;
pub use write::{output_files, would_replace, write_image, write_labels, write_stored};
