//! Measures how fast this machine trains.

use std::time::{Duration, Instant};

use sulcus_model::OutputActivation;
use sulcus_plan::{StepShape, StepTimer, TrainConfig};

use crate::error::TrainError;
use crate::network::UNet;
use crate::sampling::sampler::Batch;
use crate::step::learner::{Learner, StepConfig};
use crate::step::objective::Objective;
use crate::step::optimizer::OptimizerState;
use crate::step::placement::Placement;

/// Steps are repeated for about this long. The fastest counts, because other programs only slow steps down.
const DURATION: Duration = Duration::from_millis(1500);
const MAX_STEPS: usize = 20;

/// Times training steps on the devices of a training, as it makes them but with random weights and a made-up batch.
pub(super) struct Stopwatch<'a> {
    /// `None` where the devices are not on this machine; then nothing is measured.
    pub(super) placement: Option<&'a Placement>,
    pub(super) config: &'a TrainConfig,
}

impl StepTimer for Stopwatch<'_> {
    fn seconds_per_step(&mut self, step: &StepShape<'_>) -> Option<f64> {
        let seconds = time(self.placement?, self.config, step);
        seconds.inspect_err(|error| tracing::warn!("the speed of training could not be measured: {error}")).ok()
    }
}

fn time(placement: &Placement, config: &TrainConfig, step: &StepShape<'_>) -> Result<f64, TrainError> {
    let StepShape { network, channels, classes, .. } = *step;
    let output = if classes > 1 { OutputActivation::Softmax } else { OutputActivation::Sigmoid };
    let dice_scope = config.dice_scope.unwrap_or(sulcus_plan::DiceScope::Batch);
    let objective = Objective { loss: config.loss, output, dice_scope };
    let step_config = StepConfig { objective, precision: config.precision };
    // Every device gets an equal part.
    let batch_size = step.batch_size.next_multiple_of(placement.devices.len().max(1));
    let batch = batch_of(step, batch_size)?;
    let device = placement.first()?.autodiff();
    let built = UNet::new(network, channels, classes, config.seed, &device)?;
    let optimizer = OptimizerState::new(config.optimizer);
    let mut learner = Learner::new(network, built, optimizer, step_config, None, placement)?;
    // The first step allocates memory, and on a GPU compiles kernels.
    (learner, _) = learner.step(batch.clone(), config.learning_rate, config.gradient_clip)?;
    let began = Instant::now();
    let mut fastest = f64::INFINITY;
    for _ in 0..MAX_STEPS {
        let batch = batch.clone();
        let start = Instant::now();
        (learner, _) = learner.step(batch, config.learning_rate, config.gradient_clip)?;
        fastest = fastest.min(start.elapsed().as_secs_f64());
        if began.elapsed() > DURATION {
            break;
        }
    }
    Ok(fastest * step.batch_size as f64 / batch_size as f64)
}

/// A batch of stripes.
fn batch_of(step: &StepShape<'_>, batch_size: usize) -> Result<Batch, TrainError> {
    let [d, h, w] = match *step.patch {
        [h, w] => [1, h, w],
        [d, h, w] => [d, h, w],
        _ => return Err(TrainError::Config(format!("a patch has (D,) H and W, found {:?}", step.patch))),
    };
    let voxels = batch_size * d * h * w;
    Ok(Batch {
        image: (0..voxels * step.channels).map(|i| (i % 101) as f32 / 50.0 - 1.0).collect(),
        classes: (0..voxels).map(|i| u8::from(i / 7 % 2 == 1)).collect(),
        shape: [batch_size, step.channels, d, h, w],
        regions: None,
    })
}
