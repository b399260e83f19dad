//! How fast a machine trains, and how a plan fits a time budget.

use serde::{Deserialize, Serialize};
use sulcus_model::NetworkSpec;

/// A training step whose duration is to be measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepShape<'a> {
    /// The network.
    pub network: &'a NetworkSpec,
    /// Number of input channels.
    pub channels: usize,
    /// Number of output channels.
    pub classes: usize,
    /// Patch size, (D,) H, W.
    pub patch: &'a [usize],
    /// Patches per step.
    pub batch_size: usize,
}

/// Measures how fast a machine trains. `()` measures nothing.
pub trait StepTimer {
    /// The seconds that one step takes; `None` if they are not known.
    fn seconds_per_step(&mut self, step: &StepShape<'_>) -> Option<f64>;
}

impl StepTimer for () {
    fn seconds_per_step(&mut self, _: &StepShape<'_>) -> Option<f64> {
        None
    }
}

/// How patch and batch fit a time budget, with the speed that was measured when the plan was made. A training by this plan
/// measures nothing again, so that it has the same patches on any machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Pace {
    /// The time budget in seconds.
    pub time_budget_secs: f64,
    /// Multiply-adds of convolutions per second in training steps.
    pub multiply_adds_per_second: f64,
    /// Expected seconds per step.
    pub seconds_per_step: f64,
    /// Expected number of steps in the budget.
    pub steps: usize,
    /// Tiles of a sliding window over the median scan.
    pub tiles_per_scan: usize,
}

impl Pace {
    /// At most this fraction of the time is for scoring after each epoch.
    const SCORING_SHARE: f64 = 0.1;
    /// The score chooses the best epoch, which needs no more epochs than this.
    const MAX_EPOCHS: usize = 10;

    /// The least number of steps per epoch: a tenth of all steps, since each epoch ends with scoring and writing.
    pub fn min_steps_per_epoch(&self) -> usize {
        (self.steps / Self::MAX_EPOCHS).max(1)
    }

    /// How many cases can be scored after an epoch of this many steps, at least one. A tile takes a forward pass, a third of
    /// what one patch of a batch takes in a step.
    pub fn cases_per_epoch(&self, steps_per_epoch: usize, batch_size: usize) -> usize {
        let steps_per_case = self.tiles_per_scan as f64 / (STEP_PASSES * batch_size.max(1) as f64);
        ((Self::SCORING_SHARE * steps_per_epoch as f64 / steps_per_case) as usize).max(1)
    }

    /// Whether all numbers are positive.
    pub(crate) fn is_valid(&self) -> bool {
        [self.time_budget_secs, self.multiply_adds_per_second, self.seconds_per_step]
            .iter()
            .all(|value| *value > 0.0 && value.is_finite())
    }
}

/// The convolutions of a training step, in forward passes: the forward pass, the gradients of the inputs and those of the
/// weights have as many multiply-adds each.
pub(crate) const STEP_PASSES: f64 = 3.0;
