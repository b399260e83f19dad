//! Reads and writes volumes: NIfTI-1 and NIfTI-2 (`.nii`, `.nii.gz` and `.hdr`/`.img` pairs), NRRD with 3D Slicer's
//! segmentations, MetaImage, pictures (PNG, JPEG, TIFF), and through `sulcus-dicom` DICOM series and segmentations.
//!
//! A header is checked before memory is allocated for the voxels. An inconsistent file is an [`IoError`] that describes the
//! fault, never a panic and never shifted or rescaled voxels. The choice of the transform (sform, then qform, then voxel
//! sizes) and the treatment of invalid scales follow nibabel.
//!
//! The functions with `bytes` in their names work in memory, which is what a browser needs. [`read_scan`],
//! [`read_labels`], [`write_labels`] and the other functions with paths need the feature `fs`.
//!
//! ```
//! # #[cfg(feature = "fs")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//!
//! use sulcus_io::{read_labels, read_scan, write_labels};
//! use sulcus_volume::{LabelMap, LabelTable};
//!
//! # let scan = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/case/image.nii.gz");
//! # let folder = tempfile::tempdir()?;
//! # let mask = folder.path().join("mask.nii.gz");
//! // The format is detected from the content.
//! let scan = read_scan(Path::new(scan))?;
//! println!("{} voxels, {}", scan.image.geometry().voxels(), scan.info.orientation);
//!
//! // A mask on the same grid. The ending of the name selects the format.
//! let bright = scan.image.channel(0).iter().map(|value| u16::from(*value > 500.0)).collect();
//! let labels = LabelMap::new(*scan.image.geometry(), bright)?;
//! write_labels(&mask, &labels, &scan.metadata, &LabelTable::from_names([(1, "Bright".into())])?)?;
//! assert_eq!(read_labels(&mask)?.0, labels);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "fs"))]
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `fs` | yes | reading and writing files |
//! | `gzip` | yes | reading gzipped files |
//! | `statistics` | yes | scans with their statistics, besides images alone |
//! | `text-formats` | yes | NRRD and MetaImage |
//! | `pictures` | yes | PNG, JPEG and TIFF |
//! | `label-tables` | yes | names and colours of labels, in masks and in files of other programs |
//! | `parallel` | yes | zlib-rs on several threads; without it miniz_oxide on one, which is slower and smaller |
//! | `dicom` | no | DICOM |
//!
//! # Structure
//!
//! `format` contains the file formats behind one trait, and describes how to add one. Every format is read into a
//! [`StoredVolume`] with its [`VolumeMetadata`].

#![cfg_attr(
    not(all(feature = "fs", feature = "text-formats")),
    allow(
        dead_code,
        unused_imports,
        reason = "parts of the format interface are used only with files, or only by text formats"
    )
)]

mod compression;
#[cfg(feature = "dicom")]
pub mod dicom;
mod error;
mod format;
#[cfg(feature = "fs")]
mod fs;
mod info;
#[cfg(feature = "label-tables")]
mod label_table;
mod metadata;
mod read;
mod scan;
mod stored;
#[cfg(any(feature = "fs", feature = "dicom"))]
mod system_error;
mod text;
mod voxels;

pub use compression::Compression;
pub use error::{IoError, IoErrorKind};
pub use format::Texts;
#[cfg(feature = "fs")]
pub use format::mask_ending;
pub use format::nifti::{encode_image, encode_labels, encode_stored};
pub use format::{case_name, is_volume_file};
#[cfg(all(feature = "fs", feature = "label-tables"))]
pub use fs::write_label_table;
#[cfg(feature = "fs")]
pub use fs::{
    input_files, output_files, read_info, read_labels, read_metadata, read_scan, read_stored,
    remove_temporary_files, would_replace, write_atomically, write_image, write_labels, write_stored,
};
pub use info::VolumeInfo;
#[cfg(feature = "label-tables")]
pub use label_table::{LabelTableFormat, format_label_table, parse_label_table};
pub use metadata::{VolumeFormat, VolumeMetadata};
#[cfg(feature = "pictures")]
pub use read::{announced, encode_labels_png, encode_labels_tiff};
pub use read::{
    nifti_content, nifti_geometry, nifti_memory_bytes, read_image_bytes_without_statistics, read_info_bytes,
    read_labels_bytes, read_labels_pair_bytes, read_stored_bytes, read_stored_pair_bytes,
};
#[cfg(feature = "statistics")]
pub use read::{read_scan_bytes, read_scan_pair_bytes};
pub use scan::Scan;
pub use stored::StoredVolume;
pub use voxels::VoxelType;
