//! Splines as SciPy's `ndimage` computes them, in double precision and in its order of operations, so that results are equal to the
//! bit. (Thévenaz, Blu & Unser 2000, "Interpolation revisited"; the filter is that of Unser, Aldroubi & Eden 1993.)

use crate::PipelineError;

/// Before its filter SciPy repeats the edge sample this often at each end.
const MARGIN: usize = 12;

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

/// `scipy.ndimage.zoom(…, mode="nearest", grid_mode=True)`, as scikit-image's `resize` calls it: both grids have the same outer faces.
/// The order is 0, 1 or 3.
pub(super) fn zoom(grid: Grid, to: [usize; 3], order: u8) -> Result<Grid, PipelineError> {
    let coordinates = std::array::from_fn(|axis| {
        let step = grid.shape[axis] as f64 / to[axis] as f64;
        (0..to[axis]).map(|i| (i as f64 + 0.5) * step - 0.5).collect()
    });
    map_coordinates(grid, &coordinates, order)
}

/// `scipy.ndimage.map_coordinates(…, mode="nearest")` on a grid of points: each axis has its own coordinates. The order is 0, 1 or 3.
pub(super) fn map_coordinates(grid: Grid, coordinates: &[Vec<f64>; 3], order: u8) -> Result<Grid, PipelineError> {
    let to = [coordinates[0].len(), coordinates[1].len(), coordinates[2].len()];
    let (source, margin) = if order > 1 { (coefficients(&grid)?, MARGIN) } else { (grid, 0) };
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
                        _ => add_taps::<4>(&mut row, &scaled, &taps[2]),
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

/// The samples of one axis that give a value, and their weights.
#[derive(Debug, Clone, Copy)]
struct Tap {
    sources: [usize; 4],
    weights: [f64; 4],
}

impl Tap {
    /// `at` is a position before the margin was added to an axis that has `samples` samples with it.
    fn at(at: f64, samples: usize, margin: usize, order: u8) -> Self {
        let last = samples as f64 - 1.0;
        let at = (at + margin as f64).clamp(0.0, last);
        let first = if order % 2 == 1 { at.floor() } else { (at + 0.5).floor() } as isize - isize::from(order / 2);
        let source = |k: usize| (first + k as isize).clamp(0, samples as isize - 1) as usize;
        let mut weights = [0.0; 4];
        let x = at - at.floor();
        match order {
            0 => {}
            1 => weights = [1.0 - x, 1.0 - (1.0 - x), 0.0, 0.0],
            _ => {
                let z = 1.0 - x;
                weights[1] = (x * x * (x - 2.0) * 3.0 + 4.0) / 6.0;
                weights[2] = (z * z * (z - 2.0) * 3.0 + 4.0) / 6.0;
                weights[0] = z * z * z / 6.0;
                // They add up to 1.
                weights[3] = 1.0 - weights[0] - weights[1] - weights[2];
            }
        }
        Self { sources: std::array::from_fn(source), weights }
    }
}

/// The coefficients of the cubic B-spline through the samples, with the margin on every axis.
fn coefficients(grid: &Grid) -> Result<Grid, PipelineError> {
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
            filter(lines, inner);
        }
    }
    Ok(Grid { shape, rank: grid.rank, values })
}

/// Replaces samples by coefficients along the first axis of `[n, inner]` values, whose ends are mirrored about the outer faces.
fn filter(lines: &mut [f64], inner: usize) {
    const POLE: f64 = -0.267_949_192_431_122_7;
    let n = lines.len() / inner;
    let gain = (1.0 - POLE) * (1.0 - 1.0 / POLE);
    lines.iter_mut().for_each(|c| *c *= gain);
    let at_end = POLE.powf(n as f64);
    let (first, last) = (&lines[..inner], &lines[(n - 1) * inner..]);
    let mut sums: Vec<f64> = first.iter().zip(last).map(|(c, end)| c + at_end * end).collect();
    let mut power = POLE;
    for i in 1..n {
        let (line, mirrored) = (&lines[i * inner..][..inner], &lines[(n - 1 - i) * inner..][..inner]);
        for ((sum, c), mirrored) in sums.iter_mut().zip(line).zip(mirrored) {
            // The last term reads the sum itself, as in SciPy.
            let mirrored = if i == n - 1 { *sum } else { *mirrored };
            *sum += power * (c + at_end * mirrored);
        }
        power *= POLE;
    }
    let scale = POLE / (1.0 - at_end * at_end);
    lines[..inner].iter_mut().zip(sums).for_each(|(c, sum)| *c += sum * scale);
    for i in 1..n {
        let (before, after) = lines.split_at_mut(i * inner);
        let previous = &before[(i - 1) * inner..];
        after[..inner].iter_mut().zip(previous).for_each(|(c, p)| *c += POLE * p);
    }
    lines[(n - 1) * inner..].iter_mut().for_each(|c| *c *= POLE / (POLE - 1.0));
    for i in (0..n - 1).rev() {
        let (before, after) = lines.split_at_mut((i + 1) * inner);
        before[i * inner..].iter_mut().zip(&after[..inner]).for_each(|(c, next)| *c = POLE * (next - *c));
    }
}

/// An empty vector with memory for this many values.
pub(super) fn reserved<T>(values: usize) -> Result<Vec<T>, PipelineError> {
    let mut out = Vec::new();
    out.try_reserve_exact(values).map_err(|_| PipelineError::Memory { values })?;
    Ok(out)
}
