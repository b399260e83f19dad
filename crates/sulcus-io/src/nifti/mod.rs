//! NIfTI: in one file or as a `.hdr`/`.img` pair, as it is or gzipped.

mod encode;
mod extension;
mod fields;
mod header;
mod kind;
mod layout;
mod packed;
mod read;
mod transform;

pub use encode::{Compression, Texts, encode_image, encode_labels};
#[cfg(not(target_family = "wasm"))]
pub(crate) use encode::{Encoded, Layout};
pub(crate) use header::NiftiHeader;
pub(crate) use packed::read_scan;
#[cfg(not(target_family = "wasm"))]
pub(crate) use read::{header_in, header_of_pair, header_of_single, memory_bytes};
pub(crate) use read::{read_pair, read_single};
