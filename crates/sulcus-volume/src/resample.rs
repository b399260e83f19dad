use crate::{Geometry, Image, RasFromVoxel, VolumeError};

/// How values between voxels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest voxel (order 0).
    Nearest,
    /// Between the two neighbours (order 1).
    Linear,
    /// Cubic B-spline through the voxels (order 3; Unser, Aldroubi & Eden 1993).
    Cubic,
}

impl Geometry {
    /// The grid of `shape` voxels that covers the same box: outer faces stay where they are.
    ///
    /// # Errors
    /// When `shape` has an empty axis.
    pub fn resized(&self, shape: [usize; 3]) -> Result<Self, VolumeError> {
        let step: [f64; 3] = std::array::from_fn(|a| self.shape()[a] as f64 / shape[a].max(1) as f64);
        let rows = self.ras_from_voxel().rows().map(|row| {
            let mut scaled = row;
            for axis in 0..3 {
                scaled[axis] = row[axis] * step[axis];
                scaled[3] += row[axis] * 0.5 * (step[axis] - 1.0);
            }
            scaled
        });
        Self::new(shape, RasFromVoxel::new(rows)?, self.source())
    }
}

impl Image {
    /// The image on a grid of `shape` voxels over the same box, one interpolation an axis.
    ///
    /// # Errors
    /// When `shape` has an empty axis.
    pub fn resampled(&self, shape: [usize; 3], interpolation: [Interpolation; 3]) -> Result<Self, VolumeError> {
        let geometry = self.geometry().resized(shape)?;
        let data = (0..self.channels())
            .flat_map(|c| resample(self.channel(c), self.geometry().shape(), shape, interpolation))
            .collect();
        Self::new(geometry, self.channels(), data)
    }
}

/// Resamples `[z, y, x]` values from shape `from` to shape `to` (x first), axis by axis, both grids covering the
/// same box: target voxel `i` lies at source position `(i + ½) · from / to − ½`; outside, the edge voxel counts on.
///
/// A length that does not fit `from`, or an empty axis, gives an empty result.
pub fn resample(values: &[f32], from: [usize; 3], to: [usize; 3], interpolation: [Interpolation; 3]) -> Vec<f32> {
    if values.len() != from.iter().product::<usize>() || to.contains(&0) || from.contains(&0) {
        return Vec::new();
    }
    let mut data = values.to_vec();
    let mut shape = from;
    for axis in 0..3 {
        if shape[axis] != to[axis] {
            data = resample_axis(&data, shape, axis, to[axis], interpolation[axis]);
            shape[axis] = to[axis];
        }
    }
    data
}

/// The source samples and weights of one target sample.
struct Tap {
    first: isize,
    weights: [f32; 4],
    count: usize,
}

fn taps(from: usize, to: usize, interpolation: Interpolation) -> Vec<Tap> {
    let step = from as f64 / to as f64;
    let last = from as f64 - 1.0;
    (0..to)
        .map(|i| {
            let at = ((i as f64 + 0.5) * step - 0.5).clamp(0.0, last);
            let base = at.floor();
            match interpolation {
                Interpolation::Nearest => {
                    // The voxel that holds the target's centre; a centre on a face belongs to the later voxel.
                    let nearest = ((i as f64 + 0.5) * step).floor().clamp(0.0, last);
                    Tap { first: nearest as isize, weights: [1.0, 0.0, 0.0, 0.0], count: 1 }
                }
                Interpolation::Linear => {
                    let t = (at - base) as f32;
                    Tap { first: base as isize, weights: [1.0 - t, t, 0.0, 0.0], count: 2 }
                }
                Interpolation::Cubic => {
                    let weights = cubic_weights(at - base).map(|w| w as f32);
                    Tap { first: base as isize - 1, weights, count: 4 }
                }
            }
        })
        .collect()
}

/// The weights of the four coefficients around a place that lies `t` (0 to 1) beyond the second of them.
pub(crate) fn cubic_weights(t: f64) -> [f64; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [
        (1.0 - 3.0 * t + 3.0 * t2 - t3) / 6.0,
        (4.0 - 6.0 * t2 + 3.0 * t3) / 6.0,
        (1.0 + 3.0 * t + 3.0 * t2 - 3.0 * t3) / 6.0,
        t3 / 6.0,
    ]
}

/// Samples repeated beyond each end before the spline's coefficients are computed: their influence falls by
/// 2 − √3 a sample, so after twelve it is below single precision.
const SPLINE_MARGIN: usize = 12;

