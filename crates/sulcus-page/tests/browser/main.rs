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

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the bundled case.
fn case(name: &str) -> Vec<u8> {
    fs::read(root().join("examples/data/case").join(name)).unwrap()
}

sulcus_harness::main!();
