//! What is counted, in Prometheus's text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::histogram::Histogram;
use crate::outcome::Seconds;

/// The media type of the text.
pub(crate) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a scan that a worker had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JobEnd {
    Done,
    /// The scan or the engine.
    Failed,
    /// Nobody waited for it any more.
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

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By method, path and status: few, as methods and paths are the known ones.
    requests: BTreeMap<(&'static str, &'static str, u16), u64>,
    request_secs: BTreeMap<&'static str, Histogram>,
    jobs: BTreeMap<JobEnd, u64>,
    stage_secs: BTreeMap<&'static str, Histogram>,
}

/// What is measured when it is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    pub(crate) waiting: usize,
    pub(crate) working: usize,
    pub(crate) queue: usize,
    pub(crate) workers: usize,
    pub(crate) connections: usize,
    pub(crate) held_bytes: u64,
    pub(crate) peak_memory_bytes: Option<u64>,
}

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn answered(&self, method: &'static str, path: &'static str, status: u16, secs: f64) {
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
        for (stage, secs) in seconds.stages() {
            counts.stage_secs.entry(stage).or_default().add(secs);
        }
    }

    /// All of it as text.
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        let counts = self.counts();
        let mut text = String::new();
        head(
            &mut text,
            "sulcus_requests_total",
            "counter",
            "Requests by method, path and status; 499: the client hung up",
        );
        for ((method, path, status), count) in &counts.requests {
            let _ = writeln!(
                text,
                "sulcus_requests_total{{method=\"{method}\",path=\"{path}\",status=\"{status}\"}} {count}"
            );
        }
        head(&mut text, "sulcus_request_seconds", "histogram", "From a request's head to its answer's");
        for (path, histogram) in &counts.request_secs {
            histogram.write(&mut text, "sulcus_request_seconds", &format!("path=\"{path}\""));
        }
        head(&mut text, "sulcus_jobs_total", "counter", "Scans that a worker had, by how they ended");
        for end in JobEnd::ALL {
            let count = counts.jobs.get(&end).copied().unwrap_or_default();
            let _ = writeln!(text, "sulcus_jobs_total{{end=\"{}\"}} {count}", end.name());
        }
        head(&mut text, "sulcus_job_seconds", "histogram", "Where the time of segmented scans went");
        for (stage, histogram) in &counts.stage_secs {
            histogram.write(&mut text, "sulcus_job_seconds", &format!("stage=\"{stage}\""));
        }
        drop(counts);
        let mut gauge = |name: &str, help: &str, value: &dyn Display| {
            head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "{name} {value}");
        };
        gauge("sulcus_queue_length", "Scans that wait", &gauges.waiting);
        gauge("sulcus_queue_places", "Scans that may wait", &gauges.queue);
        gauge("sulcus_jobs_in_flight", "Scans that are worked on", &gauges.working);
        gauge("sulcus_workers", "Scans that may be worked on at the same time", &gauges.workers);
        gauge("sulcus_connections", "Open connections", &gauges.connections);
        gauge("sulcus_held_body_bytes", "Bytes of bodies that are held", &gauges.held_bytes);
        if let Some(bytes) = gauges.peak_memory_bytes {
            gauge("sulcus_peak_memory_bytes", "The most memory that the process has held", &bytes);
        }
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
}
