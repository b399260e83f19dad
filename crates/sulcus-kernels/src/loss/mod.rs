//! Cross-entropy and soft Dice with their gradient, in one pass over the logits and one over the gradient.
//!
//! nnU-Net's training loss (Isensee et al. 2021): cross-entropy, averaged over the voxels that are not ignored, plus 1 − soft
//! Dice (Milletari et al. 2016), averaged over the foreground classes, where soft Dice is
//! (2 Σ p t + s) / (Σ p + Σ t + s) for probabilities p, true labels t and a smoothing term s.

mod math;
mod regions;
mod sigmoid;
mod softmax;
mod task;

use rayon::prelude::*;

use crate::error::{KernelError, check_length, product};
use crate::simd::dispatch;
use regions::ClassChannels;
use sigmoid::{Sigmoid, SigmoidGradient};
use softmax::{Softmax, SoftmaxGradient};
use task::{Derivatives, Sums, split};

pub use regions::Regions;

/// The class of ignored voxels.
const IGNORED: u8 = 255;
/// The smoothing term of Dice for a single sigmoid channel.
const SIGMOID_SMOOTH: f64 = 1e-6;
/// The smoothing term of Dice for softmax classes and for regions; nnU-Net's value.
const SMOOTH: f64 = 1e-5;

/// The function that converts logits to probabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossActivation {
    /// Softmax over the channels. Each channel is a class; the first one is the background.
    Softmax,
    /// Sigmoid of a single channel. Every class above 0 is foreground.
    Sigmoid,
    /// Sigmoid of each channel; each channel is a region, and regions may overlap. The cross-entropy is also averaged over the
    /// channels.
    Regions(Regions),
}

/// The terms of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossTerms {
    /// Cross-entropy.
    CrossEntropy,
    /// 1 − soft Dice.
    Dice,
    /// The sum of both.
    DiceCrossEntropy,
}

/// The voxels over which soft Dice sums before the division.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiceReduction {
    /// All samples of the batch: nnU-Net's `batch_dice`.
    Batch,
    /// Each sample, followed by the mean over the samples.
    Sample,
}

/// A segmentation loss: logits `[batch, channels, voxels]` against true classes `[batch, voxels]`.
///
/// ```
/// use sulcus_kernels::{DiceReduction, LossActivation, LossTerms, SegmentationLoss};
///
/// let loss = SegmentationLoss {
///     activation: LossActivation::Softmax,
///     terms: LossTerms::CrossEntropy,
///     reduction: DiceReduction::Batch,
/// };
/// // One sample of two classes and two voxels with equal logits; the second voxel is ignored.
/// let mut gradient = [0.0; 4];
/// let value = loss.value_and_gradient([1, 2, 2], 1.0, &[0.0; 4], &[1, 255], &mut gradient)?;
/// assert!((value - 2.0_f64.ln()).abs() < 1e-6);
/// assert_eq!(gradient, [0.5, 0.0, -0.5, 0.0]);
/// # Ok::<(), sulcus_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SegmentationLoss {
    /// The function that converts logits to probabilities.
    pub activation: LossActivation,
    /// The terms of the loss.
    pub terms: LossTerms,
    /// The voxels over which soft Dice sums.
    pub reduction: DiceReduction,
}

