//! Optimizer steps: Adam, AdamW and SGD. Each step reads and writes a weight and its moments once, because for large networks
//! an optimizer is limited by memory bandwidth.

use rayon::prelude::*;

use crate::error::{KernelError, check_length};
use crate::simd::{Kernel, Simd, dispatch};

/// The number of values per task. Tensors up to this size are not split over threads.
const TASK_VALUES: usize = 1 << 14;

/// The number of parallel sums. It is fixed, so that the order of summation does not depend on the register width.
const PARALLEL_SUMS: usize = 16;

/// The size of an optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSize {
    /// The learning rate.
    pub learning_rate: f64,
    /// The factor that gradients are multiplied by first. Gradient clipping makes it less than 1.
    pub gradient_factor: f64,
}

/// Adam (Kingma & Ba 2015). A weight decay other than 0 is decoupled, which makes it AdamW (Loshchilov & Hutter 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// β₁, the decay rate of the mean gradient, in [0, 1).
    pub beta1: f64,
    /// β₂, the decay rate of the mean squared gradient, in [0, 1).
    pub beta2: f64,
    /// ε, added to the square root of the mean squared gradient.
    pub epsilon: f64,
    /// The weight decay λ: a step subtracts learning rate · λ · weight.
    pub weight_decay: f64,
}

/// The coefficients of one Adam step, which are the same for all weights:
///
/// m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², w ← `keep` · w − `rate` · m / (`root` · √v + ε)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamFactors {
    /// The factor of the gradient.
    pub gradient: f32,
    /// β₁ and 1 − β₁.
    pub mean: [f32; 2],
    /// β₂ and 1 − β₂.
    pub square: [f32; 2],
    /// 1 − learning rate · weight decay.
    pub keep: f32,
    /// Learning rate / (1 − β₁ᵗ).
    pub rate: f32,
    /// 1 / √(1 − β₂ᵗ).
    pub root: f32,
    /// ε.
    pub epsilon: f32,
}

impl Adam {
    /// β₁ = 0.9, β₂ = 0.999 and ε = 1e-8, the defaults of the paper and of PyTorch.
    pub const fn new(weight_decay: f64) -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay }
    }

    /// The coefficients of step `number`, counted from 1, with Adam's bias correction.
    ///
    /// # Errors
    /// [`KernelError::Step`] for step 0 or a β outside [0, 1).
    pub fn factors(&self, number: u64, size: StepSize) -> Result<AdamFactors, KernelError> {
        let Self { beta1, beta2, epsilon, weight_decay } = *self;
        if number == 0 {
            return Err(KernelError::Step("steps of Adam are counted from 1, this is step 0".into()));
        }
        if ![beta1, beta2].iter().all(|beta| (0.0..1.0).contains(beta)) {
            return Err(KernelError::Step(format!("Adam with β {beta1} and {beta2}: each has to be in [0, 1)")));
        }
        let unbiased = |beta: f64| 1.0 - beta.powf(number as f64);
        let StepSize { learning_rate, gradient_factor } = size;
        Ok(AdamFactors {
            gradient: gradient_factor as f32,
            mean: [beta1 as f32, (1.0 - beta1) as f32],
            square: [beta2 as f32, (1.0 - beta2) as f32],
            keep: (1.0 - learning_rate * weight_decay) as f32,
            rate: (learning_rate / unbiased(beta1)) as f32,
            root: unbiased(beta2).sqrt().recip() as f32,
            epsilon: epsilon as f32,
        })
    }

    /// Updates `weight` by step `number`, counted from 1. Before step 1 the moments must be 0.
    ///
    /// # Shapes
    /// `weight`, `gradient`, `mean` (of the gradients) and `square` (mean of the squared gradients) have the same length.
    ///
    /// # Errors
    /// [`KernelError::Length`] for slices of different lengths, [`KernelError::Step`] for step 0 or a β outside [0, 1).
    pub fn step(
        &self,
        number: u64,
        size: StepSize,
        weight: &mut [f32],
        gradient: &[f32],
        mean: &mut [f32],
        square: &mut [f32],
    ) -> Result<(), KernelError> {
        check_length("gradient", gradient.len(), weight.len())?;
        check_length("mean", mean.len(), weight.len())?;
        check_length("square", square.len(), weight.len())?;
        let factors = self.factors(number, size)?;
        if weight.len() <= TASK_VALUES {
            dispatch(AdamTask { factors, weight, gradient, mean, square });
            return Ok(());
        }
        weight
            .par_chunks_mut(TASK_VALUES)
            .zip(gradient.par_chunks(TASK_VALUES))
            .zip(mean.par_chunks_mut(TASK_VALUES).zip(square.par_chunks_mut(TASK_VALUES)))
            .for_each(|((weight, gradient), (mean, square))| {
                dispatch(AdamTask { factors, weight, gradient, mean, square });
            });
        Ok(())
    }
}

