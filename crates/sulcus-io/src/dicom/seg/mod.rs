//! DICOM segmentations (DICOM SEG): label maps out and in.

mod codes;
mod color;
mod moment;
mod numbers;
mod read;
mod uid;
mod write;

pub(crate) use read::read_segmentation_source;
pub use read::{read_segmentation, read_segmentation_bytes};
pub use write::{SegmentationOptions, encode_segmentation, write_segmentation};
