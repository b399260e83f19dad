//! The binary from outside: its output, its files and its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

#[macro_use]
extern crate sulcus_harness;

mod arguments;
mod bad_input;
mod convert;
mod cross_validation;
mod demo;
mod describe;
mod dicom;
mod exit_codes;
mod faults;
mod http;
mod label_tables;
mod mesh;
mod nnunet;
mod packs;
mod pictures;
mod plan;
mod plausibility;
mod precision;
mod predict;
mod privacy;
mod regions;
mod runtime_install;
mod score;
#[cfg(unix)]
mod signals;
mod support;
mod train;
mod triton;
mod unchecked;
mod view;

sulcus_harness::main!();
