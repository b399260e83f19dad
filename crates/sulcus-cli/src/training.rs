//! What a person sees of a training.

use std::fmt::Display;

use indicatif::ProgressBar;
use sulcus_runtime::OrtLibrary;
use sulcus_train::{Event, Preflight, PreflightError, TrainError, TrainObserver, TrainOutcome};

use crate::error::{CliError, Context};
use crate::exporting;
use crate::interrupt::Interrupt;
use crate::memory;
use crate::scores::score;
use crate::ui::{Ui, count, human_bytes, human_secs};

/// A bar on a terminal, a line an epoch elsewhere.
pub(crate) struct Watcher<'a> {
    ui: Ui,
    interrupt: &'a Interrupt,
    bar: ProgressBar,
    elapsed: std::time::Instant,
    /// Where the engines of the pre-flight check come from; a plan needs none.
    library: Option<&'a OrtLibrary>,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(ui: Ui, interrupt: &'a Interrupt) -> Self {
        Self { ui, interrupt, bar: ui.training_bar(), elapsed: std::time::Instant::now(), library: None }
    }

    /// Also checks the model in every engine at hand, before the first step.
    pub(crate) fn with_preflight(self, library: &'a OrtLibrary) -> Self {
        Self { library: Some(library), ..self }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, text: impl std::fmt::Display) {
        self.bar.suspend(|| self.ui.note(text));
    }
}

impl TrainObserver for Watcher<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Checking { cases } => self.say(format_args!("checking {}", count(cases, "case"))),
            Event::Warning(text) => self.bar.suspend(|| self.ui.warn(text)),
            Event::Initialised(report) => self.say(report),
            Event::Memory { data_bytes, step_bytes } => {
                let needed = data_bytes.saturating_add(step_bytes);
                if let Some(there) = memory::total().filter(|there| needed > *there) {
                    self.bar.suspend(|| {
                        self.ui.warn(format_args!(
                            "training will hold about {} in memory ({} of prepared scans, {} for a step), but this machine \
                             or its container has {}: it may be ended by the system; train on fewer cases or larger voxels, \
                             or take a machine with more",
                            human_bytes(needed),
                            human_bytes(data_bytes),
                            human_bytes(step_bytes),
                            human_bytes(there)
                        ));
                    });
                }
            }
            Event::Planned { plan, device, training, validation } => {
                self.say(format_args!(
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
                let share = match (seconds_left, epochs) {
                    (Some(left), _) => {
                        let spent = self.elapsed.elapsed().as_secs_f64();
                        spent / (spent + left).max(f64::EPSILON)
                    }
                    (None, Some(epochs)) => ((epoch - 1) * steps + step) as f64 / (epochs * steps).max(1) as f64,
                    (None, None) => 0.0,
                };
                self.bar.set_position((share * 1000.0) as u64);
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

    fn preflight(&mut self, model: &Preflight<'_>) -> Result<(), PreflightError> {
        if let Some(library) = self.library {
            let passed = exporting::preflight::check(model, library)?;
            self.say(format_args!("pre-flight check passed: {passed}"));
        }
        Ok(())
    }
}

/// How a training ended. Where it was refused before the first step, what to change is said too.
pub(crate) fn ended(
    outcome: Result<TrainOutcome, TrainError>,
    doing: impl Display,
) -> Result<TrainOutcome, CliError> {
    let is_preflight = matches!(outcome, Err(TrainError::Preflight { .. }));
    let hint = "train another network (`--preset`, `--patch`), or change what the message names in a plan: \
                `sulcus plan DATASET -o plan.json`, then `sulcus train DATASET --plan plan.json`";
    outcome.context(doing).map_err(|error| if is_preflight { error.hint(hint) } else { error })
}
