//! nnU-Net's resampling of images, logits and masks.

mod float16;
mod mask;
mod spline;

use sulcus_model::{NnunetResampling, ResamplingMethod};

use spline::{Grid, coordinates, map_coordinates, zoom};

pub(crate) use float16::F16;
pub(crate) use mask::resample_mask;
pub(crate) use spline::reserved;

use crate::PipelineError;

/// Resamples one channel from shape `from` to shape `to`, both z, y, x, which differ. `separate` is the coarse axis in the same order.
///
/// # Shapes
/// `values` `[z, y, x]` → `[z, y, x]` of the new shape.
pub(crate) fn resample_channel(
    rule: &NnunetResampling,
    values: Vec<f64>,
    from: [usize; 3],
    to: [usize; 3],
    separate: Option<usize>,
) -> Result<Vec<f64>, PipelineError> {
    match rule.method {
        ResamplingMethod::Spline { order, order_z } => match separate {
            None => Ok(resize(Grid { shape: from, rank: 3, values }, to, order)?.values),
            Some(axis) => {
                let between = resample_slices(&values, from, to, axis, |shape, to, values| {
                    Ok(resize(Grid { shape, rank: 2, values }, to, order)?.values)
                })?;
                drop(values);
                along_coarse(between, with(to, axis, from[axis]), to, order_z)
            }
        },
        ResamplingMethod::Interpolate => {
            let values = values.into_iter().map(|v| v as f32).collect();
            Ok(interpolate(values, from, to, separate)?.into_iter().map(f64::from).collect())
        }
    }
}

/// The memory for resampling one channel, in bytes: the source, its coefficients with a margin, and the result.
pub(crate) fn resampling_bytes(from: [usize; 3], to: [usize; 3]) -> u64 {
    if from == to {
        return 0;
    }
    let product = |shape: [usize; 3]| shape.iter().fold(1, |product: u64, n| product.saturating_mul(*n as u64));
    let larger: [usize; 3] = std::array::from_fn(|axis| from[axis].max(to[axis]));
    let with_margin = product(from.map(|n| n.saturating_add(2 * spline::MARGIN)));
    let values = product(from).saturating_add(with_margin).saturating_add(product(larger).saturating_mul(2));
    values.saturating_mul(size_of::<f64>() as u64)
}

/// scikit-image's `resize(mode="edge", anti_aliasing=False)`: a spline, clipped to the range of its source.
fn resize(grid: Grid, to: [usize; 3], order: u8) -> Result<Grid, PipelineError> {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = grid.values.iter().fold(start, |(low, high), v| (low.min(*v), high.max(*v)));
    let mut resized = zoom(grid, to, order)?;
    resized.values.iter_mut().for_each(|v| *v = v.max(low).min(high));
    Ok(resized)
}

/// Resamples each slice in its plane. `resize` gets the shapes of a slice before and after, and its values.
fn resample_slices<T: Copy + Default>(
    values: &[T],
    from: [usize; 3],
    to: [usize; 3],
    axis: usize,
    mut resize: impl FnMut([usize; 3], [usize; 3], Vec<T>) -> Result<Vec<T>, PipelineError>,
) -> Result<Vec<T>, PipelineError> {
    let (in_plane, between) = (plane(from, axis), with(to, axis, from[axis]));
    let mut resampled: Vec<T> = reserved(between.iter().product())?;
    resampled.resize(between.iter().product(), T::default());
    for slice in 0..from[axis] {
        let mut of_slice: Vec<T> = reserved(in_plane.iter().product())?;
        of_slice.extend(offsets(from, axis, slice).map(|at| values[at]));
        let resized = resize(in_plane, plane(to, axis), of_slice)?;
        offsets(between, axis, slice).zip(resized).for_each(|(at, v)| resampled[at] = v);
    }
    Ok(resampled)
}

