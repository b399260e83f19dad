//! Steps of optimisers. A weight, its gradient and its moments are read once and written once: for large networks the
//! memory's speed is all that counts here.

use rayon::prelude::*;

use crate::error::{KernelError, check_length};
use crate::vector::{Kernel, Simd, vectorised};

/// Values that a thread takes at a time, and a lone thread takes without asking others.
const PIECE: usize = 1 << 14;

/// Sums side by side, so that the order of adding doesn't depend on the width of a register.
const LANES: usize = 16;

/// How far a step goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSize {
    /// The learning rate.
    pub learning_rate: f64,
    /// What gradients are multiplied by before anything else; below 1 where they are clipped.
    pub gradient_factor: f64,
}

/// Adam (Kingma & Ba 2015), with decoupled weight decay (Loshchilov & Hutter 2019) where it is not 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Share of the mean gradient that a step keeps, in [0, 1).
    pub beta1: f64,
    /// Share of the mean squared gradient that a step keeps, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
    /// Share of a weight that is taken away a step, times the learning rate.
    pub weight_decay: f64,
}

/// The factors of one step, the same for each weight.
///
/// m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², w ← `keep` w − `rate` m / (`root` √v + ε)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamFactors {
    /// Of the gradient.
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
    /// β₁ = 0.9, β₂ = 0.999 and ε = 1e-8, as the paper and PyTorch have them.
    pub const fn new(weight_decay: f64) -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay }
    }

    /// The factors of step `number`, counted from 1, with the corrections for moments that began at 0.
    ///
    /// # Errors
    /// Step 0, or a β outside [0, 1).
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

    /// Moves weights by step `number`, counted from 1. The moments of step 1 are 0.
    ///
    /// # Shapes
    /// `weight`, `gradient`, `mean` (of gradients) and `square` (mean of their squares): all alike.
    ///
    /// # Errors
    /// Slices of different lengths, step 0, or a β outside [0, 1).
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
        if weight.len() <= PIECE {
            vectorised(AdamPiece { factors, weight, gradient, mean, square });
            return Ok(());
        }
        weight
            .par_chunks_mut(PIECE)
            .zip(gradient.par_chunks(PIECE))
            .zip(mean.par_chunks_mut(PIECE).zip(square.par_chunks_mut(PIECE)))
            .for_each(|((weight, gradient), (mean, square))| {
                vectorised(AdamPiece { factors, weight, gradient, mean, square });
            });
        Ok(())
    }
}

struct AdamPiece<'a> {
    factors: AdamFactors,
    weight: &'a mut [f32],
    gradient: &'a [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
}

impl Kernel for AdamPiece<'_> {
    type Output = ();

    /// A plain loop, which the compiler turns into vectors of the set that it is compiled for. Nothing in it is fused, so
    /// each set gives the same bits.
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

/// Stochastic gradient descent with momentum, as PyTorch defines it: g ← g + decay · w, m ← μ m + g, and the weight goes by
/// −lr · m, or with Nesterov's look ahead (Sutskever et al. 2013) by −lr · (g + μ m).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// μ.
    pub momentum: f64,
    /// Whether the gradient is taken ahead of the step.
    pub nesterov: bool,
    /// Factor of the weights that is added to their gradient.
    pub weight_decay: f64,
}

impl Sgd {
    /// Moves weights. The velocity is 0 before the first step.
    ///
    /// # Shapes
    /// `weight`, `gradient` and `velocity` (m): all alike.
    ///
    /// # Errors
    /// Slices of different lengths.
    pub fn step(
        &self,
        size: StepSize,
        weight: &mut [f32],
        gradient: &[f32],
        velocity: &mut [f32],
    ) -> Result<(), KernelError> {
        check_length("gradient", gradient.len(), weight.len())?;
        check_length("velocity", velocity.len(), weight.len())?;
        let kernel = *self;
        if weight.len() <= PIECE {
            vectorised(SgdPiece { kernel, size, weight, gradient, velocity });
            return Ok(());
        }
        weight.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE)).zip(velocity.par_chunks_mut(PIECE)).for_each(
            |((weight, gradient), velocity)| {
                vectorised(SgdPiece { kernel, size, weight, gradient, velocity });
            },
        );
        Ok(())
    }
}

struct SgdPiece<'a> {
    kernel: Sgd,
    size: StepSize,
    weight: &'a mut [f32],
    gradient: &'a [f32],
    velocity: &'a mut [f32],
}

impl Kernel for SgdPiece<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (factor, rate) = (self.size.gradient_factor as f32, self.size.learning_rate as f32);
        let (momentum, decay) = (self.kernel.momentum as f32, self.kernel.weight_decay as f32);
        // g · by_gradient + m · by_velocity is the way that a weight goes.
        let [by_gradient, by_velocity] = if self.kernel.nesterov { [1.0, momentum] } else { [0.0, 1.0] };
        for ((w, &g), m) in self.weight.iter_mut().zip(self.gradient).zip(self.velocity) {
            let g = factor * g + decay * *w;
            let velocity = momentum * *m + g;
            *w -= rate * (by_gradient * g + by_velocity * velocity);
            *m = velocity;
        }
    }
}

/// The sum of the squares of values, in double precision and in one order.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    if values.len() <= PIECE {
        return vectorised(Squares(values));
    }
    let pieces: Vec<f64> = values.par_chunks(PIECE).map(|piece| vectorised(Squares(piece))).collect();
    pieces.into_iter().sum()
}

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let mut sums = [0.0_f64; LANES];
        let (chunks, rest) = self.0.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
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
