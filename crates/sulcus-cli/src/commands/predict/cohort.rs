//! The cases of one `predict`: how each is read, segmented, written and reported.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use sulcus_io::VolumeMetadata;
use sulcus_model::ModelSpec;
use sulcus_pipeline::{
    EngineMemory, InferenceSettings, Outputs, PipelineError, PlannedModel, Progress, Resampling, ScanOwnership,
    check_memory,
};
use sulcus_runtime::{LabelVolume, SegmentOptions, Segmentation, Segmenter, machine_memory_bytes};
use sulcus_volume::Image;

use super::job::Job;
use super::line::{FailureLine, Line};
use super::reading::{Announced, read_channels};
use super::record::Records;
use super::scheduler::{CaseFiles, CaseProcessor, CohortScheduler, Completion, ReadCase};
use crate::args::PredictArgs;
use crate::commands::segmenter;
use crate::error::{CaseError, CliError};
use crate::input::cases::BadInput;
use crate::input::scans;
use crate::interrupt::Interrupt;
use crate::output::{self, Ui, count, human_secs, printable};

/// The cases to predict, and how.
pub(super) struct Cohort<'a> {
    pub(super) args: &'a PredictArgs,
    pub(super) jobs: &'a [Job],
    pub(super) bad: &'a [BadInput],
    /// The specification of the first model.
    pub(super) spec: &'a ModelSpec,
    /// Records of finished cases, with `--resume`.
    pub(super) records: Option<&'a Records<'a>>,
    pub(super) ui: Ui,
}

/// A scan that was read.
pub(super) struct LoadedScan {
    image: Image,
    source: VolumeMetadata,
    /// What the DICOM reader decided.
    notes: Vec<String>,
    read_secs: f64,
}

/// A mask that is to be written.
pub(super) struct SegmentedScan {
    segmentation: Segmentation,
    source: VolumeMetadata,
    notes: Vec<String>,
    read_secs: f64,
    segment_secs: f64,
}

/// A case without failure.
pub(super) enum CaseReport {
    Written(Box<Line>),
    /// Finished by an earlier run, with its line of JSON.
    FinishedBefore(Value),
}

impl Cohort<'_> {
    /// Reads, segments and writes every case, and reports the results in the order of the cases. `load` loads the models while
    /// the first case is read.
    ///
    /// # Errors
    /// When the models cannot be loaded, a case failed (the others are done nevertheless), the disk is full, or the user
    /// stopped the command.
    pub(super) fn run(&self, load: impl FnOnce() -> Result<Segmenter, CliError>) -> Result<(), CliError> {
        let interrupt = Interrupt::listen()?;
        let scheduler =
            CohortScheduler { files: self, cases: self.jobs.len(), memory_limit: self.args.max_memory };
        let (prediction, completion) = scheduler.run(|| {
            let mut prediction = Prediction::new(self, load()?, &interrupt);
            prediction.report_bad_inputs()?;
            Ok(prediction)
        })?;
        prediction.finish(completion)
    }

    fn job(&self, case: usize) -> Result<&Job, CaseError> {
        self.jobs.get(case).ok_or_else(|| CaseError::new(format_args!("there is no case number {case}")))
    }

    fn outputs(&self) -> Outputs {
        if self.args.probabilities { Outputs::LabelsAndProbabilities } else { Outputs::Labels }
    }

    /// Refuses a case whose headers announce more than memory can hold, before its voxels are read. The first case is read while the
    /// models are loaded, so what the engine needs is not known yet; the segmenter checks that.
    fn check_memory(&self, job: &Job) -> Result<(), CaseError> {
        let mut settings = InferenceSettings::default();
        settings.memory_limit = self.args.max_memory.or_else(machine_memory_bytes);
        settings.outputs = self.outputs();
        settings.scan = ScanOwnership::Owned;
        settings.engine_memory = EngineMemory::Device;
        settings.numerics = self.args.compute.numerics();
        let Announced { read_bytes, geometry } = job.announced(self.args.series.as_deref());
        let checked = check_memory(&[PlannedModel::new(self.spec)], geometry.as_ref(), read_bytes, &settings);
        checked.map_err(|error| CaseError::caused_by(&error).at(job.input()))
    }
}

