//! Engines at work while the window's own code cuts the next tiles and blends the last ones.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use sulcus_pipeline::{Answers, PipelineError, PredictorError, Tensor};

use crate::clock::Stopwatch;
use crate::segmenter::SharedPredictor;

/// What a worker is to do.
struct Job {
    number: usize,
    network: usize,
    input: Tensor,
}

/// What came of it.
struct Done {
    number: usize,
    answer: Result<Tensor, PredictorError>,
    secs: f64,
}

/// Gives `work` the answers of `predictors`, asked by so many threads at a time, and the seconds that a thread spent in
/// the engine.
pub(crate) fn with_answers<T>(
    predictors: &[&SharedPredictor],
    workers: usize,
    work: impl FnOnce(&mut dyn Answers) -> Result<T, PipelineError>,
) -> Result<(T, f64), PipelineError> {
    let secs = Cell::new(0.0);
    let found = run(predictors, workers.max(1), &secs, work)?;
    Ok((found, secs.get() / workers.max(1) as f64))
}

#[cfg(not(target_family = "wasm"))]
fn run<T>(
    predictors: &[&SharedPredictor],
    workers: usize,
    secs: &Cell<f64>,
    work: impl FnOnce(&mut dyn Answers) -> Result<T, PipelineError>,
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
                    let Ok(Job { number, network, input }) = job else { return };
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let watch = Stopwatch::start();
                    let answer = ask(predictors, network, input);
                    if done.send(Done { number, answer, secs: watch.elapsed_secs() }).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let send = |job: Job| jobs.send(job).map_err(|_| stopped());
        let receive = || results.recv().map_err(|_| stopped());
        let found = work(&mut InOrder::new(&send, &receive, workers + 1, secs));
        over.store(true, Ordering::Relaxed);
        drop(jobs);
        found
    })
}

/// Without threads each tile is asked when its answer is wanted.
#[cfg(target_family = "wasm")]
fn run<T>(
    predictors: &[&SharedPredictor],
    _: usize,
    secs: &Cell<f64>,
    work: impl FnOnce(&mut dyn Answers) -> Result<T, PipelineError>,
) -> Result<T, PipelineError> {
    let queue = std::cell::RefCell::new(VecDeque::new());
    let send = |job: Job| {
        queue.borrow_mut().push_back(job);
        Ok(())
    };
    let receive = || {
        let Job { number, network, input } = queue.borrow_mut().pop_front().ok_or_else(stopped)?;
        let watch = Stopwatch::start();
        let answer = ask(predictors, network, input);
        Ok(Done { number, answer, secs: watch.elapsed_secs() })
    };
    work(&mut InOrder::new(&send, &receive, 1, secs))
}

fn ask(predictors: &[&SharedPredictor], network: usize, input: Tensor) -> Result<Tensor, PredictorError> {
    match predictors.get(network) {
        Some(predictor) => predictor.logits(input),
        None => Err(PredictorError { engine: "no", message: format!("there is no network {network}") }),
    }
}

/// A worker that ended before its time has panicked: the panic comes out where the threads are joined.
fn stopped() -> PipelineError {
    PredictorError { engine: "inference", message: "its thread has stopped".into() }.into()
}

/// Brings answers, which come as they are ready, into the order of their tiles.
struct InOrder<'a> {
    send: &'a dyn Fn(Job) -> Result<(), PipelineError>,
    receive: &'a dyn Fn() -> Result<Done, PipelineError>,
    ahead: usize,
    secs: &'a Cell<f64>,
    next: usize,
    /// Numbers that each lane waits for.
    waiting: BTreeMap<usize, VecDeque<usize>>,
    ready: BTreeMap<usize, Result<Tensor, PredictorError>>,
}

impl<'a> InOrder<'a> {
    fn new(
        send: &'a dyn Fn(Job) -> Result<(), PipelineError>,
        receive: &'a dyn Fn() -> Result<Done, PipelineError>,
        ahead: usize,
        secs: &'a Cell<f64>,
    ) -> Self {
        Self { send, receive, ahead, secs, next: 0, waiting: BTreeMap::new(), ready: BTreeMap::new() }
    }
}

impl Answers for InOrder<'_> {
    fn ask(&mut self, lane: usize, network: usize, input: Tensor) -> Result<(), PipelineError> {
        let number = self.next;
        self.next += 1;
        self.waiting.entry(lane).or_default().push_back(number);
        (self.send)(Job { number, network, input })
    }

    fn answer(&mut self, lane: usize) -> Result<Tensor, PipelineError> {
        let wanted = self.waiting.get_mut(&lane).and_then(VecDeque::pop_front).ok_or_else(stopped)?;
        loop {
            if let Some(answer) = self.ready.remove(&wanted) {
                return Ok(answer?);
            }
            let Done { number, answer, secs } = (self.receive)()?;
            self.secs.set(self.secs.get() + secs);
            self.ready.insert(number, answer);
        }
    }

    fn ahead(&self) -> usize {
        self.ahead
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use sulcus_pipeline::Predictor;

    use super::*;

    /// Takes longer for some tiles than for those after them.
    struct Uneven(AtomicUsize);

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

    fn tile(value: f32) -> Tensor {
        Tensor::new(vec![1], vec![value]).unwrap()
    }

    #[test]
    fn answers_come_in_the_order_of_their_tiles_lane_by_lane() {
        let predictor: SharedPredictor = Box::new(Uneven(AtomicUsize::new(0)));
        for workers in [1, 3] {
            let ((), secs) = with_answers(&[&predictor], workers, |answers| {
                for i in 0..9_u8 {
                    answers.ask(usize::from(i % 2), 0, tile(f32::from(i)))?;
                }
                for lane in [1, 0] {
                    for i in (0..9_u8).filter(|i| usize::from(i % 2) == lane) {
                        assert_eq!(answers.answer(lane)?, tile(f32::from(i)));
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
        let predictor: SharedPredictor = Box::new(Uneven(AtomicUsize::new(0)));
        let error = with_answers(&[&predictor], 2, |answers| {
            [1.0, -1.0, 2.0].into_iter().try_for_each(|v| answers.ask(0, 0, tile(v)))?;
            answers.answer(0)?;
            answers.answer(0)
        });
        assert!(error.unwrap_err().to_string().contains("negative"));
        let nobody = with_answers(&[&predictor], 2, |answers| {
            answers.ask(0, 5, tile(1.0))?;
            answers.answer(0)
        });
        assert!(nobody.unwrap_err().to_string().contains("there is no network 5"));
    }
}
