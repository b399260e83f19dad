use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use super::*;

/// Long enough for another thread to run.
const PATIENCE: Duration = Duration::from_secs(20);

/// Cases that are numbers: reading gives the number, processing doubles it, writing reports it.
#[derive(Default)]
struct Numbers {
    /// Cases that fail to be read or written, were finished before, or panic.
    bad_reads: Vec<usize>,
    bad_writes: Vec<usize>,
    finished: Vec<usize>,
    panicking_reads: Vec<usize>,
    panicking_writes: Vec<usize>,
    slow_writes: Vec<usize>,
    bytes: Vec<u64>,
    /// Number of reads so far.
    reads: Mutex<usize>,
    was_read: Condvar,
    held: AtomicU64,
    max_held: AtomicU64,
}

impl Numbers {
    fn hold(&self, bytes: u64) {
        let now = self.held.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.max_held.fetch_max(now, Ordering::SeqCst);
    }

    /// Waits for a number of reads; whether they happened.
    fn wait_for_reads(&self, number: usize) -> bool {
        let reads = self.reads.lock().unwrap();
        !self.was_read.wait_timeout_while(reads, PATIENCE, |reads| *reads < number).unwrap().1.timed_out()
    }
}

impl CaseFiles for Numbers {
    type Input = usize;
    type Output = (usize, u64);
    type Report = usize;
    type Error = String;

    fn read(&self, case: usize) -> Result<ReadCase<usize, usize>, String> {
        *self.reads.lock().unwrap() += 1;
        self.was_read.notify_all();
        assert!(!self.panicking_reads.contains(&case), "read of case {case}");
        if self.bad_reads.contains(&case) {
            return Err(format!("cannot read {case}"));
        }
        if self.finished.contains(&case) {
            return Ok(ReadCase::Finished(1000 + case));
        }
        self.hold(self.read_bytes(case));
        Ok(ReadCase::Input(case))
    }

    fn write(&self, case: usize, (value, bytes): (usize, u64)) -> Result<usize, String> {
        assert!(!self.panicking_writes.contains(&case), "write of case {case}");
        if self.slow_writes.contains(&case) {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        if self.bad_writes.contains(&case) { Err(format!("cannot write {case}")) } else { Ok(value) }
    }

    fn read_bytes(&self, case: usize) -> u64 {
        self.bytes.get(case).copied().unwrap_or(0)
    }
}

type Delivered = Vec<(usize, Result<usize, String>)>;

struct Doubling<'a> {
    numbers: &'a Numbers,
    delivered: Delivered,
    processed: AtomicUsize,
    /// Cancels while this case is processed.
    cancel_at: Option<usize>,
    cancelled: bool,
    /// Stops at the result of this case.
    stop_at: Option<usize>,
    /// Waits for this many reads in the first case.
    expected_reads: usize,
    read_ahead: bool,
}

impl<'a> Doubling<'a> {
    fn new(numbers: &'a Numbers) -> Self {
        Self {
            numbers,
            delivered: Vec::new(),
            processed: AtomicUsize::new(0),
            cancel_at: None,
            cancelled: false,
            stop_at: None,
            expected_reads: 0,
            read_ahead: false,
        }
    }
}

impl CaseProcessor<Numbers> for Doubling<'_> {
    type Stop = (String, Delivered);

    fn process(&mut self, case: usize, input: usize, memory: Option<u64>) -> Result<(usize, u64), String> {
        self.processed.fetch_add(1, Ordering::SeqCst);
        if case == 0 && self.expected_reads > 0 {
            self.read_ahead = self.numbers.wait_for_reads(self.expected_reads);
        }
        if self.cancel_at == Some(case) {
            self.cancelled = true;
            return Err("cancelled".into());
        }
        let bytes = self.numbers.read_bytes(case);
        if memory.is_some_and(|limit| limit < 2 * bytes) {
            return Err(format!("case {case} got {memory:?}"));
        }
        // Processing replaces the input by an output of the same size.
        self.numbers.hold(bytes);
        self.numbers.held.fetch_sub(bytes, Ordering::SeqCst);
        Ok((2 * input, bytes))
    }

    fn deliver(&mut self, case: usize, result: Result<usize, String>) -> Result<(), Self::Stop> {
        if self.stop_at == Some(case) {
            return Err(("stopped".into(), std::mem::take(&mut self.delivered)));
        }
        self.delivered.push((case, result));
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    fn idle_bytes(&self) -> u64 {
        0
    }

    fn min_bytes(&self, input: &usize) -> Option<u64> {
        Some(2 * self.numbers.read_bytes(*input))
    }

    fn output_bytes(&self, output: &(usize, u64)) -> u64 {
        output.1
    }

    fn over_limit(&self, case: usize, limit: u64, needed: u64) -> String {
        format!("case {case} needs {needed} of {limit}")
    }
}

fn scheduler(files: &Numbers, cases: usize) -> CohortScheduler<'_, Numbers> {
    CohortScheduler { files, cases, memory_limit: None }
}

fn run(files: &Numbers, cases: usize) -> (Delivered, Completion) {
    let (processor, completion) = scheduler(files, cases).run(|| Ok(Doubling::new(files))).unwrap();
    (processor.delivered, completion)
}

