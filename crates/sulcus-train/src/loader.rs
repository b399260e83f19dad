use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::TrainError;
use crate::sampler::{Batch, Sampler};

/// Batches that each worker prepares ahead of the training.
const AHEAD: usize = 2;

/// The batches of an epoch, drawn and varied by threads beside the training. They come in order: worker `w` of `n`
/// makes batches `w`, `w + n`, …, and they are collected in turn.
pub(crate) struct Loader {
    workers: Vec<(Receiver<Batch>, JoinHandle<()>)>,
    step: usize,
    first: usize,
    steps: usize,
}

impl Loader {
    /// Starts at batch `first` of an epoch with `steps` batches.
    pub(crate) fn start(
        sampler: &Arc<Sampler>,
        epoch: usize,
        first: usize,
        steps: usize,
        workers: usize,
    ) -> Result<Self, TrainError> {
        let count = workers.clamp(1, steps.saturating_sub(first).max(1));
        let mut threads = Vec::with_capacity(count);
        for worker in 0..count {
            let (sender, receiver) = sync_channel(AHEAD);
            let sampler = Arc::clone(sampler);
            let work = move || {
                for step in (first + worker..steps).step_by(count) {
                    // The training has ended early when nobody receives any more.
                    if sender.send(sampler.batch(epoch, step)).is_err() {
                        break;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("loader-{worker}")).spawn(work);
            threads.push((receiver, thread.map_err(TrainError::Worker)?));
        }
        Ok(Self { workers: threads, step: first, first, steps })
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.step >= self.steps {
            return None;
        }
        let worker = (self.step - self.first) % self.workers.len().max(1);
        self.step += 1;
        let (receiver, _) = self.workers.get(worker)?;
        let ended = || TrainError::Worker(std::io::Error::other("it ended before its last batch"));
        Some(receiver.recv().map_err(|_| ended()))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        for (receiver, thread) in self.workers.drain(..) {
            drop(receiver);
            // A panicked worker has been reported by the missing batch.
            let _ = thread.join();
        }
    }
}