impl CaseFiles for Cohort<'_> {
    type Input = LoadedScan;
    type Output = SegmentedScan;
    type Report = CaseReport;
    type Error = CaseError;

    fn read(&self, case: usize) -> Result<ReadCase<LoadedScan, CaseReport>, CaseError> {
        let job = self.job(case)?;
        if let Some(line) = self.records.and_then(|records| records.finished(job)) {
            return Ok(ReadCase::Finished(CaseReport::FinishedBefore(line)));
        }
        self.check_memory(job)?;
        let start = Instant::now();
        let mut notes = Vec::new();
        let (image, source) = read_channels(&job.case.files, self.spec.channels.len(), &mut |path| {
            let (scan, of_reader) = scans::read_scan(path, self.args.series.as_deref(), self.ui)?;
            notes.extend(of_reader);
            Ok(scan)
        })?;
        Ok(ReadCase::Input(LoadedScan { image, source, notes, read_secs: start.elapsed().as_secs_f64() }))
    }

    fn write(&self, case: usize, segmented: SegmentedScan) -> Result<CaseReport, CaseError> {
        let job = self.job(case)?;
        let SegmentedScan { segmentation, source, notes, read_secs, segment_secs } = segmented;
        let start = Instant::now();
        let origin = scans::MaskOrigin { models: &self.args.models, keep_patient: self.args.keep_patient };
        scans::write_mask(&job.mask, &segmentation.labels, &source, &segmentation.table, &origin)?;
        if let (Some(path), Some(probabilities)) = (&job.probabilities, &segmentation.probabilities) {
            sulcus_io::write_image(path, probabilities, &source).map_err(|error| CaseError::caused_by(&error))?;
        }
        let write_secs = start.elapsed().as_secs_f64();
        let mut report = segmentation.report();
        report.seconds.read = read_secs;
        report.seconds.write = write_secs;
        report.seconds.total = read_secs + segment_secs + write_secs;
        let line = Line {
            input: job.input().display().to_string(),
            output: job.mask.display().to_string(),
            models: segmenter::paths(&self.args.models),
            notes,
            report,
        };
        if let Some(Err(CliError::Failed { message, .. })) = self.records.map(|records| records.keep(job, &line)) {
            // The mask is written. Without a record, the next `--resume` predicts the case again.
            self.ui.warn(format_args!("the case could not be recorded as finished: {message}"));
        }
        Ok(CaseReport::Written(Box::new(line)))
    }

    fn read_bytes(&self, case: usize) -> u64 {
        self.jobs.get(case).map_or(0, |job| job.announced(self.args.series.as_deref()).read_bytes)
    }
}

/// Segments the cases and reports their results.
struct Prediction<'a> {
    cohort: &'a Cohort<'a>,
    segmenter: Segmenter,
    interrupt: &'a Interrupt,
    started: Instant,
    written: usize,
    finished_before: usize,
    failed: usize,
    /// Hints that were printed: each is printed once, not once per case.
    hints: BTreeSet<String>,
}

impl<'a> Prediction<'a> {
    fn new(cohort: &'a Cohort<'a>, segmenter: Segmenter, interrupt: &'a Interrupt) -> Self {
        Self {
            cohort,
            segmenter,
            interrupt,
            started: Instant::now(),
            written: 0,
            finished_before: 0,
            failed: 0,
            hints: BTreeSet::new(),
        }
    }

    fn report_bad_inputs(&mut self) -> Result<(), CliError> {
        for BadInput { path, error } in self.cohort.bad {
            self.report_failure(path, &CaseError::new(error).at(path))?;
        }
        Ok(())
    }

    fn report_failure(&mut self, input: &Path, error: &CaseError) -> Result<(), CliError> {
        let Cohort { args, ui, .. } = *self.cohort;
        self.failed += 1;
        if args.json {
            output::json(&FailureLine {
                input: input.display().to_string(),
                error: &error.message,
                warnings: &error.warnings,
            })?;
        }
        ui.error(&error.message);
        if let Some(hint) = &error.hint
            && self.hints.insert(hint.clone())
        {
            ui.hint(hint);
        }
        Ok(())
    }

    fn report_success(&mut self, job: &Job, report: &CaseReport) -> Result<(), CliError> {
        let Cohort { args, ui, .. } = *self.cohort;
        match report {
            CaseReport::Written(line) => {
                self.written += 1;
                if args.json {
                    output::json(line)?;
                }
                let report = &line.report;
                let volumes: Vec<String> = report.labels.iter().map(amount).collect();
                let secs = human_secs(report.seconds.total);
                ui.note(format_args!("{}  {}  in {secs}", line.output, volumes.join(", ")));
            }
            CaseReport::FinishedBefore(line) => {
                self.finished_before += 1;
                if args.json {
                    output::json(line)?;
                }
                let warnings = line.get("warnings").and_then(Value::as_array).into_iter().flatten();
                for message in warnings.filter_map(|warning| warning.get("message")?.as_str()) {
                    ui.warn(format_args!("{message}: {}", job.input().display()));
                }
                ui.note(format_args!("{}  done before", job.mask.display()));
            }
        }
        Ok(())
    }

