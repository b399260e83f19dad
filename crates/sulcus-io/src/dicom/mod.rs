//! DICOM: a folder of slices as an image, and masks as DICOM SEG.
//!
//! A series is sorted by where its slices lie, never by file name or instance number, and must make up one even grid:
//! whatever is missing, doubled, shifted or mixed is an error that names it. World coordinates are turned from DICOM's
//! LPS+ to RAS+. Nothing but what the module `tags` lists is read of a file.

mod codec;
mod dataset;
mod error;
mod file;
mod folder;
mod instance;
mod patient;
mod pixels;
mod seg;
mod series;
mod stack;
mod stored;
mod syntax;
mod tags;

pub use error::{DicomFault, DicomProblem};
pub use folder::{SeriesList, SeriesSummary, holds_dicom, is_dicom_file, is_segmentation, list_series};
pub(crate) use seg::read_segmentation_source;
pub use seg::{
    SegmentationOptions, encode_segmentation, read_segmentation, read_segmentation_bytes, write_segmentation,
};
pub use series::{DicomScan, Series, read_series, read_series_bytes, read_series_header, read_series_source};
pub use stored::read_series_stored;