/// Resamples along the coarse axis.
fn along_coarse(
    values: Vec<f64>,
    from: [usize; 3],
    to: [usize; 3],
    order_z: u8,
) -> Result<Vec<f64>, PipelineError> {
    if from == to {
        return Ok(values);
    }
    Ok(map_coordinates(Grid { shape: from, rank: 3, values }, &coordinates(from, to), order_z)?.values)
}

/// The shape with another edge along an axis.
fn with(mut shape: [usize; 3], axis: usize, edge: usize) -> [usize; 3] {
    shape[axis] = edge;
    shape
}

/// The shape of a slice across an axis.
fn plane(shape: [usize; 3], axis: usize) -> [usize; 3] {
    match axis {
        0 => [1, shape[1], shape[2]],
        1 => [1, shape[0], shape[2]],
        _ => [1, shape[0], shape[1]],
    }
}

/// The offsets of the voxels of a slice across an axis, in file order.
fn offsets(shape: [usize; 3], axis: usize, slice: usize) -> impl Iterator<Item = usize> {
    let range = move |of: usize| if of == axis { slice..slice + 1 } else { 0..shape[of] };
    range(0)
        .flat_map(move |z| range(1).flat_map(move |y| range(2).map(move |x| (z * shape[1] + y) * shape[2] + x)))
}

/// PyTorch's `interpolate` in single precision: linear, with the nearest slice along a coarse axis.
fn interpolate(
    values: Vec<f32>,
    from: [usize; 3],
    to: [usize; 3],
    separate: Option<usize>,
) -> Result<Vec<f32>, PipelineError> {
    let Some(axis) = separate else { return linear(&values, from, to) };
    let between = with(to, axis, from[axis]);
    let in_plane = if between == from { values } else { linear(&values, from, between)? };
    let step = from[axis] as f32 / to[axis] as f32;
    let nearest = |i: usize| (((i as f32 + 0.5) * step) as usize).min(from[axis] - 1);
    let mut out = reserved(to.iter().product())?;
    for z in 0..to[0] {
        for y in 0..to[1] {
            for x in 0..to[2] {
                let mut at = [z, y, x];
                at[axis] = nearest(at[axis]);
                out.push(in_plane[(at[0] * between[1] + at[1]) * between[2] + at[2]]);
            }
        }
    }
    Ok(out)
}

/// Linear along every axis, x innermost, with the fused additions of PyTorch's build for AVX2. Where the rows and columns
/// of slices are 128 or fewer together, PyTorch adds in another order, and results may differ in the last bit.
fn linear(values: &[f32], from: [usize; 3], to: [usize; 3]) -> Result<Vec<f32>, PipelineError> {
    let taps: [Vec<([usize; 2], [f32; 2])>; 3] = std::array::from_fn(|axis| {
        let step = from[axis] as f32 / to[axis] as f32;
        let tap = |i: usize| {
            if from[axis] == to[axis] {
                return ([i, i], [1.0, 0.0]);
            }
            let at = ((i as f32 + 0.5) * step - 0.5).max(0.0);
            let first = (at as usize).min(from[axis] - 1);
            let second = (first + 1).min(from[axis] - 1);
            let weight = (at - first as f32).clamp(0.0, 1.0);
            ([first, second], [1.0 - weight, weight])
        };
        (0..to[axis]).map(tap).collect()
    });
    let [_, ny, nx] = from;
    let mut out = reserved(to.iter().product())?;
    for (z, wz) in &taps[0] {
        for (y, wy) in &taps[1] {
            for (x, wx) in &taps[2] {
                let line = |z: usize, y: usize| {
                    let row = (z * ny + y) * nx;
                    values[row + x[0]].mul_add(wx[0], values[row + x[1]] * wx[1])
                };
                let plane = |z: usize| line(z, y[0]).mul_add(wy[0], line(z, y[1]) * wy[1]);
                out.push(plane(z[0]).mul_add(wz[0], plane(z[1]) * wz[1]));
            }
        }
    }
    Ok(out)
}
