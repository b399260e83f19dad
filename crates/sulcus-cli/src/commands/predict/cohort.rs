//! Cases on their way: while one is in the engine the next is read and the last is written.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Instant;

use serde_json::Value;
use sulcus_io::Source;
use sulcus_pipeline::{Outputs, PipelineError, Progress};
use sulcus_runtime::{SegmentOptions, Segmentation, Segmenter};
use sulcus_volume::{Image, OrientationSource};

use super::Job;
use super::line::{FailureLine, Line, Seconds};
use super::reading::{bytes_to_read, read_channels};
use super::record::Records;
use crate::args::PredictArgs;
use crate::cases::BadInput;
use crate::error::{CliError, with_causes};
use crate::interrupt::Interrupt;
use crate::ui::{Ui, count, human_secs};
use crate::{computing, output, scans};

/// What is to be done, and how.
pub(super) struct Cohort<'a> {
    pub(super) args: &'a PredictArgs,
    pub(super) jobs: &'a [Job],
    pub(super) bad: &'a [BadInput],
    pub(super) channels: usize,
    /// Of what is done, where the user wants to go on with it.
    pub(super) records: Option<&'a Records<'a>>,
    pub(super) ui: Ui,
}

/// A scan, or what is known of a case that is done already.
enum Read {
    Scan { image: Image, source: Box<Source>, secs: f64 },
    Done(Value),
}

/// A mask on its way to the disk.
struct Segmented {
    found: Segmentation,
    source: Source,
    read_secs: f64,
    segment_secs: f64,
}

/// What came of a case.
enum Outcome {
    Written(Box<Line>),
    DoneBefore(Value),
    Failed(String),
}

/// The threads' ends that the engine's thread holds.
struct Lines {
    to_read: Sender<usize>,
    read: Receiver<Result<Read, String>>,
    to_write: SyncSender<(usize, Segmented)>,
    written: Receiver<(usize, Result<Line, String>)>,
}

impl Cohort<'_> {
    /// Reads, segments and writes every case, and says what came of each in their order. `load` gets the engine ready,
    /// while the first case is read.
    ///
    /// # Errors
    /// When the engine can't be had, a case failed (the others are done all the same), or the user asked to stop.
    pub(super) fn run(&self, load: impl FnOnce() -> Result<Segmenter, CliError>) -> Result<(), CliError> {
        let interrupt = Interrupt::listen()?;
        std::thread::scope(|scope| {
            let (to_read, reads) = channel::<usize>();
            let (read_done, read) = channel();
            let (to_write, writes) = sync_channel::<(usize, Segmented)>(0);
            let (write_done, written) = channel();
            scope.spawn(move || {
                for job in reads.iter().filter_map(|index| self.jobs.get(index)) {
                    if read_done.send(self.read(job)).is_err() {
                        return;
                    }
                }
            });
            scope.spawn(move || {
                for (index, segmented) in writes {
                    let Some(job) = self.jobs.get(index) else { return };
                    if write_done.send((index, self.write(job, segmented))).is_err() {
                        return;
                    }
                }
            });
            let lines = Lines { to_read, read, to_write, written };
            // The engine's own memory is measured when it is loaded, so that nothing else may come in between.
            let reads_ahead = self.args.max_memory.is_none() && !self.jobs.is_empty();
            if reads_ahead {
                let _ = lines.to_read.send(0);
            }
            let segmenter = load()?;
            Progressing {
                cohort: self,
                segmenter,
                lines,
                interrupt,
                asked: usize::from(reads_ahead),
                writing: 0,
                bytes_writing: 0,
                report: Report::default(),
            }
            .go()
        })
    }

    fn read(&self, job: &Job) -> Result<Read, String> {
        if let Some(line) = self.records.and_then(|records| records.done(job)) {
            return Ok(Read::Done(line));
        }
        let start = Instant::now();
        let (image, source) = read_channels(&job.case.files, self.channels, &mut |path| {
            scans::read_telling(path, self.args.series.as_deref(), self.ui)
        })?;
        Ok(Read::Scan { image, source: Box::new(source), secs: start.elapsed().as_secs_f64() })
    }

    fn write(&self, job: &Job, segmented: Segmented) -> Result<Line, String> {
        let Segmented { found, source, read_secs, segment_secs } = segmented;
        let writing = Instant::now();
        let making = scans::Making { models: &self.args.models, keep_patient: self.args.keep_patient };
        scans::write_mask(&job.mask, &found.labels, &source, &found.table, &making)?;
        if let (Some(path), Some(probabilities)) = (&job.probabilities, &found.probabilities) {
            sulcus_io::write_image(path, probabilities, &source).map_err(|e| with_causes(&e))?;
        }
        let write = writing.elapsed().as_secs_f64();
        let line = Line {
            input: job.input().display().to_string(),
            output: job.mask.display().to_string(),
            models: computing::names(&self.args.models),
            engine: found.engine.to_string(),
            device: found.device.to_string(),
            precision: found.precision.clone(),
            seconds: Seconds {
                read: read_secs,
                preprocess: found.seconds.preprocess,
                infer: found.seconds.infer,
                engine: found.seconds.engine,
                postprocess: found.seconds.postprocess,
                write,
                total: read_secs + segment_secs + write,
            },
            tiles: found.tiles,
            peak_memory_bytes: found.peak_memory_bytes,
            labels: found.label_volumes(),
        };
        if let Some(Err(error)) = self.records.map(|records| records.keep(job, &line)) {
            // The mask is there: only skipping it the next time is not possible.
            self.ui.warn(format_args!("could not note that the case is done: {error:?}"));
        }
        Ok(line)
    }
}

