//! Suites across the crates, on real scans.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers may fail like the test"
)]

mod golden;
mod orientation;
mod parity;
mod surface;
