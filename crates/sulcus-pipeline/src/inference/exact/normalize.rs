//! nnU-Net's normalisation in single precision, with the order in which NumPy adds.

use sulcus_model::Normalisation;

use super::sum::pairwise_sum;

/// Below this nnU-Net's divisors are replaced by it.
const SMALLEST_DIVISOR: f32 = 1e-8;

/// The values of a channel as nnU-Net's array holds them: in the order of the memory of its reader, cut from a scan of shape `full`.
pub(super) struct Channel<'a> {
    /// `[z, y, x]` of the reader.
    pub(super) stored: &'a [f32],
    /// z, y, x.
    pub(super) shape: [usize; 3],
    /// The shape before the crop, z, y, x.
    pub(super) full: [usize; 3],
}

/// Normalises `values`, the channel in the order of the network's grid. `inside` marks the voxels that
/// [`Normalisation::ZScoreNonzero`] uses, in the same order; it is empty for other schemes.
pub(super) fn normalize(scheme: Normalisation, channel: &Channel<'_>, values: &mut [f32], inside: &[bool]) {
    match scheme {
        Normalisation::ZScore => {
            let n = values.len();
            let mean = mean(sum_of_view(channel), n);
            let squares: Vec<f32> = channel.stored.iter().map(|v| (v - mean) * (v - mean)).collect();
            let sd = self::mean(pairwise_sum(&squares), n).sqrt();
            shift_and_divide(values, mean, sd);
        }
        Normalisation::ZScoreNonzero => {
            let counted: Vec<f32> =
                values.iter().zip(inside).filter(|(_, inside)| **inside).map(|(v, _)| *v).collect();
            let mean = mean(pairwise_sum(&counted), counted.len());
            let squares: Vec<f32> = counted.iter().map(|v| (v - mean) * (v - mean)).collect();
            let sd = self::mean(pairwise_sum(&squares), squares.len()).sqrt();
            for (value, is_inside) in values.iter_mut().zip(inside) {
                if *is_inside {
                    *value = (*value - mean) / sd.max(SMALLEST_DIVISOR);
                }
            }
        }
        Normalisation::MinMax => {
            let low = values.iter().copied().fold(f32::INFINITY, f32::min);
            let high = values.iter().map(|v| v - low).fold(f32::NEG_INFINITY, f32::max);
            shift_and_divide(values, low, high);
        }
        Normalisation::Ct { clip: [low, high], mean, sd } => {
            values.iter_mut().for_each(|v| *v = v.max(low).min(high));
            shift_and_divide(values, mean, sd);
        }
        Normalisation::RgbTo01 => values.iter_mut().for_each(|v| *v /= 255.0),
        // nnU-Net has no percentiles.
        Normalisation::None | Normalisation::Percentile { .. } => {}
    }
}

fn shift_and_divide(values: &mut [f32], shift: f32, divisor: f32) {
    let divisor = divisor.max(SMALLEST_DIVISOR);
    values.iter_mut().for_each(|v| *v = (*v - shift) / divisor);
}

/// NumPy divides by the number of values in double precision.
fn mean(sum: f32, count: usize) -> f32 {
    (f64::from(sum) / count as f64) as f32
}

/// NumPy's (2.4) sum of a part of an array. Where rows of the part are not next to each other in memory, it adds as many of them at
/// once as fit into its buffer.
fn sum_of_view(channel: &Channel<'_>) -> f32 {
    /// Values in NumPy's buffer.
    const BUFFER: usize = 8192;
    let (lengths, values) = (contiguous_lengths(channel.shape, channel.full), channel.stored);
    // The longest block of whole axes that fits into the buffer, and the axis outside it, across which blocks are joined.
    let (mut block, mut end) = (1, values.len());
    let mut axes = lengths.iter().rev();
    if let Some(row) = axes.next() {
        block = *row;
        for axis in axes {
            if block * axis > BUFFER {
                end = block * axis;
                break;
            }
            block *= axis;
        }
    }
    let chunk = if lengths.len() == 1 { values.len() } else { (BUFFER / block).max(1) * block };
    let mut sum = 0.0;
    for outer in values.chunks(end.max(1)) {
        sum = outer.chunks(chunk.max(1)).fold(sum, |sum, part| sum + pairwise_sum(part));
    }
    sum
}

/// The lengths of the axes of a part of an array after those that follow each other in memory are joined, and those of one element left
/// out; at least one.
fn contiguous_lengths(shape: [usize; 3], full: [usize; 3]) -> Vec<usize> {
    let strides = [full[1] * full[2], full[2], 1];
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for (length, stride) in shape.into_iter().zip(strides).filter(|(length, _)| *length > 1) {
        match joined.last_mut() {
            Some((outer, step)) if *step == length * stride => {
                *outer *= length;
                *step = stride;
            }
            _ => joined.push((length, stride)),
        }
    }
    if joined.is_empty() { vec![1] } else { joined.into_iter().map(|(length, _)| length).collect() }
}
