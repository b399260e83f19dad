//! The queue of scans that wait for a worker. It has a fixed capacity, and a scan leaves it when its client disconnects.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::problem_details::ProblemDetails;
use crate::response::{ResponseFormat, SegmentResponse};
use crate::upload::Upload;

/// What the client of a job is sent.
pub(crate) type JobReply = Result<SegmentResponse, ProblemDetails>;

/// Shared by the request that waits for a job and the worker that runs it.
#[derive(Debug, Default)]
pub(crate) struct JobState {
    cancelled: AtomicBool,
    started: AtomicBool,
}

impl JobState {
    /// Whether the client no longer waits for the reply.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Whether a worker has taken the job.
    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// A scan to segment. It carries its own reply channel, so replies cannot be mixed up.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) upload: Upload,
    pub(crate) format: ResponseFormat,
    pub(crate) queued_at: Instant,
    pub(crate) state: Arc<JobState>,
    pub(crate) reply: oneshot::Sender<JobReply>,
}

/// Why the queue refused a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueRefusal {
    Full,
    /// The server is stopping.
    Closed,
}

#[derive(Debug)]
pub(crate) struct JobQueue {
    inner: Mutex<QueueState>,
    changed: Condvar,
    capacity: usize,
    workers: usize,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<(u64, Job)>,
    running: BTreeMap<u64, Arc<JobState>>,
    next_number: u64,
    closed: bool,
    /// Exponentially weighted mean of how long a worker takes for a scan.
    mean_job_secs: Option<f64>,
}

