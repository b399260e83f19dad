use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use sulcus_model::ModelSpec;
use sulcus_pipeline::PipelineError;
use sulcus_volume::Label;

use crate::loader::Loader;
use crate::manifest::{Manifest, Status};
use crate::sampler::{Sampler, TrainingCase};
use crate::{
    Case, CheckpointParts, EpochRecord, InitReport, Learner, LossScaler, NetworkPredictor, Overflow, Plan,
    Stepped, TrainConfig, TrainError, UNet, WeightAverage, Weights, curves, history, optimise, score,
};

/// What a training tells while it runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Every file of so many cases is being read and checked.
    Checking {
        /// How many.
        cases: usize,
    },
    /// Something that may be meant so, but is worth knowing.
    Warning(&'a str),
    /// An estimate of the memory that training will hold, before it does.
    Memory {
        /// Bytes of the prepared cases.
        data_bytes: u64,
        /// Bytes of a step on the processor; 0 where a GPU takes it.
        step_bytes: u64,
    },
    /// The network starts from trained weights.
    Initialised(&'a InitReport),
    /// What was decided from the data.
    Planned {
        /// The decisions.
        plan: &'a Plan,
        /// The device, in words.
        device: &'a str,
        /// Cases trained on.
        training: usize,
        /// Cases held out.
        validation: usize,
    },
    /// A step is done.
    Step {
        /// From 1.
        epoch: usize,
        /// How many there will be, where that is known.
        epochs: Option<usize>,
        /// In this epoch, from 1.
        step: usize,
        /// In an epoch.
        steps: usize,
        /// Mean over the epoch so far.
        loss: f64,
        /// Mean Dice after the last epoch.
        dice: Option<f64>,
        /// An estimate, once there is one.
        seconds_left: Option<f64>,
    },
    /// Held-out cases are being scored.
    Scoring {
        /// Cases done.
        done: usize,
        /// Cases in all.
        total: usize,
    },
    /// An epoch is done.
    Epoch(&'a EpochRecord),
}

/// Watches a training and may stop it. `()` watches nothing.
pub trait TrainObserver {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);

    /// Asked after each step and each scored case; on `true` the training saves its state and ends.
    fn should_stop(&self) -> bool {
        false
    }
}

impl TrainObserver for () {
    fn event(&mut self, _: Event<'_>) {}
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is done.
    Finished {
        /// Epochs trained.
        epochs: usize,
        /// The epoch whose weights are the best; the last one when nothing is held out.
        best_epoch: usize,
        /// Mean foreground Dice of those over all held-out cases, on the scans' own grids.
        validation_dice: Option<f64>,
        /// Seconds it took, interruptions left out.
        seconds: f64,
    },
    /// It was asked to stop; everything is saved.
    Stopped {
        /// Whole epochs done.
        epochs: usize,
        /// What to do to go on.
        hint: String,
    },
}

/// Where a training stands; kept in its checkpoints.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// Whole epochs done.
    pub(crate) epoch: usize,
    /// Steps done in the epoch that is under way.
    pub(crate) step: usize,
    /// Steps done in all.
    pub(crate) steps: usize,
    /// Sum of the losses of the epoch that is under way.
    pub(crate) loss_sum: f64,
    /// Seconds spent.
    pub(crate) seconds: f64,
    /// Mean Dice of the best weights.
    pub(crate) best_dice: Option<f64>,
    /// Their epoch.
    pub(crate) best_epoch: usize,
    /// The epoch in which the score last rose; one that is as good as the best has not risen.
    #[serde(default)]
    pub(crate) improved_epoch: usize,
    /// How the loss is scaled, in half precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scaler: Option<LossScaler>,
}

/// Everything that the loop works with.
pub(crate) struct Session<'a> {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) spec: ModelSpec,
    pub(crate) sampler: Arc<Sampler>,
    /// Held-out cases that are scored after each epoch.
    pub(crate) watched: Vec<TrainingCase>,
    /// All held-out cases.
    pub(crate) held_out: Vec<&'a Case>,
    /// The masks' value for voxels that nobody has labelled.
    pub(crate) ignore: Option<Label>,
    /// The one that scores, with autodiff.
    pub(crate) device: Device,
    pub(crate) learner: Learner,
    /// What is scored and exported, where weights are averaged.
    pub(crate) average: Option<WeightAverage>,
    pub(crate) at: Position,
    pub(crate) clock: Clock,
}

