//! Winograd's minimal filtering F(4, 3) along W: four neighbouring outputs of a kernel of three taps with six multiplications instead
//! of twelve.
//!
//! A *tile* is four neighbouring output columns and the six padded input columns that they read. Inputs and weights are transformed
//! to six *frequencies*, whose products are summed over channels and tap rows; four outputs are then linear combinations of the six
//! sums (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, arXiv:1509.09308). The polynomial is
//! evaluated at 0, ±5/8, ±3/2 and infinity. All coefficients of inputs and outputs are exact in single precision, and the rounding
//! errors of a layer are about 1.5 times those of the direct sum; with the usual points 0, ±1, ±2 it would be 3 times
//! (B. Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks",
//! arXiv:1803.10986).
//!
//! Single precision only: in bfloat16 the rounding of the frequencies doubles the error of a layer, and rows are packed as slowly as
//! multiplied.

use rayon::prelude::*;

use crate::instruction_set::InstructionSet;
use crate::scratch::{AlignedFloats, LANES};
use crate::simd::{Kernel, Simd, dispatch_on};

/// Output columns of a tile.
pub(super) const TILE: usize = 4;

/// Input columns that a tile reads, and its frequencies.
pub(super) const FREQUENCIES: usize = 6;

/// Columns that the last tile reads beyond its own outputs.
pub(super) const HALO: usize = FREQUENCIES - TILE;

/// The two positive points, and their squares.
const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// The factors of the weights' frequencies: one over the product of a point's distances from the other ones.
const AT_0: f32 = 1.0 / (A2 * B2);
const AT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const AT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// Winograd's filtering is used from this number of tiles on. With few voxels, reading the weights takes most of the time, and the
/// transformed ones are twice as large.
const MIN_TILES: usize = 200;

/// And from this number of input channels on: with fewer ones, packing the input takes most of the time.
const MIN_INPUTS: usize = 24;

/// Whether the filtering is faster for a convolution of `inputs` channels with an output of D′, H′ and W′. Shapes that no
/// convolution has are allowed.
pub(crate) fn is_faster(
    inputs: usize,
    kernel: [usize; 3],
    stride: [usize; 3],
    [depth, height, width]: [usize; 3],
) -> bool {
    let tiles = width.div_ceil(TILE);
    inputs >= MIN_INPUTS
        && kernel[2] == 3
        && stride == [1; 3]
        && tiles * (FREQUENCIES / 3) < width
        && depth.saturating_mul(height).saturating_mul(tiles) >= MIN_TILES
}

/// The frequencies of the weights of three taps for sixteen outputs: the polynomial of the taps at each point, times its factor.
#[inline(always)]
fn weight_frequencies([g0, g1, g2]: [&[f32; LANES]; 3]) -> [[f32; LANES]; FREQUENCIES] {
    let mut found = [[0.0; LANES]; FREQUENCIES];
    for lane in 0..LANES {
        let [g0, g1, g2] = [g0[lane], g1[lane], g2[lane]];
        let (even_a, odd_a) = (g0 + A2 * g2, A * g1);
        let (even_b, odd_b) = (g0 + B2 * g2, B * g1);
        found[0][lane] = AT_0 * g0;
        found[1][lane] = AT_A * (even_a + odd_a);
        found[2][lane] = AT_A * (even_a - odd_a);
        found[3][lane] = AT_B * (even_b + odd_b);
        found[4][lane] = AT_B * (even_b - odd_b);
        found[5][lane] = g2;
    }
    found
}

/// Transforms packed weights `[panel][tap row][channel][3 taps][16]`, or with tap rows of a single tap
/// `[panel][tap row][tap][channel][16]`, to `[panel][tap row][frequency][channel][16]`.
pub(super) fn transform_weights(
    instruction_set: InstructionSet,
    cells: &[f32],
    channels: usize,
    taps: usize,
) -> AlignedFloats {
    let row = 3 * channels * LANES;
    let mut transformed = AlignedFloats::zeros(cells.len() / 3 * FREQUENCIES);
    let rows = cells.par_chunks_exact(row).zip(transformed.par_chunks_exact_mut(2 * row));
    rows.for_each(|(cells, target)| {
        dispatch_on(instruction_set, TransformWeights { cells, channels, taps, target });
    });
    transformed
}

/// Transforms a tap row.
struct TransformWeights<'a> {
    cells: &'a [f32],
    channels: usize,
    taps: usize,
    target: &'a mut [f32],
}

impl Kernel for TransformWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { cells, channels, taps, target } = self;
        let (cells, _) = cells.as_chunks::<LANES>();
        let (target, _) = target.as_chunks_mut::<LANES>();
        for channel in 0..channels {
            let tap = |tap: usize| &cells[if taps == 3 { channel * 3 + tap } else { tap * channels + channel }];
            let frequencies = weight_frequencies([tap(0), tap(1), tap(2)]);
            for (frequency, values) in frequencies.iter().enumerate() {
                target[frequency * channels + channel] = *values;
            }
        }
    }
}

