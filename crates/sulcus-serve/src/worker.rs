//! Workers: threads that read, segment and write scans, apart from the thread that moves bytes.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use sulcus_io::Compression;
use sulcus_pipeline::{Outputs, PipelineError, Progress};
use sulcus_runtime::{Error as RuntimeError, ErrorKind, SegmentOptions, Segmentation, Segmenter, with_causes};
use sulcus_volume::Image;

use crate::metrics::{JobEnd, Metrics};
use crate::problem_details::ProblemDetails;
use crate::queue::{Job, JobQueue, JobReply, JobState};
use crate::response::{ResponseFormat, SegmentResponse, SegmentResult};
use crate::upload::Upload;

/// What segments the scans of a server: a [`Segmenter`], or a wrapper around one.
///
/// It is called from as many threads at a time as [`Options::workers`](crate::Options::workers) sets.
pub trait SegmentService: Send + Sync + 'static {
    /// The loaded models.
    fn segmenter(&self) -> &Segmenter;

    /// Segments a scan. The observer in the options stops the work when the client has disconnected.
    ///
    /// # Errors
    /// As [`Segmenter::segment`]. A panic becomes a response with status 500 and affects no other scan.
    fn segment(&self, image: Image, options: SegmentOptions<'_>) -> Result<Segmentation, RuntimeError> {
        self.segmenter().segment_owned(image, options)
    }
}

impl SegmentService for Segmenter {
    fn segmenter(&self) -> &Segmenter {
        self
    }
}

/// One worker thread.
pub(crate) struct Worker {
    pub(crate) service: Arc<dyn SegmentService>,
    pub(crate) queue: Arc<JobQueue>,
    pub(crate) metrics: Arc<Metrics>,
    /// Bytes that a scan may take while it is read: inflated bytes and voxels as `f32`.
    pub(crate) max_read_bytes: u64,
    /// Bytes that the process may hold while this worker segments.
    pub(crate) max_memory: Option<u64>,
}

impl Worker {
    /// Runs jobs until the queue is closed and empty.
    pub(crate) fn run(&self) {
        while let Some((job, running)) = self.queue.pop() {
            let Job { upload, format, queued_at, state, reply } = job;
            let queue_secs = queued_at.elapsed().as_secs_f64();
            // The engine's locks survive a panic, and a scan shares no other state with the next one.
            let result = catch_unwind(AssertUnwindSafe(|| self.process(upload, format, queue_secs, &state)));
            let result = result.unwrap_or_else(|panic| {
                tracing::error!("a scan was not segmented: {}", panic_message(panic.as_ref()));
                self.metrics.job_ended(JobEnd::Panicked);
                Err(ProblemDetails::internal())
            });
            // The place must be free before the client can send its next scan.
            drop(running);
            // Sending fails when the client has disconnected.
            let _ = reply.send(result);
        }
    }

    fn process(&self, upload: Upload, format: ResponseFormat, queue_secs: f64, state: &JobState) -> JobReply {
        let cancelled = || {
            self.metrics.job_ended(JobEnd::Cancelled);
            ProblemDetails::stopping()
        };
        if state.is_cancelled() {
            return Err(cancelled());
        }
        let failed = |problem: ProblemDetails| {
            self.metrics.job_ended(JobEnd::Failed);
            problem
        };
        let read_start = Instant::now();
        self.check_header(&upload.bytes, format).map_err(failed)?;
        let scan =
            sulcus_io::read_scan_bytes(&upload.bytes).map_err(|e| failed(ProblemDetails::unreadable_scan(&e)))?;
        drop(upload);
        let read_secs = read_start.elapsed().as_secs_f64();
        if state.is_cancelled() {
            return Err(cancelled());
        }

        let mut observer = |_: Progress| match state.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let mut options = SegmentOptions::default().with_observer(&mut observer);
        if let Some(bytes) = self.max_memory {
            options = options.with_max_memory(bytes);
        }
        let segment_start = Instant::now();
        let segmentation = match self.service.segment(scan.image, options) {
            Ok(segmentation) => segmentation,
            Err(error) if matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Cancelled)) => {
                return Err(cancelled());
            }
            Err(error) => {
                let problem = failed(ProblemDetails::segmentation_failed(&error));
                if problem.status.is_server_error() {
                    tracing::error!("a scan was not segmented: {}", with_causes(&error));
                }
                return Err(problem);
            }
        };
        let segment_secs = segment_start.elapsed().as_secs_f64();

        let write_start = Instant::now();
        let compression = match format {
            ResponseFormat::GzippedMask | ResponseFormat::FormData | ResponseFormat::Multipart => {
                Some(Compression::Gzip)
            }
            ResponseFormat::PlainMask => Some(Compression::None),
            ResponseFormat::Json | ResponseFormat::Png => None,
        };
        let (labels, table) = (&segmentation.labels, &segmentation.table);
        let encoded = match (format, compression) {
            (ResponseFormat::Png, _) => Some(sulcus_io::encode_labels_png(labels, &scan.metadata, table)),
            (_, Some(compression)) => Some(sulcus_io::encode_labels(labels, &scan.metadata, table, compression)),
            (_, None) => None,
        };
        let mask = encoded.transpose().map_err(|e| {
            tracing::error!("a mask was not encoded: {}", with_causes(&e));
            failed(ProblemDetails::internal())
        })?;
        let write_secs = write_start.elapsed().as_secs_f64();
        let mut report = segmentation.report();
        report.seconds.queue = Some(queue_secs);
        report.seconds.read = read_secs;
        report.seconds.write = write_secs;
        report.seconds.total = read_secs + segment_secs + write_secs;
        self.metrics.job_done(&report.seconds);
        let segmenter = self.service.segmenter();
        let models = match segmenter.pack() {
            Some(pack) => vec![pack.name.clone()],
            None => segmenter.specs().map(|spec| spec.name.clone()).collect(),
        };
        let result = SegmentResult { models, report };
        Ok(SegmentResponse { format, mask: mask.unwrap_or_default(), result })
    }

    /// Compares the memory that the header announces with the limits, before anything is inflated, and the grid with what the response
    /// can hold.
    fn check_header(&self, bytes: &[u8], format: ResponseFormat) -> Result<(), ProblemDetails> {
        let (geometry, read_bytes) =
            sulcus_io::announced(bytes).map_err(|e| ProblemDetails::unreadable_scan(&e))?;
        if read_bytes > self.max_read_bytes {
            return Err(ProblemDetails::scan_too_large(self.max_read_bytes, read_bytes));
        }
        let [_, _, slices] = geometry.shape();
        if format == ResponseFormat::Png && slices > 1 {
            return Err(ProblemDetails::not_one_slice(slices));
        }
        let checked =
            self.service.segmenter().check_memory(&geometry, read_bytes, Outputs::Labels, self.max_memory);
        checked.map_err(|error| ProblemDetails::segmentation_failed(&error))
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "a panic without a message",
    }
}
