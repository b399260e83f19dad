//! Scans on a network's grid as nnU-Net resamples them, in single precision: scikit-image's `resize`, whose splines go on beyond the edges
//! and whose values are clipped to the range of the source, for each slice if the coarse axis is resampled separately.

use sulcus_volume::{Interpolation, Xyz, resample_beyond_edges};

use super::GridTransform;
use crate::PipelineError;

/// Resamples a reoriented channel to the network's grid.
pub(super) fn resample_as_nnunet(values: Vec<f32>, transform: &GridTransform) -> Result<Vec<f32>, PipelineError> {
    let (from, to) = (transform.reoriented_shape, transform.resampled_shape);
    resample_channel(values, from, to, transform.forward(), transform.separate_axis_forward())
}

/// All triples are x, y, z; the values are `[z, y, x]`.
fn resample_channel(
    values: Vec<f32>,
    from: [usize; 3],
    to: [usize; 3],
    interpolation: [Interpolation; 3],
    separate: Option<usize>,
) -> Result<Vec<f32>, PipelineError> {
    let mut between = to;
    if let Some(axis) = separate {
        between[axis] = from[axis];
    }
    if between == from {
        return Ok(resample_beyond_edges(&values, Xyz(from), Xyz(to), Xyz(interpolation))?);
    }
    let ranges = ranges(&values, from, separate);
    let mut resized = resample_beyond_edges(&values, Xyz(from), Xyz(between), Xyz(interpolation))?;
    drop(values);
    // The values of a slice across an axis lie in runs of as many values as the axes before it have together.
    let stride = stride(between, separate);
    for (values, [low, high]) in resized.chunks_mut(stride).zip(ranges.iter().cycle()) {
        for value in values {
            *value = value.max(*low).min(*high);
        }
    }
    if between == to {
        return Ok(resized);
    }
    Ok(resample_beyond_edges(&resized, Xyz(between), Xyz(to), Xyz(interpolation))?)
}

/// The number of neighbouring values in the same slice across an axis. Without an axis the grid is one slice.
fn stride(shape: [usize; 3], axis: Option<usize>) -> usize {
    shape[..axis.unwrap_or(3)].iter().product::<usize>().max(1)
}

/// The least and the greatest value of each slice.
fn ranges(values: &[f32], shape: [usize; 3], axis: Option<usize>) -> Vec<[f32; 2]> {
    let count = axis.map_or(1, |axis| shape[axis]);
    let mut ranges = vec![[f32::INFINITY, f32::NEG_INFINITY]; count];
    for (index, values) in values.chunks(stride(shape, axis)).enumerate() {
        let [low, high] = &mut ranges[index % count];
        for value in values {
            (*low, *high) = (low.min(*value), high.max(*value));
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use sulcus_model::ResamplingMethod;

    use super::*;
    use crate::nnunet_functions::{functions, words};

    fn floats(hexadecimal: &str) -> Vec<f32> {
        words::<4>(hexadecimal).into_iter().map(f32::from_le_bytes).collect()
    }

    fn interpolation(order: u8) -> Option<Interpolation> {
        match order {
            0 => Some(Interpolation::Nearest),
            1 => Some(Interpolation::Linear),
            3 => Some(Interpolation::Cubic),
            _ => None,
        }
    }

    #[test]
    fn values_are_those_of_nnunet() {
        let (mut compared, mut separately) = (0, 0);
        for case in functions().resampling.into_iter().filter(|case| case.dtype == "f4") {
            let ResamplingMethod::Spline { order, order_z } = case.rule.method else { continue };
            let (Some(in_plane), Some(along)) = (interpolation(order), interpolation(order_z)) else { continue };
            let mut reversed = [case.from_mm, case.to_mm];
            reversed.iter_mut().for_each(|triple| triple.reverse());
            let separate = case.rule.separate_axis(reversed[0], reversed[1]);
            let per_axis = std::array::from_fn(|axis| if separate == Some(axis) { along } else { in_plane });
            let (mut from, mut to) = (case.from, case.to);
            from.reverse();
            to.reverse();
            let found = resample_channel(floats(&case.values), from, to, per_axis, separate).unwrap();
            let expected = floats(&case.found);
            assert_eq!(found.len(), expected.len());
            let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(error < 2e-5, "{:?} from {from:?} to {to:?}, separate {separate:?}: {error}", case.rule);
            compared += 1;
            separately += usize::from(separate.is_some());
        }
        assert!(compared >= 10 && separately >= 5, "{compared}, {separately}");
    }
}
