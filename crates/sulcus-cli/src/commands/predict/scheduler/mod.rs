//! Runs the cases of a cohort through three stages at the same time: while one case is processed, the next one is read and the
//! one before is written.
//!
//! Reading and writing have a thread each, processing stays on the calling thread. At most one case is read ahead and at most
//! one waits to be written, so that memory does not grow with the cohort. Under a memory limit, a case is read ahead only if it
//! fits beside the others. Results are delivered in the order of the cases.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// A case as it was read.
pub(super) enum ReadCase<Input, Report> {
    /// It needs processing.
    Input(Input),
    /// An earlier run has finished it.
    Finished(Report),
}

/// What the reader gives for a case.
type ReadResult<Files> =
    Result<ReadCase<<Files as CaseFiles>::Input, <Files as CaseFiles>::Report>, <Files as CaseFiles>::Error>;

/// What is delivered for a case.
type CaseResult<Files> = Result<<Files as CaseFiles>::Report, <Files as CaseFiles>::Error>;

/// Reads and writes cases, each on a thread of its own.
pub(super) trait CaseFiles: Sync {
    /// What is read.
    type Input: Send;
    /// What is written.
    type Output: Send;
    /// What is reported about a finished case.
    type Report: Send;
    /// Why a case failed. The other cases are processed nevertheless.
    type Error: Send;

    fn read(&self, case: usize) -> Result<ReadCase<Self::Input, Self::Report>, Self::Error>;

    fn write(&self, case: usize, output: Self::Output) -> Result<Self::Report, Self::Error>;

    /// Memory that a case takes when it is read, in bytes.
    fn read_bytes(&self, case: usize) -> u64;
}

/// Processes cases and receives their results, on the calling thread.
pub(super) trait CaseProcessor<Files: CaseFiles> {
    /// Why the whole cohort stops.
    type Stop;

    /// Processes a case; `memory` is the memory limit for it, in bytes.
    fn process(
        &mut self,
        case: usize,
        input: Files::Input,
        memory: Option<u64>,
    ) -> Result<Files::Output, Files::Error>;

    /// Receives the result of each case, in the order of the cases. An error stops the cohort.
    fn deliver(&mut self, case: usize, result: CaseResult<Files>) -> Result<(), Self::Stop>;

    /// Whether the user has asked to stop.
    fn is_cancelled(&self) -> bool;

    /// Memory that is in use without any case, in bytes.
    fn idle_bytes(&self) -> u64;

    /// Minimum memory to process a case, in bytes, if it is known.
    fn min_bytes(&self, input: &Files::Input) -> Option<u64>;

    /// Memory that an output takes while it is written, in bytes.
    fn output_bytes(&self, output: &Files::Output) -> u64;

    /// The error of a case that needs more memory than the limit only to be read.
    fn over_limit(&self, case: usize, limit: u64, needed: u64) -> Files::Error;
}

/// How a cohort ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completion {
    /// Every case has a result.
    Complete,
    /// The user stopped it before the last case.
    Cancelled,
}

/// The cases of a cohort and the memory that they may take.
pub(super) struct CohortScheduler<'a, Files> {
    pub(super) files: &'a Files,
    /// Number of cases.
    pub(super) cases: usize,
    /// Memory limit of the process, in bytes.
    pub(super) memory_limit: Option<u64>,
}

