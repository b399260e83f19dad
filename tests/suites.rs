//! Suites across the crates, on real scans.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers may fail like the test"
)]

#[macro_use]
extern crate sulcus_harness;

mod golden;
mod nnunet;
mod orientation;
mod parity;
mod surface;
mod voxel_sizes;

sulcus_harness::main!();
