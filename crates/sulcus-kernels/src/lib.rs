//! Convolutions, normalisations and their gradients for CPUs.

mod error;
mod loss;
mod norm;
mod pool;
mod simd;
mod up;

pub use error::KernelError;
pub use loss::{Activation, DiceSums, SegmentationLoss, Terms};
pub use norm::{Moments, Norm, NormScope, NormShape, ResidualGradient};
pub use pool::MaxPool;
pub use up::{UpConvolution, UpGradients};