struct AdamTask<'a> {
    factors: AdamFactors,
    weight: &'a mut [f32],
    gradient: &'a [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
}

impl Kernel for AdamTask<'_> {
    type Output = ();

    /// The compiler vectorises this loop for each instruction set. It contains no fused multiply-add, so the results are
    /// identical to the bit on all of them.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let AdamFactors {
            gradient: factor,
            mean: [old_m, new_m],
            square: [old_v, new_v],
            keep,
            rate,
            root,
            epsilon,
        } = self.factors;
        let moments = self.mean.iter_mut().zip(self.square);
        for ((w, &g), (m, v)) in self.weight.iter_mut().zip(self.gradient).zip(moments) {
            let g = factor * g;
            let mean = old_m * *m + new_m * g;
            let square = old_v * *v + new_v * (g * g);
            *w = keep * *w - rate * mean / (root * square.sqrt() + epsilon);
            *m = mean;
            *v = square;
        }
    }
}

/// Stochastic gradient descent with momentum as PyTorch defines it: g ← g + decay · w, m ← μ m + g, w ← w − lr · m, or with
/// Nesterov momentum (Sutskever et al. 2013) w ← w − lr · (g + μ m).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// The momentum μ.
    pub momentum: f64,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
    /// The weight decay: this factor times the weight is added to its gradient.
    pub weight_decay: f64,
}

impl Sgd {
    /// Updates `weight`. Before the first step the velocity must be 0.
    ///
    /// # Shapes
    /// `weight`, `gradient` and `velocity` (m) have the same length.
    ///
    /// # Errors
    /// [`KernelError::Length`] for slices of different lengths.
    pub fn step(
        &self,
        size: StepSize,
        weight: &mut [f32],
        gradient: &[f32],
        velocity: &mut [f32],
    ) -> Result<(), KernelError> {
        check_length("gradient", gradient.len(), weight.len())?;
        check_length("velocity", velocity.len(), weight.len())?;
        let rule = *self;
        if weight.len() <= TASK_VALUES {
            dispatch(SgdTask { rule, size, weight, gradient, velocity });
            return Ok(());
        }
        weight
            .par_chunks_mut(TASK_VALUES)
            .zip(gradient.par_chunks(TASK_VALUES))
            .zip(velocity.par_chunks_mut(TASK_VALUES))
            .for_each(|((weight, gradient), velocity)| {
                dispatch(SgdTask { rule, size, weight, gradient, velocity });
            });
        Ok(())
    }
}

struct SgdTask<'a> {
    rule: Sgd,
    size: StepSize,
    weight: &'a mut [f32],
    gradient: &'a [f32],
    velocity: &'a mut [f32],
}

impl Kernel for SgdTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (factor, rate) = (self.size.gradient_factor as f32, self.size.learning_rate as f32);
        let (momentum, decay) = (self.rule.momentum as f32, self.rule.weight_decay as f32);
        // The weight changes by −lr · (g · by_gradient + m · by_velocity).
        let [by_gradient, by_velocity] = if self.rule.nesterov { [1.0, momentum] } else { [0.0, 1.0] };
        for ((w, &g), m) in self.weight.iter_mut().zip(self.gradient).zip(self.velocity) {
            let g = factor * g + decay * *w;
            let velocity = momentum * *m + g;
            *w -= rate * (by_gradient * g + by_velocity * velocity);
            *m = velocity;
        }
    }
}

/// The sum of squares in double precision, in a fixed order of summation.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    if values.len() <= TASK_VALUES {
        return dispatch(SumOfSquares(values));
    }
    let sums: Vec<f64> = values.par_chunks(TASK_VALUES).map(|task| dispatch(SumOfSquares(task))).collect();
    sums.into_iter().sum()
}

struct SumOfSquares<'a>(&'a [f32]);

impl Kernel for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let mut sums = [0.0_f64; PARALLEL_SUMS];
        let (chunks, rest) = self.0.as_chunks::<PARALLEL_SUMS>();
        for chunk in chunks {
            for lane in 0..PARALLEL_SUMS {
                let value = f64::from(chunk[lane]);
                sums[lane] += value * value;
            }
        }
        for (sum, &value) in sums.iter_mut().zip(rest) {
            *sum += f64::from(value) * f64::from(value);
        }
        sums.into_iter().sum()
    }
}
