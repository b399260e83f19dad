//! Fits patch and batch to a time budget.
//!
//! nnU-Net takes the largest patch that fits the memory and trains it for 250,000 steps, whatever they take. With a budget of
//! minutes on a processor that is a few dozen steps, after which a network predicts little more than one class. Here patch and
//! batch are therefore reduced until the budget allows [`MIN_STEPS`].

use super::grid::{Grid, MIN_BATCH, MIN_STAGES};
use super::topology::Topology;
use crate::config::TrainConfig;
use crate::cost::multiply_adds;
use crate::pace::{Pace, STEP_PASSES, StepShape, StepTimer};
use crate::text::times;
use sulcus_model::NetworkSpec;

/// The number of steps that a time budget should allow.
pub(super) const MIN_STEPS: usize = 1000;
/// The fraction of a time budget in which steps are made. The rest is reading, scoring and writing.
const STEP_SHARE: f64 = 0.8;
/// The speed is measured on a patch of at most this many voxels, so that the measurement takes about a second.
const MAX_TIMED_VOXELS: usize = 1 << 16;
/// A time budget does not shorten patches below these numbers of voxels, 96² and 32³: they would show too little of a scan.
const MIN_PIXELS: usize = 96 * 96;
const MIN_VOXELS: usize = 32 * 32 * 32;

/// The speed of a machine, and the budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TimeLimit {
    budget_secs: f64,
    multiply_adds_per_second: f64,
}

impl TimeLimit {
    /// Measures the speed; `None` without a time budget or a measurement. `network` is the one for `topology`.
    pub(super) fn measure(
        topology: &Topology,
        network: impl Fn(&Topology) -> NetworkSpec,
        (shape, mm): (&[f64], &[f64]),
        grid: &Grid,
        config: &TrainConfig,
        timer: &mut dyn StepTimer,
    ) -> Option<Self> {
        let budget_secs = config.time_budget_secs?;
        let mut timed = topology.clone();
        while timed.voxels() > MAX_TIMED_VOXELS {
            match timed.smaller(shape, mm).filter(|t| t.stages.len() >= MIN_STAGES) {
                Some(smaller) => timed = smaller,
                None => break,
            }
        }
        let network = network(&timed);
        let (channels, classes, patch) = (grid.channels, grid.classes, timed.patch.as_slice());
        let step = StepShape { network: &network, channels, classes, patch, batch_size: MIN_BATCH };
        let seconds = timer.seconds_per_step(&step).filter(|s| *s > 0.0 && s.is_finite())?;
        let work = STEP_PASSES * MIN_BATCH as f64 * multiply_adds(&network, patch, channels, classes);
        Some(Self { budget_secs, multiply_adds_per_second: rounded(work / seconds) })
    }

    /// The expected pace with this network and patch.
    pub(super) fn pace(&self, network: &NetworkSpec, patch: &[usize], batch_size: usize, grid: &Grid) -> Pace {
        let pass = multiply_adds(network, patch, grid.channels, grid.classes);
        let seconds_per_step = STEP_PASSES * batch_size as f64 * pass / self.multiply_adds_per_second;
        Pace {
            time_budget_secs: self.budget_secs,
            multiply_adds_per_second: self.multiply_adds_per_second,
            seconds_per_step,
            steps: (STEP_SHARE * self.budget_secs / seconds_per_step).max(1.0) as usize,
            tiles_per_scan: grid.tiles(patch),
        }
    }

    /// The first patch, from `topology` on, of which enough steps fit the budget; the smallest one if there is none.
    pub(super) fn fit(
        &self,
        mut topology: Topology,
        network: impl Fn(&Topology) -> NetworkSpec,
        (shape, mm): (&[f64], &[f64]),
        grid: &Grid,
        batch_size: usize,
    ) -> Topology {
        let min_voxels = if topology.patch.len() == 2 { MIN_PIXELS } else { MIN_VOXELS };
        while self.pace(&network(&topology), &topology.patch, batch_size, grid).steps < MIN_STEPS {
            let enough = |t: &Topology| t.stages.len() >= MIN_STAGES && t.voxels() >= min_voxels;
            match topology.smaller(shape, mm).filter(enough) {
                Some(smaller) => topology = smaller,
                None => break,
            }
        }
        topology
    }

    /// The largest batch of which enough steps fit the budget.
    pub(super) fn max_batch(&self, network: &NetworkSpec, patch: &[usize], grid: &Grid) -> usize {
        self.pace(network, patch, 1, grid).steps / MIN_STEPS
    }
}

/// Rounded to one of four values per factor of two, so that small differences between measurements give the same plan.
fn rounded(speed: f64) -> f64 {
    ((4.0 * speed.log2()).round() / 4.0).exp2()
}

/// The reason for a patch that is shorter than memory and data allow.
pub(super) fn patch_sentence(largest: &[usize], chosen: &[usize], batch_size: usize) -> String {
    format!(
        "patches of {}, shortened from {} until {MIN_STEPS} steps of {batch_size} of them fit the time budget",
        times(chosen),
        times(largest)
    )
}

/// How many steps the time budget allows.
pub(super) fn sentence(pace: &Pace, patch: &[usize], batch_size: usize) -> String {
    format!(
        "about {} steps of {batch_size} × {} voxels fit the time budget: {:.2} s each at the measured {:.1} G multiply-adds per \
         second{}",
        pace.steps,
        times(patch),
        pace.seconds_per_step,
        pace.multiply_adds_per_second / 1e9,
        if pace.steps < MIN_STEPS { "; more time would give a better model" } else { "" }
    )
}