/// Time spent, earlier parts of a resumed training included, and what the end will take.
pub(crate) struct Clock {
    began: Instant,
    before: f64,
    scoring_a_case: Option<f64>,
}

impl Clock {
    pub(crate) fn start(began: Instant, before: f64) -> Self {
        Self { began, before, scoring_a_case: None }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }
}

impl Session<'_> {
    /// Trains until the epochs or the time are up, then scores the best weights on every held-out case.
    pub(crate) fn run(mut self, observer: &mut dyn TrainObserver) -> Result<Outcome, TrainError> {
        let config = self.manifest.config.clone();
        let steps = self.manifest.steps_per_epoch;
        let mut last_dice = self.at.best_dice;
        if config.time_budget_secs.is_some() {
            self.time_a_case()?;
        }

        while config.epoch_limit().is_none_or(|limit| self.at.epoch < limit)
            // A budget that reading used up still gives a network, of one step.
            && (self.at.epoch == 0 || !self.time_is_up(&config))
            && !self.has_stalled(&config)
        {
            let epoch_began = self.clock.seconds();
            let mut learning_rate = self.learning_rate(&config);
            let mut batches = Loader::start(&self.sampler, self.at.epoch, self.at.step, steps, config.workers)?;
            for batch in batches.by_ref() {
                learning_rate = self.learning_rate(&config);
                let (learner, Stepped { loss, overflow }) =
                    self.learner.step(batch?, learning_rate, config.gradient_clip)?;
                self.learner = learner;
                let (epoch, step) = (self.at.epoch + 1, self.at.step + 1);
                if !loss.is_finite() {
                    return Err(TrainError::Diverged { loss, epoch, step, learning_rate, folder: self.folder });
                }
                if overflow == Some(Overflow::Final) {
                    return Err(TrainError::Overflow { epoch, step, folder: self.folder });
                }

                self.at.step += 1;
                self.at.steps += 1;
                // Where gradients overflowed no weight has moved.
                if overflow.is_none() {
                    let follow = |mean: WeightAverage| mean.follow(self.learner.network(), self.at.steps);
                    self.average = self.average.take().map(follow);
                }
                self.at.loss_sum += loss;
                observer.event(Event::Step {
                    epoch: self.at.epoch + 1,
                    epochs: config.epoch_limit(),
                    step: self.at.step,
                    steps,
                    loss: self.at.loss_sum / self.at.step as f64,
                    dice: last_dice,
                    seconds_left: self.seconds_left(&config),
                });
                if observer.should_stop() {
                    return self.stop();
                }
                if self.time_is_up(&config) {
                    break;
                }
            }

            let waited_seconds = batches.seconds_waited();
            drop(batches);
            self.check_weights()?;

            let dice = match self.score_watched(observer) {
                Err(TrainError::Pipeline(PipelineError::Cancelled)) => return self.stop(),
                other => other?,
            };
            let mean_dice = sulcus_metrics::mean_defined(dice.iter().copied());
            let best = self.watched.is_empty() || mean_dice >= self.at.best_dice;
            self.at.epoch += 1;
            if mean_dice > self.at.best_dice {
                self.at.improved_epoch = self.at.epoch;
            }
            let record = EpochRecord {
                epoch: self.at.epoch,
                steps: self.at.steps,
                loss: self.at.loss_sum / self.at.step.max(1) as f64,
                dice: self.spec.structures().into_iter().map(|s| s.name).zip(dice).collect(),
                mean_dice,
                best,
                learning_rate,
                seconds: self.clock.seconds() - epoch_began,
                waited_seconds,
                elapsed_seconds: self.clock.seconds(),
            };
            (self.at.step, self.at.loss_sum) = (0, 0.0);
            if best {
                (self.at.best_dice, self.at.best_epoch) = (mean_dice, self.at.epoch);
                self.forget_scores()?;
                self.save(Weights::Best)?;
            }
            // The history first: what it says beyond the checkpoint is dropped when a killed run goes on.
            history::append(&self.folder.join(history::FILE), &record)?;
            self.save(Weights::Last)?;
            curves::write(&self.folder)?;
            self.note(Status::Training)?;
            last_dice = mean_dice;
            observer.event(Event::Epoch(&record));
        }
        self.finish(observer)
    }

    /// A step that diverged shows in the next loss; after the last one there is none. Weights that are no numbers are
    /// neither scored nor saved over good ones.
    fn check_weights(&self) -> Result<(), TrainError> {
        if optimise::weights_are_finite(self.learner.network())? {
            return Ok(());
        }
        Err(TrainError::Diverged {
            loss: f64::NAN,
            epoch: self.at.epoch + 1,
            step: self.at.step,
            learning_rate: self.learning_rate(&self.manifest.config),
            folder: self.folder.clone(),
        })
    }

    /// Scores and postprocessing of earlier weights are not those of new ones.
    fn forget_scores(&mut self) -> Result<(), TrainError> {
        let progress = &mut self.manifest.progress;
        progress.validation_dice = None;
        progress.postprocessing.clear();
        progress.postprocessing_why.clear();
        let file = self.folder.join("validation").join("summary.json");
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(TrainError::File { what: format!("the scores of older weights cannot be removed: {e}"), file })
            }
            _ => Ok(()),
        }
    }

    /// The network that the training is for: of the mean weights, where they are averaged.
    fn trained_network(&self) -> &UNet {
        self.average.as_ref().map_or(self.learner.network(), WeightAverage::network)
    }

    /// Scores the best weights as `sulcus predict` would be scored, and closes the manifest.
    fn finish(mut self, observer: &mut dyn TrainObserver) -> Result<Outcome, TrainError> {
        let file = Weights::Best.file(&self.folder);
        let network = crate::Checkpoint::load(&file)?.network(&self.device.clone().without_autodiff())?;
        let predictor = NetworkPredictor::new(&network, &self.device);
        if !self.held_out.is_empty() {
            let total = self.held_out.len();
            let go_on = |done| {
                observer.event(Event::Scoring { done, total });
                if observer.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let folder = self.folder.join("validation");
            let scored =
                score::predict_and_score(&self.spec, &self.held_out, self.ignore, &predictor, &folder, go_on);
            match scored {
                Err(TrainError::Pipeline(PipelineError::Cancelled)) => return self.stop(),
                other => {
                    let validation = other?;
                    let progress = &mut self.manifest.progress;
                    progress.validation_dice = validation.summary.mean_dice();
                    progress.postprocessing = validation.postprocessing.steps;
                    progress.postprocessing_why = validation.postprocessing.why;
                }
            }
        }
        self.note(Status::Finished)?;
        Ok(Outcome::Finished {
            epochs: self.at.epoch,
            best_epoch: self.at.best_epoch,
            validation_dice: self.manifest.progress.validation_dice,
            seconds: self.clock.seconds(),
        })
    }

    fn stop(mut self) -> Result<Outcome, TrainError> {
        self.check_weights()?;
        self.save(Weights::Last)?;
        self.note(Status::Stopped)?;
        let hint = "the state is saved; the same command with `--resume` goes on from here".into();
        Ok(Outcome::Stopped { epochs: self.at.epoch, hint })
    }

    fn save(&mut self, which: Weights) -> Result<(), TrainError> {
        self.at.seconds = self.clock.seconds();
        self.at.scaler = self.learner.scaler();
        let file = which.file(&self.folder);
        let state = serde_json::to_value(&self.at)
            .map_err(|e| TrainError::File { what: e.to_string(), file: file.clone() })?;
        let spec = &self.manifest.plan.network;
        let (network, optimiser, average) = match which {
            Weights::Best => (self.trained_network(), None, None),
            // Those that the next step starts from.
            Weights::Last => {
                let average = self.average.as_ref().map(WeightAverage::network);
                (self.learner.network(), Some(self.learner.optimiser()), average)
            }
        };
        Ok(CheckpointParts { spec, network, optimiser, average, state: &state }.save(&file)?)
    }

    fn note(&mut self, status: Status) -> Result<(), TrainError> {
        let progress = &mut self.manifest.progress;
        progress.status = status;
        progress.epochs = self.at.epoch;
        progress.best_epoch = self.at.best_epoch;
        progress.seconds = self.clock.seconds();
        self.manifest.write(&self.folder)
    }

    fn score_watched(&mut self, observer: &mut dyn TrainObserver) -> Result<Vec<Option<f64>>, TrainError> {
        let began = self.clock.seconds();
        let predictor = NetworkPredictor::new(self.trained_network(), &self.device);
        let total = self.watched.len();
        let dice = score::dice_on_prepared_grid(&self.spec, &self.watched, &predictor, |done| {
            observer.event(Event::Scoring { done, total });
            if observer.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if total > 0 {
            self.clock.scoring_a_case = Some((self.clock.seconds() - began) / total as f64);
        }
        Ok(dice)
    }

    /// Finds out what scoring a case takes, so that a budget can leave time for it.
    fn time_a_case(&mut self) -> Result<(), TrainError> {
        let Some(case) = self.watched.first() else { return Ok(()) };
        let began = self.clock.seconds();
        let predictor = NetworkPredictor::new(self.trained_network(), &self.device);
        let go_on = |_| ControlFlow::Continue(());
        score::dice_on_prepared_grid(&self.spec, std::slice::from_ref(case), &predictor, go_on)?;
        self.clock.scoring_a_case = Some(self.clock.seconds() - began);
        Ok(())
    }

    /// Seconds of the budget that scoring at the end will take.
    fn reserve(&self, budget: f64) -> f64 {
        /// Reading and writing on top of predicting, and the weather.
        const MARGIN: f64 = 1.5;
        let cases = (self.watched.len() + self.held_out.len()) as f64;
        let estimate = match self.clock.scoring_a_case {
            Some(seconds) => MARGIN * seconds * cases,
            None => 0.0,
        };
        estimate.min(0.5 * budget)
    }

    fn time_is_up(&self, config: &TrainConfig) -> bool {
        config.time_budget_secs.is_some_and(|budget| self.clock.seconds() + self.reserve(budget) >= budget)
    }

    /// Whether the score has not risen for as many epochs as it may.
    fn has_stalled(&self, config: &TrainConfig) -> bool {
        let scored = self.at.best_dice.is_some();
        config.early_stopping.is_some_and(|patience| scored && self.at.epoch >= self.at.improved_epoch + patience)
    }

    /// The share of the training that has gone by.
    fn share(&self, config: &TrainConfig) -> f64 {
        let all_steps = config.epoch_limit().map(|epochs| (epochs * self.manifest.steps_per_epoch) as f64);
        let by_steps = all_steps.map_or(0.0, |all| self.at.steps as f64 / all);
        let by_time = |budget| self.clock.seconds() / (budget - self.reserve(budget));
        config.time_budget_secs.map_or(0.0, by_time).max(by_steps).min(1.0)
    }

    fn learning_rate(&self, config: &TrainConfig) -> f64 {
        let warmup = (self.at.steps + 1) as f64 / (config.warmup_steps + 1) as f64;
        config.learning_rate * warmup.min(1.0) * config.schedule.factor(self.share(config))
    }

    fn seconds_left(&self, config: &TrainConfig) -> Option<f64> {
        let share = self.share(config);
        let spent = self.clock.seconds();
        (self.at.steps > 1 && share > 0.0).then(|| spent / share - spent)
    }
}
