//! The exact Euclidean distance transform with voxel sizes (Felzenszwalb & Huttenlocher 2012), in linear time.

use sulcus_volume::VolumeError;

/// Squared distance in mm² from each grid point to the nearest one for which `is_feature` is true; infinite if there is
/// no such point.
///
/// # Errors
/// [`VolumeError::Memory`] if the distances do not fit in memory.
///
/// # Shapes
/// `features` and the result are `[z, y, x]` for a `shape` of x, y, z; `spacing_mm` is x, y, z.
pub(super) fn squared_mm2(
    features: &[u8],
    is_feature: impl Fn(u8) -> bool,
    shape: [usize; 3],
    spacing_mm: [f64; 3],
) -> Result<Vec<f64>, VolumeError> {
    let [nx, ny, _] = shape;
    let mut squared = filled(f64::INFINITY, features.len())?;
    for (row, out) in features.chunks_exact(nx).zip(squared.chunks_exact_mut(nx)) {
        along_row(row, &is_feature, out, spacing_mm[0]);
    }
    let mut envelope = Envelope::default();
    for slice in squared.chunks_exact_mut(nx * ny) {
        lower_all(slice, nx, &mut envelope, spacing_mm[1]);
    }
    lower_all(&mut squared, nx * ny, &mut envelope, spacing_mm[2]);
    Ok(squared)
}

/// A vector of equal values.
///
/// # Errors
/// [`VolumeError::Memory`] if it does not fit in memory.
pub(super) fn filled<T: Copy>(value: T, length: usize) -> Result<Vec<T>, VolumeError> {
    let mut out = Vec::new();
    let bytes = (length as u64).saturating_mul(size_of::<T>() as u64);
    out.try_reserve_exact(length).map_err(|_| VolumeError::Memory { bytes })?;
    out.resize(length, value);
    Ok(out)
}

/// Number of lines that are processed together: neighbours that share a cache line.
const TOGETHER: usize = 8;

/// Computes the lower envelope along the slowest axis of a block, whose elements are `stride` apart.
fn lower_all(block: &mut [f64], stride: usize, envelope: &mut Envelope, step: f64) {
    let length = block.len() / stride;
    if length == 1 {
        return;
    }
    let mut lines = vec![0.0; TOGETHER * length];
    for start in (0..stride).step_by(TOGETHER) {
        let width = TOGETHER.min(stride - start);
        for (place, values) in block.chunks_exact(stride).enumerate() {
            for (line, value) in values[start..start + width].iter().enumerate() {
                lines[line * length + place] = *value;
            }
        }
        lines.chunks_exact_mut(length).take(width).for_each(|line| envelope.lower(line, step));
        for (place, values) in block.chunks_exact_mut(stride).enumerate() {
            for (line, value) in values[start..start + width].iter_mut().enumerate() {
                *value = lines[line * length + place];
            }
        }
    }
}

/// Along the first axis the nearest feature is the last one passed, from the left or from the right.
fn along_row(row: &[u8], is_feature: &impl Fn(u8) -> bool, out: &mut [f64], step: f64) {
    let mut steps: Option<u32> = None;
    for (out, value) in out.iter_mut().zip(row) {
        steps = if is_feature(*value) { Some(0) } else { steps.map(|n| n + 1) };
        if let Some(n) = steps {
            *out = (f64::from(n) * step).powi(2);
        }
    }
    steps = None;
    for (out, value) in out.iter_mut().zip(row).rev() {
        steps = if is_feature(*value) { Some(0) } else { steps.map(|n| n + 1) };
        if let Some(n) = steps {
            *out = out.min((f64::from(n) * step).powi(2));
        }
    }
}

/// The lower envelope of parabolas along a line. Its buffers are reused.
#[derive(Default)]
struct Envelope {
    parabolas: Vec<Parabola>,
}

#[derive(Clone, Copy)]
struct Parabola {
    /// Position and value of its minimum.
    root: usize,
    value: f64,
    /// Position from which it is the lowest parabola.
    from: f64,
}

impl Envelope {
    /// Replaces each value f(q) on a line by the minimum of f(p) + ((q − p) · step)² over all p.
    fn lower(&mut self, line: &mut [f64], step: f64) {
        self.parabolas.clear();
        // The intersection of two parabolas, in steps, is half of (rise / step² / distance + sum of the roots).
        let per_step = 1.0 / (step * step);
        for (root, value) in line.iter().copied().enumerate().filter(|(_, value)| value.is_finite()) {
            let mut from = f64::NEG_INFINITY;
            while let Some(last) = self.parabolas.last() {
                let meet = (value - last.value) * per_step / (root - last.root) as f64;
                from = (meet + (root + last.root) as f64) / 2.0;
                if from > last.from {
                    break;
                }
                self.parabolas.pop();
                from = f64::NEG_INFINITY;
            }
            self.parabolas.push(Parabola { root, value, from });
        }
        let mut place = 0;
        for (index, parabola) in self.parabolas.iter().enumerate() {
            let end = self.parabolas.get(index + 1).map_or(f64::INFINITY, |next| next.from);
            while place < line.len() && place as f64 <= end {
                line[place] = parabola.value + (place.abs_diff(parabola.root) as f64 * step).powi(2);
                place += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sums differ only by the choice between several nearest features.
    const ROUNDING: f64 = 1e-12;

    fn by_trying_all(features: &[u8], [nx, ny, _]: [usize; 3], mm: [f64; 3]) -> Vec<f64> {
        let place = |i: usize| [i % nx, i / nx % ny, i / nx / ny];
        let squared = |a: usize, b: usize| -> f64 {
            let (a, b) = (place(a), place(b));
            (0..3).map(|axis| (a[axis].abs_diff(b[axis]) as f64 * mm[axis]).powi(2)).sum()
        };
        let found: Vec<usize> = (0..features.len()).filter(|i| features[*i] != 0).collect();
        let nearest = |at| found.iter().map(|feature| squared(at, *feature)).fold(f64::INFINITY, f64::min);
        (0..features.len()).map(nearest).collect()
    }

    proptest! {
        #[test]
        fn distance_is_the_minimum_over_all_features(
            (shape, features) in (1..8_usize, 1..7_usize, 1..6_usize).prop_flat_map(|(x, y, z)| {
                let bit = prop_oneof![4 => Just(0_u8), 1 => Just(1_u8)];
                (Just([x, y, z]), proptest::collection::vec(bit, x * y * z))
            }),
            mm in [0.2..5.0_f64, 0.2..5.0_f64, 0.2..5.0_f64],
        ) {
            let found = squared_mm2(&features, |v| v != 0, shape, mm).unwrap();
            for (found, expected) in found.into_iter().zip(by_trying_all(&features, shape, mm)) {
                prop_assert!(found == expected || (found - expected).abs() <= ROUNDING * expected, "{found} {expected}");
            }
        }
    }
}