fn resample_axis(
    data: &[f32],
    shape: [usize; 3],
    axis: usize,
    to: usize,
    interpolation: Interpolation,
) -> Vec<f32> {
    let from = shape[axis];
    let inner: usize = shape[..axis].iter().product();
    let outer: usize = shape[axis + 1..].iter().product();
    let taps = taps(from, to, interpolation);
    let margin = if interpolation == Interpolation::Cubic { SPLINE_MARGIN } else { 0 };
    let mut out = vec![0.0; inner * to * outer];
    let mut line = vec![0.0_f32; from + 2 * margin];
    for o in 0..outer {
        for i in 0..inner {
            for (k, value) in line.iter_mut().enumerate() {
                let k = k.saturating_sub(margin).min(from - 1);
                *value = data[(o * from + k) * inner + i];
            }
            if interpolation == Interpolation::Cubic {
                spline_coefficients(&mut line);
            }
            let last = line.len() as isize - 1;
            for (k, tap) in taps.iter().enumerate() {
                let value = (0..tap.count)
                    .map(|n| {
                        let at = (tap.first + n as isize + margin as isize).clamp(0, last);
                        line[at as usize] * tap.weights[n]
                    })
                    .sum();
                out[(o * to + k) * inner + i] = value;
            }
        }
    }
    out
}

/// Turns samples into the coefficients of the cubic B-spline through them (mirrored ends): a causal and an
/// anticausal first-order filter with pole √3 − 2.
pub(crate) fn spline_coefficients(line: &mut [f32]) {
    const POLE: f64 = -0.267_949_192_431_122_7;
    /// Its powers fall below double precision after so many samples.
    const HORIZON: usize = 40;
    let n = line.len();
    if n < 2 {
        return;
    }
    let mut c: Vec<f64> = line.iter().map(|v| f64::from(*v) * 6.0).collect();
    // What the causal filter has seen before the first sample: the line, mirrored without end.
    let (mut power, mut sum) = (POLE, c[0]);
    for k in 1..HORIZON {
        let at = k % (2 * n - 2);
        sum += power * c[at.min(2 * n - 2 - at)];
        power *= POLE;
    }
    c[0] = sum;
    for i in 1..n {
        c[i] += POLE * c[i - 1];
    }
    c[n - 1] = POLE / (POLE * POLE - 1.0) * (c[n - 1] + POLE * c[n - 2]);
    for i in (0..n - 1).rev() {
        c[i] = POLE * (c[i + 1] - c[i]);
    }
    line.iter_mut().zip(c).for_each(|(out, v)| *out = v as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Single precision and six passes over values up to 1.
    const TOLERANCE: f32 = 2e-5;

    #[test]
    fn a_constant_stays_one_and_a_ramp_keeps_its_slope() {
        for interpolation in [Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic] {
            let out = resample(&[0.5; 5 * 6 * 7], [5, 6, 7], [9, 4, 13], [interpolation; 3]);
            assert_eq!(out.len(), 9 * 4 * 13);
            assert!(out.iter().all(|v| (v - 0.5).abs() < TOLERANCE), "{interpolation:?}");
        }
        let ramp: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let out = resample(&ramp, [20, 1, 1], [40, 1, 1], [Interpolation::Linear; 3]);
        assert!((out[20] - 9.75).abs() < TOLERANCE && (out[21] - 10.25).abs() < TOLERANCE, "{out:?}");
    }

    #[test]
    fn a_spline_goes_through_its_samples() {
        let samples: Vec<f32> = (0..31).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
        // Three times the samples: every third target voxel, from the second on, lies on a source voxel.
        let out = resample(&samples, [31, 1, 1], [93, 1, 1], [Interpolation::Cubic; 3]);
        for (i, sample) in samples.iter().enumerate() {
            assert!((out[3 * i + 1] - sample).abs() < TOLERANCE, "sample {i}");
        }
    }

    #[test]
    fn the_box_stays_where_it_is() {
        let map =
            RasFromVoxel::new([[-0.9, 0.1, 0.2, 12.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0]]).unwrap();
        let grid = Geometry::new([4, 5, 6], map, crate::OrientationSource::Sform).unwrap();
        let fine = grid.resized([8, 5, 9]).unwrap();
        let corner = |g: &Geometry, s: f64| {
            let n = g.shape().map(|n| if s > 0.0 { n as f64 - 0.5 } else { -0.5 });
            g.ras_from_voxel().apply(n).0
        };
        for s in [-1.0, 1.0] {
            assert!(corner(&grid, s).iter().zip(corner(&fine, s)).all(|(a, b)| (a - b).abs() < 1e-9));
        }
    }
}