/// Floats of working memory for [`transform_row`].
pub(super) fn row_memory(tiles: usize) -> usize {
    TILE * (tiles + 1)
}

/// Transforms a padded row of `4 · tiles + 2` columns to `[frequency][tile]`: for each point, the polynomial of the other points
/// applied to the columns of a tile.
#[inline(always)]
pub(super) fn transform_row(row: &[f32], tiles: usize, memory: &mut [f32], target: &mut [f32]) {
    // Column `4 t + k` of the row at `[k][t]`. The last tile also reads the first two columns of the next one.
    let (p0, rest) = memory.split_at_mut(tiles + 1);
    let (p1, rest) = rest.split_at_mut(tiles + 1);
    let (p2, p3) = rest.split_at_mut(tiles + 1);
    let (fours, halo) = row[..TILE * tiles + HALO].as_chunks::<TILE>();
    for ((((four, p0), p1), p2), p3) in fours.iter().zip(&mut *p0).zip(&mut *p1).zip(&mut *p2).zip(&mut *p3) {
        (*p0, *p1, *p2, *p3) = (four[0], four[1], four[2], four[3]);
    }
    (p0[tiles], p1[tiles]) = (halo[0], halo[1]);
    let [d0, d1, d2, d3, d4, d5] = [&p0[..tiles], &p1[..tiles], &p2[..tiles], &p3[..tiles], &p0[1..], &p1[1..]];
    let (f0, rest) = target[..FREQUENCIES * tiles].split_at_mut(tiles);
    let (f1, rest) = rest.split_at_mut(tiles);
    let (f2, rest) = rest.split_at_mut(tiles);
    let (f3, rest) = rest.split_at_mut(tiles);
    let (f4, f5) = rest.split_at_mut(tiles);
    let columns = d0.iter().zip(d1).zip(d2).zip(d3).zip(d4).zip(d5);
    let frequencies = f0.iter_mut().zip(f1).zip(f2).zip(f3).zip(f4).zip(f5);
    for ((((((f0, f1), f2), f3), f4), f5), (((((d0, d1), d2), d3), d4), d5)) in frequencies.zip(columns) {
        let (even_a, odd_a) = (d4 - B2 * d2, A * (d3 - B2 * d1));
        let (even_b, odd_b) = (d4 - A2 * d2, B * (d3 - A2 * d1));
        *f0 = d4 - (A2 + B2) * d2 + (A2 * B2) * d0;
        *f1 = even_a + odd_a;
        *f2 = even_a - odd_a;
        *f3 = even_b + odd_b;
        *f4 = even_b - odd_b;
        *f5 = d5 - (A2 + B2) * d3 + (A2 * B2) * d1;
    }
}

/// The four outputs of a tile from the sums of its frequencies, for sixteen channels, and their biases.
#[inline(always)]
pub(super) fn outputs(sums: [&[f32; LANES]; FREQUENCIES], bias: &[f32; LANES]) -> [[f32; LANES]; TILE] {
    let mut found = [[0.0; LANES]; TILE];
    for lane in 0..LANES {
        let [m0, m1, m2, m3, m4, m5] = sums.map(|sums| sums[lane]);
        let (even_a, odd_a) = (m1 + m2, m1 - m2);
        let (even_b, odd_b) = (m3 + m4, m3 - m4);
        let bias = bias[lane];
        found[0][lane] = bias + (m0 + even_a + even_b);
        found[1][lane] = bias + (A * odd_a + B * odd_b);
        found[2][lane] = bias + (A2 * even_a + B2 * even_b);
        found[3][lane] = bias + (A * A2 * odd_a + B * B2 * odd_b + m5);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::noise;

    #[test]
    fn tiles_equal_the_direct_sum() {
        for tiles in [1, 2, 15, 16, 17, 35] {
            let row = noise(TILE * tiles + HALO, 1);
            let mut frequencies = vec![f32::NAN; FREQUENCIES * tiles];
            transform_row(&row, tiles, &mut vec![f32::NAN; row_memory(tiles)], &mut frequencies);
            let taps = [0.3, -0.7, 0.45];
            let [g0, g1, g2] = taps.map(|tap| [tap; LANES]);
            let weights = weight_frequencies([&g0, &g1, &g2]);
            for tile in 0..tiles {
                let sums: [[f32; LANES]; FREQUENCIES] =
                    std::array::from_fn(|f| weights[f].map(|weight| weight * frequencies[f * tiles + tile]));
                let found = outputs(sums.each_ref(), &[2.0; LANES]);
                for (column, found) in found.iter().enumerate() {
                    let at = TILE * tile + column;
                    let expected = 2.0 + (0..3).map(|tap| taps[tap] * row[at + tap]).sum::<f32>();
                    assert!(
                        (found[0] - expected).abs() < 2e-6,
                        "{tiles} {tile} {column}: {} {expected}",
                        found[0]
                    );
                    assert!(found.iter().all(|value| value.to_bits() == found[0].to_bits()));
                }
            }
        }
    }
}
