//! A training step, on one device or on several that share each batch.

use burn::optim::GradientsParams;
use sulcus_kernels::StepSize;
use sulcus_model::{NetworkSpec, Precision};

use super::exchange::{Exchange, flatten, mean_on, unflatten};
use super::loss_scaler::LossScaler;
use super::optimizer::{OptimizerState, clip};
use super::placement::Placement;
pub use super::replica::StepConfig;
use super::replica::{Replica, read};
use super::worker::{Command, WorkerReplica};
use crate::error::TrainError;
use crate::network::UNet;
use crate::sampling::sampler::Batch;

/// A network that is trained batch by batch.
///
/// Each of several devices holds a replica of the network and takes an equal part of each batch. The gradients are
/// averaged and every replica makes the same update, so that all replicas stay equal. A loss that is a mean over
/// cases ([`DiceScope::Case`](sulcus_plan::DiceScope::Case)) has the gradients of the whole batch. A loss that sums over the
/// batch sums over each device's part instead, and batch normalisation uses the statistics of that part.
#[derive(Debug)]
pub struct Learner {
    replica: Replica,
    workers: Vec<WorkerReplica>,
    exchange: Exchange,
    config: StepConfig,
    /// Only with [`Precision::Fp16`].
    scaler: Option<LossScaler>,
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StepOutput {
    /// The loss of the batch before the update. If it is not finite, no weight was updated.
    pub loss: f64,
    /// Set if the gradients overflowed half precision, so that no weight was updated.
    pub overflow: Option<Overflow>,
}

/// A gradient overflowed half precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The next step uses a smaller loss scale.
    ScaleLowered,
    /// The loss scale is already 1.
    AtMinimumScale,
}

impl Learner {
    /// Trains a network, which was built from `spec`, on the devices of `placement`. The network lies on the first device,
    /// with autodiff.
    ///
    /// `scaler` is the state of an interrupted training; only [`Precision::Fp16`] uses one.
    ///
    /// # Errors
    /// When a device fails, or the devices cannot average their gradients.
    pub fn new(
        spec: &NetworkSpec,
        network: UNet,
        optimizer: OptimizerState,
        config: StepConfig,
        scaler: Option<LossScaler>,
        placement: &Placement,
    ) -> Result<Self, TrainError> {
        let first = placement.first()?;
        let replica = Replica::new(network, optimizer, first.clone().autodiff(), config.precision);
        let exchange = placement.exchange.clone();
        let start = |(rank, device)| {
            let replica = replica.copy_to(spec, device, config.precision)?;
            WorkerReplica::start(rank, replica, config, &exchange)
        };
        let workers: Vec<WorkerReplica> =
            placement.devices.iter().enumerate().skip(1).map(start).collect::<Result<_, TrainError>>()?;
        if !workers.is_empty() {
            let tested = exchange.test(0, &first);
            workers.iter().try_for_each(WorkerReplica::wait_until_ready)?;
            tested?;
        }
        let scaler = (config.precision == Precision::Fp16).then(|| scaler.unwrap_or_default());
        Ok(Self { replica, workers, exchange, config, scaler })
    }