#[test]
fn results_are_delivered_in_order_and_failures_do_not_stop_the_others() {
    let files = Numbers {
        bad_reads: vec![1],
        bad_writes: vec![3],
        finished: vec![4],
        slow_writes: vec![0, 2],
        ..Numbers::default()
    };
    let expected = vec![
        (0, Ok(0)),
        (1, Err("cannot read 1".into())),
        (2, Ok(4)),
        (3, Err("cannot write 3".into())),
        (4, Ok(1004)),
        (5, Ok(10)),
    ];
    assert_eq!(run(&files, 6), (expected, Completion::Complete));
    assert_eq!(run(&Numbers::default(), 0), (vec![], Completion::Complete));
}

#[test]
fn next_case_is_read_while_one_is_processed_and_no_case_more() {
    let files = Numbers::default();
    let start = || Ok(Doubling { expected_reads: 2, ..Doubling::new(&files) });
    let (processor, _) = scheduler(&files, 5).run(start).unwrap();
    assert!(processor.read_ahead, "case 1 is read while case 0 is processed");
    let start = || Ok(Doubling { cancel_at: Some(0), ..Doubling::new(&files) });
    *files.reads.lock().unwrap() = 0;
    scheduler(&files, 5).run(start).unwrap();
    assert_eq!(*files.reads.lock().unwrap(), 2, "only one case is read ahead");
}

#[test]
fn first_case_is_read_while_the_processor_starts() {
    let files = Numbers::default();
    let start = || {
        assert!(files.wait_for_reads(1));
        Ok(Doubling::new(&files))
    };
    assert!(scheduler(&files, 2).run(start).is_ok());
}

#[test]
fn failed_start_ends_the_run() {
    let files = Numbers::default();
    let ended = scheduler(&files, 3).run(|| Err::<Doubling<'_>, _>(("no engine".into(), vec![])));
    assert_eq!(ended.err().map(|(reason, _)| reason).as_deref(), Some("no engine"));
}

#[test]
fn cancelled_run_writes_what_was_processed() {
    let files = Numbers { slow_writes: vec![1], ..Numbers::default() };
    let start = || Ok(Doubling { cancel_at: Some(2), ..Doubling::new(&files) });
    let (processor, completion) = scheduler(&files, 9).run(start).unwrap();
    assert_eq!(completion, Completion::Cancelled);
    assert_eq!(processor.delivered, [(0, Ok(0)), (1, Ok(2))]);
}

#[test]
fn processor_that_stops_ends_the_run_within_two_cases() {
    let files = Numbers::default();
    let processed = Mutex::new(0);
    struct Counting<'a>(Doubling<'a>, &'a Mutex<usize>);
    impl CaseProcessor<Numbers> for Counting<'_> {
        type Stop = (String, Delivered);
        fn process(&mut self, case: usize, input: usize, memory: Option<u64>) -> Result<(usize, u64), String> {
            *self.1.lock().unwrap() += 1;
            self.0.process(case, input, memory)
        }
        fn deliver(&mut self, case: usize, result: Result<usize, String>) -> Result<(), Self::Stop> {
            self.0.deliver(case, result)
        }
        fn is_cancelled(&self) -> bool {
            false
        }
        fn idle_bytes(&self) -> u64 {
            0
        }
        fn min_bytes(&self, _: &usize) -> Option<u64> {
            None
        }
        fn output_bytes(&self, _: &(usize, u64)) -> u64 {
            0
        }
        fn over_limit(&self, _: usize, _: u64, _: u64) -> String {
            String::new()
        }
    }
    let start = || Ok(Counting(Doubling { stop_at: Some(1), ..Doubling::new(&files) }, &processed));
    let (reason, delivered) = scheduler(&files, 200).run(start).err().unwrap();
    assert_eq!((reason.as_str(), delivered), ("stopped", vec![(0, Ok(0))]));
    let processed = *processed.lock().unwrap();
    assert!(processed <= 5, "{processed} cases were processed after the stop");
}

#[test]
fn panic_of_a_stage_reaches_the_caller() {
    for (files, expected) in [
        (Numbers { panicking_reads: vec![1], ..Numbers::default() }, "read of case 1"),
        (Numbers { panicking_writes: vec![1], ..Numbers::default() }, "write of case 1"),
    ] {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&files, 4)));
        let payload = ended.unwrap_err();
        assert_eq!(payload.downcast_ref::<String>().map(String::as_str), Some(expected));
    }
}

#[test]
fn memory_limit_is_kept_and_a_case_above_it_fails_alone() {
    const LIMIT: u64 = 100;
    let files = Numbers { bytes: vec![30, 10, 50, 120, 40, 5, 45], ..Numbers::default() };
    let scheduler = CohortScheduler { files: &files, cases: 7, memory_limit: Some(LIMIT) };
    let (processor, completion) = scheduler.run(|| Ok(Doubling::new(&files))).unwrap();
    assert_eq!(completion, Completion::Complete);
    let failed: Vec<_> = processor.delivered.iter().filter_map(|(_, result)| result.clone().err()).collect();
    assert_eq!(failed, ["case 3 needs 120 of 100"]);
    assert_eq!(processor.delivered.len(), 7);
    let max = files.max_held.load(Ordering::SeqCst);
    assert!(max <= LIMIT, "{max} bytes were held");
}
