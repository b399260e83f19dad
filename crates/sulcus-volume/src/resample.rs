use std::ops::Range;

use crate::{Geometry, Image, RasFromVoxel, VolumeError, Xyz};

/// The order of interpolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Nearest neighbour (order 0).
    Nearest,
    /// Linear (order 1).
    Linear,
    /// Cubic B-spline through the samples (order 3; Unser, Aldroubi & Eden 1993).
    Cubic,
}

impl Geometry {
    /// The grid of `shape` voxels, x first, with the same outer faces.
    ///
    /// # Errors
    /// [`VolumeError::Shape`] when an axis is empty or there are more voxels than can be addressed.
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
        self.with_grid(shape, RasFromVoxel::new(rows)?)
    }
}

impl Image {
    /// The image on a grid of `shape` voxels with the same outer faces, with one interpolation per axis.
    ///
    /// # Errors
    /// [`VolumeError::Shape`] when an axis is empty or there are more voxels than can be addressed, [`VolumeError::Memory`] when
    /// the result does not fit in memory.
    pub fn resampled(&self, shape: Xyz<usize>, interpolation: Xyz<Interpolation>) -> Result<Self, VolumeError> {
        let geometry = self.geometry().resized(shape.0)?;
        let mut data = reserved(geometry.voxels().saturating_mul(self.channels()))?;
        for channel in 0..self.channels() {
            data.extend(resample(self.channel(channel), Xyz(self.geometry().shape()), shape, interpolation)?);
        }
        Self::new(geometry, self.channels(), data)
    }
}

/// Resamples values from shape `from` to shape `to`, one axis after the other. Both grids have the same outer faces:
/// along each axis, target sample `i` lies at the source position `(i + ½) · from / to − ½`. Beyond the first and last
/// sample the edge value is repeated. This is `align_corners=False` in PyTorch and `mode="edge"` in scikit-image's
/// `resize`, which nnU-Net uses.
///
/// Returns an empty vector when an axis is empty or the number of values does not match `from`.
///
/// # Errors
/// [`VolumeError::Memory`] when the result does not fit in memory.
///
/// # Shapes
/// The values and the result are `[z, y, x]`, row-major.
///
/// ```
/// use sulcus_volume::{Interpolation, Xyz, resample};
///
/// # fn main() -> Result<(), sulcus_volume::VolumeError> {
/// let (from, to) = (Xyz([2, 1, 1]), Xyz([4, 1, 1]));
/// let values = resample(&[1.0, 3.0], from, to, Xyz([Interpolation::Linear; 3]))?;
/// assert_eq!(values, [1.0, 1.5, 2.5, 3.0]);
/// # Ok(())
/// # }
/// ```
pub fn resample(
    values: &[f32],
    from: Xyz<usize>,
    to: Xyz<usize>,
    interpolation: Xyz<Interpolation>,
) -> Result<Vec<f32>, VolumeError> {
    along_axes(values, from, to, interpolation, AxisResampling::new)
}

/// As [`resample`], but a cubic spline goes on beyond the first and last sample, through repetitions of them. This is what scikit-image's
/// `resize(mode="edge")` computes, apart from its clipping to the range of the source. [`resample`] holds the edge value there.
///
/// # Errors
/// As [`resample`].
///
/// # Shapes
/// As [`resample`].
pub fn resample_beyond_edges(
    values: &[f32],
    from: Xyz<usize>,
    to: Xyz<usize>,
    interpolation: Xyz<Interpolation>,
) -> Result<Vec<f32>, VolumeError> {
    along_axes(values, from, to, interpolation, AxisResampling::beyond_edges)
}

/// Resamples along each axis in turn; `along` gives the resampling from one number of samples to another.
fn along_axes(
    values: &[f32],
    from: Xyz<usize>,
    to: Xyz<usize>,
    interpolation: Xyz<Interpolation>,
    along: fn(usize, usize, Interpolation) -> AxisResampling,
) -> Result<Vec<f32>, VolumeError> {
    let (Xyz(from), Xyz(to), Xyz(interpolation)) = (from, to, interpolation);
    if values.len() != from.iter().product::<usize>() || to.contains(&0) || from.contains(&0) {
        return Ok(Vec::new());
    }
    let mut data = reserved(values.len())?;
    data.extend_from_slice(values);
    let mut shape = from;
    for axis in 0..3 {
        if shape[axis] != to[axis] {
            let inner = shape[..axis].iter().product();
            let along = along(shape[axis], to[axis], interpolation[axis]);
            data = along.apply(&data, inner, 0..shape[axis], 0..to[axis])?;
            shape[axis] = to[axis];
        }
    }
    Ok(data)
}

