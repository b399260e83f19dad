//! Layers for inference.
//!
//! Unlike the layers for training, these keep packed weights, and a normalisation is never a layer of its own: the layer before
//! it gathers the statistics of its output while it writes ([`LayerOutput::moments`]), [`instance_norm_transform`] turns them
//! into a scale and a shift for each channel, and the layer after it applies these and the activation while it reads
//! ([`InputTransform`]). A concatenation is two inputs.
//!
//! # Convolution
//!
//! [`PackedConv`] uses the algorithm, the micro-kernels and the layouts of the training convolutions (see `conv`), with three
//! differences. The input is converted and transformed while it is packed, so that its storage may be `f32`, bfloat16 or 8-bit
//! integers. What is packed are *cells* of 32 bits that hold one, two or four channels: the micro-kernels broadcast a cell,
//! whatever it holds. And the sums of up to 96 columns go through an epilogue before they are written.
//!
//! # AMX
//!
//! In bfloat16 and in 8-bit integers, processors with AMX multiply tiles: sixteen output channels, times sixteen neighbouring positions, times
//! as many input channels as 64 bytes hold. The packed cells are read as they are: the cell rows of a tile are sixteen channel groups, or the
//! groups of neighbouring rows of taps, which follow each other in memory. A tile has to begin at a cache line, so that it cannot be shifted by
//! a tap: the taps along W are output channels of their own, and the epilogue adds their sums with the shift of each. Sums are planar and
//! need not be transposed. The sums of integers are exact and therefore the same as on other instruction sets. In bfloat16 the order of
//! the sums differs, and numbers below 2⁻¹²⁶ count as zero.
//!
//! # Winograd
//!
//! Kernels of three taps along W with stride 1 use Winograd's filtering in single precision where the output is large enough and has enough input channels: half
//! of the multiplications, with 1.5 times the rounding errors. The shape of the layer alone decides, so that results depend neither
//! on the batch nor on the number of threads.

mod epilogue;
mod execute;
mod few_outputs;
mod moments;
mod pack;
mod packed_conv;
mod packed_conv_transpose;
mod pointwise;
mod precision;
mod prefetch;
pub(crate) mod rows;
mod tensor;
mod weights;
pub(crate) mod winograd;
mod winograd_conv;

#[cfg(test)]
mod tests;

pub use packed_conv::PackedConv;
pub use packed_conv_transpose::PackedConvTranspose;
pub use pointwise::{Pooling, apply_transform, pool};
pub use precision::{Emulation, Precision};
pub use tensor::{InputTransform, LayerInput, LayerOutput, MomentsMut, Quantization, Values, ValuesMut};
pub use weights::{ConvKernel, Int8Weights};
pub(crate) use winograd_conv::convolve;

use crate::error::{KernelError, check_length};

/// Computes the scale and the shift of an instance normalisation from the statistics of its input:
/// `scale = γ / √(variance + ε)`, `shift = β − mean · scale`.
///
/// # Shapes
///
/// - `mean`, `variance`: `[N, C]`
/// - `gamma`, `beta`: `[C]`
/// - `scale`, `shift`: `[N, C]`, overwritten
///
/// # Errors
///
/// [`KernelError::Length`] for a slice whose length does not match the others.
pub fn instance_norm_transform(
    [mean, variance]: [&[f32]; 2],
    [gamma, beta]: [&[f32]; 2],
    epsilon: f32,
    [scale, shift]: [&mut [f32]; 2],
) -> Result<(), KernelError> {
    let channels = gamma.len();
    check_length("beta", beta.len(), channels)?;
    check_length("variance", variance.len(), mean.len())?;
    check_length("scale", scale.len(), mean.len())?;
    check_length("shift", shift.len(), mean.len())?;
    check_length("mean", mean.len() % channels.max(1), 0)?;
    for (index, (scale, shift)) in scale.iter_mut().zip(shift).enumerate() {
        let channel = index % channels;
        let factor = f64::from(gamma[channel]) / (f64::from(variance[index]) + f64::from(epsilon)).sqrt();
        *scale = factor as f32;
        *shift = (f64::from(beta[channel]) - f64::from(mean[index]) * factor) as f32;
    }
    Ok(())
}