impl SegmentationLoss {
    /// Computes the loss and its gradient with respect to the logits, both multiplied by `weight`. Voxels of class 255 are
    /// ignored. If all voxels are ignored, the cross-entropy is 0.
    ///
    /// # Shapes
    /// - `logits`, `gradient`: `[batch, channels, voxels]`; `gradient` is overwritten
    /// - `classes`: `[batch, voxels]`
    ///
    /// # Errors
    /// After an error the content of `gradient` is unspecified.
    /// - [`KernelError::Length`] for a slice whose length does not match its shape
    /// - [`KernelError::Shape`] for an empty shape, softmax over fewer than 2 or more than 255 channels, sigmoid over more than
    ///   one channel, or regions whose number is not that of the channels
    /// - [`KernelError::Class`] for a class that does not exist
    pub fn value_and_gradient(
        &self,
        [batch, channels, voxels]: [usize; 3],
        weight: f64,
        logits: &[f32],
        classes: &[u8],
        gradient: &mut [f32],
    ) -> Result<f64, KernelError> {
        let len = product("loss", &[batch, channels, voxels])?;
        let foreground;
        let (channels_fit, class_channels) = match &self.activation {
            LossActivation::Softmax => ((2..=usize::from(IGNORED)).contains(&channels), None),
            LossActivation::Sigmoid => {
                foreground = ClassChannels::foreground();
                (channels == 1, Some(&foreground))
            }
            LossActivation::Regions(regions) => (channels == regions.count(), Some(&*regions.channels)),
        };
        if len == 0 || !channels_fit {
            let kind = match &self.activation {
                LossActivation::Softmax => "softmax".to_owned(),
                LossActivation::Sigmoid => "sigmoid".to_owned(),
                LossActivation::Regions(regions) => format!("{} regions'", regions.count()),
            };
            return Err(KernelError::Shape(format!("{kind} loss of [{batch}, {channels}, {voxels}] logits")));
        }
        check_length("logits", logits.len(), len)?;
        check_length("gradient", gradient.len(), len)?;
        check_length("classes", classes.len(), batch * voxels)?;

        let mut tasks = split([channels, voxels], logits, classes, gradient);
        let found: Vec<Sums> = tasks
            .par_iter_mut()
            .map(|task| match class_channels {
                None => dispatch(Softmax(task)),
                Some(class_channels) => dispatch(Sigmoid(task, &class_channels.of_class)),
            })
            .collect();
        let max_class = found.iter().map(|sums| sums.max_class).max().unwrap_or(0);
        let classes = class_channels.map_or(channels, |class_channels| class_channels.classes);
        if usize::from(max_class) >= classes {
            return Err(KernelError::Class { found: max_class, classes });
        }

        // The number of Dice values that are averaged.
        let reductions = match self.reduction {
            DiceReduction::Batch => 1,
            DiceReduction::Sample => batch,
        };
        let tasks_per_reduction = found.len() / reductions;
        let reduced: Vec<Sums> = found.chunks(tasks_per_reduction).map(Sums::merge).collect();
        let all = Sums::merge(&reduced);
        let mut value = 0.0;
        let mut derivatives = Derivatives { entropy: 0.0, dice: Vec::new() };
        if self.terms != LossTerms::Dice && all.counted > 0 {
            value += weight * all.entropy / all.counted as f64;
            derivatives.entropy = (weight / all.counted as f64) as f32;
        }
        let mut derivatives: Vec<Derivatives> = vec![derivatives; reductions];
        if self.terms != LossTerms::CrossEntropy {
            let (first, smooth) = match &self.activation {
                LossActivation::Softmax => (1, SMOOTH),
                LossActivation::Sigmoid => (0, SIGMOID_SMOOTH),
                LossActivation::Regions(_) => (0, SMOOTH),
            };
            let dice_weight = weight / (reductions * (channels - first)) as f64;
            value += weight;
            for (sums, derivatives) in reduced.iter().zip(&mut derivatives) {
                for (channel, dice) in sums.dice.iter().enumerate() {
                    if channel < first {
                        derivatives.dice.push([0.0; 2]);
                        continue;
                    }
                    let numerator = 2.0 * dice.intersection + smooth;
                    let denominator = dice.predicted + dice.true_voxels + smooth;
                    value -= dice_weight * numerator / denominator;
                    derivatives.dice.push([
                        (dice_weight * numerator / (denominator * denominator)) as f32,
                        (-2.0 * dice_weight / denominator) as f32,
                    ]);
                }
            }
        } else {
            derivatives.iter_mut().for_each(|derivatives| derivatives.dice = vec![[0.0; 2]; channels]);
        }
        tasks.par_iter_mut().enumerate().for_each(|(task, part)| {
            let derivatives = &derivatives[task / tasks_per_reduction];
            match class_channels {
                None => dispatch(SoftmaxGradient(part, derivatives)),
                Some(class_channels) => dispatch(SigmoidGradient(part, &class_channels.of_class, derivatives)),
            }
        });
        Ok(value)
    }
}