/// An empty vector with memory for this many values. Grids come from headers, so their memory may not exist.
pub(crate) fn reserved<T>(values: usize) -> Result<Vec<T>, VolumeError> {
    let mut out = Vec::new();
    let bytes = (values as u64).saturating_mul(size_of::<T>() as u64);
    out.try_reserve_exact(values).map_err(|_| VolumeError::Memory { bytes })?;
    Ok(out)
}

/// Resampling along one axis, of all samples or of a range of them.
///
/// With nearest or linear interpolation a target sample depends on one or two source samples. A range of the target can
/// therefore be computed from a range of the source, with the same result to the bit, so that a large volume can be
/// resampled in chunks.
#[derive(Debug, Clone)]
pub struct AxisResampling {
    from: usize,
    taps: Vec<Tap>,
    interpolation: Interpolation,
}

impl AxisResampling {
    /// Resampling from `from` samples to `to` samples; neither may be 0. With [`Interpolation::Cubic`] every target sample
    /// depends on all source samples.
    pub fn new(from: usize, to: usize, interpolation: Interpolation) -> Self {
        let taps = taps(from, to, interpolation, |at, last| at.clamp(0.0, last));
        Self { from, taps, interpolation }
    }

    /// The same, but a cubic spline goes on beyond the first and last sample.
    fn beyond_edges(from: usize, to: usize, interpolation: Interpolation) -> Self {
        if interpolation != Interpolation::Cubic {
            return Self::new(from, to, interpolation);
        }
        Self { from, taps: taps(from, to, interpolation, |at, _| at), interpolation }
    }

    /// The range of source samples that a range of target samples depends on.
    pub fn source_range(&self, target: Range<usize>) -> Range<usize> {
        if self.is_identity() {
            return target;
        }
        if self.interpolation == Interpolation::Cubic {
            return 0..self.from;
        }
        // The positions increase along the axis.
        let taps = self.taps.get(target).unwrap_or_default();
        let (Some(first), Some(last)) = (taps.first(), taps.last()) else { return 0..0 };
        first.source(0, self.from)..last.source(last.count - 1, self.from) + 1
    }

    /// Whether source and target have the same number of samples, so that the values stay the same.
    pub fn is_identity(&self) -> bool {
        self.taps.len() == self.from
    }

    /// The two source samples and their weights that give one target sample. `None` beyond the end of the target and for
    /// [`Interpolation::Cubic`].
    pub fn weights(&self, target: usize) -> Option<[(usize, f32); 2]> {
        if self.interpolation == Interpolation::Cubic {
            return None;
        }
        if self.is_identity() {
            return (target < self.from).then_some([(target, 1.0), (target, 0.0)]);
        }
        let tap = self.taps.get(target)?;
        let second = tap.source(tap.count - 1, self.from);
        Some([(tap.source(0, self.from), tap.weights[0]), (second, tap.weights[1])])
    }

