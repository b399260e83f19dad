//! Layers that need no kernel of their own: they are rare, or take little time.

use rayon::prelude::*;

use sulcus_kernels::inference::Quantization;

use crate::layer::ResizeKind;

/// A task has at least this many values.
const TASK_VALUES: usize = 1 << 14;

/// y = 1 / (1 + exp(−x)).
pub(crate) fn sigmoid(x: &[f32], y: &mut [f32]) {
    y.par_chunks_mut(TASK_VALUES).zip(x.par_chunks(TASK_VALUES)).for_each(|(y, x)| {
        for (y, x) in y.iter_mut().zip(x) {
            *y = 1.0 / (1.0 + (-x).exp());
        }
    });
}

/// Softmax over the channels of `[channels, voxels]`.
pub(crate) fn softmax(channels: usize, x: &[f32], y: &mut [f32]) {
    let voxels = x.len() / channels.max(1);
    let mut largest = vec![f32::NEG_INFINITY; voxels];
    let mut sums = vec![0.0_f32; voxels];
    for x in x.chunks_exact(voxels.max(1)) {
        largest.iter_mut().zip(x).for_each(|(largest, x)| *largest = largest.max(*x));
    }
    for (x, y) in x.chunks_exact(voxels.max(1)).zip(y.chunks_exact_mut(voxels.max(1))) {
        for ((x, y), (largest, sum)) in x.iter().zip(y).zip(largest.iter().zip(&mut sums)) {
            *y = (x - largest).exp();
            *sum += *y;
        }
    }
    for y in y.chunks_exact_mut(voxels.max(1)) {
        y.iter_mut().zip(&sums).for_each(|(y, sum)| *y /= sum);
    }
}

/// Rounds to the nearest value that 8 bits can have; halves to even, as `QuantizeLinear` does.
pub(crate) fn quantize(quantization: Quantization, x: &[f32], y: &mut [f32]) {
    let (scale, zero) = (quantization.scale, f32::from(quantization.zero_point));
    y.par_chunks_mut(TASK_VALUES).zip(x.par_chunks(TASK_VALUES)).for_each(|(y, x)| {
        for (y, x) in y.iter_mut().zip(x) {
            let quantized = ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0);
            *y = (quantized - zero) * scale;
        }
    });
}

/// Multiplies the edges of `[planes, D, H, W]` by whole factors.
pub(crate) fn resize(kind: ResizeKind, grid: [usize; 3], factor: [usize; 3], x: &[f32], y: &mut [f32]) {
    let to: [usize; 3] = std::array::from_fn(|axis| grid[axis] * factor[axis]);
    let taps: [Vec<Tap>; 3] =
        std::array::from_fn(|axis| (0..to[axis]).map(|at| Tap::new(kind, at, factor[axis], grid[axis])).collect());
    let (from_plane, to_plane) = (grid.iter().product::<usize>(), to.iter().product::<usize>());
    let planes = x.par_chunks_exact(from_plane.max(1)).zip(y.par_chunks_exact_mut(to_plane.max(1)));
    planes.for_each(|(x, y)| {
        let row = |d: usize, h: usize| x.chunks_exact(grid[2]).nth(d * grid[1] + h).unwrap_or_default();
        for (index, y) in y.chunks_exact_mut(to[2].max(1)).enumerate() {
            let (Some(d), Some(h)) = (taps[0].get(index / to[1]), taps[1].get(index % to[1])) else { continue };
            let rows = [row(d.low, h.low), row(d.low, h.high), row(d.high, h.low), row(d.high, h.high)];
            for (y, w) in y.iter_mut().zip(&taps[2]) {
                let along = |row: &[f32]| {
                    let at = |index: usize| row.get(index).copied().unwrap_or_default();
                    mix(at(w.low), at(w.high), w.weight)
                };
                let [a, b, c, e] = rows.map(along);
                *y = mix(mix(a, b, h.weight), mix(c, e, h.weight), d.weight);
            }
        }
    });
}

fn mix(low: f32, high: f32, weight: f32) -> f32 {
    low + (high - low) * weight
}

/// The two source positions of a target position, and the weight of the second.
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

impl Tap {
    fn new(kind: ResizeKind, at: usize, factor: usize, length: usize) -> Self {
        match kind {
            ResizeKind::Nearest => Self { low: at / factor, high: at / factor, weight: 0.0 },
            ResizeKind::Linear => {
                let source = ((at as f32 + 0.5) / factor as f32 - 0.5).clamp(0.0, (length - 1) as f32);
                let low = source as usize;
                Self { low, high: (low + 1).min(length - 1), weight: source - low as f32 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resize_repeats_or_interpolates_between_centres() {
        let x = [0.0, 4.0];
        let mut y = [0.0; 4];
        resize(ResizeKind::Nearest, [1, 1, 2], [1, 1, 2], &x, &mut y);
        assert_eq!(y, [0.0, 0.0, 4.0, 4.0]);
        resize(ResizeKind::Linear, [1, 1, 2], [1, 1, 2], &x, &mut y);
        assert_eq!(y, [0.0, 1.0, 3.0, 4.0]);
        let mut y = [0.0; 4];
        resize(ResizeKind::Linear, [1, 2, 1], [1, 2, 1], &x, &mut y);
        assert_eq!(y, [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn quantize_rounds_halves_to_even_and_saturates() {
        let mut y = [0.0; 5];
        quantize(Quantization { scale: 2.0, zero_point: 10 }, &[1.0, 3.0, -3.0, 1e9, -1e9], &mut y);
        assert_eq!(y, [0.0, 4.0, -4.0, 490.0, -20.0]);
    }

    #[test]
    fn softmax_and_sigmoid_of_known_values() {
        let mut y = [0.0; 4];
        softmax(2, &[0.0, 1000.0, 0.0, 0.0], &mut y);
        assert_eq!(y, [0.5, 1.0, 0.5, 0.0]);
        let mut y = [0.0; 2];
        sigmoid(&[0.0, -200.0], &mut y);
        assert_eq!(y, [0.5, 0.0]);
    }
}
