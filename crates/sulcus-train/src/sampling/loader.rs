use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::sampler::{Batch, Sampler, message};
use crate::error::TrainError;

/// The number of batches that each worker prepares in advance.
const PREFETCHED: usize = 2;

type BatchResult = Result<Batch, TrainError>;

/// The batches of an epoch, in order, prepared by worker threads. Worker `w` of `n` prepares the batches `w`, `w + n`, …
///
/// If a batch fails or a worker panics, the iterator returns the error in place of the batch and ends.
pub(crate) struct Loader {
    workers: Vec<(Receiver<BatchResult>, JoinHandle<()>)>,
    step: usize,
    first: usize,
    steps: usize,
    seconds_waited: f64,
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
        let sampler = Arc::clone(sampler);
        Self::with(Arc::new(move |step| sampler.batch(epoch, step)), first, steps, workers)
    }

    fn with<F>(make: Arc<F>, first: usize, steps: usize, workers: usize) -> Result<Self, TrainError>
    where
        F: Fn(usize) -> BatchResult + Send + Sync + 'static,
    {
        let count = workers.clamp(1, steps.saturating_sub(first).max(1));
        let mut threads = Vec::with_capacity(count);
        for worker in 0..count {
            let (sender, receiver) = sync_channel(PREFETCHED);
            let make = Arc::clone(&make);
            let work = move || {
                for step in (first + worker..steps).step_by(count) {
                    let made = catch_unwind(AssertUnwindSafe(|| make(step))).unwrap_or_else(|panic| {
                        Err(TrainError::Worker(std::io::Error::other(message(panic.as_ref()))))
                    });
                    let failed = made.is_err();
                    // The receiver is gone if the training has ended early.
                    if sender.send(made).is_err() || failed {
                        break;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("loader-{worker}")).spawn(work);
            threads.push((receiver, thread.map_err(TrainError::Worker)?));
        }
        Ok(Self { workers: threads, step: first, first, steps, seconds_waited: 0.0 })
    }

    /// The time in seconds for which the training has waited for batches.
    pub(crate) fn seconds_waited(&self) -> f64 {
        self.seconds_waited
    }
}

impl Iterator for Loader {
    type Item = BatchResult;

    fn next(&mut self) -> Option<Self::Item> {
        if self.step >= self.steps {
            return None;
        }
        let worker = (self.step - self.first) % self.workers.len().max(1);
        let (receiver, _) = self.workers.get(worker)?;
        let began = Instant::now();
        let ended = |_| Err(TrainError::Worker(std::io::Error::other("it ended before its last batch")));
        let made = receiver.recv().unwrap_or_else(ended);
        self.seconds_waited += began.elapsed().as_secs_f64();
        self.step = if made.is_ok() { self.step + 1 } else { self.steps };
        Some(made)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        for (receiver, thread) in self.workers.drain(..) {
            drop(receiver);
            // A panic has been returned in place of its batch.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use sulcus_pipeline::{Preprocessed, PreprocessedLabels};
    use sulcus_plan::{Augmentation, Flips};

    use super::*;
    use crate::sampling::sampler::SamplingConfig;
    use crate::sampling::training_case::TrainingCase;

    const VOXELS: usize = 20 * 14 * 10;

    /// Ten slices of 20 × 14; the third alone holds a structure, at one pixel.
    fn sampler(patch: [usize; 3]) -> Arc<Sampler> {
        const SHAPE: [usize; 3] = [20, 14, 10];
        let held = (2 * SHAPE[1] + 13) * SHAPE[0] + 19;
        let image = Preprocessed::from_parts(SHAPE, 1, (0..VOXELS).map(|i| i as f32).collect()).unwrap();
        let classes = (0..VOXELS).map(|i| u8::from(i == held)).collect();
        let labels = PreprocessedLabels::from_parts(SHAPE, classes).unwrap();
        let sampling = SamplingConfig {
            patch,
            spacing_mm: [2.0, 1.0, 1.0],
            batch_size: 4,
            foreground_share: 0.5,
            augmentation: Augmentation::nnunet().with(|a| a.flips = Flips::all(3)),
            seed: 5,
        };
        let case = TrainingCase::new("a".into(), image, labels, &[vec![1]]).unwrap();
        Arc::new(Sampler::new(vec![case], sampling).unwrap())
    }

    fn epoch(sampler: &Arc<Sampler>, epoch: usize, first: usize, workers: usize) -> Vec<Batch> {
        Loader::start(sampler, epoch, first, 7, workers).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn batches_do_not_depend_on_workers_or_interruptions() {
        for patch in [[1, 8, 24], [6, 8, 24]] {
            let sampler = sampler(patch);
            let alone = epoch(&sampler, 3, 0, 1);
            assert_eq!(alone.len(), 7);
            assert_eq!(epoch(&sampler, 3, 0, 3), alone);
            assert_eq!(epoch(&sampler, 3, 5, 2), alone[5..]);
            assert_ne!(epoch(&sampler, 4, 0, 1), alone);
            assert_ne!(alone[0], alone[1]);
        }
    }

    #[test]
    fn batches_contain_the_requested_fraction_of_foreground() {
        for batch in epoch(&sampler([1, 8, 24]), 0, 0, 2) {
            assert_eq!(batch.shape, [4, 1, 1, 8, 24]);
            let holds: Vec<bool> = batch.classes.chunks(8 * 24).map(|c| c.contains(&1)).collect();
            assert_eq!(holds[..2], [true, true]);
        }
    }

    #[test]
    fn dropping_the_loader_ends_its_threads() {
        let sampler = sampler([1, 8, 24]);
        let mut batches = Loader::start(&sampler, 0, 0, 1000, 3).unwrap();
        batches.next().unwrap().unwrap();
        drop(batches);
        assert_eq!(Arc::strong_count(&sampler), 1);
    }

    fn empty() -> Batch {
        Batch { image: vec![], classes: vec![], shape: [0; 5], regions: None }
    }

    #[test]
    fn panicking_worker_gives_an_error_in_its_turn() {
        let make = |step| if step == 3 { panic!("step {step} of all") } else { Ok(empty()) };
        let mut batches = Loader::with(Arc::new(make), 0, 1000, 2).unwrap();
        let good: Vec<bool> = batches.by_ref().take(3).map(|made| made.is_ok()).collect();
        assert_eq!(good, [true; 3]);
        let failed = batches.next().unwrap().unwrap_err().to_string();
        assert_eq!(failed, "a thread that draws training patches failed: step 3 of all");
        assert!(batches.next().is_none());
    }

    #[test]
    fn waiting_time_is_measured() {
        let mut batches = Loader::with(Arc::new(|_| Ok(empty())), 0, 3, 1).unwrap();
        assert_eq!(batches.seconds_waited(), 0.0);
        assert_eq!(batches.by_ref().filter(Result::is_ok).count(), 3);
        assert!(batches.seconds_waited() > 0.0);
    }
}
