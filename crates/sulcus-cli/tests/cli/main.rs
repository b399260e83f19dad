//! The binary as a user meets it: what it prints, what it writes, how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot be set up has failed"
)]

mod arguments;
mod bad_input;
mod convert;
mod cross_validation;
mod demo;
mod describe;
mod dicom;
mod exit_codes;
mod http;
mod label_tables;
mod plan;
mod precision;
mod predict;
mod privacy;
mod regions;
mod score;
mod serve;
mod support;
mod train;
mod triton;
mod unchecked;
