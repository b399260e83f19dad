//! Convolutions, normalisations, pooling and losses with their gradients, and steps of optimisers, for CPUs.
//!
//! Slices in, slices out: tensors are row-major `f32`, `[N, C, D, H, W]`, and a 2-D tensor has D = 1. The same input gives
//! the same bits on any number of threads.

mod conv;
mod error;
mod loss;
mod norm;
mod pool;
mod scratch;
mod simd;
mod step;
#[cfg(test)]
mod tests;
mod up;
mod vector;

pub use conv::{ConvShape, conv_forward, conv_input_gradient, conv_weight_gradient};
pub use error::KernelError;
pub use loss::{Activation, DiceSums, Regions, SegmentationLoss, Terms};
pub use norm::{Moments, Norm, NormScope, NormShape, ResidualGradient};
pub use pool::MaxPool;
pub use simd::{Instructions, instructions};
pub use step::{Adam, AdamFactors, Sgd, StepSize, sum_of_squares};
pub use up::{UpConvolution, UpGradients};
