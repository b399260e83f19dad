//! Bytes and paths to volumes and back: NIfTI-1 and NIfTI-2, as `.nii`, `.nii.gz` and `.hdr`/`.img` pairs.
//!
//! Reading checks the header before anything is allocated or believed, so a file that lies about itself is an
//! [`IoError`] that says how, never a panic and never shifted or rescaled voxels. Which transform counts, and what a
//! broken scale means, follow nibabel: sform over qform over voxel sizes alone.
//!
//! Everything works on slices of bytes, which is what a browser has; the functions that take paths exist outside
//! WebAssembly only.

#[cfg(not(target_family = "wasm"))]
mod atomic;
#[cfg(all(feature = "dicom", not(target_family = "wasm")))]
pub mod dicom;
mod error;
mod gzip;
mod info;
mod names;
mod nifti;
#[cfg(not(target_family = "wasm"))]
mod paths;
mod read;
mod sniff;
mod source;
mod stored;
mod values;
mod voxels;

pub use self::nifti::{Compression, Texts, encode_image, encode_labels};
#[cfg(not(target_family = "wasm"))]
pub use atomic::write_atomically;
pub use error::{IoError, Problem};
pub use info::{VolumeFormat, VolumeInfo};
pub use names::{case_name, is_volume_file};
#[cfg(not(target_family = "wasm"))]
pub use paths::{
    read_info, read_labels, read_scan, read_source, read_stored, write_image, write_labels, write_stored,
};
pub use read::{
    Scan, read_image_unmeasured_bytes, read_info_bytes, read_labels_bytes, read_labels_pair_bytes,
    read_scan_bytes, read_scan_pair_bytes,
};
pub use source::Source;
pub use stored::StoredVolume;
pub use voxels::VoxelType;
