//! DICOM: reads a series of slices as one volume, and reads and writes label maps as DICOM segmentations (SEG).
//!
//! The slices of a series are sorted by their position in the patient, never by file name or instance number. They must
//! form one regular grid: missing, duplicate, shifted or mixed slices are an error that names the fault. World
//! coordinates are converted from DICOM's LPS+ to RAS+. The reader keeps only the attributes that the module `tags`
//! lists.
//!
//! Start with [`SeriesReader`] for a series, [`list_series`] for the content of a folder, and [`read_segmentation`] and
//! [`encode_segmentation`] for masks. `sulcus-io` (feature `dicom`) combines the slices of a series to an image and is the
//! crate to use unless single slices are needed.
//!
//! ```
//! use std::path::Path;
//!
//! use sulcus_dicom::{DicomError, Rescale, SeriesReader, list_series};
//!
//! /// The greatest value of a series, in Hounsfield units for CT.
//! fn maximum(folder: &Path) -> Result<f64, DicomError> {
//!     // The largest series; `Some(uid)` selects another one.
//!     let reader = SeriesReader::open(folder, None)?;
//!     let mut maximum = f64::NEG_INFINITY;
//!     reader.for_each_slice(Rescale::Apply, &mut |slice| maximum = slice.iter().copied().fold(maximum, f64::max))?;
//!     Ok(maximum)
//! }
//!
//! # fn main() -> Result<(), DicomError> {
//! # let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dicom"));
//! for series in list_series(folder)?.series {
//!     println!("{} {}: {} slices of {} × {}", series.modality, series.uid, series.slices, series.columns, series.rows);
//! }
//! # assert!(!list_series(folder)?.series.is_empty());
//! // These files are single slices, which do not form a volume.
//! assert!(maximum(folder).is_err());
//! # Ok(())
//! # }
//! ```

mod codec;
mod csa;
mod dataset;
mod error;
mod file;
mod instance;
mod mosaic;
mod patient;
mod pixel_data;
mod segmentation;
mod series_index;
mod series_reader;
mod slice_stack;
mod tags;
mod transfer_syntax;

pub use error::{DicomError, DicomErrorKind};
pub use instance::PixelType;
pub use segmentation::{
    FileStamp, SegmentationOptions, encode_segmentation, read_segmentation, read_segmentation_bytes,
};
pub use series_index::{
    SeriesList, SeriesSummary, holds_dicom, is_dicom_file, is_segmentation, is_segmentation_bytes, list_series,
    list_series_bytes,
};
pub use series_reader::{Rescale, Series, SeriesReader, SliceEncoding};
