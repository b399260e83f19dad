//! Workers: threads that read, segment and write scans, away from the one that moves bytes.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use sulcus_io::Compression;
use sulcus_pipeline::{PipelineError, Progress};
use sulcus_runtime::{ErrorKind, SegmentOptions, with_causes};
use sulcus_volume::OrientationSource;

use crate::answer::Answer;
use crate::metrics::{JobEnd, Metrics};
use crate::negotiate::Form;
use crate::outcome::{Outcome, Seconds};
use crate::problem::Problem;
use crate::queue::{Job, Queue, Reply};
use crate::segments::Segments;

/// What predict says to a person, said in the result.
const SIDES_UNKNOWN: &str = "the file does not say how the patient lies (neither sform nor qform): left and right are unknown, and the mask may \
     be wrong";

/// One worker.
pub(crate) struct Worker {
    pub(crate) segments: Arc<dyn Segments>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<Metrics>,
    /// What a scan may take to read: its inflated bytes and its voxels as numbers.
    pub(crate) most_to_read: u64,
    /// What the process may hold while this worker works.
    pub(crate) max_memory: Option<u64>,
}

impl Worker {
    /// Works until the queue is closed and empty.
    pub(crate) fn run(&self) {
        while let Some((job, working)) = self.queue.pop() {
            let Job { body, form, accepted, flags, reply } = job;
            let waited = accepted.elapsed().as_secs_f64();
            let gone = || flags.gone();
            // The engine's locks outlive a panic, and a scan that met one leaves nothing behind that the next one sees.
            let answer = catch_unwind(AssertUnwindSafe(|| self.answer(body, form, waited, &gone)));
            let answer = answer.unwrap_or_else(|panic| {
                tracing::error!("a scan was not segmented: {}", words(panic.as_ref()));
                self.metrics.job_ended(JobEnd::Panicked);
                Err(Problem::internal())
            });
            // The place is free before the client can ask for the next one.
            drop(working);
            // A client that has hung up wants no answer.
            let _ = reply.send(answer);
        }
    }

    fn answer(&self, body: crate::receive::Body, form: Form, queue: f64, gone: &dyn Fn() -> bool) -> Reply {
        if gone() {
            self.metrics.job_ended(JobEnd::Cancelled);
            return Err(Problem::stopping());
        }
        let failed = |problem: Problem| {
            self.metrics.job_ended(JobEnd::Failed);
            problem
        };
        let reading = Instant::now();
        self.check_size(&body.bytes).map_err(failed)?;
        let scan = sulcus_io::read_scan_bytes(&body.bytes).map_err(|e| failed(Problem::unreadable(&e)))?;
        drop(body);
        let read = reading.elapsed().as_secs_f64();
        let sides_unknown = scan.image.geometry().source() == OrientationSource::None;

        let mut observer = |_: Progress| if gone() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let mut options = SegmentOptions::default().with_observer(&mut observer);
        if let Some(bytes) = self.max_memory {
            options = options.with_max_memory(bytes);
        }
        let segmenting = Instant::now();
        let found = match self.segments.segment(scan.image, options) {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Cancelled)) => {
                self.metrics.job_ended(JobEnd::Cancelled);
                return Err(Problem::stopping());
            }
            Err(error) => {
                let problem = failed(Problem::unsegmented(&error));
                if problem.status.is_server_error() {
                    tracing::error!("a scan was not segmented: {}", with_causes(&error));
                }
                return Err(problem);
            }
        };
        let segmented = segmenting.elapsed().as_secs_f64();

        let writing = Instant::now();
        let compression = match form {
            Form::Gzip => Some(Compression::Gzip),
            Form::Plain => Some(Compression::None),
            Form::Json => None,
        };
        let encode = |c| sulcus_io::encode_labels(&found.labels, &scan.source, &found.table, c);
        let mask = compression.map(encode).transpose().map_err(|e| {
            tracing::error!("a mask was not written: {}", with_causes(&e));
            failed(Problem::internal())
        })?;
        let write = writing.elapsed().as_secs_f64();
        let seconds = Seconds {
            queue,
            read,
            preprocess: found.seconds.preprocess,
            infer: found.seconds.infer,
            engine: found.seconds.engine,
            postprocess: found.seconds.postprocess,
            write,
            total: read + segmented + write,
        };
        self.metrics.job_done(&seconds);
        let names = self.segments.segmenter().specs().map(|spec| spec.name.clone()).collect();
        let warnings = if sides_unknown { vec![SIDES_UNKNOWN] } else { Vec::new() };
        let outcome = Outcome::new(names, &found, seconds, warnings);
        Ok(Answer { form, mask: mask.unwrap_or_default(), outcome })
    }

    /// By what the header announces, before anything is inflated.
    fn check_size(&self, bytes: &[u8]) -> Result<(), Problem> {
        let needed = sulcus_io::nifti_memory_bytes(bytes).map_err(|e| Problem::unreadable(&e))?;
        if needed > self.most_to_read {
            return Err(Problem::scan_too_large(self.most_to_read, needed));
        }
        let least = self.segments.segmenter().loaded_memory_bytes().saturating_add(needed);
        match self.max_memory {
            Some(limit) if least > limit => {
                Err(Problem::unsegmented(&PipelineError::MemoryLimit { limit, required: least }.into()))
            }
            _ => Ok(()),
        }
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "a panic without words",
    }
}
