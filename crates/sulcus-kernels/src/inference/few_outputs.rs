//! A pointwise convolution to a few channels in single precision, such as the last layer of a network. Its lanes are voxels: as lanes of
//! output channels most would be unused. Products are added in the order of the micro-kernels, so that the bits are the same.

use rayon::prelude::*;

use super::pack::{CellFormat, PaddedInput};
use super::rows::load_row;
use super::tensor::{LayerOutput, ValuesMut};
use super::weights::PackedWeights;
use crate::scratch::{LANES, Scratch, SharedMut};
use crate::simd::{Kernel, Simd, dispatch_on};

/// The largest number of outputs.
const MAX_OUTPUTS: usize = 8;

/// The number of voxels that are computed at a time. Their inputs and outputs stay in the L1 cache.
const CHUNK: usize = 512;

/// The number of inputs that are read at a time.
const INPUTS: usize = 4;

/// Computes a layer if it is such a convolution; otherwise gives the output back.
pub(super) fn run<'o>(
    weights: &PackedWeights,
    batch: usize,
    input: &PaddedInput<'_>,
    output: LayerOutput<'o>,
) -> Option<LayerOutput<'o>> {
    let is_plain = output.moments.is_none() && output.residual.is_none() && output.slope == 1.0;
    let is_small = weights.is_pointwise() && weights.outputs <= MAX_OUTPUTS && weights.format == CellFormat::F32;
    match output.values {
        ValuesMut::F32(values) if is_plain && is_small => {
            let voxels: usize = input.size.iter().product();
            let chunks = voxels.div_ceil(CHUNK);
            let target = SharedMut::new(values);
            (0..batch * chunks).into_par_iter().for_each(|index| {
                let (sample, from) = (index / chunks, index % chunks * CHUNK);
                let length = CHUNK.min(voxels - from);
                let mut scratch = Scratch::take((INPUTS + weights.outputs) * CHUNK);
                let (inputs, sums) = scratch.split_at_mut(INPUTS * CHUNK);
                dispatch_on(weights.instruction_set, Chunk { weights, input, sample, from, length, inputs, sums });
                for (output, sums) in sums.chunks_exact(CHUNK).enumerate() {
                    let at = (sample * weights.outputs + output) * voxels + from;
                    #[expect(unsafe_code, reason = "several threads write disjoint elements of one tensor")]
                    // SAFETY: the voxels lie within the channel, and no other task has them.
                    let values = unsafe { std::slice::from_raw_parts_mut(target.offset(at).pointer(), length) };
                    values.copy_from_slice(&sums[..length]);
                }
            });
            None
        }
        values => Some(LayerOutput { values, ..output }),
    }
}

/// Some voxels of a sample.
struct Chunk<'a> {
    weights: &'a PackedWeights,
    input: &'a PaddedInput<'a>,
    sample: usize,
    from: usize,
    length: usize,
    /// `[4][CHUNK]`
    inputs: &'a mut [f32],
    /// `[output][CHUNK]`, overwritten.
    sums: &'a mut [f32],
}

impl Kernel for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weights, input, sample, from, length, inputs, sums } = self;
        for (sums, bias) in sums.chunks_exact_mut(CHUNK).zip(&weights.initial[..]) {
            sums.fill(*bias);
        }
        let used = length.next_multiple_of(S::LANES);
        for first in (0..input.total()).step_by(INPUTS) {
            let count = INPUTS.min(input.total() - first);
            for (row, channel) in inputs.chunks_exact_mut(CHUNK).zip(first..first + count) {
                let Some((values, transform)) = input.channel(sample, channel) else { continue };
                load_row(simd, values.part(from, length), transform, &mut row[..length]);
                row[length..used].fill(0.0);
            }
            let mut rows = inputs.chunks_exact(CHUNK).map(|row| simd.chunks(&row[..used]).0);
            let rows: [&[S::Chunk]; INPUTS] = std::array::from_fn(|_| rows.next().unwrap_or_default());
            for (output, sums) in sums.chunks_exact_mut(CHUNK).enumerate() {
                let (sums, _) = simd.chunks_mut(&mut sums[..used]);
                let weight = |input: usize| simd.splat(weights.cells[(first + input) * LANES + output]);
                if count == INPUTS {
                    let factors = [weight(0), weight(1), weight(2), weight(3)];
                    let [a, b, c, d] = rows;
                    for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                        let mut value = simd.load(sum);
                        for (input, factor) in [a, b, c, d].into_iter().zip(factors) {
                            value = simd.fma(simd.load(input), factor, value);
                        }
                        simd.store(value, sum);
                    }
                    continue;
                }
                for (index, row) in rows.iter().enumerate().take(count) {
                    let factor = weight(index);
                    for (sum, input) in sums.iter_mut().zip(*row) {
                        simd.store(simd.fma(simd.load(input), factor, simd.load(sum)), sum);
                    }
                }
            }
        }
    }
}
