use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;
use sulcus_dataset::{Case, Dataset};
use sulcus_model::{ModelSpec, Norm};
use sulcus_pipeline::PipelineError;
use sulcus_plan::{DiceScope, Plan, TrainConfig};
use sulcus_volume::Label;

use super::cases::{cases, prepared, scored_each_epoch};
use super::checkpoint::{Checkpoint, CheckpointParts};
use super::history::{self, EpochRecord};
use super::manifest::{Manifest, Status};
use super::observer::{Event, TrainObserver, TrainOutcome};
use super::state::{Clock, TrainingState};
use super::weights::Weights;
use super::{curves, score};
use crate::error::TrainError;
use crate::network::{NetworkPredictor, UNet};
use crate::sampling::loader::Loader;
use crate::sampling::sampler::Sampler;
use crate::sampling::training_case::TrainingCase;
use crate::step::learner::{Learner, Overflow, StepConfig, StepOutput};
use crate::step::objective::Objective;
use crate::step::optimizer::{OptimizerState, WeightAverage, clip};
use crate::step::placement::Placement;

/// A running training.
pub(crate) struct Session<'a> {
    folder: PathBuf,
    manifest: Manifest,
    spec: ModelSpec,
    sampler: Arc<Sampler>,
    /// Validation cases that are scored after each epoch.
    scored_each_epoch: Vec<TrainingCase>,
    /// All validation cases.
    validation: Vec<&'a Case>,
    /// The label value of voxels without an annotation.
    ignore: Option<Label>,
    /// The device that scores, with autodiff.
    device: Device,
    learner: Learner,
    /// The averaged weights, which are scored and exported, if weights are averaged.
    average: Option<WeightAverage>,
    state: TrainingState,
    clock: Clock,
}

/// What a new session starts from.
pub(crate) struct SessionParts {
    pub(super) network: UNet,
    pub(super) optimizer: OptimizerState,
    pub(super) average: Option<WeightAverage>,
    pub(super) placement: Placement,
    pub(super) state: TrainingState,
    pub(super) sampler: Sampler,
    pub(super) spec: ModelSpec,
}

impl<'a> Session<'a> {
    /// Prepares the training loop.
    pub(super) fn new(
        dataset: &'a Dataset,
        folder: &Path,
        manifest: Manifest,
        parts: SessionParts,
        began: Instant,
        observer: &mut dyn TrainObserver,
    ) -> Result<Self, TrainError> {
        let SessionParts { network, optimizer, average, placement, state, sampler, spec } = parts;
        let Manifest { plan, config, split, device, .. } = &manifest;
        observer.event(Event::Planned {
            plan,
            device,
            training: split.training.len(),
            validation: split.validation.len(),
        });
        if config.device.count() > 1 && sums_over_batch(plan) {
            observer.event(Event::Warning(
                "with several devices, soft Dice and batch normalisation that sum over a batch sum over each device's part",
            ));
        }
        let scored_each_epoch = scored_each_epoch(split, plan, config, manifest.steps_per_epoch);
        let objective = Objective { loss: config.loss, output: plan.output, dice_scope: plan.dice_scope };
        let step_config = StepConfig { objective, precision: config.precision };
        let device = placement.first()?.autodiff();
        let learner = Learner::new(&plan.network, network, optimizer, step_config, state.scaler, &placement)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            scored_each_epoch: prepared(dataset, &spec, &scored_each_epoch, &manifest.data_sha256, config)?,
            validation: cases(dataset, &split.validation),
            ignore: dataset.ignore(),
            clock: Clock::start(began, state.seconds),
            sampler: Arc::new(sampler),
            spec,
            device,
            learner,
            average,
            state,
            manifest,
        })
    }
}

/// Whether the gradients of a case depend on the other cases of its batch.
fn sums_over_batch(plan: &Plan) -> bool {
    plan.dice_scope == DiceScope::Batch || plan.network.norm == Norm::Batch
}