/// The engine's thread, which also says what came of each case.
struct Progressing<'a> {
    cohort: &'a Cohort<'a>,
    segmenter: Segmenter,
    lines: Lines,
    interrupt: Interrupt,
    /// Cases that were asked to be read.
    asked: usize,
    /// Cases that are being written, and the memory they take.
    writing: usize,
    bytes_writing: u64,
    report: Report,
}

/// Outcomes, told in the order of the cases.
#[derive(Default)]
struct Report {
    waiting: BTreeMap<usize, Outcome>,
    next: usize,
    done: usize,
    before: usize,
    failed: usize,
}

impl Progressing<'_> {
    fn go(mut self) -> Result<(), CliError> {
        let Cohort { args, jobs, bad, ui, .. } = *self.cohort;
        let start = Instant::now();
        for BadInput { path, error } in bad {
            self.report.failed += 1;
            tell_failure(args, ui, path, &format!("{error}: {}", path.display()))?;
        }
        for (index, job) in jobs.iter().enumerate() {
            if self.interrupt.asked() {
                break;
            }
            let outcome = match self.fetch(index, job) {
                Ok(Read::Done(line)) => {
                    self.ask_next(index, None)?;
                    Outcome::DoneBefore(line)
                }
                Ok(Read::Scan { image, source, secs }) => match self.segment(index, job, image) {
                    Ok(found) => {
                        self.hand_over(index, found, *source, secs)?;
                        self.tell(false)?;
                        continue;
                    }
                    Err(_) if self.interrupt.asked() => break,
                    Err(error) => Outcome::Failed(error),
                },
                Err(error) => {
                    self.ask_next(index, None)?;
                    Outcome::Failed(error)
                }
            };
            self.report.waiting.insert(index, outcome);
            self.tell(false)?;
        }
        while self.writing > 0 {
            self.tell(true)?;
        }
        self.tell(false)?;
        let Report { done, before, failed, .. } = self.report;
        let total = jobs.len() + bad.len();
        if self.interrupt.asked() && done + before + failed < total {
            return Err(CliError::Stopped {
                message: format!("stopped: {} of {} are done", done + before, count(total, "case")),
                hint: "with --resume from the start, the same command goes on with the others".into(),
            });
        }
        if total > 1 {
            let earlier = if before > 0 { format!(", {before} done before") } else { String::new() };
            let secs = human_secs(start.elapsed().as_secs_f64());
            ui.note(format_args!("{}: {done} done{earlier}, {failed} failed, in {secs}", count(total, "case")));
        }
        if failed == 0 { Ok(()) } else { Err(CliError::SomeFailed { failed, total, what: "case" }) }
    }

    /// The case as it was read.
    fn fetch(&mut self, index: usize, job: &Job) -> Result<Read, String> {
        if self.asked == index {
            if let Some(limit) = self.cohort.args.max_memory {
                // Alone: nothing else is held while it is read.
                while self.writing > 0 {
                    self.receive(true);
                }
                let least = self.segmenter.loaded_memory_bytes() + bytes_to_read(&job.case.files);
                if least > limit {
                    self.asked += 1;
                    let error = PipelineError::MemoryLimit { limit, required: least };
                    return Err(format!("{error}: {}", job.input().display()));
                }
            }
            self.asked += 1;
            self.lines.to_read.send(index).map_err(|_| thread_ended())?;
        }
        self.lines.read.recv().map_err(|_| thread_ended())?
    }

    /// Has the next case read, where memory allows it beside one whose least need is given. The limit that stays for that one.
    fn ask_next(&mut self, index: usize, need: Option<u64>) -> Result<Option<u64>, CliError> {
        let limit = self.cohort.args.max_memory;
        let Some(next) = self.cohort.jobs.get(index + 1).filter(|_| self.asked == index + 1) else {
            return Ok(limit.map(|limit| limit.saturating_sub(self.bytes_writing)));
        };
        if let Some(limit) = limit {
            let beside = bytes_to_read(&next.case.files) + self.bytes_writing;
            let Some(left) = limit.checked_sub(beside).filter(|left| need.is_some_and(|need| need <= *left))
            else {
                while self.writing > 0 {
                    self.receive(true);
                }
                return Ok(Some(limit));
            };
            self.asked += 1;
            return self
                .lines
                .to_read
                .send(index + 1)
                .map(|()| Some(left))
                .map_err(|_| CliError::failed(thread_ended()));
        }
        self.asked += 1;
        self.lines.to_read.send(index + 1).map(|()| None).map_err(|_| CliError::failed(thread_ended()))
    }

    fn segment(&mut self, index: usize, job: &Job, image: Image) -> Result<(Segmentation, f64), String> {
        let Cohort { args, ui, .. } = *self.cohort;
        let outputs = if args.probabilities { Outputs::LabelsAndProbabilities } else { Outputs::Labels };
        let named = |error: &dyn std::error::Error| format!("{}: {}", with_causes(error), job.input().display());
        let need = match args.max_memory {
            Some(_) => self.segmenter.min_memory_bytes(image.geometry(), outputs).ok(),
            None => None,
        };
        let limit = self.ask_next(index, need).map_err(|_| thread_ended())?;
        if image.geometry().source() == OrientationSource::None {
            ui.warn(format_args!(
                "the file does not say how the patient lies (neither sform nor qform): left and right are unknown, \
                 and the mask may be wrong: {}",
                job.input().display()
            ));
        }
        let start = Instant::now();
        let bar = ui.bar(1);
        bar.set_message(job.case.name.clone());
        let mut observer = |progress: Progress| {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
            if self.interrupt.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut options = SegmentOptions::default().with_observer(&mut observer);
        if outputs == Outputs::LabelsAndProbabilities {
            options = options.with_probabilities();
        }
        if let Some(limit) = limit {
            options = options.with_max_memory(limit);
        }
        let found = self.segmenter.segment_owned(image, options);
        bar.finish_and_clear();
        found.map(|found| (found, start.elapsed().as_secs_f64())).map_err(|error| named(&error))
    }

    fn hand_over(
        &mut self,
        index: usize,
        found: (Segmentation, f64),
        source: Source,
        read_secs: f64,
    ) -> Result<(), CliError> {
        let (found, segment_secs) = found;
        let voxels = found.labels.data().len() as u64;
        let probabilities = found.probabilities.as_ref().map_or(0, |p| p.data().len() as u64);
        // The numbers, and a file's bytes before and after compression.
        self.bytes_writing += 4 * voxels + 12 * probabilities;
        self.writing += 1;
        let segmented = Segmented { found, source, read_secs, segment_secs };
        self.lines.to_write.send((index, segmented)).map_err(|_| CliError::failed(thread_ended()))
    }

    /// What the writing thread has done since, or, when waiting, does next.
    fn receive(&mut self, wait: bool) {
        let next = |lines: &Lines| if wait { lines.written.recv().ok() } else { lines.written.try_recv().ok() };
        while let Some((index, written)) = next(&self.lines) {
            self.writing = self.writing.saturating_sub(1);
            if self.writing == 0 {
                self.bytes_writing = 0;
            }
            let outcome = match written {
                Ok(line) => Outcome::Written(Box::new(line)),
                Err(error) => Outcome::Failed(error),
            };
            self.report.waiting.insert(index, outcome);
            if wait {
                return;
            }
        }
    }

    /// Tells what came of the cases up to the first one that is not over.
    fn tell(&mut self, wait: bool) -> Result<(), CliError> {
        self.receive(wait);
        let Cohort { args, jobs, ui, .. } = *self.cohort;
        let report = &mut self.report;
        while let Some(outcome) = report.waiting.remove(&report.next) {
            let Some(job) = jobs.get(report.next) else { break };
            report.next += 1;
            match outcome {
                Outcome::Written(line) => {
                    report.done += 1;
                    tell_success(args, ui, &line)?;
                }
                Outcome::DoneBefore(line) => {
                    report.before += 1;
                    if args.json {
                        output::json(&line)?;
                    }
                    ui.note(format_args!("{}  done before", job.mask.display()));
                }
                Outcome::Failed(error) => {
                    report.failed += 1;
                    tell_failure(args, ui, job.input(), &error)?;
                }
            }
        }
        Ok(())
    }
}

/// A thread that ended before its time has panicked, which comes out where it is joined.
fn thread_ended() -> String {
    "a thread of this program has stopped".into()
}

fn tell_success(args: &PredictArgs, ui: Ui, line: &Line) -> Result<(), CliError> {
    if args.json {
        output::json(line)?;
    }
    let amounts: Vec<String> = line.labels.iter().map(|l| format!("{} {:.2} ml", l.name, l.ml)).collect();
    ui.note(format_args!("{}  {}  in {}", line.output, amounts.join(", "), human_secs(line.seconds.total)));
    Ok(())
}

fn tell_failure(args: &PredictArgs, ui: Ui, input: &Path, error: &str) -> Result<(), CliError> {
    if args.json {
        output::json(&FailureLine { input: input.display().to_string(), error })?;
    }
    ui.error(error);
    Ok(())
}
