//! Pages of one file, and the element that embeds them, in headless Chromium.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking and says why it skips"
)]

#[macro_use]
extern crate sulcus_harness;

mod devtools;
mod element;
mod package;
mod server;
mod single;

use sulcus_testing::bundled;

/// A file of the bundled case.
fn case(name: &str) -> Vec<u8> {
    std::fs::read(bundled("case").join(name)).unwrap()
}

sulcus_harness::main!();
