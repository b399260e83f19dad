//! DICOM segmentations (SEG): converts label maps to files, and files to label maps.

mod codes;
mod color;
mod elements;
mod generated;
mod read;
mod segment_labels;
mod write;

pub use generated::FileStamp;
pub use read::{read_segmentation, read_segmentation_bytes};
pub use write::{SegmentationOptions, encode_segmentation};