    /// Computes the range `target` from the range `source`, which must cover [`AxisResampling::source_range`] of `target`.
    /// Returns an empty vector when it does not, or when the number of values does not match.
    ///
    /// # Errors
    /// [`VolumeError::Memory`] when the result does not fit in memory.
    ///
    /// # Shapes
    /// `data` is `[outer, source.len(), inner]`, the result `[outer, target.len(), inner]`, both row-major.
    pub fn apply(
        &self,
        data: &[f32],
        inner: usize,
        source: Range<usize>,
        target: Range<usize>,
    ) -> Result<Vec<f32>, VolumeError> {
        let needed = self.source_range(target.clone());
        let block = inner * source.len();
        let fits = needed.start >= source.start && needed.end <= source.end && target.end <= self.taps.len();
        if block == 0 || !data.len().is_multiple_of(block) || !fits {
            return Ok(Vec::new());
        }
        let mut out = reserved((data.len() / source.len()).saturating_mul(target.len()))?;
        match self.interpolation {
            _ if self.is_identity() => {
                for block in data.chunks_exact(block) {
                    let range = (target.start - source.start) * inner..(target.end - source.start) * inner;
                    out.extend_from_slice(&block[range]);
                }
            }
            Interpolation::Cubic => self.splines(data, inner, target, &mut out),
            Interpolation::Nearest | Interpolation::Linear => {
                for block in data.chunks_exact(block) {
                    for sample in target.clone() {
                        let Some([(a, wa), (b, wb)]) = self.weights(sample) else { return Ok(Vec::new()) };
                        let line = |at: usize| &block[(at - source.start) * inner..][..inner];
                        if wb == 0.0 {
                            out.extend(line(a).iter().map(|v| v * wa));
                        } else {
                            out.extend(line(a).iter().zip(line(b)).map(|(a, b)| a * wa + b * wb));
                        }
                    }
                }
            }
        }
        Ok(out)
    }

    /// Cubic interpolation; `data` holds the whole axis. `out` is empty and has memory for the result.
    fn splines(&self, data: &[f32], inner: usize, target: Range<usize>, out: &mut Vec<f32>) {
        let (from, taps) = (self.from, self.taps.get(target).unwrap_or_default());
        let outer = data.len() / (inner * from);
        out.resize(inner * taps.len() * outer, 0.0);
        let mut line = vec![0.0_f32; from + 2 * SPLINE_MARGIN];
        for o in 0..outer {
            for i in 0..inner {
                for (k, value) in line.iter_mut().enumerate() {
                    let k = k.saturating_sub(SPLINE_MARGIN).min(from - 1);
                    *value = data[(o * from + k) * inner + i];
                }
                spline_coefficients(&mut line);
                let length = line.len();
                for (k, tap) in taps.iter().enumerate() {
                    let tap = Tap { first: tap.first + SPLINE_MARGIN as isize, ..*tap };
                    let value = (0..tap.count).map(|n| line[tap.source(n, length)] * tap.weights[n]).sum();
                    out[(o * taps.len() + k) * inner + i] = value;
                }
            }
        }
    }
}

/// The source samples of one target sample and their weights.
#[derive(Debug, Clone, Copy)]
struct Tap {
    first: isize,
    weights: [f32; 4],
    count: usize,
}

impl Tap {
    /// The index of the `n`-th source sample on an axis of `samples` samples. The edge samples are repeated beyond the ends.
    fn source(&self, n: usize, samples: usize) -> usize {
        (self.first + n as isize).clamp(0, samples as isize - 1) as usize
    }
}