impl<Files: CaseFiles> CohortScheduler<'_, Files> {
    /// Runs all cases. `start` makes the processor; without a memory limit the first case is read meanwhile.
    ///
    /// # Errors
    /// When `start` fails, or the processor stops the cohort.
    ///
    /// # Panics
    /// When reading or writing panics, with the same payload.
    pub(super) fn run<Processor: CaseProcessor<Files>>(
        &self,
        start: impl FnOnce() -> Result<Processor, Processor::Stop>,
    ) -> Result<(Processor, Completion), Processor::Stop> {
        thread::scope(|scope| {
            let files = self.files;
            let (to_read, cases_to_read) = channel::<usize>();
            let (send_read, read) = channel();
            let (to_write, outputs_to_write) = sync_channel::<(usize, Files::Output)>(0);
            let (send_written, written) = channel();
            let reader = scope.spawn(move || {
                cases_to_read.into_iter().try_for_each(|case| send_read.send(files.read(case)).ok());
            });
            let writer = scope.spawn(move || {
                let write = |(case, output)| send_written.send((case, files.write(case, output))).ok();
                outputs_to_write.into_iter().try_for_each(write);
            });
            // The queues are dropped before the threads are joined, which ends the threads.
            let ended = self.run_stages(start, Queues { to_read, read, to_write, written });
            let joined = reader.join().and_then(|()| writer.join());
            match (ended, joined) {
                (_, Err(panic)) => std::panic::resume_unwind(panic),
                (Ok(ended), Ok(())) => Ok(ended),
                (Err(Halt::Stop(stop)), Ok(())) => Err(stop),
                (Err(Halt::ThreadEnded), Ok(())) => std::panic::resume_unwind(Box::new("a stage ended early")),
            }
        })
    }

    fn run_stages<Processor: CaseProcessor<Files>>(
        &self,
        start: impl FnOnce() -> Result<Processor, Processor::Stop>,
        queues: Queues<Files>,
    ) -> Result<(Processor, Completion), Halt<Processor::Stop>> {
        let mut requested = 0;
        // Under a limit, the memory of the process is measured while nothing but the processor is loaded.
        if self.memory_limit.is_none() && self.cases > 0 {
            queues.to_read.send(0).map_err(|_| Halt::ThreadEnded)?;
            requested = 1;
        }
        let processor = start().map_err(Halt::Stop)?;
        let mut stages = Stages {
            scheduler: self,
            processor,
            queues,
            requested,
            writing: 0,
            writing_bytes: 0,
            results: BTreeMap::new(),
            next: 0,
        };
        let completion = stages.run()?;
        Ok((stages.processor, completion))
    }
}

/// Why a run ended early.
enum Halt<Stop> {
    /// The processor stopped it.
    Stop(Stop),
    /// Reading or writing panicked.
    ThreadEnded,
}

/// The calling thread's ends of the queues.
struct Queues<Files: CaseFiles> {
    to_read: Sender<usize>,
    read: Receiver<ReadResult<Files>>,
    /// Without capacity: sending waits until the writer has finished the output before.
    to_write: SyncSender<(usize, Files::Output)>,
    written: Receiver<(usize, CaseResult<Files>)>,
}

/// The state of a run.
struct Stages<'a, Files: CaseFiles, Processor> {
    scheduler: &'a CohortScheduler<'a, Files>,
    processor: Processor,
    queues: Queues<Files>,
    /// Number of cases that were requested from the reader.
    requested: usize,
    /// Number of cases that are being written, and the memory they take.
    writing: usize,
    writing_bytes: u64,
    /// Results that are not delivered yet.
    results: BTreeMap<usize, CaseResult<Files>>,
    /// The case that is delivered next.
    next: usize,
}

