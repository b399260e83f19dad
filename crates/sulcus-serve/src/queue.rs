//! Scans that wait for a worker: as many as were agreed, and no longer than their clients do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::answer::Answer;
use crate::negotiate::Form;
use crate::problem::Problem;
use crate::receive::Body;

/// What came of a scan.
pub(crate) type Reply = Result<Answer, Problem>;

/// Said by whoever waits for the answer, seen by whoever makes it.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    gone: AtomicBool,
    begun: AtomicBool,
}

impl Flags {
    /// Nobody wants the answer any more.
    pub(crate) fn gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// A worker has it.
    pub(crate) fn begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }
}

/// A scan and where its answer goes. The way back is its own, so that answers cannot be mixed up.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) body: Body,
    pub(crate) form: Form,
    pub(crate) accepted: Instant,
    pub(crate) flags: Arc<Flags>,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// Why a scan was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many wait as may.
    Full,
    /// The server is stopping.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
    workers: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(u64, Job)>,
    working: BTreeMap<u64, Arc<Flags>>,
    next: u64,
    closed: bool,
    /// How long a scan takes a worker, the last ones weighing most.
    usual_secs: Option<f64>,
}

impl Queue {
    /// For so many scans beside those that workers have.
    pub(crate) fn new(capacity: usize, workers: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), capacity, workers }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a scan would be taken now; asked before it is uploaded.
    pub(crate) fn admits(&self) -> Result<(), Refusal> {
        self.state().admits(self.capacity + self.workers)
    }

    /// Takes a scan. While the ticket is held its answer is wanted.
    pub(crate) fn push(self: &Arc<Self>, body: Body, form: Form) -> Result<Ticket, Refusal> {
        let mut state = self.state();
        state.admits(self.capacity + self.workers)?;
        let number = state.next;
        state.next += 1;
        let flags = Arc::new(Flags::default());
        let (reply, answer) = oneshot::channel();
        let job = Job { body, form, accepted: Instant::now(), flags: Arc::clone(&flags), reply };
        state.waiting.push_back((number, job));
        self.changed.notify_one();
        Ok(Ticket { answer, flags, place: Place { queue: Arc::clone(self), number } })
    }

    /// The next scan, when there is one; none when the queue was closed and nothing is left.
    pub(crate) fn pop(self: &Arc<Self>) -> Option<(Job, Working)> {
        let mut state = self.state();
        loop {
            if let Some((number, job)) = state.waiting.pop_front() {
                job.flags.begun.store(true, Ordering::Relaxed);
                state.working.insert(number, Arc::clone(&job.flags));
                return Some((job, Working { queue: Arc::clone(self), number, since: Instant::now() }));
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes nothing more; what waits is still worked on.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Gives up what waits and what is worked on; says how many scans that were.
    pub(crate) fn abandon(&self) -> usize {
        let mut state = self.state();
        state.working.values().for_each(|flags| flags.gone.store(true, Ordering::Relaxed));
        let count = state.waiting.len() + state.working.len();
        state.waiting.clear();
        count
    }

    /// Scans that wait, and scans that are worked on.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let state = self.state();
        (state.waiting.len(), state.working.len())
    }

    /// In how many seconds a place is likely to be free.
    pub(crate) fn free_in_secs(&self) -> u64 {
        /// A guess from few scans is not to keep a client away for long.
        const MOST: f64 = 60.0;
        let usual = self.state().usual_secs.unwrap_or(1.0);
        (usual / self.workers as f64).clamp(1.0, MOST).ceil() as u64
    }
}

impl State {
    fn admits(&self, places: usize) -> Result<(), Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        if self.waiting.len() + self.working.len() >= places { Err(Refusal::Full) } else { Ok(()) }
    }
}

/// Held by whoever waits for an answer.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) answer: oneshot::Receiver<Reply>,
    pub(crate) flags: Arc<Flags>,
    #[expect(dead_code, reason = "held for what happens when it goes")]
    place: Place,
}

