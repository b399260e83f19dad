//! The file formats that the core of the browser viewer does not read: DICOM series and segmentations, NRRD, MetaImage, and
//! volumes in two files.
//!
//! This is a WebAssembly module of its own. It runs in a worker, so that the page stays responsive, and it is loaded only when
//! it is needed. Everything becomes an uncompressed NIfTI file in memory, which the core reads.

mod dicom_files;
mod volumes;

pub use dicom_files::DicomFiles;
pub use volumes::{pair_to_nifti, to_nifti};
