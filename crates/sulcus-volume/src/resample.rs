use std::ops::Range;

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
            let inner = shape[..axis].iter().product();
            let along = AxisResampling::new(shape[axis], to[axis], interpolation[axis]);
            data = along.apply(&data, inner, 0..shape[axis], 0..to[axis]);
            shape[axis] = to[axis];
        }
    }
    data
}

/// How the samples along one axis give those of another length over the same box, in whole or in part.
///
/// A target sample depends on few source samples, so a part of the target needs a part of the source alone, and gets the
/// same values as the whole would: what is too large to hold can be resampled piece by piece.
#[derive(Debug, Clone)]
pub struct AxisResampling {
    from: usize,
    taps: Vec<Tap>,
    interpolation: Interpolation,
}

impl AxisResampling {
    /// From `from` samples to `to`, none of them 0. A cubic spline depends on all samples and can't be had in parts.
    pub fn new(from: usize, to: usize, interpolation: Interpolation) -> Self {
        Self { from, taps: taps(from, to, interpolation), interpolation }
    }

    /// The source samples that these target samples are made of.
    pub fn needs(&self, target: Range<usize>) -> Range<usize> {
        if self.is_identity() {
            return target;
        }
        if self.interpolation == Interpolation::Cubic {
            return 0..self.from;
        }
        let taps = self.taps.get(target).unwrap_or_default();
        let first = taps.iter().map(|tap| tap.source(0, self.from)).min().unwrap_or(0);
        let last = taps.iter().map(|tap| tap.source(tap.count - 1, self.from)).max();
        first..last.map_or(first, |last| last + 1)
    }

    /// Whether target and source are the same samples.
    pub fn is_identity(&self) -> bool {
        self.taps.len() == self.from
    }

    /// One target sample between two source samples: their numbers and weights. `None` beyond the target's end, and for
    /// a spline.
    pub fn between(&self, target: usize) -> Option<[(usize, f32); 2]> {
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

    /// Resamples the middle axis of `[outer, n, inner]` values that hold the source samples `source` alone; gives
    /// `[outer, target.len(), inner]`. Needs all of [`AxisResampling::needs`]; a length that does not fit, or a sample
    /// that is not there, gives an empty result.
    pub fn apply(&self, data: &[f32], inner: usize, source: Range<usize>, target: Range<usize>) -> Vec<f32> {
        let needed = self.needs(target.clone());
        let block = inner * source.len();
        let fits = needed.start >= source.start && needed.end <= source.end && target.end <= self.taps.len();
        if block == 0 || !data.len().is_multiple_of(block) || !fits {
            return Vec::new();
        }
        match self.interpolation {
            _ if self.is_identity() => data
                .chunks_exact(block)
                .flat_map(|block| {
                    &block[(target.start - source.start) * inner..(target.end - source.start) * inner]
                })
                .copied()
                .collect(),
            Interpolation::Cubic => self.splines(data, inner, target),
            Interpolation::Nearest | Interpolation::Linear => {
                let mut out = Vec::with_capacity(data.len() / source.len() * target.len());
                for block in data.chunks_exact(block) {
                    for sample in target.clone() {
                        let Some([(a, wa), (b, wb)]) = self.between(sample) else { return Vec::new() };
                        let line = |at: usize| &block[(at - source.start) * inner..][..inner];
                        if wb == 0.0 {
                            out.extend(line(a).iter().map(|v| v * wa));
                        } else {
                            out.extend(line(a).iter().zip(line(b)).map(|(a, b)| a * wa + b * wb));
                        }
                    }
                }
                out
            }
        }
    }

    /// `data` holds the whole axis.
    fn splines(&self, data: &[f32], inner: usize, target: Range<usize>) -> Vec<f32> {
        let (from, taps) = (self.from, self.taps.get(target).unwrap_or_default());
        let outer = data.len() / (inner * from);
        let mut out = vec![0.0; inner * taps.len() * outer];
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
        out
    }
}

/// The source samples and weights of one target sample.
#[derive(Debug, Clone, Copy)]
struct Tap {
    first: isize,
    weights: [f32; 4],
    count: usize,
}

impl Tap {
    /// The `n`-th source sample of an axis of so many: beyond the ends the last one counts on.
    fn source(&self, n: usize, samples: usize) -> usize {
        (self.first + n as isize).clamp(0, samples as isize - 1) as usize
    }
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
    fn a_part_has_the_values_of_the_whole() {
        let values: Vec<f32> = (0..5 * 17 * 3).map(|i| ((i * i) as f32 * 0.37).sin()).collect();
        for interpolation in [Interpolation::Nearest, Interpolation::Linear] {
            for to in [1, 5, 16, 17, 18, 40] {
                let along = AxisResampling::new(17, to, interpolation);
                let whole = along.apply(&values, 5, 0..17, 0..to);
                assert_eq!(whole.len(), 5 * to * 3);
                for target in [0..1, to / 2..to, to / 3..to / 3 + 1] {
                    let needs = along.needs(target.clone());
                    let cut = |all: &[f32], n: usize, part: &Range<usize>| -> Vec<f32> {
                        all.chunks_exact(5 * n).flat_map(|o| o[5 * part.start..5 * part.end].to_vec()).collect()
                    };
                    let part = along.apply(&cut(&values, 17, &needs), 5, needs.clone(), target.clone());
                    assert_eq!(part, cut(&whole, to, &target), "{interpolation:?} to {to}, {target:?}");
                    let less = needs.start + 1..needs.end;
                    assert!(along.apply(&cut(&values, 17, &less), 5, less, target).is_empty());
                }
            }
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