impl Session<'_> {
    /// Trains until the last epoch or the end of the time budget, then scores the best weights on all validation cases.
    pub(super) fn run(mut self, observer: &mut dyn TrainObserver) -> Result<TrainOutcome, TrainError> {
        let config = self.manifest.config.clone();
        let steps = self.manifest.steps_per_epoch;
        let mut last_dice = self.state.best_dice;
        if config.time_budget_secs.is_some() {
            self.measure_scoring()?;
        }

        while config.epoch_limit().is_none_or(|limit| self.state.epoch < limit)
            // If reading the data used up the budget, one step is still trained.
            && (self.state.epoch == 0 || !self.is_time_up(&config))
            && !self.has_stalled(&config)
        {
            let epoch_began = self.clock.seconds();
            let mut learning_rate = self.learning_rate(&config);
            let mut batches =
                Loader::start(&self.sampler, self.state.epoch, self.state.step, steps, config.workers)?;
            for batch in batches.by_ref() {
                learning_rate = self.learning_rate(&config);
                let (learner, StepOutput { loss, overflow }) =
                    self.learner.step(batch?, learning_rate, config.gradient_clip)?;
                self.learner = learner;
                let (epoch, step) = (self.state.epoch + 1, self.state.step + 1);
                if !loss.is_finite() {
                    return Err(TrainError::Diverged { loss, epoch, step, learning_rate, folder: self.folder });
                }
                if overflow == Some(Overflow::AtMinimumScale) {
                    return Err(TrainError::Overflow { epoch, step, folder: self.folder });
                }

                self.state.step += 1;
                self.state.steps += 1;
                // After an overflow no weight was updated.
                if overflow.is_none() {
                    let update = |average: WeightAverage| average.update(self.learner.network(), self.state.steps);
                    self.average = self.average.take().map(update);
                }
                self.state.loss_sum += loss;
                observer.event(Event::Step {
                    epoch: self.state.epoch + 1,
                    epochs: config.epoch_limit(),
                    step: self.state.step,
                    steps,
                    loss: self.state.loss_sum / self.state.step as f64,
                    dice: last_dice,
                    seconds_left: self.seconds_left(&config),
                });
                if observer.should_stop() {
                    return self.stop(observer);
                }
                if self.is_time_up(&config) {
                    break;
                }
            }

            let waited_seconds = batches.seconds_waited();
            drop(batches);
            self.check_weights()?;

            let dice = match self.score_epoch(observer) {
                Err(TrainError::Pipeline(PipelineError::Cancelled)) => return self.stop(observer),
                other => other?,
            };
            let mean_dice = sulcus_metrics::mean_defined(dice.iter().copied());
            let best = self.scored_each_epoch.is_empty() || mean_dice >= self.state.best_dice;
            self.state.epoch += 1;
            if mean_dice > self.state.best_dice {
                self.state.improved_epoch = self.state.epoch;
            }
            let record = EpochRecord {
                epoch: self.state.epoch,
                steps: self.state.steps,
                loss: self.state.loss_sum / self.state.step.max(1) as f64,
                dice: self.spec.structures().into_iter().map(|s| s.name).zip(dice).collect(),
                mean_dice,
                best,
                learning_rate,
                seconds: self.clock.seconds() - epoch_began,
                waited_seconds,
                elapsed_seconds: self.clock.seconds(),
            };
            (self.state.step, self.state.loss_sum) = (0, 0.0);
            if best {
                (self.state.best_dice, self.state.best_epoch) = (mean_dice, self.state.epoch);
                self.remove_scores()?;
                self.save(Weights::Best, observer)?;
            }
            // The history is written first: a resume removes lines after the checkpoint.
            history::append(&self.folder.join(history::FILE), &record)?;
            self.save(Weights::Last, observer)?;
            curves::write(&self.folder)?;
            self.write_manifest(Status::Training)?;
            last_dice = mean_dice;
            observer.event(Event::Epoch(&record));
        }
        self.finish(observer)
    }

    /// A divergence shows in the loss of the next step, but the last step of an epoch has none. Weights that are not finite
    /// are neither scored nor saved.
    fn check_weights(&self) -> Result<(), TrainError> {
        if clip::weights_are_finite(self.learner.network())? {
            return Ok(());
        }
        Err(TrainError::Diverged {
            loss: f64::NAN,
            epoch: self.state.epoch + 1,
            step: self.state.step,
            learning_rate: self.learning_rate(&self.manifest.config),
            folder: self.folder.clone(),
        })
    }

    /// Removes scores and postprocessing of the previous best weights.
    fn remove_scores(&mut self) -> Result<(), TrainError> {
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

    /// The network to score and export: with the averaged weights, if weights are averaged.
    fn trained_network(&self) -> &UNet {
        self.average.as_ref().map_or(self.learner.network(), WeightAverage::network)
    }

    /// Scores the best weights as inference would predict, and marks the run as finished.
    fn finish(mut self, observer: &mut dyn TrainObserver) -> Result<TrainOutcome, TrainError> {
        let file = Weights::Best.file(&self.folder);
        let network = Checkpoint::load(&file)?.network(&self.device.clone().without_autodiff())?;
        let predictor = NetworkPredictor::new(&network, &self.device);
        if !self.validation.is_empty() {
            let total = self.validation.len();
            let go_on = |done| {
                observer.event(Event::Scoring { done, total });
                if observer.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let folder = self.folder.join("validation");
            let scored =
                score::predict_and_score(&self.spec, &self.validation, self.ignore, &predictor, &folder, go_on);
            match scored {
                Err(TrainError::Pipeline(PipelineError::Cancelled)) => return self.stop(observer),
                other => {
                    let validation = other?;
                    let progress = &mut self.manifest.progress;
                    progress.validation_dice = validation.summary.mean_dice();
                    progress.postprocessing = validation.postprocessing.steps;
                    progress.postprocessing_why = validation.postprocessing.why;
                }
            }
        }
        self.write_manifest(Status::Finished)?;
        Ok(TrainOutcome::Finished {
            epochs: self.state.epoch,
            best_epoch: self.state.best_epoch,
            validation_dice: self.manifest.progress.validation_dice,
            seconds: self.clock.seconds(),
        })
    }

    fn stop(mut self, observer: &mut dyn TrainObserver) -> Result<TrainOutcome, TrainError> {
        self.check_weights()?;
        self.save(Weights::Last, observer)?;
        self.write_manifest(Status::Stopped)?;
        Ok(TrainOutcome::Stopped { epochs: self.state.epoch })
    }

    fn save(&mut self, which: Weights, observer: &mut dyn TrainObserver) -> Result<(), TrainError> {
        self.state.seconds = self.clock.seconds();
        self.state.scaler = self.learner.scaler();
        let file = which.file(&self.folder);
        let state = serde_json::to_value(&self.state)
            .map_err(|e| TrainError::File { what: e.to_string(), file: file.clone() })?;
        let spec = &self.manifest.plan.network;
        let (network, optimizer, average) = match which {
            Weights::Best => (self.trained_network(), None, None),
            // The weights from which the next step starts.
            Weights::Last => {
                let average = self.average.as_ref().map(WeightAverage::network);
                (self.learner.network(), Some(self.learner.optimizer()), average)
            }
        };
        Ok(CheckpointParts { spec, network, optimizer, average, state: &state }
            .save_with(&file, || observer.event(Event::Saving { weights: which }))?)
    }

    fn write_manifest(&mut self, status: Status) -> Result<(), TrainError> {
        let progress = &mut self.manifest.progress;
        progress.status = status;
        progress.epochs = self.state.epoch;
        progress.best_epoch = self.state.best_epoch;
        progress.seconds = self.clock.seconds();
        self.manifest.write(&self.folder)
    }

    fn score_epoch(&mut self, observer: &mut dyn TrainObserver) -> Result<Vec<Option<f64>>, TrainError> {
        let began = self.clock.seconds();
        let predictor = NetworkPredictor::new(self.trained_network(), &self.device);
        let total = self.scored_each_epoch.len();
        let dice = score::dice_on_prepared_grid(&self.spec, &self.scored_each_epoch, &predictor, |done| {
            observer.event(Event::Scoring { done, total });
            if observer.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if total > 0 {
            self.clock.seconds_per_scored_case = Some((self.clock.seconds() - began) / total as f64);
        }
        Ok(dice)
    }

    /// Measures the time for scoring one case, so that the time budget can reserve it.
    fn measure_scoring(&mut self) -> Result<(), TrainError> {
        let Some(case) = self.scored_each_epoch.first() else { return Ok(()) };
        let began = self.clock.seconds();
        let predictor = NetworkPredictor::new(self.trained_network(), &self.device);
        let go_on = |_| ControlFlow::Continue(());
        score::dice_on_prepared_grid(&self.spec, std::slice::from_ref(case), &predictor, go_on)?;
        self.clock.seconds_per_scored_case = Some(self.clock.seconds() - began);
        Ok(())
    }

    /// Seconds of the budget that are reserved for scoring at the end.
    fn scoring_reserve(&self, budget: f64) -> f64 {
        /// For reading, writing and variations of the speed.
        const MARGIN: f64 = 1.5;
        let cases = (self.scored_each_epoch.len() + self.validation.len()) as f64;
        let estimate = match self.clock.seconds_per_scored_case {
            Some(seconds) => MARGIN * seconds * cases,
            None => 0.0,
        };
        estimate.min(0.5 * budget)
    }

    fn is_time_up(&self, config: &TrainConfig) -> bool {
        config.time_budget_secs.is_some_and(|budget| self.clock.seconds() + self.scoring_reserve(budget) >= budget)
    }

    /// Whether the score has not improved for the number of epochs that early stopping allows.
    fn has_stalled(&self, config: &TrainConfig) -> bool {
        let scored = self.state.best_dice.is_some();
        config
            .early_stopping
            .is_some_and(|patience| scored && self.state.epoch >= self.state.improved_epoch + patience)
    }

    /// The fraction of the training that is done.
    fn fraction_done(&self, config: &TrainConfig) -> f64 {
        let all_steps = config.epoch_limit().map(|epochs| (epochs * self.manifest.steps_per_epoch) as f64);
        let by_steps = all_steps.map_or(0.0, |all| self.state.steps as f64 / all);
        let by_time = |budget| self.clock.seconds() / (budget - self.scoring_reserve(budget));
        config.time_budget_secs.map_or(0.0, by_time).max(by_steps).min(1.0)
    }

    fn learning_rate(&self, config: &TrainConfig) -> f64 {
        let warmup = (self.state.steps + 1) as f64 / (config.warmup_steps + 1) as f64;
        config.learning_rate * warmup.min(1.0) * config.schedule.factor(self.fraction_done(config))
    }

    fn seconds_left(&self, config: &TrainConfig) -> Option<f64> {
        let fraction = self.fraction_done(config);
        let spent = self.clock.seconds();
        (self.state.steps > 1 && fraction > 0.0).then(|| spent / fraction - spent)
    }
}
