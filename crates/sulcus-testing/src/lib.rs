//! Support for the tests of the other crates: files that are made field by field, bundled and shared scans, and model
//! specifications. Only `dev-dependencies` name this crate.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test whose setup fails has failed, and a test that cannot run prints why"
)]

#[cfg(feature = "dicom")]
pub mod dicom;
mod fixtures;
mod nifti;
mod random;
#[cfg(feature = "model")]
mod spec;

pub use fixtures::{bundled, bundled_scan, bundled_truth, repository, shared_data, write_file};
pub use nifti::{NiftiFile, gzip, nifti};
pub use random::{Noise, Random};
#[cfg(feature = "model")]
pub use spec::{TestSpec, test_spec, test_stage};
