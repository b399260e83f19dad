//! Layers that write each row from a few rows of their input: pooling, and the transform of a tensor as a layer of its own.

use rayon::prelude::*;

use super::rows::{bf16_row, load_row, quantize_row};
use super::tensor::{LayerInput, Quantization, ValuesMut};
use crate::error::{KernelError, check_length, product};
use crate::instruction_set::InstructionSet;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, dispatch_on};

/// The number of values that [`apply_transform`] handles at a time.
const CHUNK: usize = 1024;

/// Which value of a window a pooling layer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// The maximum. NaN is larger than any number.
    Max,
    /// The mean.
    Average,
}

/// Pooling whose stride equals its window. An incomplete window at the end of an axis is dropped, as in PyTorch.
///
/// # Shapes
///
/// - `size`: D, H and W of the input
/// - `window`: the edges of the window, 1 or 2 each
/// - `input`: `[N, C, D, H, W]`
/// - `output`: `[N, C, D / kd, H / kh, W / kw]`, rounded down, overwritten
///
/// # Errors
///
/// [`KernelError::Length`] for a slice whose length does not match the shape, [`KernelError::Shape`] for another window or an
/// axis shorter than it.
pub fn pool(
    pooling: Pooling,
    [batch, channels]: [usize; 2],
    size: [usize; 3],
    window: [usize; 3],
    input: &LayerInput<'_>,
    output: ValuesMut<'_>,
) -> Result<(), KernelError> {
    pool_on(crate::simd::max_instruction_set(), pooling, [batch, channels], size, window, input, output)
}

/// [`pool`] for an instruction set.
pub(super) fn pool_on(
    instruction_set: InstructionSet,
    pooling: Pooling,
    [batch, channels]: [usize; 2],
    size: [usize; 3],
    window: [usize; 3],
    input: &LayerInput<'_>,
    output: ValuesMut<'_>,
) -> Result<(), KernelError> {
    if window.iter().any(|edge| !(1..=2).contains(edge)) {
        return Err(KernelError::Shape(format!("pooling over {window:?}: each edge has to be 1 or 2")));
    }
    let planes = product("pooling", &[batch, channels])?;
    if planes == 0 || size.iter().zip(window).any(|(&edge, window)| edge < window) {
        return Err(KernelError::Shape(format!("pooling of {planes} grids of {size:?} over {window:?}")));
    }
    let voxels = product("pooling", &size)?;
    product("pooling", &[planes, voxels])?;
    let out: [usize; 3] = std::array::from_fn(|axis| size[axis] / window[axis]);
    check_length("the input", input.channels("the input", batch, voxels)?, channels)?;
    let out_plane = out[1] * out[2];
    check_length("the output", output.len(), planes * out[0] * out_plane)?;
    let out_planes = out[0] * planes;
    let layer = PoolRows { pooling, size, window, input, out };
    // A task is one plane of the output.
    let run = |index: usize, row_count: usize, store: &mut (dyn FnMut(usize, &[f32]) + Send)| {
        let (channel, d) = (index / out[0], index % out[0]);
        let mut scratch = Scratch::take(2 * size[2] + out[2]);
        for h in 0..row_count {
            dispatch_on(instruction_set, PoolRow { layer: &layer, channel, d, h, scratch: &mut scratch });
            store(h, &scratch[2 * size[2]..]);
        }
    };
    for_each_chunk(instruction_set, output, out_plane, out_planes, out[2], run);
    Ok(())
}

/// Calls `run(index, rows, store)` for each of `count` chunks of the output in parallel, where `store(row, values)` writes a
/// row of the chunk.
fn for_each_chunk(
    instruction_set: InstructionSet,
    output: ValuesMut<'_>,
    chunk: usize,
    count: usize,
    row: usize,
    run: impl Fn(usize, usize, &mut (dyn FnMut(usize, &[f32]) + Send)) + Sync,
) {
    /// Lets each chunk convert its rows to the storage.
    fn each<T: Send>(
        values: &mut [T],
        [chunk, count, row]: [usize; 3],
        run: impl Fn(usize, usize, &mut (dyn FnMut(usize, &[f32]) + Send)) + Sync,
        convert: impl Fn(&[f32], &mut [T]) + Sync,
    ) {
        values.par_chunks_mut(chunk).take(count).enumerate().for_each(|(index, target)| {
            let rows = target.len().div_ceil(row);
            let mut store = |h: usize, values: &[f32]| {
                let target = &mut target[h * row..];
                let length = row.min(target.len());
                convert(&values[..length], &mut target[..length]);
            };
            run(index, rows, &mut store);
        });
    }
    let shape = [chunk, count, row];
    match output {
        ValuesMut::F32(values) => each(values, shape, run, |from, to| to.copy_from_slice(from)),
        ValuesMut::Bf16(values) => {
            each(values, shape, run, |from, to| dispatch_on(instruction_set, StoreBf16(from, to)));
        }
        ValuesMut::U8 { values, quantization } => {
            each(values, shape, run, |from, to| dispatch_on(instruction_set, StoreU8(from, quantization, to)));
        }
    }
}

/// Rounds a row to bfloat16.
struct StoreBf16<'a>(&'a [f32], &'a mut [u16]);

impl Kernel for StoreBf16<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        bf16_row(self.0, self.1);
    }
}

/// Quantizes a row.
struct StoreU8<'a>(&'a [f32], Quantization, &'a mut [u8]);