    /// The network.
    pub fn network(&self) -> &UNet {
        &self.replica.network
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &OptimizerState {
        &self.replica.optimizer
    }

    /// The loss scaler; `None` if the loss is not scaled.
    pub fn scaler(&self) -> Option<LossScaler> {
        self.scaler
    }

    /// Makes one step. A gradient whose norm over all weights exceeds `max_norm` is scaled down to it.
    ///
    /// # Errors
    /// When a device fails, or the batch cannot be divided equally among the devices.
    pub fn step(
        mut self,
        batch: Batch,
        learning_rate: f64,
        max_norm: Option<f64>,
    ) -> Result<(Self, StepOutput), TrainError> {
        let scale = self.scaler.map_or(1.0, |scaler| scaler.scale());
        let devices = self.workers.len() + 1;
        let mut parts = divide(batch, devices)?.into_iter();
        let own = parts.next().ok_or_else(|| TrainError::Config("a batch has no case".into()))?;
        for (worker, part) in self.workers.iter().zip(parts) {
            worker.compute_gradients(part, scale)?;
        }
        let (loss, gradients) = self.replica.loss_and_gradients(self.config, own, scale)?;
        let needs_norm = max_norm.is_some() || self.scaler.is_some();
        // A single device is waited for once in a step. With several, the losses decide whether the gradients are averaged.
        let (loss, norm) = if needs_norm && self.workers.is_empty() {
            let (loss, norm) = clip::loss_and_norm(loss, &gradients, self.network())?;
            (loss, Some(norm))
        } else {
            (read(loss)?, None)
        };
        let mut sum = loss;
        for worker in &self.workers {
            sum += worker.loss()?;
        }
        let loss = sum / devices as f64;
        if !loss.is_finite() {
            self.send_all(&Command::SkipUpdate)?;
            return Ok((self, StepOutput { loss, overflow: None }));
        }
        let gradients = self.average(gradients)?;
        let norm = match norm {
            None if needs_norm => Some(clip::norm(&gradients, self.network())?),
            norm => norm,
        };
        let Some(gradient_factor) = self.gradient_factor(norm, max_norm, scale) else {
            self.send_all(&Command::SkipUpdate)?;
            let lowered = self.scaler.as_mut().is_some_and(LossScaler::record_overflow);
            let overflow = Some(if lowered { Overflow::ScaleLowered } else { Overflow::AtMinimumScale });
            return Ok((self, StepOutput { loss, overflow }));
        };
        if let Some(scaler) = &mut self.scaler {
            scaler.record_success();
        }
        let size = StepSize { learning_rate, gradient_factor };
        self.send_all(&Command::ApplyGradients(size))?;
        self.replica = self.replica.apply_gradients(gradients, size);
        Ok((self, StepOutput { loss, overflow: None }))
    }

    /// The factor of the gradients before the update, from their norm; `None` if they overflowed. It is computed once, so that
    /// all replicas make the same update.
    fn gradient_factor(&self, norm: Option<f64>, max_norm: Option<f64>, scale: f64) -> Option<f64> {
        let Some(norm) = norm else { return Some(1.0) };
        let norm = norm / scale;
        if self.scaler.is_some() && !norm.is_finite() {
            return None;
        }
        Some(max_norm.map_or(1.0, |max_norm| clip::factor(norm, max_norm)) / scale)
    }

    /// The mean of the gradients of all devices.
    fn average(&self, mut gradients: GradientsParams) -> Result<GradientsParams, TrainError> {
        if self.workers.is_empty() {
            return Ok(gradients);
        }
        self.send_all(&Command::AverageGradients)?;
        let (own, order) = flatten(self.network(), &mut gradients)?;
        let all = match &self.exchange {
            Exchange::Collective(_) => self.exchange.mean(own)?,
            Exchange::ThroughFirst => {
                let mut all = vec![own];
                for worker in &self.workers {
                    all.push(worker.gradients()?);
                }
                let mean = mean_on(all, &self.replica.device)?;
                self.send_all(&Command::SetAverage(Box::new(mean.clone())))?;
                mean
            }
        };
        Ok(unflatten(self.network(), &all, &order))
    }

    fn send_all(&self, command: &Command) -> Result<(), TrainError> {
        self.workers.iter().try_for_each(|worker| worker.send(command.clone()))
    }
}

/// Divides a batch into equal parts, in the order of its cases.
///
/// # Errors
/// When the cases cannot be divided equally.
fn divide(batch: Batch, parts: usize) -> Result<Vec<Batch>, TrainError> {
    if parts == 1 {
        return Ok(vec![batch]);
    }
    let [cases, c, d, h, w] = batch.shape;
    check_divisible(cases, parts)?;
    let each = cases / parts;
    let voxels = each * d * h * w;
    if batch.image.len() != voxels * c * parts || batch.classes.len() != voxels * parts {
        return Err(TrainError::Tensor(format!("its values do not fill a batch of {:?}", batch.shape)));
    }
    let images = batch.image.chunks_exact(voxels * c);
    let classes = batch.classes.chunks_exact(voxels);
    let part = |(image, classes): (&[f32], &[u8])| Batch {
        image: image.to_vec(),
        classes: classes.to_vec(),
        shape: [each, c, d, h, w],
        regions: batch.regions.clone(),
    };
    Ok(images.zip(classes).map(part).collect())
}

/// Checks that a batch can be divided equally among devices.
///
/// # Errors
/// When it cannot.
pub(crate) fn check_divisible(cases: usize, devices: usize) -> Result<(), TrainError> {
    if cases > 0 && cases.is_multiple_of(devices) {
        return Ok(());
    }
    Err(TrainError::Config(format!(
        "a batch of {cases} cannot be divided equally among {devices} devices; choose a `batch_size` that is a multiple of \
         {devices}, or fewer devices"
    )))
}

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
