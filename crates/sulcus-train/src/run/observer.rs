use sulcus_dataset::PatientNote;
use sulcus_plan::Plan;

use super::history::EpochRecord;
use super::init::InitReport;
use super::preflight::Preflight;
use super::weights::Weights;
use crate::error::PreflightError;

/// An event of a training.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Every file of the cases is being read and checked.
    Checking {
        /// Number of cases.
        cases: usize,
    },
    /// A finding that may be intended, but is worth knowing.
    Warning(&'a str),
    /// How the folds treat patients with several cases.
    Patients(&'a PatientNote),
    /// An estimate of the memory of the training, before it is allocated.
    Memory {
        /// Bytes of the prepared cases.
        data_bytes: u64,
        /// Bytes of a step on the processor; 0 on a GPU.
        step_bytes: u64,
    },
    /// The network starts from pretrained weights.
    Initialised(&'a InitReport),
    /// The plan is made; training begins.
    Planned {
        /// The plan.
        plan: &'a Plan,
        /// A description of the devices.
        device: &'a str,
        /// Number of training cases.
        training: usize,
        /// Number of validation cases.
        validation: usize,
    },
    /// A step is finished.
    Step {
        /// The epoch, from 1.
        epoch: usize,
        /// Number of epochs, if it is known.
        epochs: Option<usize>,
        /// The step in the epoch, from 1.
        step: usize,
        /// Steps per epoch.
        steps: usize,
        /// Mean loss of the epoch so far.
        loss: f64,
        /// Mean Dice after the last epoch.
        dice: Option<f64>,
        /// Estimated remaining time in seconds, once there is an estimate.
        seconds_left: Option<f64>,
    },
    /// Validation cases are being scored.
    Scoring {
        /// Cases that are scored.
        done: usize,
        /// Number of cases.
        total: usize,
    },
    /// A checkpoint has been written completely under a temporary name, and is renamed next.
    Saving {
        /// Which weights it holds.
        weights: Weights,
    },
    /// An epoch is finished and saved.
    Epoch(&'a EpochRecord),
}

/// Observes a training and may stop it. `()` ignores all events.
pub trait TrainObserver {
    /// Called for each event.
    fn event(&mut self, event: Event<'_>);

    /// Called after each step and each scored case. If it returns `true`, the training saves its state and ends.
    fn should_stop(&self) -> bool {
        false
    }

    /// The memory in bytes that a case may need to be read and prepared; `None` for any amount.
    fn memory_limit(&self) -> Option<u64> {
        None
    }

    /// Called once before the first step, also of a resumed training. An observer that has an inference engine checks the
    /// model here, so that a failure is found before the training. An error ends the training.
    ///
    /// # Errors
    /// When the model could not be used.
    fn preflight(&mut self, _: &Preflight<'_>) -> Result<(), PreflightError> {
        Ok(())
    }
}

impl TrainObserver for () {
    fn event(&mut self, _: Event<'_>) {}
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TrainOutcome {
    /// The training is finished.
    Finished {
        /// Number of trained epochs.
        epochs: usize,
        /// The epoch with the best weights; the last one without validation cases.
        best_epoch: usize,
        /// Mean foreground Dice of the best weights over all validation cases, on the scans' own grids.
        validation_dice: Option<f64>,
        /// Training time in seconds, without interruptions.
        seconds: f64,
    },
    /// The observer stopped the training. Its state is saved, and [`resume`](crate::resume) continues it.
    Stopped {
        /// Number of completed epochs.
        epochs: usize,
    },
}
