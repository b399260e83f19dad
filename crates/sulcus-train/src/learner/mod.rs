//! One step of training, on one device or on several that share each batch.

mod exchange;
mod objective;
mod partner;
mod replica;

use burn::optim::GradientsParams;
use sulcus_kernels::StepSize;
use sulcus_model::NetworkSpec;

pub use exchange::Exchange;
use exchange::{flatten, mean, unflatten};
pub use objective::Objective;
use partner::{Move, Partner};
pub use replica::Computing;
use replica::Replica;

use crate::sampler::Batch;
use crate::{Descent, LossScaler, Placement, Precision, TrainError, UNet, optimise};

/// A network that learns from batches.
///
/// On several devices each holds a copy of the network and takes an equal part of each batch; their gradients are
/// averaged and every copy makes the same step, so that one is always as good as another. A loss that is a mean over
/// cases ([`DiceScope::Case`](crate::DiceScope::Case)) then has the gradients of the whole batch; one that sums over the
/// batch sums over each device's part instead, and batch normalisation sees the statistics of that part.
#[derive(Debug)]
pub struct Learner {
    replica: Replica,
    partners: Vec<Partner>,
    exchange: Exchange,
    computing: Computing,
    /// With [`Precision::Fp16`] alone.
    scaler: Option<LossScaler>,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stepped {
    /// Of the batch, before the step. One that is no number moved no weight.
    pub loss: f64,
    /// Whether the gradients overflowed half precision, so that no weight was moved. The next step uses a smaller scale,
    /// unless there is none.
    pub overflow: Option<Overflow>,
}

/// A gradient that half precision cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The loss will be scaled less.
    Lowered,
    /// The loss was not scaled at all.
    Final,
}

impl Learner {
    /// Lets a network, which was built from `spec`, learn where `placement` says; it is on the first device already, with
    /// autodiff.
    ///
    /// `scaler` is where an interrupted training left it; [`Precision::Fp16`] alone has one.
    ///
    /// # Errors
    /// When a device gives no answer, or the devices can't add up what they have.
    pub fn new(
        spec: &NetworkSpec,
        network: UNet,
        optimiser: Descent,
        computing: Computing,
        scaler: Option<LossScaler>,
        placement: &Placement,
    ) -> Result<Self, TrainError> {
        let first = placement.first()?;
        let replica = Replica { network, optimiser, device: first.clone().autodiff() };
        let exchange = placement.exchange.clone();
        let partner =
            |(seat, device)| Partner::start(seat + 1, replica.copy_to(spec, device)?, computing, &exchange);
        let partners: Vec<Partner> =
            placement.devices.iter().skip(1).enumerate().map(partner).collect::<Result<_, TrainError>>()?;
        if !partners.is_empty() {
            let tried = exchange.try_out(0, &first);
            partners.iter().try_for_each(Partner::is_ready)?;
            tried?;
        }
        let scaler = (computing.precision == Precision::Fp16).then(|| scaler.unwrap_or_default());
        Ok(Self { replica, partners, exchange, computing, scaler })
    }

    /// The network as it is now.
    pub fn network(&self) -> &UNet {
        &self.replica.network
    }

    /// The optimiser as it is now.
    pub fn optimiser(&self) -> &Descent {
        &self.replica.optimiser
    }

    /// The loss's scale as it is now; `None` when it is not scaled.
    pub fn scaler(&self) -> Option<LossScaler> {
        self.scaler
    }