/// A scan's place; when it goes, nobody waits any more.
#[derive(Debug)]
struct Place {
    queue: Arc<Queue>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        // One that has begun is told; one that waits is taken out, with its body.
        if let Some(flags) = state.working.get(&self.number) {
            flags.gone.store(true, Ordering::Relaxed);
        }
        state.waiting.retain(|(number, _)| *number != self.number);
    }
}

/// Held by a worker for as long as it has the scan, however it ends.
#[derive(Debug)]
pub(crate) struct Working {
    queue: Arc<Queue>,
    number: u64,
    since: Instant,
}

impl Drop for Working {
    fn drop(&mut self) {
        /// Of the last scan in the average.
        const WEIGHT: f64 = 0.2;
        let secs = self.since.elapsed().as_secs_f64();
        let mut state = self.queue.state();
        state.working.remove(&self.number);
        state.usual_secs = Some(state.usual_secs.map_or(secs, |usual| usual + WEIGHT * (secs - usual)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, Lease};

    fn body(byte: u8) -> Body {
        Body { bytes: vec![byte], lease: Lease::empty(&Arc::new(Budget::new(1))) }
    }

    #[test]
    fn a_queue_takes_what_it_may_in_order_and_no_more() {
        let queue = Arc::new(Queue::new(2, 1));
        let tickets: Vec<Ticket> = (0..3).map(|i| queue.push(body(i), Form::Json).unwrap()).collect();
        assert_eq!(queue.push(body(9), Form::Json).unwrap_err(), Refusal::Full);
        let (first, working) = queue.pop().unwrap();
        assert_eq!((first.body.bytes[0], queue.lengths()), (0, (2, 1)));
        assert!(tickets[0].flags.begun() && !tickets[1].flags.begun());
        // The worker's place is taken for as long as it works.
        assert_eq!(queue.admits(), Err(Refusal::Full));
        drop(working);
        assert_eq!((queue.lengths(), queue.admits()), ((2, 0), Ok(())));
        assert_eq!(queue.pop().unwrap().0.body.bytes[0], 1);
    }

    #[test]
    fn who_hangs_up_leaves_the_queue_and_stops_the_work() {
        let queue = Arc::new(Queue::new(2, 1));
        let begun = queue.push(body(0), Form::Json).unwrap();
        let waits = queue.push(body(1), Form::Json).unwrap();
        let stays = queue.push(body(2), Form::Json).unwrap();
        let (job, working) = queue.pop().unwrap();
        drop(waits);
        assert_eq!((queue.lengths(), job.flags.gone()), ((1, 1), false));
        drop(begun);
        assert!(job.flags.gone());
        drop(working);
        let (next, _working) = queue.pop().unwrap();
        assert_eq!((next.body.bytes[0], next.flags.gone()), (2, false));
        drop(stays);
        assert!(next.flags.gone());
    }

    #[test]
    fn a_closed_queue_is_emptied_first_and_an_abandoned_one_is_not() {
        let queue = Arc::new(Queue::new(2, 1));
        let mut tickets: Vec<Ticket> = (0..3).map(|i| queue.push(body(i), Form::Json).unwrap()).collect();
        queue.close();
        assert_eq!(queue.push(body(9), Form::Json).unwrap_err(), Refusal::Closed);
        let (job, working) = queue.pop().unwrap();
        assert_eq!(queue.abandon(), 3);
        assert!(job.flags.gone());
        drop((job, working));
        assert!(queue.pop().is_none());
        assert!(tickets.iter_mut().all(|ticket| ticket.answer.try_recv().is_err()));
    }

    #[test]
    fn a_refused_client_is_told_to_come_back_when_a_worker_is_free() {
        let queue = Arc::new(Queue::new(2, 2));
        assert_eq!(queue.free_in_secs(), 1);
        queue.state().usual_secs = Some(7.0);
        assert_eq!(queue.free_in_secs(), 4);
        queue.state().usual_secs = Some(1e9);
        assert_eq!(queue.free_in_secs(), 60);
    }
}
