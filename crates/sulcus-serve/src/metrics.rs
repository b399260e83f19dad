//! Counts and durations in Prometheus's text format 0.0.4, and the log line of each request.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::{Method, StatusCode};

use sulcus_runtime::Seconds;

/// The media type of Prometheus's text format.
pub(crate) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JobEnd {
    Done,
    /// The scan could not be used, or the engine failed.
    Failed,
    /// The client disconnected, or the server stopped.
    Cancelled,
    Panicked,
}

impl JobEnd {
    const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Cancelled, Self::Panicked];

    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
        }
    }
}

/// Counters and histograms.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By method, route and status. The number of keys is bounded, because methods and routes are known ones.
    requests: BTreeMap<(&'static str, &'static str, u16), u64>,
    request_secs: BTreeMap<&'static str, Histogram>,
    jobs: BTreeMap<JobEnd, u64>,
    stage_secs: BTreeMap<&'static str, Histogram>,
}

/// Values that are measured when `/metrics` is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    pub(crate) waiting: usize,
    pub(crate) running: usize,
    pub(crate) queue_capacity: usize,
    pub(crate) workers: usize,
    pub(crate) connections: usize,
    pub(crate) held_body_bytes: u64,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) peak_memory_bytes: Option<u64>,
}

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request_ended(&self, method: &'static str, path: &'static str, status: u16, secs: f64) {
        let mut counts = self.counts();
        *counts.requests.entry((method, path, status)).or_default() += 1;
        counts.request_secs.entry(path).or_default().add(secs);
    }

    pub(crate) fn job_ended(&self, end: JobEnd) {
        *self.counts().jobs.entry(end).or_default() += 1;
    }

    pub(crate) fn job_done(&self, seconds: &Seconds) {
        let mut counts = self.counts();
        *counts.jobs.entry(JobEnd::Done).or_default() += 1;
        for (stage, secs) in seconds.named() {
            counts.stage_secs.entry(stage).or_default().add(secs);
        }
    }

    /// All metrics in Prometheus's text format.
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        let counts = self.counts();
        let mut text = String::new();
        write_head(
            &mut text,
            "sulcus_requests_total",
            "counter",
            "Requests by method, path and status; 499: the client disconnected",
        );
        for ((method, path, status), count) in &counts.requests {
            let _ = writeln!(
                text,
                "sulcus_requests_total{{method=\"{method}\",path=\"{path}\",status=\"{status}\"}} {count}"
            );
        }
        write_head(
            &mut text,
            "sulcus_request_seconds",
            "histogram",
            "From a request's head to its response's head",
        );
        for (path, histogram) in &counts.request_secs {
            histogram.write(&mut text, "sulcus_request_seconds", &format!("path=\"{path}\""));
        }
        write_head(&mut text, "sulcus_jobs_total", "counter", "Scans that a worker took, by how they ended");
        for end in JobEnd::ALL {
            let count = counts.jobs.get(&end).copied().unwrap_or_default();
            let _ = writeln!(text, "sulcus_jobs_total{{end=\"{}\"}} {count}", end.name());
        }
        write_head(&mut text, "sulcus_job_seconds", "histogram", "Duration of each stage of segmented scans");
        for (stage, histogram) in &counts.stage_secs {
            histogram.write(&mut text, "sulcus_job_seconds", &format!("stage=\"{stage}\""));
        }
        drop(counts);
        let mut gauge = |name: &str, help: &str, value: &dyn Display| {
            write_head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {value}");
        };
        gauge("sulcus_queue_length", "Waiting scans", &gauges.waiting);
        gauge("sulcus_queue_places", "Capacity of the queue", &gauges.queue_capacity);
        gauge("sulcus_jobs_in_flight", "Scans that are being segmented", &gauges.running);
        gauge("sulcus_workers", "Number of workers", &gauges.workers);
        gauge("sulcus_connections", "Open connections", &gauges.connections);
        gauge("sulcus_held_body_bytes", "Bytes of request bodies in memory", &gauges.held_body_bytes);
        if let Some(bytes) = gauges.memory_limit_bytes {
            gauge("sulcus_memory_limit_bytes", "Memory limit of the process", &bytes);
        }
        if let Some(bytes) = gauges.peak_memory_bytes {
            gauge("sulcus_peak_memory_bytes", "Peak memory of the process", &bytes);
        }
        text
    }
}

