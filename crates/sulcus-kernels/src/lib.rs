//! CPU kernels for training U-Nets: convolutions, normalisation, pooling and losses with their gradients, and optimizer
//! steps.
//!
//! The kernels take slices and write to slices; they know neither an autodiff framework nor files. Tensors are row-major `f32`
//! of shape `[N, C, D, H, W]`; a 2-D tensor has D = 1. Each function states the shape of every argument and returns a
//! [`KernelError`] for a slice of another length, before anything is computed.
//!
//! - [`conv_forward`], [`conv_input_gradient`], [`conv_weight_gradient`]: convolution with `same` padding
//! - [`Bf16Convolution`]: the same with products in bfloat16, on processors with AMX
//! - [`ConvTranspose`]: transposed convolution whose kernel size equals its stride, for upsampling
//! - [`MaxPool`]: max pooling whose stride equals its window
//! - [`Norm`]: instance or batch normalisation, fused with a residual addition and (leaky) ReLU
//! - [`SegmentationLoss`]: nnU-Net's Dice and cross-entropy loss
//! - [`Adam`], [`Sgd`]: optimizer steps
//! - [`inference`]: layers for inference, with packed weights and fused normalisation
//!
//! Instruction sets (AMX, AVX-512, AVX2 with FMA, or the target's baseline) are detected at run time; SIMD128 of WebAssembly is used by modules
//! that are compiled for it. Work is distributed over
//! rayon's current thread pool. The results are identical to the bit on any number of threads; they may differ in the last
//! bits between instruction sets.
//!
//! ```
//! use sulcus_kernels::{Norm, NormScope, NormShape};
//!
//! // Instance normalisation of one sample with one channel of four voxels, followed by ReLU.
//! let shape = NormShape { batch: 1, channels: 1, voxels: 4, scope: NormScope::Instance };
//! let norm = Norm::new(shape, &[1.0], &[0.0], 0.0)?;
//! let mut y = [0.0; 4];
//! let moments = norm.forward_train(&[1.0, 3.0, 1.0, 3.0], None, 0.0, &mut y)?;
//! assert_eq!(moments.mean, [2.0]);
//! assert_eq!(y, [0.0, 1.0, 0.0, 1.0]);
//! # Ok::<(), sulcus_kernels::KernelError>(())
//! ```

mod amx;
mod bf16;
mod conv;
mod conv_transpose;
mod convolution;
mod error;
pub mod inference;
mod instruction_set;
mod lanes16;
mod loss;
mod norm;
mod optimizer;
mod pool;
mod scratch;
mod simd;
#[cfg(test)]
mod tests;

pub use bf16::Bf16Convolution;
pub use conv::{ConvShape, conv_weight_gradient};
pub use conv_transpose::{ConvTranspose, ConvTransposeGradients};
pub use convolution::{conv_forward, conv_input_gradient};
pub use error::KernelError;
pub use instruction_set::{InstructionSet, instruction_set};
pub use loss::{DiceReduction, LossActivation, LossTerms, Regions, SegmentationLoss};
pub use norm::{Moments, Norm, NormScope, NormShape, ResidualGradient};
pub use optimizer::{Adam, AdamFactors, Sgd, StepSize, sum_of_squares};
pub use pool::MaxPool;
