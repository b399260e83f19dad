//! Fused normalisation, affine transform, residual addition and (leaky) ReLU.
//!
//! Instance normalisation (Ulyanov et al. 2016) computes mean and variance over one channel of one sample, batch
//! normalisation (Ioffe & Szegedy 2015) over one channel of the batch. A *group* is the set of values that share a mean and a
//! variance. With x̂ = (x − mean) / sd the layer is y = act(γ x̂ + β + r), where r is the residual and act(u) = u for u > 0 and
//! slope · u otherwise.

mod groups;
mod moments;

use rayon::prelude::*;

use crate::error::{KernelError, check_length, product};
use crate::simd::dispatch;
use groups::{BackwardGroup, ForwardGroup, GroupParams};
use moments::{BlockMoments, RunningMoments};

/// The number of values that are summed in single precision before the sum is added to a double. A block has 16 KiB, so a
/// second pass over it reads from the L1 cache.
const BLOCK_VALUES: usize = 4096;
/// The number of registers per sum, so that consecutive additions do not depend on each other.
const SUM_REGISTERS: usize = 4;

/// The values that share a mean and a variance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NormScope {
    /// One channel of one sample: batch · channels groups, ordered by sample.
    Instance,
    /// One channel of all samples: one group per channel.
    Batch,
}

/// The shape `[batch, channels, voxels]` and the scope of a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormShape {
    /// The number of samples.
    pub batch: usize,
    /// The number of channels.
    pub channels: usize,
    /// The number of voxels per channel.
    pub voxels: usize,
    /// The values that share a mean and a variance.
    pub scope: NormScope,
}

impl NormShape {
    /// The number of groups.
    pub fn groups(&self) -> usize {
        match self.scope {
            NormScope::Instance => self.batch * self.channels,
            NormScope::Batch => self.channels,
        }
    }

    fn group_of(&self, plane: usize) -> usize {
        match self.scope {
            NormScope::Instance => plane,
            NormScope::Batch => plane % self.channels,
        }
    }

    /// The channels of each group.
    fn split<'a>(&self, values: &'a [f32]) -> Vec<Vec<&'a [f32]>> {
        let mut groups = vec![Vec::new(); self.groups()];
        for (plane, values) in values.chunks_exact(self.voxels).enumerate() {
            groups[self.group_of(plane)].push(values);
        }
        groups
    }

    fn split_mut<'a>(&self, values: &'a mut [f32]) -> Vec<Vec<&'a mut [f32]>> {
        let mut groups: Vec<Vec<&mut [f32]>> = (0..self.groups()).map(|_| Vec::new()).collect();
        for (plane, values) in values.chunks_exact_mut(self.voxels).enumerate() {
            groups[self.group_of(plane)].push(values);
        }
        groups
    }
}

/// The statistics of each group, computed by [`Norm::forward_train`] and used by [`Norm::backward`].
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// The means.
    pub mean: Vec<f32>,
    /// The biased variances: divided by the count, not by the count − 1.
    pub variance: Vec<f32>,
    /// The inverse standard deviations, 1 / √(variance + ε).
    pub inv_sd: Vec<f32>,
}

/// The residual that was added before the activation, and the output for its gradient.
#[derive(Debug)]
pub struct ResidualGradient<'a> {
    /// The residual of the forward pass: `[batch, channels, voxels]`.
    pub residual: &'a [f32],
    /// Its gradient, overwritten: `[batch, channels, voxels]`.
    pub gradient: &'a mut [f32],
}

/// A normalisation layer with its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    shape: NormShape,
    gamma: &'a [f32],
    beta: &'a [f32],
    slope: f32,
}

impl<'a> Norm<'a> {
    /// A layer with a scale γ and an offset β per channel, each of shape `[channels]`. `slope` is the slope of the activation for
    /// negative inputs: 0 for ReLU, 0.01 for nnU-Net's leaky ReLU, 1 for no activation.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for an empty shape, [`KernelError::Length`] for the wrong number of parameters.
    pub fn new(shape: NormShape, gamma: &'a [f32], beta: &'a [f32], slope: f32) -> Result<Self, KernelError> {
        if product("normalisation", &[shape.batch, shape.channels, shape.voxels])? == 0 {
            return Err(KernelError::Shape(format!("normalisation of an empty tensor, {shape:?}")));
        }
        check_length("gamma", gamma.len(), shape.channels)?;
        check_length("beta", beta.len(), shape.channels)?;
        Ok(Self { shape, gamma, beta, slope })
    }

    fn len(&self) -> usize {
        self.shape.batch * self.shape.channels * self.shape.voxels
    }

    fn params(&self, group: usize, mean: f32, inv_sd: f32) -> GroupParams {
        let channel = group % self.shape.channels;
        let scale = self.gamma[channel] * inv_sd;
        GroupParams { mean, inv_sd, scale, offset: self.beta[channel], slope: self.slope }
    }

