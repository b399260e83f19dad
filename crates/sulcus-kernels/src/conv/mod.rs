//! Convolutions with their gradients, in single precision.
//!
//! The input is copied between zeros, so that every term of the sum is the same input at another offset; what is left is a
//! matrix product whose second operand is never built. The gradient by the input is the same sum with the kernel turned
//! around, taken apart by the stride's phases; the gradient by the weights runs along the positions. Where the weights are few,
//! each piece of work copies the few planes that it reads, and they never leave its processor's cache; else the copy is made
//! once for all.
//!
//! Results are the same to the bit for any number of threads: an output is summed in one go, and the weight gradient's sums
//! are split by the shape alone. They differ in the last bits between [`Instructions`](crate::Instructions).

mod correlate;
mod pack;
mod shape;
mod store;
mod tile;
mod weight_gradient;
mod weight_tile;

#[cfg(test)]
mod tests;

pub use shape::ConvShape;

use crate::error::KernelError;
use crate::simd::{Instructions, instructions};
use correlate::Correlation;
use shape::Parts;

/// Convolves `x` with `weight` and adds `bias`.
///
/// The cross-correlation of deep learning: padded with `kernel / 2` zeros on both sides, every `stride`-th position.
///
/// # Shapes
///
/// - `x`: one or two blocks of channels that lie behind one another, `[N, C₁, D, H, W]` and `[N, C₂, D, H, W]` with
///   `C₁ + C₂ = shape.inputs`; the split is read from the lengths
/// - `weight`: `[O, I, kd, kh, kw]`
/// - `bias`: `[O]`
/// - `y`: `[N, O, D′, H′, W′]`, overwritten; the last three are [`ConvShape::output_size`]
///
/// # Errors
///
/// A slice whose length does not fit the shape, or a shape that can't be computed: an even kernel, a kernel beyond 7, a stride
/// beyond 2, an empty axis.
pub fn conv_forward(
    shape: &ConvShape,
    x: &[&[f32]],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<(), KernelError> {
    forward_with(instructions(), shape, x, weight, bias, y)
}

/// The gradient by the convolution's input: given `dy`, fills `dx`.
///
/// # Shapes
///
/// - `weight`: `[O, I, kd, kh, kw]`
/// - `dy`: `[N, O, D′, H′, W′]`
/// - `dx`: one or two blocks as `x` of [`conv_forward`], overwritten
///
/// # Errors
///
/// As [`conv_forward`].
pub fn conv_input_gradient(
    shape: &ConvShape,
    weight: &[f32],
    dy: &[f32],
    dx: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    input_gradient_with(instructions(), shape, weight, dy, dx)
}

/// The gradients by the convolution's weights and bias: given `x` and `dy`, fills `dw` and `db`.
///
/// # Shapes
///
/// - `x`: as for [`conv_forward`]
/// - `dy`: `[N, O, D′, H′, W′]`
/// - `dw`: `[O, I, kd, kh, kw]`, overwritten
/// - `db`: `[O]`, overwritten
///
/// # Errors
///
/// As [`conv_forward`].
pub fn conv_weight_gradient(
    shape: &ConvShape,
    x: &[&[f32]],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) -> Result<(), KernelError> {
    weight_gradient_with(instructions(), shape, x, dy, dw, db)
}

fn forward_with(
    instructions: Instructions,
    shape: &ConvShape,
    x: &[&[f32]],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<(), KernelError> {
    shape.check()?;
    let lengths: Vec<usize> = x.iter().map(|part| part.len()).collect();
    let parts = Parts::new(shape, "x", &lengths)?;
    shape::length("weight", shape.weight_length(), weight.len())?;
    if let Some(bias) = bias {
        shape::length("bias", shape.outputs, bias.len())?;
    }
    shape::length("y", shape.output_length(), y.len())?;
    let shape = shape.flattened();
    let correlation = Correlation::forward(&shape, weight, bias);
    let outputs = Parts::whole(shape.outputs);
    correlation.run(instructions, shape.batch, x, &parts, &mut [y], &outputs);
    Ok(())
}

fn input_gradient_with(
    instructions: Instructions,
    shape: &ConvShape,
    weight: &[f32],
    dy: &[f32],
    dx: &mut [&mut [f32]],
) -> Result<(), KernelError> {
    shape.check()?;
    let lengths: Vec<usize> = dx.iter().map(|part| part.len()).collect();
    let parts = Parts::new(shape, "dx", &lengths)?;
    shape::length("weight", shape.weight_length(), weight.len())?;
    shape::length("dy", shape.output_length(), dy.len())?;
    let shape = shape.flattened();
    let inputs = Parts::whole(shape.outputs);
    Correlation::input_gradient(&shape, weight).run(instructions, shape.batch, &[dy], &inputs, dx, &parts);
    Ok(())
}

fn weight_gradient_with(
    instructions: Instructions,
    shape: &ConvShape,
    x: &[&[f32]],
    dy: &[f32],
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) -> Result<(), KernelError> {
    shape.check()?;
    let lengths: Vec<usize> = x.iter().map(|part| part.len()).collect();
    let parts = Parts::new(shape, "x", &lengths)?;
    shape::length("dy", shape.output_length(), dy.len())?;
    shape::length("dw", shape.weight_length(), dw.len())?;
    if let Some(db) = &db {
        shape::length("db", shape.outputs, db.len())?;
    }
    let shape = shape.flattened();
    weight_gradient::run(instructions, &shape, x, &parts, dy, dw);
    if let Some(db) = db {
        weight_gradient::bias(&shape, dy, db);
    }
    Ok(())
}