impl JobQueue {
    /// A queue for `capacity` waiting scans beside those that the workers run.
    pub(crate) fn new(capacity: usize, workers: usize) -> Self {
        Self { inner: Mutex::default(), changed: Condvar::new(), capacity, workers }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a scan would be accepted now. Checked before the scan is uploaded.
    pub(crate) fn check_capacity(&self) -> Result<(), QueueRefusal> {
        self.lock().check_capacity(self.capacity + self.workers)
    }

    /// Adds a scan. Dropping the ticket cancels the job.
    pub(crate) fn push(
        self: &Arc<Self>,
        upload: Upload,
        format: ResponseFormat,
    ) -> Result<JobTicket, QueueRefusal> {
        let mut inner = self.lock();
        inner.check_capacity(self.capacity + self.workers)?;
        let number = inner.next_number;
        inner.next_number += 1;
        let state = Arc::new(JobState::default());
        let (sender, reply) = oneshot::channel();
        let job = Job { upload, format, queued_at: Instant::now(), state: Arc::clone(&state), reply: sender };
        inner.waiting.push_back((number, job));
        self.changed.notify_one();
        Ok(JobTicket { reply, state, guard: TicketGuard { queue: Arc::clone(self), number } })
    }

    /// Waits for the next scan. Returns `None` when the queue is closed and empty.
    pub(crate) fn pop(self: &Arc<Self>) -> Option<(Job, RunningJob)> {
        let mut inner = self.lock();
        loop {
            if let Some((number, job)) = inner.waiting.pop_front() {
                job.state.started.store(true, Ordering::Relaxed);
                inner.running.insert(number, Arc::clone(&job.state));
                return Some((job, RunningJob { queue: Arc::clone(self), number, since: Instant::now() }));
            }
            if inner.closed {
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Refuses further scans. Waiting scans are still segmented.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Cancels all waiting and running scans. Returns their number.
    pub(crate) fn abandon(&self) -> usize {
        let mut inner = self.lock();
        inner.running.values().for_each(|state| state.cancel());
        let count = inner.waiting.len() + inner.running.len();
        inner.waiting.clear();
        count
    }

    /// Number of waiting scans, and number of running scans.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.waiting.len(), inner.running.len())
    }

    /// Estimated seconds until a place is free.
    pub(crate) fn retry_after_secs(&self) -> u64 {
        /// The estimate is uncertain, so no client is sent away for longer.
        const MAX_SECS: f64 = 60.0;
        let mean = self.lock().mean_job_secs.unwrap_or(1.0);
        (mean / self.workers as f64).clamp(1.0, MAX_SECS).ceil() as u64
    }
}

impl QueueState {
    fn check_capacity(&self, places: usize) -> Result<(), QueueRefusal> {
        if self.closed {
            return Err(QueueRefusal::Closed);
        }
        if self.waiting.len() + self.running.len() >= places { Err(QueueRefusal::Full) } else { Ok(()) }
    }
}

/// Held by the request that waits for the reply.
#[derive(Debug)]
pub(crate) struct JobTicket {
    pub(crate) reply: oneshot::Receiver<JobReply>,
    pub(crate) state: Arc<JobState>,
    #[expect(dead_code, reason = "cancels the job when it is dropped")]
    guard: TicketGuard,
}

/// Cancels its job when it is dropped.
#[derive(Debug)]
struct TicketGuard {
    queue: Arc<JobQueue>,
    number: u64,
}

impl Drop for TicketGuard {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        // A running job is cancelled. A waiting job is removed, and its upload is freed.
        if let Some(state) = inner.running.get(&self.number) {
            state.cancel();
        }
        inner.waiting.retain(|(number, _)| *number != self.number);
    }
}

/// Held by a worker while it runs a job. Dropping it frees the place, however the job ended.
#[derive(Debug)]
pub(crate) struct RunningJob {
    queue: Arc<JobQueue>,
    number: u64,
    since: Instant,
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        /// Weight of the latest job in the mean.
        const WEIGHT: f64 = 0.2;
        let secs = self.since.elapsed().as_secs_f64();
        let mut inner = self.queue.lock();
        inner.running.remove(&self.number);
        inner.mean_job_secs = Some(inner.mean_job_secs.map_or(secs, |mean| mean + WEIGHT * (secs - mean)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::{ByteBudget, ByteReservation};

    fn upload(byte: u8) -> Upload {
        Upload { bytes: vec![byte], reservation: ByteReservation::empty(&Arc::new(ByteBudget::new(1))) }
    }

    #[test]
    fn jobs_run_in_order_and_a_full_queue_refuses() {
        let queue = Arc::new(JobQueue::new(2, 1));
        let tickets: Vec<JobTicket> =
            (0..3).map(|i| queue.push(upload(i), ResponseFormat::Json).unwrap()).collect();
        assert_eq!(queue.push(upload(9), ResponseFormat::Json).unwrap_err(), QueueRefusal::Full);
        let (first, running) = queue.pop().unwrap();
        assert_eq!((first.upload.bytes[0], queue.lengths()), (0, (2, 1)));
        assert!(tickets[0].state.is_started() && !tickets[1].state.is_started());
        // A running job occupies its worker's place.
        assert_eq!(queue.check_capacity(), Err(QueueRefusal::Full));
        drop(running);
        assert_eq!((queue.lengths(), queue.check_capacity()), ((2, 0), Ok(())));
        assert_eq!(queue.pop().unwrap().0.upload.bytes[0], 1);
    }

    #[test]
    fn dropped_ticket_removes_a_waiting_job_and_cancels_a_running_one() {
        let queue = Arc::new(JobQueue::new(2, 1));
        let running_ticket = queue.push(upload(0), ResponseFormat::Json).unwrap();
        let waiting_ticket = queue.push(upload(1), ResponseFormat::Json).unwrap();
        let kept_ticket = queue.push(upload(2), ResponseFormat::Json).unwrap();
        let (job, running) = queue.pop().unwrap();
        drop(waiting_ticket);
        assert_eq!((queue.lengths(), job.state.is_cancelled()), ((1, 1), false));
        drop(running_ticket);
        assert!(job.state.is_cancelled());
        drop(running);
        let (next, _running) = queue.pop().unwrap();
        assert_eq!((next.upload.bytes[0], next.state.is_cancelled()), (2, false));
        drop(kept_ticket);
        assert!(next.state.is_cancelled());
    }

    #[test]
    fn closed_queue_refuses_new_jobs_and_abandon_drops_waiting_ones() {
        let queue = Arc::new(JobQueue::new(2, 1));
        let mut tickets: Vec<JobTicket> =
            (0..3).map(|i| queue.push(upload(i), ResponseFormat::Json).unwrap()).collect();
        queue.close();
        assert_eq!(queue.push(upload(9), ResponseFormat::Json).unwrap_err(), QueueRefusal::Closed);
        let (job, running) = queue.pop().unwrap();
        assert_eq!(queue.abandon(), 3);
        assert!(job.state.is_cancelled());
        drop((job, running));
        assert!(queue.pop().is_none());
        assert!(tickets.iter_mut().all(|ticket| ticket.reply.try_recv().is_err()));
    }

    #[test]
    fn retry_after_is_the_mean_job_time_per_worker_within_bounds() {
        let queue = Arc::new(JobQueue::new(2, 2));
        assert_eq!(queue.retry_after_secs(), 1);
        queue.lock().mean_job_secs = Some(7.0);
        assert_eq!(queue.retry_after_secs(), 4);
        queue.lock().mean_job_secs = Some(1e9);
        assert_eq!(queue.retry_after_secs(), 60);
    }
}
