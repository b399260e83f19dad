//! Runs engines on worker threads while the sliding window cuts the next tiles and adds up the last ones.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use sulcus_pipeline::{PipelineError, PredictorError, Tensor, TileQueue, tiles_in_flight};

use web_time::Instant;

use super::custom::SharedPredictor;

/// A batch of tiles for one network.
struct Job {
    /// Sequence numbers of the tiles.
    numbers: Vec<usize>,
    network: usize,
    inputs: Vec<Tensor>,
}

/// The result of a [`Job`].
struct JobResult {
    numbers: Vec<usize>,
    outputs: Result<Vec<Tensor>, PredictorError>,
    engine_secs: f64,
}

/// Calls `work` with a queue that runs `predictors` on `workers` threads. Returns its result, and the mean seconds that a worker spent
/// in the engine.
pub(crate) fn with_tile_queue<T>(
    predictors: &[&dyn SharedPredictor],
    workers: usize,
    work: impl FnOnce(&mut dyn TileQueue) -> Result<T, PipelineError>,
) -> Result<(T, f64), PipelineError> {
    let secs = Cell::new(0.0);
    let found = run(predictors, workers.max(1), &secs, work)?;
    Ok((found, secs.get() / workers.max(1) as f64))
}

#[cfg(not(target_family = "wasm"))]
fn run<T>(
    predictors: &[&dyn SharedPredictor],
    workers: usize,
    secs: &Cell<f64>,
    work: impl FnOnce(&mut dyn TileQueue) -> Result<T, PipelineError>,
) -> Result<T, PipelineError> {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::sync::{Mutex, PoisonError};

    let (jobs, queue) = channel::<Job>();
    let (done, results) = channel();
    let (queue, over) = (Mutex::new(queue), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (queue, over, done) = (&queue, &over, done.clone());
            scope.spawn(move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    if over.load(Ordering::Relaxed) || done.send(run_job(predictors, job)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let send = |job: Job| jobs.send(job).map_err(|_| stopped());
        let receive = || results.recv().map_err(|_| stopped());
        let found = work(&mut OrderedTileQueue::new(predictors, &send, &receive, workers, secs));
        over.store(true, Ordering::Relaxed);
        drop(jobs);
        found
    })
}

/// Without threads each tile is computed when it is received.
#[cfg(target_family = "wasm")]
fn run<T>(
    predictors: &[&dyn SharedPredictor],
    _: usize,
    secs: &Cell<f64>,
    work: impl FnOnce(&mut dyn TileQueue) -> Result<T, PipelineError>,
) -> Result<T, PipelineError> {
    let queue = std::cell::RefCell::new(VecDeque::new());
    let send = |job: Job| {
        queue.borrow_mut().push_back(job);
        Ok(())
    };
    let receive = || queue.borrow_mut().pop_front().map(|job| run_job(predictors, job)).ok_or_else(stopped);
    work(&mut OrderedTileQueue::new(predictors, &send, &receive, 0, secs))
}

fn run_job(predictors: &[&dyn SharedPredictor], job: Job) -> JobResult {
    let Job { numbers, network, inputs } = job;
    let start = Instant::now();
    let failed = |message: String| PredictorError { engine: "no", message };
    let outputs = match predictors.get(network) {
        Some(predictor) => predictor.logits_batch(inputs).and_then(|outputs| {
            let (submitted, returned) = (numbers.len(), outputs.len());
            let complete = (submitted == returned).then_some(outputs);
            complete.ok_or_else(|| failed(format!("{submitted} tiles were submitted and {returned} returned")))
        }),
        None => Err(failed(format!("there is no network {network}"))),
    };
    JobResult { numbers, outputs, engine_secs: start.elapsed().as_secs_f64() }
}

/// A worker that ended early has panicked; the panic is resumed where the threads are joined.
fn stopped() -> PipelineError {
    PredictorError { engine: "inference", message: "its thread has stopped".into() }.into()
}

/// Collects tiles into batches of the size that each network prefers, and returns results, which arrive in any order, in the order of
/// their tiles.
struct OrderedTileQueue<'a> {
    send: &'a dyn Fn(Job) -> Result<(), PipelineError>,
    receive: &'a dyn Fn() -> Result<JobResult, PipelineError>,
    batch_sizes: Vec<usize>,
    depth: usize,
    engine_secs: &'a Cell<f64>,
    next_number: usize,
    /// Incomplete batches, by network.
    batches: BTreeMap<usize, Job>,
    /// Sequence numbers that each stream has not received yet.
    pending: BTreeMap<usize, VecDeque<usize>>,
    ready: BTreeMap<usize, Result<Tensor, PredictorError>>,
}

impl<'a> OrderedTileQueue<'a> {
    fn new(
        predictors: &[&dyn SharedPredictor],
        send: &'a dyn Fn(Job) -> Result<(), PipelineError>,
        receive: &'a dyn Fn() -> Result<JobResult, PipelineError>,
        workers: usize,
        engine_secs: &'a Cell<f64>,
    ) -> Self {
        let batch_sizes: Vec<usize> = predictors.iter().map(|p| p.batch().max(1)).collect();
        let depth = match workers {
            0 => 1,
            workers => tiles_in_flight(batch_sizes.iter().copied().max().unwrap_or(1), workers),
        };
        let (batches, pending, ready) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { send, receive, batch_sizes, depth, engine_secs, next_number: 0, batches, pending, ready }
    }
}

