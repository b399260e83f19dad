//! The interface as C sees it: its exported functions, its header, and programs in C and C++.
#![allow(unsafe_code, reason = "the tests call the functions as C does")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod arguments;
mod common;
mod header;
mod programs;
mod segmenting;

sulcus_harness::main!();
