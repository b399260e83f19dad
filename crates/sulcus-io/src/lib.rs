//! Bytes and paths to volumes and back: NIfTI-1 and NIfTI-2, as `.nii`, `.nii.gz` and `.hdr`/`.img` pairs; NRRD, with
//! 3D Slicer's segmentations; MetaImage. The last two are read and written outside WebAssembly only.
//!
//! Reading checks the header before anything is allocated or believed, so a file that lies about itself is an
//! [`IoError`] that says how, never a panic and never shifted or rescaled voxels. Which transform counts, and what a
//! broken scale means, follow nibabel: sform over qform over voxel sizes alone.
//!
//! Everything works on slices of bytes, which is what a browser has; the functions that take paths exist outside
//! WebAssembly only.

#[cfg(not(target_family = "wasm"))]
mod atomic;
mod checksum;
mod deflate;
#[cfg(all(feature = "dicom", not(target_family = "wasm")))]
pub mod dicom;
mod error;
#[cfg(not(target_family = "wasm"))]
mod grid;
mod gzip;
#[cfg(not(target_family = "wasm"))]
mod headed;
mod inflate;
mod info;
#[cfg(not(target_family = "wasm"))]
mod metaimage;
mod names;
mod narrow;
mod nifti;
#[cfg(not(target_family = "wasm"))]
mod nrrd;
#[cfg(not(target_family = "wasm"))]
mod paths;
mod read;
mod sniff;
mod source;
mod stored;
#[cfg(not(target_family = "wasm"))]
mod tables;
#[cfg(not(target_family = "wasm"))]
mod text;
mod values;
mod voxels;
#[cfg(not(target_family = "wasm"))]
mod zlib;

pub use self::nifti::{Compression, Texts, encode_image, encode_labels};
#[cfg(not(target_family = "wasm"))]
pub use atomic::write_atomically;
pub use error::{IoError, Problem};
pub use info::{VolumeFormat, VolumeInfo};
#[cfg(not(target_family = "wasm"))]
pub use names::written_files;
pub use names::{case_name, is_volume_file};
#[cfg(not(target_family = "wasm"))]
pub use paths::{
    read_files, read_info, read_labels, read_scan, read_source, read_stored, would_replace, write_image,
    write_labels, write_stored,
};
pub use read::{
    Scan, read_image_unmeasured_bytes, read_info_bytes, read_labels_bytes, read_labels_pair_bytes,
    read_scan_bytes, read_scan_pair_bytes,
};
#[cfg(not(target_family = "wasm"))]
pub use read::{nifti_geometry, nifti_memory_bytes};
pub use source::Source;
pub use stored::StoredVolume;
#[cfg(not(target_family = "wasm"))]
pub use tables::{LabelTableFormat, format_label_table, parse_label_table, write_label_table};
pub use voxels::VoxelType;
