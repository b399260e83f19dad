//! The progress of a training on standard error.

use std::fmt::Display;

use indicatif::ProgressBar;
use sulcus_dataset::PatientNote;
use sulcus_model::ModelSpec;
use sulcus_runtime::machine_memory_bytes;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::{Event, Preflight, PreflightError, TrainError, TrainObserver, TrainOutcome};

use crate::commands::export;
use crate::error::{CliError, Context};
use crate::interrupt::Interrupt;
use crate::output::{Ui, count, human_bytes, human_secs};
use crate::scores::score;

/// How a stopped training continues.
pub(crate) const CONTINUE: &str = "the state is saved; the same command with `--resume` continues from here";

/// Shows a progress bar on a terminal, and one line per epoch elsewhere. Stops the training on Ctrl-C.
pub(crate) struct TrainingProgress<'a> {
    ui: Ui,
    interrupt: &'a Interrupt,
    bar: ProgressBar,
    started: std::time::Instant,
    /// Where the engines of the pre-flight check come from; `None` while planning.
    library: Option<&'a OrtLibrary>,
    /// The specification of a model that passed the pre-flight check. The same model is not checked again, because the
    /// folds of a cross-validation start from the same weights.
    pub(crate) passed: Option<ModelSpec>,
}

impl<'a> TrainingProgress<'a> {
    pub(crate) fn new(ui: Ui, interrupt: &'a Interrupt) -> Self {
        let started = std::time::Instant::now();
        Self { ui, interrupt, bar: ui.training_bar(), started, library: None, passed: None }
    }

    /// Also checks the model in every available engine before the first step.
    pub(crate) fn with_preflight(self, library: &'a OrtLibrary) -> Self {
        Self { library: Some(library), ..self }
    }

    /// Removes the progress bar.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }

    fn note(&self, text: impl std::fmt::Display) {
        self.bar.suspend(|| self.ui.note(text));
    }

    fn warn(&self, text: impl std::fmt::Display) {
        self.bar.suspend(|| self.ui.warn(text));
    }

    fn warn_about_memory(&self, data_bytes: u64, step_bytes: u64) {
        let needed = data_bytes.saturating_add(step_bytes);
        if let Some(available) = machine_memory_bytes().filter(|available| needed > *available) {
            self.warn(format_args!(
                "training will need about {} of memory ({} for prepared scans, {} for a step), but this machine or its \
                 container has {}: the system may kill the process; train on fewer cases or larger voxels, or use a machine \
                 with more memory",
                human_bytes(needed),
                human_bytes(data_bytes),
                human_bytes(step_bytes),
                human_bytes(available)
            ));
        }
    }
}

impl TrainObserver for TrainingProgress<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Checking { cases } => self.note(format_args!("checking {}", count(cases, "case"))),
            Event::Warning(text) => self.warn(text),
            Event::Patients(note) => self.bar.suspend(|| report_patients(note, self.ui)),
            Event::Initialised(report) => self.note(report),
            Event::Memory { data_bytes, step_bytes } => self.warn_about_memory(data_bytes, step_bytes),
            Event::Planned { plan, device, training, validation } => {
                self.note(format_args!(
                    "training {} on {}, {validation} held out, on the {device}",
                    plan.network.name,
                    count(training, "case")
                ));
                for reason in &plan.why {
                    tracing::info!("{reason}");
                }
            }
            Event::Step { epoch, epochs, step, steps, loss, dice, seconds_left } => {
                let of = epochs.map(|n| format!("/{n}")).unwrap_or_default();
                let left = seconds_left.map(|s| format!(", {} left", human_secs(s.max(1.0)))).unwrap_or_default();
                let dice = dice.map(|d| format!(", Dice {d:.3}")).unwrap_or_default();
                let done = match (seconds_left, epochs) {
                    (Some(left), _) => {
                        let spent = self.started.elapsed().as_secs_f64();
                        spent / (spent + left).max(f64::EPSILON)
                    }
                    (None, Some(epochs)) => ((epoch - 1) * steps + step) as f64 / (epochs * steps).max(1) as f64,
                    (None, None) => 0.0,
                };
                self.bar.set_position((done * 1000.0) as u64);
                self.bar.set_message(format!("epoch {epoch}{of}, loss {loss:.3}{dice}{left}"));
            }
            Event::Scoring { done, total } => {
                self.bar.set_message(format!("scoring held-out case {} of {total}", done + 1));
            }
            Event::Epoch(record) if !self.ui.shows_bars() => self.ui.note(format_args!(
                "epoch {:>3}  loss {:.4}  Dice {}{}  {}",
                record.epoch,
                record.loss,
                score(record.mean_dice),
                if record.best { " (best)" } else { "" },
                human_secs(record.elapsed_seconds)
            )),
            _ => {}
        }
    }

    fn should_stop(&self) -> bool {
        self.interrupt.asked()
    }

    fn memory_limit(&self) -> Option<u64> {
        machine_memory_bytes()
    }

    fn preflight(&mut self, model: &Preflight<'_>) -> Result<(), PreflightError> {
        let Some(library) = self.library else { return Ok(()) };
        if self.passed.as_ref().is_some_and(|passed| is_same_model(passed, model.spec())) {
            self.note("pre-flight check passed before: an earlier fold has the same model");
            return Ok(());
        }
        let passed = export::preflight::check(model, library)?;
        self.note(format_args!("pre-flight check passed: {passed}"));
        self.passed = Some(model.spec().clone());
        Ok(())
    }
}

/// Prints how the folds treat patients with several cases; a guess and a mistake are warnings.
pub(crate) fn report_patients(note: &PatientNote, ui: Ui) {
    if matches!(note, PatientNote::Stated { .. }) {
        return ui.note(note);
    }
    ui.warn(note);
    ui.hint(
        "`--patients F`, or `patients` in dataset.json, or a patients.csv in the data set states the patient of each case; \
         `--patients none` treats each case as a patient of its own",
    );
}

/// Whether the models have the same graph and processing. Weights, golden cases and training data differ between folds.
fn is_same_model(a: &ModelSpec, b: &ModelSpec) -> bool {
    let comparable = ModelSpec {
        golden_case: a.golden_case.clone(),
        training: a.training.clone(),
        training_scans: a.training_scans.clone(),
        ..b.clone()
    };
    *a == comparable
}

/// The outcome of a training, with a hint if the pre-flight check refused it.
pub(crate) fn check_outcome(
    outcome: Result<TrainOutcome, TrainError>,
    doing: impl Display,
) -> Result<TrainOutcome, CliError> {
    let is_preflight = matches!(outcome, Err(TrainError::Preflight { .. }));
    let hint = "train another network (`--preset`, `--patch`), or change what the message names in a plan: \
                `sulcus plan DATASET -o plan.json`, then `sulcus train DATASET --plan plan.json`";
    outcome.context(doing).map_err(|error| if is_preflight { error.hint(hint) } else { error })
}

#[cfg(test)]
mod tests {
    use super::is_same_model;
    use sulcus_testing::test_spec;

    #[test]
    fn folds_have_the_same_model_although_their_training_data_differ() {
        let (first, mut second) = (test_spec(2).build(), test_spec(2).build());
        second.training.data_sha256 = "another".into();
        assert!(is_same_model(&first, &second));
        second.orientation = "ASR".parse().unwrap();
        assert!(!is_same_model(&first, &second));
    }
}
