//! Convolutions, normalisations and their gradients for CPUs.
//!
//! Slices in, slices out: tensors are row-major `f32`, `[N, C, D, H, W]`, and a 2-D tensor has D = 1.

mod conv;
mod error;
mod scratch;
mod simd;

pub use conv::{ConvShape, conv_forward, conv_input_gradient, conv_weight_gradient};
pub use error::KernelError;
pub use simd::{Instructions, instructions};
