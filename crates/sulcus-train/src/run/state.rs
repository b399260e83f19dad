use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::step::loss_scaler::LossScaler;

/// The state of the training loop, which every checkpoint contains.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainingState {
    /// Completed epochs.
    pub(crate) epoch: usize,
    /// Completed steps of the current epoch.
    pub(crate) step: usize,
    /// Completed steps of all epochs.
    pub(crate) steps: usize,
    /// Sum of the losses of the current epoch.
    pub(crate) loss_sum: f64,
    /// Training time in seconds.
    pub(crate) seconds: f64,
    /// Mean Dice of the best weights.
    pub(crate) best_dice: Option<f64>,
    /// The epoch of the best weights.
    pub(crate) best_epoch: usize,
    /// The last epoch with a better score than all before; an equal score does not count.
    #[serde(default)]
    pub(crate) improved_epoch: usize,
    /// The loss scaler of half precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scaler: Option<LossScaler>,
}

/// The training time, including earlier parts of a resumed training, and the measured time for scoring.
pub(crate) struct Clock {
    began: Instant,
    before: f64,
    /// Seconds for scoring one case, once it has been measured.
    pub(crate) seconds_per_scored_case: Option<f64>,
}

impl Clock {
    pub(crate) fn start(began: Instant, before: f64) -> Self {
        Self { began, before, seconds_per_scored_case: None }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }
}
