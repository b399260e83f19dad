//! A server in this process, tested over TCP on loopback: its responses, its refusals and its limits.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot be set up has failed"
)]

#[macro_use]
extern crate sulcus_harness;

mod access;
mod bad_input;
mod client;
mod concurrency;
mod disconnects;
mod limits;
mod packs;
mod responses;
mod scans;
mod server;
mod shutdown;
mod slow_clients;

sulcus_harness::main!();
