//! Bytes and paths to volumes and back: NIfTI-1, as `.nii`, `.nii.gz` and `.hdr`/`.img` pairs.
//!
//! Reading checks the header before anything is allocated or believed, so a file that lies about itself is an
//! [`IoError`] that says how, never a panic and never shifted or rescaled voxels. Which transform counts, and what a
//! broken scale means, follow nibabel: sform over qform over voxel sizes alone.
//!
//! Everything works on slices of bytes, which is what a browser has; the functions that take paths exist outside
//! WebAssembly only.

#[cfg(not(target_family = "wasm"))]
mod atomic;
mod decode;
mod encode;
mod error;
mod extension;
mod fields;
#[cfg(not(target_family = "wasm"))]
mod files;
mod gzip;
mod header;
mod info;
mod names;
mod sniff;
mod transform;
mod voxels;

#[cfg(not(target_family = "wasm"))]
pub use atomic::write_atomically;
pub use decode::{
    NiftiImage, read_image_bytes, read_image_pair_bytes, read_image_unmeasured_bytes, read_info_bytes,
    read_labels_bytes, read_labels_pair_bytes,
};
pub use encode::{Compression, encode_image, encode_labels};
pub use error::{IoError, Problem};
#[cfg(not(target_family = "wasm"))]
pub use files::{read_header, read_image, read_info, read_labels, write_image, write_labels};
pub use header::NiftiHeader;
pub use info::{VolumeFormat, VolumeInfo};
pub use names::{case_name, is_volume_file};
pub use voxels::VoxelType;