    fn finish(self, completion: Completion) -> Result<(), CliError> {
        let Self { cohort: Cohort { jobs, bad, ui, .. }, written, finished_before, failed, .. } = self;
        let total = jobs.len() + bad.len();
        if completion == Completion::Cancelled {
            return Err(CliError::Stopped {
                message: format!("stopped: {} of {} are done", written + finished_before, count(total, "case")),
                hint: "with `--resume` in the first and every later run, the same command continues with the other cases"
                    .into(),
            });
        }
        if total > 1 {
            let before =
                if finished_before > 0 { format!(", {finished_before} done before") } else { String::new() };
            let secs = human_secs(self.started.elapsed().as_secs_f64());
            ui.note(format_args!("{}: {written} done{before}, {failed} failed, in {secs}", count(total, "case")));
        }
        if failed == 0 { Ok(()) } else { Err(CliError::SomeFailed { failed, total, what: "case" }) }
    }
}

impl CaseProcessor<Cohort<'_>> for Prediction<'_> {
    type Stop = CliError;

    fn process(
        &mut self,
        case: usize,
        input: LoadedScan,
        memory: Option<u64>,
    ) -> Result<SegmentedScan, CaseError> {
        let Cohort { args, ui, .. } = *self.cohort;
        let job = self.cohort.job(case)?;
        let LoadedScan { image, source, notes, read_secs } = input;
        let start = Instant::now();
        let bar = ui.bar(1);
        bar.set_message(printable(&job.case.name).into_owned());
        let mut observer = |progress: Progress| {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
            if self.interrupt.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut options = SegmentOptions::default().with_observer(&mut observer);
        if args.probabilities {
            options = options.with_probabilities();
        }
        if let Some(limit) = memory {
            options = options.with_max_memory(limit);
        }
        let segmentation = self.segmenter.segment_owned(image, options);
        bar.finish_and_clear();
        let segmentation = segmentation.map_err(|error| CaseError::caused_by(&error).at(job.input()))?;
        for warning in &segmentation.warnings {
            ui.warn(format_args!("{warning}: {}", job.input().display()));
        }
        Ok(SegmentedScan { segmentation, source, notes, read_secs, segment_secs: start.elapsed().as_secs_f64() })
    }

    fn deliver(&mut self, case: usize, result: Result<CaseReport, CaseError>) -> Result<(), CliError> {
        let job = self.cohort.job(case)?;
        let error = match result {
            Ok(report) => return self.report_success(job, &report),
            Err(error) => error,
        };
        self.report_failure(job.input(), &error)?;
        if error.is_disk_full() {
            let total = self.cohort.jobs.len() + self.cohort.bad.len();
            return Err(CliError::failed(format_args!(
                "the disk is full: stopped with {} of {} done: {}",
                self.written + self.finished_before,
                count(total, "case"),
                self.cohort.args.output.display()
            ))
            .hint("make space, or choose another disk with -o"));
        }
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.interrupt.asked()
    }

    fn idle_bytes(&self) -> u64 {
        self.segmenter.loaded_memory_bytes()
    }

    fn min_bytes(&self, input: &LoadedScan) -> Option<u64> {
        self.segmenter.min_memory_bytes(input.image.geometry(), self.cohort.outputs()).ok()
    }

    fn output_bytes(&self, output: &SegmentedScan) -> u64 {
        let voxels = output.segmentation.labels.data().len() as u64;
        let probabilities = output.segmentation.probabilities.as_ref().map_or(0, |p| p.data().len() as u64);
        // The values, and the bytes of the file before and after compression.
        4 * voxels + 12 * probabilities
    }

    fn over_limit(&self, case: usize, limit: u64, needed: u64) -> CaseError {
        let failed = |resampling: Option<Resampling>| {
            let resampling = resampling.map(Box::new);
            CaseError::caused_by(&PipelineError::MemoryLimit { limit, required: needed, resampling })
        };
        let Ok(job) = self.cohort.job(case) else { return failed(None) };
        let geometry = job.announced(self.cohort.args.series.as_deref()).geometry;
        let of_scan = |geometry| Resampling::enlarging([self.cohort.spec], &geometry);
        failed(geometry.and_then(of_scan)).at(job.input())
    }
}

/// The size of a structure, such as `Vessel 2.31 ml`.
fn amount(label: &LabelVolume) -> String {
    match (label.ml, label.mm2) {
        (Some(ml), _) => format!("{} {ml:.2} ml", label.name),
        (None, Some(mm2)) => format!("{} {mm2:.2} mm²", label.name),
        (None, None) => format!("{} {}", label.name, count(label.voxels, "pixel")),
    }
}
