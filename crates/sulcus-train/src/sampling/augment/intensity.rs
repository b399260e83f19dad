use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sulcus_volume::{Interpolation, Xyz, Zyx, resample};

use super::draw::IntensityTransform;

impl IntensityTransform {
    /// Applies the transform to one channel. If `flat`, planes are not mixed.
    ///
    /// # Shapes
    /// `values` `[D, H, W]`; `shape` is D, H, W.
    pub(super) fn apply(&self, values: &mut [f32], shape: [usize; 3], flat: bool) {
        if let Some((sd, seed)) = self.noise {
            add_noise(values, sd, seed);
        }
        if let Some(sigma) = self.blur {
            blur(values, shape, if flat { [0.0, sigma[1], sigma[2]] } else { sigma });
        }
        if let Some(factor) = self.brightness {
            values.iter_mut().for_each(|v| *v *= factor);
        }
        if let Some(sds) = self.shift {
            let offset = sds * Moments::of(values).sd as f32;
            values.iter_mut().for_each(|v| *v += offset);
        }
        if let Some((factor, keep_range)) = self.contrast {
            change_contrast(values, factor, keep_range);
        }
        if let Some(factor) = self.low_resolution {
            lower_resolution(values, shape, factor, flat);
        }
        if let Some(gamma) = self.inverted_gamma {
            values.iter_mut().for_each(|v| *v = -*v);
            change_gamma(values, gamma);
            values.iter_mut().for_each(|v| *v = -*v);
        }
        if let Some(gamma) = self.gamma {
            change_gamma(values, gamma);
        }
    }
}

/// Mean and standard deviation, over all values.
#[derive(Debug, Clone, Copy)]
struct Moments {
    mean: f64,
    sd: f64,
}

impl Moments {
    fn of(values: &[f32]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = sum(values, |v| v) / n;
        let centre = mean as f32;
        Self { mean, sd: (sum(values, |v| (v - centre) * (v - centre)) / n).sqrt() }
    }
}

/// A sum in double precision with eight partial sums, which is faster than one.
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut parts = [0.0_f64; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|v| f64::from(term(*v))).sum();
    for chunk in chunks {
        parts.iter_mut().zip(chunk).for_each(|(part, v)| *part += f64::from(term(*v)));
    }
    parts.iter().sum::<f64>() + rest
}

/// Minimum and maximum.
fn range(values: &[f32]) -> [f32; 2] {
    let mut parts = [[f32::INFINITY, f32::NEG_INFINITY]; 8];
    for chunk in values.chunks(8) {
        for (part, v) in parts.iter_mut().zip(chunk) {
            *part = [part[0].min(*v), part[1].max(*v)];
        }
    }
    parts.into_iter().fold(parts[0], |a, b| [a[0].min(b[0]), a[1].max(b[1])])
}

/// Adds normal noise, by the transform of Box & Muller (1958).
fn add_noise(values: &mut [f32], sd: f32, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for pair in values.chunks_mut(2) {
        let bits = rng.next_u64();
        // (0, 1] and [0, 1), so that the logarithm is finite.
        let [radius, angle] = [bits >> 40, bits >> 8 & 0xff_ffff].map(|v| v as f32 / (1 << 24) as f32);
        let radius = sd * (-2.0 * (1.0 - radius).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * angle).sin_cos();
        pair.iter_mut().zip([cos, sin]).for_each(|(v, unit)| *v += radius * unit);
    }
}

/// A Gaussian blur of standard deviation σ voxels along each axis, truncated at 3 σ. Edge voxels are repeated outside.
fn blur(values: &mut [f32], shape: [usize; 3], sigma: [f64; 3]) {
    let mut padded = Vec::new();
    for axis in 0..3 {
        let n = shape[axis];
        let inner: usize = shape[axis + 1..].iter().product();
        let radius = (3.0 * sigma[axis]).ceil() as usize;
        if radius == 0 || n < 2 || inner == 0 {
            continue;
        }
        let weight = |i: usize| (-0.5 * ((i as f64 - radius as f64) / sigma[axis]).powi(2)).exp();
        let total: f64 = (0..=2 * radius).map(weight).sum();
        let kernel: Vec<f32> = (0..=2 * radius).map(|i| (weight(i) / total) as f32).collect();
        for block in values.chunks_exact_mut(n * inner) {
            padded.clear();
            (0..radius).for_each(|_| padded.extend_from_slice(&block[..inner]));
            padded.extend_from_slice(block);
            (0..radius).for_each(|_| padded.extend_from_slice(&block[(n - 1) * inner..]));
            block.fill(0.0);
            for (k, weight) in kernel.iter().enumerate() {
                block.iter_mut().zip(&padded[k * inner..]).for_each(|(out, v)| *out += weight * v);
            }
        }
    }
}

fn change_contrast(values: &mut [f32], factor: f32, keep_range: bool) {
    let mean = Moments::of(values).mean as f32;
    if keep_range {
        let [low, high] = range(values);
        values.iter_mut().for_each(|v| *v = ((*v - mean) * factor + mean).max(low).min(high));
    } else {
        values.iter_mut().for_each(|v| *v = (*v - mean) * factor + mean);
    }
}

/// Simulates a lower resolution: downsamples (nearest) and upsamples (linear).
fn lower_resolution(values: &mut [f32], [d, h, w]: [usize; 3], factor: f64, flat: bool) {
    let reduced = |n: usize| ((n as f64 * factor).round() as usize).max(1);
    // `resample` expects x first.
    let fine = Zyx([d, h, w]).to_xyz();
    let coarse = Zyx([if flat { d } else { reduced(d) }, reduced(h), reduced(w)]).to_xyz();
    if coarse == fine {
        return;
    }
    let back = resample(values, fine, coarse, Xyz([Interpolation::Nearest; 3]))
        .and_then(|small| resample(&small, coarse, fine, Xyz([Interpolation::Linear; 3])));
    // Where not even a copy of a patch fits in memory, the next step of the training fails.
    if let Ok(back) = back {
        values.iter_mut().zip(back).for_each(|(v, b)| *v = b);
    }
}

fn change_gamma(values: &mut [f32], gamma: f32) {
    /// A channel with a smaller range is constant and stays unchanged.
    const MIN_RANGE: f32 = 1e-7;
    let [low, high] = range(values);
    let width = high - low;
    if !(width > MIN_RANGE && width.is_finite()) {
        return;
    }
    let before = Moments::of(values);
    values.iter_mut().for_each(|v| *v = ((*v - low) / width).powf(gamma));
    let after = Moments::of(values);
    let factor = (before.sd / after.sd.max(f64::from(MIN_RANGE))) as f32;
    let (from, to) = (after.mean as f32, before.mean as f32);
    values.iter_mut().for_each(|v| *v = (*v - from) * factor + to);
}
