//! 2-D and 3-D convolution with its gradients, in single precision; the gradient of the weights also in bfloat16.
//!
//! # Algorithm
//!
//! An *implicit GEMM*: the sum over input channels and kernel taps is computed as a matrix product, but the im2col matrix
//! is never built. The input is packed with its zero padding, so that every tap reads the same packed input at another
//! constant offset. Three passes share the machinery:
//!
//! - **Forward** ([`correlation`]): one cross-correlation.
//! - **Input gradient** ([`correlation`]): a cross-correlation of `dy` with the reversed kernel. With a stride of 2 it
//!   splits into one cross-correlation for each output phase (position modulo stride), since outputs of the same phase
//!   use the same taps.
//! - **Weight gradient** ([`weight_gradient`]): for each pair of channels and each tap, a sum over all positions.
//!
//! `tile_weight_gradient` is the last of them with products in bfloat16, by AMX. The other two are in `inference`.
//!
//! # Layouts
//!
//! - **Tensors** at the interface: `[N, C, D, H, W]`, row-major.
//! - **Packed input** ([`pack::PaddedLayout`]): `[D, H, C, phase, W / phases]` per sample, zero padding included. The rows
//!   of all channels are adjacent, because a micro-kernel reads a few rows of every channel. With a stride of 2 along W the
//!   even columns of a row come before the odd ones, so that the inputs of neighbouring outputs are adjacent.
//! - **Packed weights** ([`pack::pack_weights`]): `[panel][tap row][input channel][tap][16]`. A *panel* is a block of 16
//!   output channels, padded with zeros. A *tap row* is a group of one or three neighbouring taps along W that share their
//!   inputs.
//! - **Channel-blocked tensors** ([`channel_layout`]): `[panel][position][16]`, oneDNN's nChw16c: the results of the
//!   forward micro-kernel and the output gradient that the weight gradient reads.
//!
//! # Micro-kernels
//!
//! [`micro_kernel`] computes a register tile of `PANELS` panels × `ROWS` × `COLUMNS` output positions. Its 16 vector lanes
//! are 16 output channels; weights are loaded as vectors and each input value is broadcast. A tile can therefore have any
//! width, and the narrow feature maps deep in a U-Net waste no lanes. [`weight_micro_kernel`] keeps a tile of `PANELS`
//! panels × `ROWS` input channels × `TAPS` taps in registers while it walks over the positions.
//!
//! The number of accumulators limits the tile, `PANELS · ROWS · COLUMNS`:
//!
//! | instruction set | registers per 16 lanes | accumulators of 16 lanes | panels | rows |
//! | --- | --- | --- | --- | --- |
//! | AVX-512 | 1 | 24 | 1 or 2 | 1, 2 or 4 |
//! | AVX2 and FMA | 2 | 6 | 1 | 1 |
//! | portable | 4 (SSE2, NEON) | 2 | 1 | 1 |
//!
//! The tile sizes that exist are listed in `micro_kernel_for` and `weight_micro_kernel_for`; `choose_tile` and
//! `choose_weight_tile` pick one. A test checks that every size that can be picked exists.
//!
//! A call of the forward micro-kernel accumulates all input channels and all tap rows of its tile. The accumulators start
//! from the bias. The results go to a small buffer, `[panel][row][column][16]`, and [`channel_layout::deinterleave`] writes
//! them to the planar output. An epilogue (activation, folded normalisation, conversion) belongs between these two steps,
//! in `run_plane` of [`correlation`]. Packed weights depend neither on the input nor on its size, so they can be reused for
//! many inputs.
//!
//! # Blocking
//!
//! The work is cut into blocks of (sample, panels, planes, rows), which run in parallel. If the weights fit in the L2 cache
//! beside a few planes of input, each block packs the planes that it reads into a ring buffer of its own, and the packed
//! input never leaves the core's cache. Otherwise the input is packed once, and the blocks are ordered with the panels
//! outermost, so that the weights of a panel stay in the cache.
//!
//! # Reproducibility
//!
//! Results are identical to the bit on any number of threads: each output is accumulated by one thread in a fixed order, and
//! the partial sums of the weight gradient depend on the shape alone. Results differ in the last bits between instruction
//! sets ([`InstructionSet`]).

pub(crate) mod channel_layout;
mod correlation;
pub(crate) mod micro_kernel;
pub(crate) mod pack;
mod shape;
#[cfg(target_arch = "x86_64")]
mod tile_weight_gradient;
mod weight_gradient;
mod weight_micro_kernel;

#[cfg(test)]
pub(crate) mod tests;

pub use shape::ConvShape;

#[cfg(target_arch = "x86_64")]
use crate::amx::Amx;
use crate::error::KernelError;
use crate::instruction_set::{InstructionSet, instruction_set};
use correlation::Correlation;
pub(crate) use shape::ChannelSplit;