impl Kernel for StoreU8<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        quantize_row(self.0, self.1, self.2);
    }
}

/// A pooling layer.
struct PoolRows<'a> {
    pooling: Pooling,
    size: [usize; 3],
    window: [usize; 3],
    input: &'a LayerInput<'a>,
    out: [usize; 3],
}

/// Computes one row of a pooling layer. The scratch is a row of the input, the combination of rows, and the result.
struct PoolRow<'a> {
    layer: &'a PoolRows<'a>,
    /// The channel of all samples.
    channel: usize,
    d: usize,
    h: usize,
    scratch: &'a mut [f32],
}

impl Kernel for PoolRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let PoolRows { pooling, size, window, input, out } = *self.layer;
        let [depth, height, width] = size;
        let (row, rest) = self.scratch.split_at_mut(width);
        let (combined, result) = rest.split_at_mut(width);
        let transform = input.channel_transform(self.channel);
        for a in 0..window[0] {
            for b in 0..window[1] {
                let plane = self.channel * depth + self.d * window[0] + a;
                let source = input.values.part((plane * height + self.h * window[1] + b) * width, width);
                if a + b == 0 {
                    load_row(simd, source, transform, combined);
                    continue;
                }
                load_row(simd, source, transform, row);
                match pooling {
                    Pooling::Max => combine(combined, row, max),
                    Pooling::Average => combine(combined, row, |a, b| a + b),
                }
            }
        }
        let result = &mut result[..out[2]];
        match (window[2], pooling) {
            (2, Pooling::Max) => pair(combined, result, max),
            (2, Pooling::Average) => pair(combined, result, |a, b| a + b),
            _ => result.copy_from_slice(&combined[..out[2]]),
        }
        let count: usize = window.iter().product();
        if pooling == Pooling::Average && count > 1 {
            let factor = 1.0 / count as f32;
            for value in result {
                *value *= factor;
            }
        }
    }
}

#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

#[inline(always)]
fn combine(rows: &mut [f32], row: &[f32], f: impl Fn(f32, f32) -> f32) {
    for (a, b) in rows.iter_mut().zip(row) {
        *a = f(*a, *b);
    }
}

#[inline(always)]
fn pair(row: &[f32], result: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    for (pair, result) in row.as_chunks::<2>().0.iter().zip(result) {
        *result = f(pair[0], pair[1]);
    }
}

/// Writes a tensor with its transform applied, `y = leaky_relu(t(x) + t′(residual))`, where `t` and `t′` are the transforms of
/// the inputs and `slope` is that of the outer activation (1 for none). The sum with an activation is the end of a residual
/// block.
///
/// # Shapes
///
/// `input`, `residual` and `output` are `[N, C, voxels]`; the output is overwritten.
///
/// # Errors
///
/// [`KernelError::Length`] for a slice whose length does not match the shape.
pub fn apply_transform(
    [batch, channels, voxels]: [usize; 3],
    input: &LayerInput<'_>,
    residual: Option<&LayerInput<'_>>,
    slope: f32,
    output: ValuesMut<'_>,
) -> Result<(), KernelError> {
    apply_on(crate::simd::max_instruction_set(), [batch, channels, voxels], input, residual, slope, output)
}

/// [`apply_transform`] for an instruction set.
pub(super) fn apply_on(
    instruction_set: InstructionSet,
    [batch, channels, voxels]: [usize; 3],
    input: &LayerInput<'_>,
    residual: Option<&LayerInput<'_>>,
    slope: f32,
    output: ValuesMut<'_>,
) -> Result<(), KernelError> {
    let count = product("a transform", &[batch, channels, voxels])?;
    check_length("the output", output.len(), count)?;
    for input in [Some(input), residual].into_iter().flatten() {
        check_length("the input", input.values.len(), count)?;
        input.channels("the input", batch, voxels)?;
    }
    if count == 0 {
        return Ok(());
    }
    let run = |channel: usize, rows: usize, store: &mut (dyn FnMut(usize, &[f32]) + Send)| {
        let mut scratch = Scratch::take(2 * CHUNK);
        for row in 0..rows {
            let length = CHUNK.min(voxels - row * CHUNK);
            let from = channel * voxels + row * CHUNK;
            let work = ApplyChunk { input, residual, slope, channel, from, length, scratch: &mut scratch };
            dispatch_on(instruction_set, work);
            store(row, &scratch[..length]);
        }
    };
    for_each_chunk(instruction_set, output, voxels, batch * channels, CHUNK, run);
    Ok(())
}

/// Transforms some values of one channel.
struct ApplyChunk<'a> {
    input: &'a LayerInput<'a>,
    residual: Option<&'a LayerInput<'a>>,
    slope: f32,
    channel: usize,
    from: usize,
    length: usize,
    scratch: &'a mut [f32],
}

impl Kernel for ApplyChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (values, rest) = self.scratch.split_at_mut(CHUNK);
        let (values, addend) = (&mut values[..self.length], &mut rest[..self.length]);
        let source = self.input.values.part(self.from, self.length);
        load_row(simd, source, self.input.channel_transform(self.channel), values);
        if let Some(residual) = self.residual {
            let source = residual.values.part(self.from, self.length);
            load_row(simd, source, residual.channel_transform(self.channel), addend);
            combine(values, addend, |a, b| a + b);
        }
        if self.slope != 1.0 {
            for value in values {
                *value = if *value > 0.0 { *value } else { *value * self.slope };
            }
        }
    }
}
