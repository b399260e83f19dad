//! Splines as SciPy's `ndimage` computes them, in double precision and in its order of operations, so that results are equal to the
//! bit. (Thévenaz, Blu & Unser 2000, "Interpolation revisited"; the filter is that of Unser, Aldroubi & Eden 1993.)

use crate::PipelineError;

/// Before its filter SciPy repeats the edge sample this often at each end.
pub(super) const MARGIN: usize = 12;

/// Values on a grid of one to three axes, the last one fastest.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    /// Axes that the array does not have are 1 and come first.
    pub(super) shape: [usize; 3],
    /// Number of axes.
    pub(super) rank: usize,
    pub(super) values: Vec<f64>,
}

impl Grid {
    fn first_axis(&self) -> usize {
        3 - self.rank
    }
}

/// The positions of the voxels of a grid on another one with the same outer faces, along each axis.
pub(super) fn coordinates(from: [usize; 3], to: [usize; 3]) -> [Vec<f64>; 3] {
    std::array::from_fn(|axis| {
        let step = from[axis] as f64 / to[axis] as f64;
        (0..to[axis]).map(|i| step * (i as f64 + 0.5) - 0.5).collect()
    })
}

/// `scipy.ndimage.zoom(…, mode="nearest", grid_mode=True)`, as scikit-image's `resize` calls it: both grids have the same outer faces.
/// The order is 0 to 5.
pub(super) fn zoom(grid: Grid, to: [usize; 3], order: u8) -> Result<Grid, PipelineError> {
    let coordinates = coordinates(grid.shape, to);
    map_coordinates(grid, &coordinates, order)
}

/// `scipy.ndimage.map_coordinates(…, mode="nearest")` on a grid of points: each axis has its own coordinates. The order is
/// 0 to 5.
pub(super) fn map_coordinates(grid: Grid, coordinates: &[Vec<f64>; 3], order: u8) -> Result<Grid, PipelineError> {
    let to = [coordinates[0].len(), coordinates[1].len(), coordinates[2].len()];
    let (source, margin) = if order > 1 { (coefficients(&grid, poles(order))?, MARGIN) } else { (grid, 0) };
    let taps: [Vec<Tap>; 3] = std::array::from_fn(|axis| {
        coordinates[axis].iter().map(|at| Tap::at(*at, source.shape[axis], margin, order)).collect()
    });
    let (first_axis, [_, ny, nx]) = (source.first_axis(), source.shape);
    let mut values = reserved(to.iter().product())?;
    let mut scaled = vec![0.0; nx];
    let mut row = vec![0.0; to[2]];
    let count = usize::from(order) + 1;
    let of_axis = |axis: usize| if axis < first_axis { 1 } else { count };
    for z in &taps[0] {
        for y in &taps[1] {
            row.fill(0.0);
            for kz in 0..of_axis(0) {
                for ky in 0..of_axis(1) {
                    let plane = if first_axis == 0 { z.sources[kz] } else { 0 };
                    let line = if first_axis <= 1 { y.sources[ky] } else { 0 };
                    let from = &source.values[(plane * ny + line) * nx..][..nx];
                    scaled.copy_from_slice(from);
                    if order > 0 {
                        if first_axis == 0 {
                            scaled.iter_mut().for_each(|v| *v *= z.weights[kz]);
                        }
                        if first_axis <= 1 {
                            scaled.iter_mut().for_each(|v| *v *= y.weights[ky]);
                        }
                    }
                    match order {
                        0 => row.iter_mut().zip(&taps[2]).for_each(|(sum, x)| *sum += scaled[x.sources[0]]),
                        1 => add_taps::<2>(&mut row, &scaled, &taps[2]),
                        2 => add_taps::<3>(&mut row, &scaled, &taps[2]),
                        3 => add_taps::<4>(&mut row, &scaled, &taps[2]),
                        4 => add_taps::<5>(&mut row, &scaled, &taps[2]),
                        _ => add_taps::<MOST_TAPS>(&mut row, &scaled, &taps[2]),
                    }
                }
            }
            values.extend_from_slice(&row);
        }
    }
    Ok(Grid { shape: to, rank: source.rank, values })
}

/// Adds the products one after the other, in the order of the samples.
fn add_taps<const COUNT: usize>(row: &mut [f64], scaled: &[f64], taps: &[Tap]) {
    for (sum, tap) in row.iter_mut().zip(taps) {
        for k in 0..COUNT {
            *sum += scaled[tap.sources[k]] * tap.weights[k];
        }
    }
}

/// Number of samples of a spline of order 5.
const MOST_TAPS: usize = 6;

/// The samples of one axis that give a value, and their weights.
#[derive(Debug, Clone, Copy)]
struct Tap {
    sources: [usize; MOST_TAPS],
    weights: [f64; MOST_TAPS],
}

impl Tap {
    /// `at` is a position before the margin was added to an axis that has `samples` samples with it.
    fn at(at: f64, samples: usize, margin: usize, order: u8) -> Self {
        let last = samples as f64 - 1.0;
        let at = (at + margin as f64).clamp(0.0, last);
        let middle = if order % 2 == 1 { at.floor() } else { (at + 0.5).floor() };
        let first = middle as isize - isize::from(order / 2);
        let source = |k: usize| (first + k as isize).clamp(0, samples as isize - 1) as usize;
        Self { sources: std::array::from_fn(source), weights: weights(at - middle, order) }
    }
}