impl<Files: CaseFiles, Processor: CaseProcessor<Files>> Stages<'_, Files, Processor> {
    fn run(&mut self) -> Result<Completion, Halt<Processor::Stop>> {
        let mut completion = Completion::Complete;
        for case in 0..self.scheduler.cases {
            if self.processor.is_cancelled() || !self.run_case(case)? {
                completion = Completion::Cancelled;
                break;
            }
            while let Ok((case, result)) = self.queues.written.try_recv() {
                self.record_written(case, result);
            }
            self.deliver()?;
        }
        while self.writing > 0 {
            self.wait_for_write()?;
            self.deliver()?;
        }
        Ok(completion)
    }

    /// Whether the case has a result, or will have when it is written; false if it was cancelled.
    fn run_case(&mut self, case: usize) -> Result<bool, Halt<Processor::Stop>> {
        match self.fetch(case)? {
            Ok(ReadCase::Input(input)) => {
                let min_bytes = self.scheduler.memory_limit.and_then(|_| self.processor.min_bytes(&input));
                let memory = self.request_next(case, min_bytes)?;
                match self.processor.process(case, input, memory) {
                    Ok(output) => self.hand_over(case, output)?,
                    Err(_) if self.processor.is_cancelled() => return Ok(false),
                    Err(error) => _ = self.results.insert(case, Err(error)),
                }
            }
            Ok(ReadCase::Finished(report)) => {
                self.request_next(case, None)?;
                self.results.insert(case, Ok(report));
            }
            Err(error) => {
                self.request_next(case, None)?;
                self.results.insert(case, Err(error));
            }
        }
        Ok(true)
    }

    /// The case as it was read; requests it if that has not happened yet.
    fn fetch(&mut self, case: usize) -> Result<ReadResult<Files>, Halt<Processor::Stop>> {
        if self.requested == case {
            if let Some(limit) = self.scheduler.memory_limit {
                self.wait_for_writes()?;
                let needed = self.processor.idle_bytes() + self.scheduler.files.read_bytes(case);
                if needed > limit {
                    self.requested += 1;
                    return Ok(Err(self.processor.over_limit(case, limit, needed)));
                }
            }
            self.request()?;
        }
        self.queues.read.recv().map_err(|_| Halt::ThreadEnded)
    }

    /// Requests the case after this one, if the memory limit permits. Returns the memory limit for this case.
    fn request_next(&mut self, case: usize, min_bytes: Option<u64>) -> Result<Option<u64>, Halt<Processor::Stop>> {
        let is_due = self.requested == case + 1 && self.requested < self.scheduler.cases;
        let Some(limit) = self.scheduler.memory_limit else {
            if is_due {
                self.request()?;
            }
            return Ok(None);
        };
        let next_bytes = if is_due { self.scheduler.files.read_bytes(case + 1) } else { 0 };
        let left = limit.checked_sub(next_bytes.saturating_add(self.writing_bytes));
        match left.filter(|left| min_bytes.is_some_and(|min| min <= *left)) {
            Some(left) => {
                if is_due {
                    self.request()?;
                }
                Ok(Some(left))
            }
            None => {
                self.wait_for_writes()?;
                Ok(Some(limit))
            }
        }
    }

    fn request(&mut self) -> Result<(), Halt<Processor::Stop>> {
        self.queues.to_read.send(self.requested).map_err(|_| Halt::ThreadEnded)?;
        self.requested += 1;
        Ok(())
    }

    fn hand_over(&mut self, case: usize, output: Files::Output) -> Result<(), Halt<Processor::Stop>> {
        self.writing_bytes += self.processor.output_bytes(&output);
        self.writing += 1;
        self.queues.to_write.send((case, output)).map_err(|_| Halt::ThreadEnded)
    }

    fn wait_for_writes(&mut self) -> Result<(), Halt<Processor::Stop>> {
        while self.writing > 0 {
            self.wait_for_write()?;
        }
        Ok(())
    }

    fn wait_for_write(&mut self) -> Result<(), Halt<Processor::Stop>> {
        let (case, result) = self.queues.written.recv().map_err(|_| Halt::ThreadEnded)?;
        self.record_written(case, result);
        Ok(())
    }

    fn record_written(&mut self, case: usize, result: CaseResult<Files>) {
        self.writing = self.writing.saturating_sub(1);
        if self.writing == 0 {
            self.writing_bytes = 0;
        }
        self.results.insert(case, result);
    }

    /// Delivers the results up to the first case without one.
    fn deliver(&mut self) -> Result<(), Halt<Processor::Stop>> {
        while let Some(result) = self.results.remove(&self.next) {
            self.processor.deliver(self.next, result).map_err(Halt::Stop)?;
            self.next += 1;
        }
        Ok(())
    }
}