impl TileQueue for OrderedTileQueue<'_> {
    fn submit(&mut self, stream_id: usize, network: usize, tile: Tensor) -> Result<(), PipelineError> {
        let number = self.next_number;
        self.next_number += 1;
        self.pending.entry(stream_id).or_default().push_back(number);
        let batch_size = self.batch_sizes.get(network).copied().unwrap_or(1);
        let job = self.batches.entry(network).or_insert_with(|| Job { numbers: vec![], network, inputs: vec![] });
        job.numbers.push(number);
        job.inputs.push(tile);
        if job.numbers.len() < batch_size {
            return Ok(());
        }
        self.batches.remove(&network).map_or(Ok(()), self.send)
    }

    fn receive(&mut self, stream_id: usize) -> Result<Tensor, PipelineError> {
        let wanted = self.pending.get_mut(&stream_id).and_then(VecDeque::pop_front).ok_or_else(stopped)?;
        // The last batch of a network may be incomplete.
        let incomplete =
            self.batches.iter().find(|(_, job)| job.numbers.contains(&wanted)).map(|(network, _)| *network);
        if let Some(job) = incomplete.and_then(|network| self.batches.remove(&network)) {
            (self.send)(job)?;
        }
        loop {
            if let Some(output) = self.ready.remove(&wanted) {
                return Ok(output?);
            }
            let JobResult { numbers, outputs, engine_secs } = (self.receive)()?;
            self.engine_secs.set(self.engine_secs.get() + engine_secs);
            match outputs {
                Ok(outputs) => self.ready.extend(numbers.into_iter().zip(outputs.into_iter().map(Ok))),
                Err(error) => self.ready.extend(numbers.into_iter().map(|number| (number, Err(error.clone())))),
            }
        }
    }

    fn depth(&self) -> usize {
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use sulcus_pipeline::Predictor;

    use super::*;

    /// Takes longer for some tiles than for the following ones.
    struct Uneven(AtomicUsize);

    /// Prefers batches of three and records the batch sizes.
    struct InThrees(Mutex<Vec<usize>>);

    impl Predictor for Uneven {
        fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
            let call = self.0.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis([7, 1, 3][call % 3]));
            if input.data()[0] < 0.0 {
                return Err(PredictorError { engine: "test", message: "negative".into() });
            }
            Ok(input)
        }
    }

    impl Predictor for InThrees {
        fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
            Ok(input)
        }

        fn batch(&self) -> usize {
            3
        }

        fn logits_batch(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, PredictorError> {
            self.0.lock().unwrap().push(inputs.len());
            Ok(inputs)
        }
    }

    fn tile(value: f32) -> Tensor {
        Tensor::new(vec![1], vec![value]).unwrap()
    }

    #[test]
    fn results_come_in_tile_order_for_each_stream() {
        let predictor = Uneven(AtomicUsize::new(0));
        for workers in [1, 3] {
            let ((), secs) = with_tile_queue(&[&predictor], workers, |queue| {
                for i in 0..9_u8 {
                    queue.submit(usize::from(i % 2), 0, tile(f32::from(i)))?;
                }
                for stream_id in [1, 0] {
                    for i in (0..9_u8).filter(|i| usize::from(i % 2) == stream_id) {
                        assert_eq!(queue.receive(stream_id)?, tile(f32::from(i)));
                    }
                }
                assert!(queue.receive(0).is_err());
                Ok(())
            })
            .unwrap();
            assert!(secs > 0.0);
        }
    }

    #[test]
    fn engine_error_belongs_to_its_tile() {
        let predictor = Uneven(AtomicUsize::new(0));
        let error = with_tile_queue(&[&predictor], 2, |queue| {
            [1.0, -1.0, 2.0].into_iter().try_for_each(|v| queue.submit(0, 0, tile(v)))?;
            queue.receive(0)?;
            queue.receive(0)
        });
        assert!(error.unwrap_err().to_string().contains("negative"));
        let nobody = with_tile_queue(&[&predictor], 2, |queue| {
            queue.submit(0, 5, tile(1.0))?;
            queue.receive(0)
        });
        assert!(nobody.unwrap_err().to_string().contains("there is no network 5"));
    }

    #[test]
    fn tiles_are_batched_and_the_last_batch_may_be_incomplete() {
        let (threes, ones) = (InThrees(Mutex::new(Vec::new())), Uneven(AtomicUsize::new(0)));
        let ((), _) = with_tile_queue(&[&threes, &ones], 2, |queue| {
            assert_eq!(queue.depth(), 9);
            for i in 0..8_u8 {
                queue.submit(0, 0, tile(f32::from(i)))?;
                queue.submit(1, 1, tile(-1.0 + f32::from(i) / 4.0))?;
            }
            for i in 0..8_u8 {
                assert_eq!(queue.receive(0)?, tile(f32::from(i)));
            }
            // The other network's tiles do not wait for this batch.
            assert!(queue.receive(1).is_err());
            Ok(())
        })
        .unwrap();
        let mut sizes = threes.0.into_inner().unwrap();
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 3, 3]);
    }
}