/// The values of the B-spline of an order at a sample's neighbours. `x` is the distance from the middle one: 0 to 1 for odd orders, -½ to ½
/// for even ones. The last weight is what the others lack to 1.
fn weights(x: f64, order: u8) -> [f64; MOST_TAPS] {
    let mut weights = [0.0; MOST_TAPS];
    let z = 1.0 - x;
    match order {
        0 => return weights,
        1 => weights[0] = z,
        2 => {
            weights[1] = 0.75 - x * x;
            let y = 0.5 - x;
            weights[0] = 0.5 * y * y;
        }
        3 => {
            weights[1] = (x * x * (x - 2.0) * 3.0 + 4.0) / 6.0;
            weights[2] = (z * z * (z - 2.0) * 3.0 + 4.0) / 6.0;
            weights[0] = z * z * z / 6.0;
        }
        4 => {
            let t = x * x;
            weights[2] = t * (t * 0.25 - 0.625) + 115.0 / 192.0;
            let side = |y: f64| y * (y * (y * (5.0 - y) / 6.0 - 1.25) + 5.0 / 24.0) + 55.0 / 96.0;
            (weights[1], weights[3]) = (side(1.0 + x), side(z));
            let t = (0.5 - x) * (0.5 - x);
            weights[0] = t * t / 24.0;
        }
        _ => {
            let near = |y: f64| {
                let t = y * y;
                t * (t * (0.25 - y / 12.0) - 0.5) + 0.55
            };
            let far = |y: f64| y * (y * (y * (y * (y / 24.0 - 0.375) + 1.25) - 1.75) + 0.625) + 0.425;
            (weights[2], weights[3]) = (near(x), near(z));
            (weights[1], weights[4]) = (far(x + 1.0), far(z + 1.0));
            let t = z * z;
            weights[0] = z * t * t / 120.0;
        }
    }
    let last = usize::from(order);
    weights[last] = weights.iter().take(last).fold(1.0, |rest, weight| rest - weight);
    weights
}

/// The poles of the filter that gives the coefficients of a spline.
fn poles(order: u8) -> &'static [f64] {
    match order {
        2 => &[-0.171_572_875_253_809_9],
        3 => &[-0.267_949_192_431_122_7],
        4 => &[-0.361_341_225_900_220_2, -0.013_725_429_297_339_121],
        _ => &[-0.430_575_347_099_973_8, -0.043_096_288_203_264_65],
    }
}

/// The coefficients of the B-spline through the samples, with the margin on every axis.
fn coefficients(grid: &Grid, poles: &[f64]) -> Result<Grid, PipelineError> {
    let first_axis = grid.first_axis();
    let margin = |axis: usize| if axis < first_axis { 0 } else { MARGIN };
    let shape: [usize; 3] = std::array::from_fn(|axis| grid.shape[axis] + 2 * margin(axis));
    let mut values = reserved(shape.iter().product())?;
    let inside = |padded: usize, axis: usize| padded.saturating_sub(margin(axis)).min(grid.shape[axis] - 1);
    let [_, ny, nx] = grid.shape;
    for z in 0..shape[0] {
        for y in 0..shape[1] {
            let row = (inside(z, 0) * ny + inside(y, 1)) * nx;
            values.extend((0..shape[2]).map(|x| grid.values[row + inside(x, 2)]));
        }
    }
    for axis in first_axis..3 {
        let inner: usize = shape[axis + 1..].iter().product();
        for lines in values.chunks_exact_mut(shape[axis] * inner) {
            let gain = poles.iter().fold(1.0, |gain, pole| gain * ((1.0 - pole) * (1.0 - 1.0 / pole)));
            lines.iter_mut().for_each(|c| *c *= gain);
            poles.iter().for_each(|pole| filter(lines, inner, *pole));
        }
    }
    Ok(Grid { shape, rank: grid.rank, values })
}

/// Filters along the first axis of `[n, inner]` values, whose ends are mirrored about the outer faces.
fn filter(lines: &mut [f64], inner: usize, pole: f64) {
    let n = lines.len() / inner;
    let at_end = pole.powf(n as f64);
    let (first, last) = (&lines[..inner], &lines[(n - 1) * inner..]);
    let mut sums: Vec<f64> = first.iter().zip(last).map(|(c, end)| c + at_end * end).collect();
    let mut power = pole;
    for i in 1..n {
        let (line, mirrored) = (&lines[i * inner..][..inner], &lines[(n - 1 - i) * inner..][..inner]);
        for ((sum, c), mirrored) in sums.iter_mut().zip(line).zip(mirrored) {
            // The last term reads the sum itself, as in SciPy.
            let mirrored = if i == n - 1 { *sum } else { *mirrored };
            *sum += power * (c + at_end * mirrored);
        }
        power *= pole;
    }
    let scale = pole / (1.0 - at_end * at_end);
    lines[..inner].iter_mut().zip(sums).for_each(|(c, sum)| *c += sum * scale);
    for i in 1..n {
        let (before, after) = lines.split_at_mut(i * inner);
        let previous = &before[(i - 1) * inner..];
        after[..inner].iter_mut().zip(previous).for_each(|(c, p)| *c += pole * p);
    }
    lines[(n - 1) * inner..].iter_mut().for_each(|c| *c *= pole / (pole - 1.0));
    for i in (0..n - 1).rev() {
        let (before, after) = lines.split_at_mut((i + 1) * inner);
        before[i * inner..].iter_mut().zip(&after[..inner]).for_each(|(c, next)| *c = pole * (next - *c));
    }
}

/// An empty vector with memory for this many values.
pub(crate) fn reserved<T>(values: usize) -> Result<Vec<T>, PipelineError> {
    let mut out = Vec::new();
    out.try_reserve_exact(values).map_err(|_| PipelineError::Memory { values })?;
    Ok(out)
}