fn write_head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}

/// Upper bounds of the buckets in seconds: from a small scan on a GPU to a whole body on a CPU.
const BUCKET_BOUNDS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// A histogram of durations, written with cumulative buckets.
#[derive(Debug, Clone, Default)]
struct Histogram {
    /// Number of durations in each bucket; not cumulative.
    counts: [u64; BUCKET_BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, secs: f64) {
        if let Some(slot) =
            BUCKET_BOUNDS.iter().position(|bound| secs <= *bound).and_then(|i| self.counts.get_mut(i))
        {
            *slot += 1;
        }
        self.count += 1;
        self.sum += secs;
    }

    /// Appends its lines. `label` is such as `path="/healthz"`.
    fn write(&self, text: &mut String, name: &str, label: &str) {
        let mut cumulative = 0;
        for (bound, count) in BUCKET_BOUNDS.iter().zip(&self.counts) {
            cumulative += count;
            let _ = writeln!(text, "{name}_bucket{{{label},le=\"{bound}\"}} {cumulative}");
        }
        let _ = writeln!(text, "{name}_bucket{{{label},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(text, "{name}_sum{{{label}}} {}", self.sum);
        let _ = writeln!(text, "{name}_count{{{label}}} {}", self.count);
    }
}

/// Counts and logs a request when it ends, even when its client disconnects first.
pub(crate) struct RequestLog<'a> {
    metrics: &'a Metrics,
    client: IpAddr,
    access: &'static str,
    method: &'static str,
    route: &'static str,
    start: Instant,
    ended: bool,
}

impl<'a> RequestLog<'a> {
    /// The status that nginx logs for a client that disconnected before the response.
    const CLIENT_CLOSED_REQUEST: u16 = 499;

    /// `access` is the name of the policy. `route` is a known path or a placeholder: other text that a client writes may name a
    /// patient. So may a method that is not a standard one.
    pub(crate) fn begin(
        metrics: &'a Metrics,
        (client, access): (IpAddr, &'static str),
        method: &Method,
        route: &'static str,
    ) -> Self {
        const METHODS: [&str; 9] =
            ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
        let method = METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
        Self { metrics, client, access, method, route, start: Instant::now(), ended: false }
    }

    pub(crate) fn end(mut self, status: StatusCode) {
        self.record(status.as_u16());
    }

    fn record(&mut self, status: u16) {
        self.ended = true;
        let secs = self.start.elapsed().as_secs_f64();
        self.metrics.request_ended(self.method, self.route, status, secs);
        let Self { client, access, method, route, .. } = self;
        tracing::info!(target: "sulcus_serve::audit", %client, access, "{method} {route} {status} in {secs:.3} s");
    }
}

impl Drop for RequestLog<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.record(Self::CLIENT_CLOSED_REQUEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_are_cumulative() {
        let mut histogram = Histogram::default();
        [0.001, 0.005, 0.3, 1000.0].into_iter().for_each(|secs| histogram.add(secs));
        let mut text = String::new();
        histogram.write(&mut text, "x", "a=\"b\"");
        for line in [
            "x_bucket{a=\"b\",le=\"0.005\"} 2",
            "x_bucket{a=\"b\",le=\"0.25\"} 2",
            "x_bucket{a=\"b\",le=\"0.5\"} 3",
            "x_bucket{a=\"b\",le=\"300\"} 3",
            "x_bucket{a=\"b\",le=\"+Inf\"} 4",
            "x_sum{a=\"b\"} 1000.306",
            "x_count{a=\"b\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
