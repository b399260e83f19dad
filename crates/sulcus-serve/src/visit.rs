//! A request from its head to its answer's: what is counted and logged of it.

use std::time::Instant;

use axum::http::{Method, StatusCode};

use crate::metrics::Metrics;
use crate::routes::PATHS;

/// nginx's number for a client that hung up before it was answered.
const HUNG_UP: u16 = 499;

/// Counts once, even when the client takes it away in the middle.
pub(crate) struct Visit<'a> {
    metrics: &'a Metrics,
    method: &'static str,
    path: &'static str,
    start: Instant,
    ended: bool,
}

impl<'a> Visit<'a> {
    /// Of method and path only those that are known are kept: what else a client writes may name a patient.
    pub(crate) fn begin(metrics: &'a Metrics, method: &Method, path: &str) -> Self {
        const METHODS: [&str; 9] =
            ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
        let known = |names: &[&'static str], name: &str| names.iter().find(|n| **n == name).copied();
        Self {
            metrics,
            method: known(&METHODS, method.as_str()).unwrap_or("other"),
            path: known(&PATHS, path).unwrap_or("other"),
            start: Instant::now(),
            ended: false,
        }
    }

    pub(crate) fn end(mut self, status: StatusCode) {
        self.record(status.as_u16());
    }

    fn record(&mut self, status: u16) {
        self.ended = true;
        let secs = self.start.elapsed().as_secs_f64();
        self.metrics.answered(self.method, self.path, status, secs);
        tracing::info!("{} {} {status} in {secs:.3} s", self.method, self.path);
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.record(HUNG_UP);
        }
    }
}
