//! Engines at work while the window's own code cuts the next tiles and blends the last ones.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use sulcus_pipeline::{TileQueue, PipelineError, PredictorError, Tensor};

use crate::clock::Stopwatch;
use crate::segmenter::SharedPredictor;

/// What a worker is to do: tiles for one network.
struct Job {
    numbers: Vec<usize>,
    network: usize,
    inputs: Vec<Tensor>,
}

/// What came of it.
struct Done {
    numbers: Vec<usize>,
    answers: Result<Vec<Tensor>, PredictorError>,
    secs: f64,
}

/// Gives `work` the answers of `predictors`, asked by so many threads at a time, and the seconds that a thread spent in
/// the engine.
pub(crate) fn with_tile_queue<T>(
    predictors: &[&dyn SharedPredictor],
    workers: usize,
    work: impl FnOnce(&mut dyn TileQueue) -> Result<T, PipelineError>,
) -> Result<(T, f64), PipelineError> {
    let secs = Cell::new(0.0);
    let found = run(predictors, workers.max(1), &secs, work)?;
    Ok((found, secs.get() / workers.max(1) as f64))
}

/// Tiles that are on their way at the same time: those that are worked on, and as many that wait for each network.
pub(crate) fn tiles_in_flight(batch: usize, workers: usize) -> usize {
    (workers.max(1) + 1) * batch.max(1)
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
                    if over.load(Ordering::Relaxed) || done.send(ask(predictors, job)).is_err() {
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

/// Without threads each tile is asked when its answer is wanted.
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
    let receive = || queue.borrow_mut().pop_front().map(|job| ask(predictors, job)).ok_or_else(stopped);
    work(&mut OrderedTileQueue::new(predictors, &send, &receive, 0, secs))
}

fn ask(predictors: &[&dyn SharedPredictor], job: Job) -> Done {
    let Job { numbers, network, inputs } = job;
    let watch = Stopwatch::start();
    let failed = |message: String| PredictorError { engine: "no", message };
    let answers = match predictors.get(network) {
        Some(predictor) => predictor.logits_batch(inputs).and_then(|answers| {
            let (asked, got) = (numbers.len(), answers.len());
            let right = (asked == got).then_some(answers);
            right.ok_or_else(|| failed(format!("{asked} tiles were asked and {got} answered")))
        }),
        None => Err(failed(format!("there is no network {network}"))),
    };
    Done { numbers, answers, secs: watch.elapsed_secs() }
}

/// A worker that ended before its time has panicked: the panic comes out where the threads are joined.
fn stopped() -> PipelineError {
    PredictorError { engine: "inference", message: "its thread has stopped".into() }.into()
}

/// Puts tiles together as each network likes them, and brings answers, which come as they are ready, into the order of
/// their tiles.
struct OrderedTileQueue<'a> {
    send: &'a dyn Fn(Job) -> Result<(), PipelineError>,
    receive: &'a dyn Fn() -> Result<Done, PipelineError>,
    batches: Vec<usize>,
    ahead: usize,
    secs: &'a Cell<f64>,
    next: usize,
    /// Tiles of a network that are not yet enough for it.
    gathered: BTreeMap<usize, Job>,
    /// Numbers that each lane waits for.
    waiting: BTreeMap<usize, VecDeque<usize>>,
    ready: BTreeMap<usize, Result<Tensor, PredictorError>>,
}

impl<'a> OrderedTileQueue<'a> {
    fn new(
        predictors: &[&dyn SharedPredictor],
        send: &'a dyn Fn(Job) -> Result<(), PipelineError>,
        receive: &'a dyn Fn() -> Result<Done, PipelineError>,
        workers: usize,
        secs: &'a Cell<f64>,
    ) -> Self {
        let batches: Vec<usize> = predictors.iter().map(|p| p.batch().max(1)).collect();
        let ahead = match workers {
            0 => 1,
            _ => tiles_in_flight(batches.iter().copied().max().unwrap_or(1), workers),
        };
        let (gathered, waiting, ready) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { send, receive, batches, ahead, secs, next: 0, gathered, waiting, ready }
    }
}

