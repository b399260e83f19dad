//! A server in this process, asked over TCP on loopback: what it answers, what it refuses, and what it survives.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot be set up has failed"
)]

#[macro_use]
extern crate sulcus_harness;

mod answers;
mod bad_input;
mod client;
mod crowds;
mod hanging_up;
mod limits;
mod protection;
mod scans;
mod server;
mod stopping;

sulcus_harness::main!();
