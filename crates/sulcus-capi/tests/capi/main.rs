//! The interface as C sees it: called through its entries, through the header, and by programs in C and C++.
#![allow(unsafe_code, reason = "the tests call as C does")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod arguments;
mod common;
mod header;
mod programs;
mod segmenting;

sulcus_harness::main!();