impl TileQueue for OrderedTileQueue<'_> {
    fn ask(&mut self, stream_id: usize, network: usize, input: Tensor) -> Result<(), PipelineError> {
        let number = self.next;
        self.next += 1;
        self.waiting.entry(stream_id).or_default().push_back(number);
        let full = self.batches.get(network).copied().unwrap_or(1);
        let job = self.gathered.entry(network).or_insert_with(|| Job { numbers: vec![], network, inputs: vec![] });
        job.numbers.push(number);
        job.inputs.push(input);
        if job.numbers.len() < full {
            return Ok(());
        }
        self.gathered.remove(&network).map_or(Ok(()), self.send)
    }

    fn answer(&mut self, stream_id: usize) -> Result<Tensor, PipelineError> {
        let wanted = self.waiting.get_mut(&stream_id).and_then(VecDeque::pop_front).ok_or_else(stopped)?;
        // The last tiles of a network are fewer than it likes.
        let held =
            self.gathered.iter().find(|(_, job)| job.numbers.contains(&wanted)).map(|(network, _)| *network);
        if let Some(job) = held.and_then(|network| self.gathered.remove(&network)) {
            (self.send)(job)?;
        }
        loop {
            if let Some(answer) = self.ready.remove(&wanted) {
                return Ok(answer?);
            }
            let Done { numbers, answers, secs } = (self.receive)()?;
            self.secs.set(self.secs.get() + secs);
            match answers {
                Ok(answers) => self.ready.extend(numbers.into_iter().zip(answers.into_iter().map(Ok))),
                Err(error) => self.ready.extend(numbers.into_iter().map(|number| (number, Err(error.clone())))),
            }
        }
    }

    fn ahead(&self) -> usize {
        self.ahead
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use sulcus_pipeline::Predictor;

    use super::*;

    /// Takes longer for some tiles than for those after them.
    struct Uneven(AtomicUsize);

    /// Takes three tiles at a time, and notes how many it was given.
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
    fn answers_come_in_the_order_of_their_tiles_lane_by_lane() {
        let predictor = Uneven(AtomicUsize::new(0));
        for workers in [1, 3] {
            let ((), secs) = with_tile_queue(&[&predictor], workers, |answers| {
                for i in 0..9_u8 {
                    answers.ask(usize::from(i % 2), 0, tile(f32::from(i)))?;
                }
                for stream_id in [1, 0] {
                    for i in (0..9_u8).filter(|i| usize::from(i % 2) == stream_id) {
                        assert_eq!(answers.answer(stream_id)?, tile(f32::from(i)));
                    }
                }
                assert!(answers.answer(0).is_err());
                Ok(())
            })
            .unwrap();
            assert!(secs > 0.0);
        }
    }

    #[test]
    fn an_engine_s_error_is_the_tile_s_and_the_rest_is_left() {
        let predictor = Uneven(AtomicUsize::new(0));
        let error = with_tile_queue(&[&predictor], 2, |answers| {
            [1.0, -1.0, 2.0].into_iter().try_for_each(|v| answers.ask(0, 0, tile(v)))?;
            answers.answer(0)?;
            answers.answer(0)
        });
        assert!(error.unwrap_err().to_string().contains("negative"));
        let nobody = with_tile_queue(&[&predictor], 2, |answers| {
            answers.ask(0, 5, tile(1.0))?;
            answers.answer(0)
        });
        assert!(nobody.unwrap_err().to_string().contains("there is no network 5"));
    }

    #[test]
    fn tiles_come_together_as_a_network_likes_them_and_the_last_ones_as_they_are() {
        let (threes, ones) = (InThrees(Mutex::new(Vec::new())), Uneven(AtomicUsize::new(0)));
        let ((), _) = with_tile_queue(&[&threes, &ones], 2, |answers| {
            assert_eq!(answers.ahead(), 9);
            for i in 0..8_u8 {
                answers.ask(0, 0, tile(f32::from(i)))?;
                answers.ask(1, 1, tile(-1.0 + f32::from(i) / 4.0))?;
            }
            for i in 0..8_u8 {
                assert_eq!(answers.answer(0)?, tile(f32::from(i)));
            }
            // The other network's tiles do not wait for these.
            assert!(answers.answer(1).is_err());
            Ok(())
        })
        .unwrap();
        let mut sizes = threes.0.into_inner().unwrap();
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 3, 3]);
    }
}