    /// Learns from a batch. With a `limit`, gradients whose norm over all weights is greater are scaled down to it.
    ///
    /// # Errors
    /// When a device gives no answer, or the batch cannot be shared equally.
    pub fn step(
        mut self,
        batch: Batch,
        learning_rate: f64,
        limit: Option<f64>,
    ) -> Result<(Self, Stepped), TrainError> {
        let scale = self.scaler.map_or(1.0, |scaler| scaler.scale());
        let devices = self.partners.len() + 1;
        let mut parts = share(batch, devices)?.into_iter();
        let own = parts.next().ok_or_else(|| TrainError::Config("a batch has no case".into()))?;
        for (partner, part) in self.partners.iter().zip(parts) {
            partner.learn(part, scale)?;
        }
        let (loss, gradients) = self.replica.slopes(self.computing, own, scale)?;
        let mut sum = loss;
        for partner in &self.partners {
            sum += partner.loss()?;
        }
        let loss = sum / devices as f64;
        let gradients = match gradients {
            Some(gradients) if loss.is_finite() => gradients,
            _ => {
                self.tell(Move::Stay)?;
                return Ok((self, Stepped { loss, overflow: None }));
            }
        };
        let gradients = self.averaged(gradients)?;
        let Some(gradient_factor) = self.factor(&gradients, limit, scale)? else {
            self.tell(Move::Stay)?;
            let lowered = self.scaler.as_mut().is_some_and(LossScaler::overflowed);
            let overflow = Some(if lowered { Overflow::Lowered } else { Overflow::Final });
            return Ok((self, Stepped { loss, overflow }));
        };
        if let Some(scaler) = &mut self.scaler {
            scaler.fitted();
        }
        let size = StepSize { learning_rate, gradient_factor };
        self.tell(Move::By(size))?;
        self.replica = self.replica.moved(gradients, size);
        Ok((self, Stepped { loss, overflow: None }))
    }

    /// What gradients are to be multiplied by before a step, or `None` when one of them overflowed. Decided once, so
    /// that all copies of the network do the same.
    fn factor(
        &self,
        gradients: &GradientsParams,
        limit: Option<f64>,
        scale: f64,
    ) -> Result<Option<f64>, TrainError> {
        if limit.is_none() && self.scaler.is_none() {
            return Ok(Some(1.0));
        }
        let norm = optimise::norm(gradients, self.network())? / scale;
        if self.scaler.is_some() && !norm.is_finite() {
            return Ok(None);
        }
        Ok(Some(limit.map_or(1.0, |limit| optimise::factor(norm, limit)) / scale))
    }

    /// The mean over all devices.
    fn averaged(&self, mut gradients: GradientsParams) -> Result<GradientsParams, TrainError> {
        if self.partners.is_empty() {
            return Ok(gradients);
        }
        for partner in &self.partners {
            partner.tell(Move::Meet)?;
        }
        let (own, order) = flatten(self.network(), &mut gradients)?;
        let all = match &self.exchange {
            Exchange::Collective(_) => self.exchange.reduce(own)?,
            Exchange::ThroughFirst => {
                let mut all = vec![own];
                for partner in &self.partners {
                    all.push(partner.gradients()?);
                }
                let mean = mean(all, &self.replica.device)?;
                for partner in &self.partners {
                    partner.tell(Move::Take(Box::new(mean.clone())))?;
                }
                mean
            }
        };
        Ok(unflatten(self.network(), &all, &order))
    }

    fn tell(&self, order: Move) -> Result<(), TrainError> {
        self.partners.iter().try_for_each(|partner| partner.tell(order.clone()))
    }
}

/// Cuts a batch into equal parts, the first cases first.
///
/// # Errors
/// When the cases cannot be shared equally.
fn share(batch: Batch, parts: usize) -> Result<Vec<Batch>, TrainError> {
    if parts == 1 {
        return Ok(vec![batch]);
    }
    let [cases, c, d, h, w] = batch.shape;
    check_share(cases, parts)?;
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

/// Checks that a batch can be shared equally.
///
/// # Errors
/// When it cannot.
pub(crate) fn check_share(cases: usize, devices: usize) -> Result<(), TrainError> {
    if cases > 0 && cases.is_multiple_of(devices) {
        return Ok(());
    }
    Err(TrainError::Config(format!(
        "a batch of {cases} cannot be shared equally by {devices} devices; choose a `batch_size` (--batch-size) that is a \
         multiple of {devices}, or fewer devices"
    )))
}

#[cfg(test)]
mod tests;