    /// Normalises with the mean and variance of `x`, as in training.
    ///
    /// # Shapes
    /// `x`, `residual` and `y` are `[batch, channels, voxels]`; `y` is overwritten. The moments have one value per group.
    ///
    /// # Errors
    /// [`KernelError::Length`] for a slice whose length does not match its shape.
    pub fn forward_train(
        &self,
        x: &[f32],
        residual: Option<&[f32]>,
        epsilon: f32,
        y: &mut [f32],
    ) -> Result<Moments, KernelError> {
        self.check(x, residual, y)?;
        let found: Vec<[f32; 3]> = self
            .groups(x, residual, y)
            .into_par_iter()
            .enumerate()
            .map(|(index, group)| {
                let mut moments = RunningMoments::default();
                for plane in &group.x {
                    for block in plane.chunks(BLOCK_VALUES) {
                        moments = moments.merge(dispatch(BlockMoments(block)));
                    }
                }
                let variance = moments.squared_deviations / moments.count;
                let inv_sd = (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32;
                let mean = moments.mean as f32;
                group.apply(self.params(index, mean, inv_sd));
                [mean, variance as f32, inv_sd]
            })
            .collect();
        let column = |i: usize| found.iter().map(|moments| moments[i]).collect();
        Ok(Moments { mean: column(0), variance: column(1), inv_sd: column(2) })
    }

    /// Normalises with given means and inverse standard deviations, as batch normalisation does in inference.
    ///
    /// # Shapes
    /// `x`, `residual` and `y` are `[batch, channels, voxels]`; `y` is overwritten. `mean` and `inv_sd` are `[channels]`.
    ///
    /// # Errors
    /// [`KernelError::Length`] for a slice whose length does not match its shape.
    pub fn forward_fixed(
        &self,
        x: &[f32],
        mean: &[f32],
        inv_sd: &[f32],
        residual: Option<&[f32]>,
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        self.check(x, residual, y)?;
        check_length("mean", mean.len(), self.shape.channels)?;
        check_length("inv_sd", inv_sd.len(), self.shape.channels)?;
        self.groups(x, residual, y).into_par_iter().enumerate().for_each(|(index, group)| {
            let channel = index % self.shape.channels;
            group.apply(self.params(index, mean[channel], inv_sd[channel]));
        });
        Ok(())
    }

    /// The gradients of [`Norm::forward_train`]. The sign of the activation's input is recomputed from `x`, so only `x`, the
    /// residual and the moments have to be kept from the forward pass.
    ///
    /// # Shapes
    /// `x`, `dy`, `dx`, the residual and its gradient are `[batch, channels, voxels]`; `dgamma` and `dbeta` are `[channels]`. All
    /// outputs are overwritten.
    ///
    /// # Errors
    /// [`KernelError::Length`] for a slice whose length does not match its shape.
    #[expect(clippy::too_many_arguments, reason = "three inputs and four outputs, each a tensor of its own")]
    pub fn backward(
        &self,
        x: &[f32],
        moments: &Moments,
        dy: &[f32],
        residual: Option<ResidualGradient<'_>>,
        dx: &mut [f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) -> Result<(), KernelError> {
        let shape = &self.shape;
        check_length("x", x.len(), self.len())?;
        check_length("dy", dy.len(), self.len())?;
        check_length("dx", dx.len(), self.len())?;
        check_length("mean", moments.mean.len(), shape.groups())?;
        check_length("inv_sd", moments.inv_sd.len(), shape.groups())?;
        check_length("dgamma", dgamma.len(), shape.channels)?;
        check_length("dbeta", dbeta.len(), shape.channels)?;
        let (residual, dr) = match residual {
            None => (None, None),
            Some(ResidualGradient { residual, gradient }) => {
                check_length("residual", residual.len(), self.len())?;
                check_length("the residual's gradient", gradient.len(), self.len())?;
                (Some(residual), Some(gradient))
            }
        };
        let count = shape.groups();
        let residual = residual.map_or_else(|| vec![Vec::new(); count], |r| shape.split(r));
        let dr = dr.map_or_else(|| (0..count).map(|_| Vec::new()).collect(), |dr| shape.split_mut(dr));
        let groups: Vec<_> = shape
            .split(x)
            .into_iter()
            .zip(shape.split(dy))
            .zip(shape.split_mut(dx))
            .zip(residual.into_iter().zip(dr))
            .map(|(((x, dy), dx), (residual, dr))| BackwardGroup { x, dy, dx, residual, dr })
            .collect();
        let sums: Vec<[f64; 2]> = groups
            .into_par_iter()
            .enumerate()
            .map(|(index, group)| group.apply(self.params(index, moments.mean[index], moments.inv_sd[index])))
            .collect();
        for (channel, (dgamma, dbeta)) in dgamma.iter_mut().zip(dbeta).enumerate() {
            let of_channel = || sums.iter().skip(channel).step_by(shape.channels);
            *dbeta = of_channel().map(|sum| sum[0]).sum::<f64>() as f32;
            *dgamma = of_channel().map(|sum| sum[1]).sum::<f64>() as f32;
        }
        Ok(())
    }

    fn check(&self, x: &[f32], residual: Option<&[f32]>, y: &[f32]) -> Result<(), KernelError> {
        check_length("x", x.len(), self.len())?;
        check_length("y", y.len(), self.len())?;
        residual.map_or(Ok(()), |residual| check_length("residual", residual.len(), self.len()))
    }

    fn groups<'v>(&self, x: &'v [f32], residual: Option<&'v [f32]>, y: &'v mut [f32]) -> Vec<ForwardGroup<'v>> {
        let groups = self.shape.groups();
        let residual = residual.map_or_else(|| vec![Vec::new(); groups], |r| self.shape.split(r));
        let planes = self.shape.split(x).into_iter().zip(residual).zip(self.shape.split_mut(y));
        planes.map(|((x, residual), y)| ForwardGroup { x, residual, y }).collect()
    }
}