/// `place` moves a position to where the source is interpolated, given the last sample.
fn taps(from: usize, to: usize, interpolation: Interpolation, place: fn(f64, f64) -> f64) -> Vec<Tap> {
    let step = from as f64 / to as f64;
    let last = from as f64 - 1.0;
    (0..to)
        .map(|i| {
            let at = place((i as f64 + 0.5) * step - 0.5, last);
            let base = at.floor();
            match interpolation {
                Interpolation::Nearest => {
                    // The source voxel that contains the target's centre; a centre on a face belongs to the next voxel.
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

/// The cubic B-spline weights of four consecutive coefficients at a position `t` (0 to 1) after the second one.
pub(crate) fn cubic_weights(t: f64) -> [f64; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [
        (1.0 - 3.0 * t + 3.0 * t2 - t3) / 6.0,
        (4.0 - 6.0 * t2 + 3.0 * t3) / 6.0,
        (1.0 + 3.0 * t + 3.0 * t2 - 3.0 * t3) / 6.0,
        t3 / 6.0,
    ]
}

/// The edge sample is repeated this often at each end before the spline coefficients are computed. The influence of a
/// sample decays by the factor 2 − √3 per sample, so after twelve it is below single precision.
const SPLINE_MARGIN: usize = 12;

/// Replaces samples by the coefficients of the cubic B-spline through them, with mirrored ends: a causal and an
/// anticausal first-order filter with pole √3 − 2 (Unser, Aldroubi & Eden 1993).
pub(crate) fn spline_coefficients(line: &mut [f32]) {
    const POLE: f64 = -0.267_949_192_431_122_7;
    /// After this many samples the powers of the pole are below double precision.
    const HORIZON: usize = 40;
    let n = line.len();
    if n < 2 {
        return;
    }
    let mut c: Vec<f64> = line.iter().map(|v| f64::from(*v) * 6.0).collect();
    // The initial state of the causal filter, as if the mirrored line continued to infinity before the first sample.
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
    fn resample_preserves_constants_and_slopes() {
        for interpolation in [Interpolation::Nearest, Interpolation::Linear, Interpolation::Cubic] {
            let out =
                resample(&[0.5; 5 * 6 * 7], Xyz([5, 6, 7]), Xyz([9, 4, 13]), Xyz([interpolation; 3])).unwrap();
            assert_eq!(out.len(), 9 * 4 * 13);
            assert!(out.iter().all(|v| (v - 0.5).abs() < TOLERANCE), "{interpolation:?}");
        }
        let ramp: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let out = resample(&ramp, Xyz([20, 1, 1]), Xyz([40, 1, 1]), Xyz([Interpolation::Linear; 3])).unwrap();
        assert!((out[20] - 9.75).abs() < TOLERANCE && (out[21] - 10.25).abs() < TOLERANCE, "{out:?}");
    }

    #[test]
    fn cubic_spline_interpolates_its_samples() {
        let samples: Vec<f32> = (0..31).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
        // With three times as many samples, every third target sample from the second on coincides with a source sample.
        let out = resample(&samples, Xyz([31, 1, 1]), Xyz([93, 1, 1]), Xyz([Interpolation::Cubic; 3])).unwrap();
        for (i, sample) in samples.iter().enumerate() {
            assert!((out[3 * i + 1] - sample).abs() < TOLERANCE, "sample {i}");
        }
    }

    #[test]
    fn splines_beyond_the_edges_are_those_of_scikit_image() {
        // skimage.transform.resize(numpy.array([1, 5, 2.]), [6], order=3, mode="edge", clip=False)
        let (from, to, cubic) = (Xyz([3, 1, 1]), Xyz([6, 1, 1]), Xyz([Interpolation::Cubic; 3]));
        let close =
            |found: &[f32], expected: [f32; 6]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        let out = resample_beyond_edges(&[1.0, 5.0, 2.0], from, to, cubic).unwrap();
        assert!(close(&out, [0.533472, 2.023558, 4.428606, 4.741407, 2.861479, 1.604566]), "{out:?}");
        let held = resample(&[1.0, 5.0, 2.0], from, to, cubic).unwrap();
        assert!(close(&held, [1.0, out[1], out[2], out[3], out[4], 2.0]), "{held:?}");
        let linear = Xyz([Interpolation::Linear; 3]);
        let both = [resample, resample_beyond_edges].map(|f| f(&[1.0, 5.0, 2.0], from, to, linear).unwrap());
        assert_eq!(both[0], both[1]);
    }

    #[test]
    fn resampling_a_range_equals_resampling_the_whole_axis() {
        let values: Vec<f32> = (0..5 * 17 * 3).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
        for interpolation in [Interpolation::Nearest, Interpolation::Linear] {
            for to in [1, 5, 16, 17, 18, 40] {
                let along = AxisResampling::new(17, to, interpolation);
                let whole = along.apply(&values, 5, 0..17, 0..to).unwrap();
                assert_eq!(whole.len(), 5 * to * 3);
                for target in [0..1, to / 2..to, to / 3..to / 3 + 1] {
                    let needed = along.source_range(target.clone());
                    let cut = |all: &[f32], n: usize, part: &Range<usize>| -> Vec<f32> {
                        all.chunks_exact(5 * n).flat_map(|o| o[5 * part.start..5 * part.end].to_vec()).collect()
                    };
                    let part = along.apply(&cut(&values, 17, &needed), 5, needed.clone(), target.clone()).unwrap();
                    assert_eq!(part, cut(&whole, to, &target), "{interpolation:?} to {to}, {target:?}");
                    let too_few = needed.start + 1..needed.end;
                    assert!(along.apply(&cut(&values, 17, &too_few), 5, too_few, target).unwrap().is_empty());
                }
            }
        }
    }

    #[test]
    fn resized_keeps_the_outer_faces() {
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