/// The gradients of a convolution with respect to its weights and bias: computes `dw` and `db` from `x` and `dy`.
///
/// # Shapes
///
/// - `x`: as for [`conv_forward`](crate::conv_forward)
/// - `dy`: `[N, O, D′, H′, W′]`
/// - `dw`: `[O, I, kd, kh, kw]`, overwritten
/// - `db`: `[O]`, overwritten
///
/// # Errors
///
/// As [`conv_forward`](crate::conv_forward).
pub fn conv_weight_gradient(
    shape: &ConvShape,
    x: &[&[f32]],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) -> Result<(), KernelError> {
    weight_gradient_with(instruction_set(), shape, x, dy, dw, db)
}

/// Checks the lengths of the slices of a forward pass; returns the channels of each input.
pub(crate) fn check_forward(
    shape: &ConvShape,
    x: &[&[f32]],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &[f32],
) -> Result<ChannelSplit, KernelError> {
    shape.check()?;
    let lengths: Vec<usize> = x.iter().map(|tensor| tensor.len()).collect();
    let split = ChannelSplit::new(shape, "x", &lengths)?;
    shape::length("weight", shape.weight_length(), weight.len())?;
    if let Some(bias) = bias {
        shape::length("bias", shape.outputs, bias.len())?;
    }
    shape::length("y", shape.output_length(), y.len())?;
    Ok(split)
}

/// Checks the lengths of the slices of an input gradient; returns the channels of each tensor.
pub(crate) fn check_input_gradient(
    shape: &ConvShape,
    weight: &[f32],
    dy: &[f32],
    dx: &[&mut [f32]],
) -> Result<ChannelSplit, KernelError> {
    shape.check()?;
    let lengths: Vec<usize> = dx.iter().map(|tensor| tensor.len()).collect();
    let split = ChannelSplit::new(shape, "dx", &lengths)?;
    shape::length("weight", shape.weight_length(), weight.len())?;
    shape::length("dy", shape.output_length(), dy.len())?;
    Ok(split)
}

/// The forward pass as a direct sum.
pub(crate) fn forward_with(
    instruction_set: InstructionSet,
    shape: &ConvShape,
    x: &[&[f32]],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<(), KernelError> {
    let split = check_forward(shape, x, weight, bias, y)?;
    let shape = shape.flattened();
    let correlation = Correlation::forward(&shape, weight, bias);
    let outputs = ChannelSplit::whole(shape.outputs);
    correlation.run(instruction_set, shape.batch, x, &split, &mut [y], &outputs);
    Ok(())
}

/// The input gradient as a direct sum.
pub(crate) fn input_gradient_with(
    instruction_set: InstructionSet,
    shape: &ConvShape,
    weight: &[f32],
    dy: &[f32],
    dx: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    let split = check_input_gradient(shape, weight, dy, dx)?;
    let shape = shape.flattened();
    let inputs = ChannelSplit::whole(shape.outputs);
    Correlation::input_gradient(&shape, weight).run(instruction_set, shape.batch, &[dy], &inputs, dx, &split);
    Ok(())
}

fn weight_gradient_with(
    instruction_set: InstructionSet,
    shape: &ConvShape,
    x: &[&[f32]],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) -> Result<(), KernelError> {
    weight_gradient_by(shape, x, dy, dw, db, |split, dw| {
        weight_gradient::run(instruction_set, &shape.flattened(), x, split, dy, dw);
    })
}

/// The gradient of the weights with AMX, whose products are in bfloat16; that of the bias is in single precision.
#[cfg(target_arch = "x86_64")]
pub(crate) fn tile_weight_gradient(
    amx: Amx,
    shape: &ConvShape,
    x: &[&[f32]],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) -> Result<(), KernelError> {
    weight_gradient_by(shape, x, dy, dw, db, |split, dw| {
        tile_weight_gradient::run(amx, shape, x, split, dy, dw);
    })
}

/// Checks the lengths of the slices, computes `dw` by `run`, which gets the channels of each input, and `db`.
fn weight_gradient_by(
    shape: &ConvShape,
    x: &[&[f32]],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    run: impl FnOnce(&ChannelSplit, &mut [f32]),
) -> Result<(), KernelError> {
    shape.check()?;
    let lengths: Vec<usize> = x.iter().map(|tensor| tensor.len()).collect();
    let split = ChannelSplit::new(shape, "x", &lengths)?;
    shape::length("dy", shape.output_length(), dy.len())?;
    shape::length("dw", shape.weight_length(), dw.len())?;
    if let Some(db) = &db {
        shape::length("db", shape.outputs, db.len())?;
    }
    run(&split, dw);
    if let Some(db) = db {
        weight_gradient::bias(shape, dy, db);
    }
    Ok(())
}
