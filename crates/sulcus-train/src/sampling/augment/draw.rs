use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sulcus_plan::{Augmentation, RandomRange};

/// A transform of one patch, with all its random numbers drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PatchTransform {
    pub(super) spatial: SpatialTransform,
    /// One per channel.
    pub(super) intensities: Vec<IntensityTransform>,
}

/// The spatial transform, along or about D, H, W.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SpatialTransform {
    pub(super) degrees: [f64; 3],
    pub(super) scale: f64,
    /// As a fraction of the patch's edges.
    pub(super) shift: [f64; 3],
    pub(super) mirror: [bool; 3],
}

/// The intensity transform of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct IntensityTransform {
    /// Standard deviation, and the seed of the values.
    pub(super) noise: Option<(f32, u64)>,
    /// σ in voxels along D, H, W.
    pub(super) blur: Option<[f64; 3]>,
    pub(super) brightness: Option<f32>,
    /// In standard deviations.
    pub(super) shift: Option<f32>,
    /// The factor, and whether the range is kept.
    pub(super) contrast: Option<(f32, bool)>,
    pub(super) low_resolution: Option<f64>,
    pub(super) inverted_gamma: Option<f32>,
    pub(super) gamma: Option<f32>,
}

impl PatchTransform {
    /// Draws a transform. All numbers are always drawn, so that a change of one setting does not affect the others.
    pub(crate) fn draw(augmentation: &Augmentation, channels: usize, rng: &mut ChaCha8Rng) -> Self {
        let is_affine = happens(augmentation.affine_probability, rng);
        let mut when = |range: RandomRange| happens(range.probability, rng) && is_affine;
        let [rotated, scaled, shifted] =
            [augmentation.rotation, augmentation.scaling, augmentation.translation].map(&mut when);
        let degrees = [(); 3].map(|()| uniform(augmentation.rotation, rng));
        let scale = factor(augmentation.scaling, rng);
        let shift = [(); 3].map(|()| uniform(augmentation.translation, rng));
        let mirror =
            augmentation.flips.along().map(|allowed| happens(augmentation.flip_probability, rng) && allowed);
        let spatial = SpatialTransform {
            degrees: if rotated { degrees } else { [0.0; 3] },
            scale: if scaled { scale } else { 1.0 },
            shift: if shifted { shift } else { [0.0; 3] },
            mirror,
        };

        let mut when = |range: RandomRange| happens(range.probability, rng);
        let [noise, blur, brightness, shift, contrast, low_resolution, inverted_gamma, gamma] = [
            augmentation.noise,
            augmentation.blur,
            augmentation.brightness,
            augmentation.shift,
            augmentation.contrast,
            augmentation.low_resolution,
            augmentation.inverted_gamma,
            augmentation.gamma,
        ]
        .map(&mut when);
        let noise_sd = uniform(augmentation.noise, rng) as f32;
        let intensity = |_| {
            let noise_seed = rng.random::<u64>();
            let blurred = happens(augmentation.blur_channel_probability, rng) && blur;
            let sigma = [(); 3].map(|()| uniform(augmentation.blur, rng));
            let coarse = happens(augmentation.low_resolution_channel_probability, rng) && low_resolution;
            let resolution = uniform(augmentation.low_resolution, rng);
            let sds = uniform(augmentation.shift, rng) as f32;
            let factors =
                [augmentation.brightness, augmentation.contrast, augmentation.inverted_gamma, augmentation.gamma];
            let [bright, contrasted, inverted, exponent] = factors.map(|range| factor(range, rng) as f32);
            IntensityTransform {
                noise: noise.then_some((noise_sd, noise_seed)),
                blur: blurred.then_some(sigma),
                brightness: brightness.then_some(bright),
                shift: shift.then_some(sds),
                contrast: contrast.then_some((contrasted, augmentation.contrast_keeps_range)),
                low_resolution: coarse.then_some(resolution),
                inverted_gamma: inverted_gamma.then_some(inverted),
                gamma: gamma.then_some(exponent),
            }
        };
        Self { spatial, intensities: (0..channels).map(intensity).collect() }
    }
}

fn happens(probability: f64, rng: &mut ChaCha8Rng) -> bool {
    rng.random::<f64>() < probability
}

fn uniform(range: RandomRange, rng: &mut ChaCha8Rng) -> f64 {
    let [low, high] = range.range;
    low + (high - low) * rng.random::<f64>()
}

/// If the range contains 1, below 1 as often as above, uniformly on each side.
fn factor(range: RandomRange, rng: &mut ChaCha8Rng) -> f64 {
    let [low, high] = range.range;
    let (below, share) = (rng.random::<bool>(), rng.random::<f64>());
    let (low, high) = match (low < 1.0 && 1.0 < high, below) {
        (true, true) => (low, 1.0),
        (true, false) => (1.0, high),
        (false, _) => (low, high),
    };
    low + (high - low) * share
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use sulcus_plan::Flips;

    use super::*;

    const DRAWS: usize = 20_000;
    /// Five standard deviations of a fraction over that many draws.
    const TOLERANCE: f64 = 5.0 * 0.5 / 141.4;

    fn with(change: impl FnOnce(&mut Augmentation)) -> Augmentation {
        let mut augmentation = Augmentation::nnunet();
        change(&mut augmentation);
        augmentation
    }

    fn draws(augmentation: &Augmentation) -> Vec<PatchTransform> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..DRAWS).map(|_| PatchTransform::draw(augmentation, 2, &mut rng)).collect()
    }

    #[test]
    fn each_transform_has_its_probability() {
        let drawn = draws(&with(|a| a.flips = Flips::all(3)));
        let check = |name: &str, expected: f64, happened: &dyn Fn(&PatchTransform) -> bool| {
            let share = drawn.iter().filter(|v| happened(v)).count() as f64 / DRAWS as f64;
            assert!((share - expected).abs() < TOLERANCE, "{name}: {share}, expected {expected}");
        };
        check("rotation", 0.2, &|v| v.spatial.degrees.iter().any(|d| *d != 0.0));
        check("scaling", 0.2, &|v| v.spatial.scale != 1.0);
        check("translation", 0.0, &|v| v.spatial.shift != [0.0; 3]);
        for axis in 0..3 {
            check("mirroring", 0.5, &|v| v.spatial.mirror[axis]);
        }
        check("noise", 0.1, &|v| v.intensities[0].noise.is_some());
        check("blur of a channel", 0.1, &|v| v.intensities[1].blur.is_some());
        check("brightness", 0.15, &|v| v.intensities[0].brightness.is_some());
        check("shift", 0.0, &|v| v.intensities[0].shift.is_some());
        check("contrast", 0.15, &|v| v.intensities[1].contrast.is_some());
        check("low resolution of a channel", 0.125, &|v| v.intensities[0].low_resolution.is_some());
        check("gamma", 0.3, &|v| v.intensities[0].gamma.is_some());
        check("inverted gamma", 0.1, &|v| v.intensities[0].inverted_gamma.is_some());
        check("no spatial transform", 0.64 / 8.0, &|v| {
            v.spatial == SpatialTransform { degrees: [0.0; 3], scale: 1.0, shift: [0.0; 3], mirror: [false; 3] }
        });

        let light = draws(&Augmentation::light());
        let sharp = light.iter().filter(|v| v.spatial.degrees == [0.0; 3]).count() as f64 / DRAWS as f64;
        assert!((sharp - 0.2).abs() < TOLERANCE, "{sharp}");
        assert!(light.iter().all(|v| v.spatial.mirror == [false; 3]), "undecided Auto does not mirror");
    }

    #[test]
    fn amounts_cover_their_ranges_and_balance_around_one() {
        let drawn = draws(&Augmentation::nnunet());
        let check = |amounts: Vec<f64>, [low, high]: [f64; 2]| {
            let min = amounts.iter().copied().fold(f64::INFINITY, f64::min);
            let max = amounts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let slack = 0.01 * (high - low);
            assert!((low - 1e-6..low + slack).contains(&min), "{min} for {low}");
            assert!((high - slack..high + 1e-6).contains(&max), "{max} for {high}");
        };
        let of = |amount: &dyn Fn(&PatchTransform) -> Option<f64>| {
            drawn.iter().filter_map(amount).collect::<Vec<f64>>()
        };
        let scales = of(&|v| Some(v.spatial.scale).filter(|s| *s != 1.0));
        let smaller = scales.iter().filter(|s| **s < 1.0).count() as f64 / scales.len() as f64;
        assert!((smaller - 0.5).abs() < 0.05, "{smaller}");
        check(scales, [0.7, 1.4]);
        for axis in 0..3 {
            check(of(&|v| Some(v.spatial.degrees[axis]).filter(|d| *d != 0.0)), [-30.0, 30.0]);
            check(of(&|v| v.intensities[0].blur.map(|b| b[axis])), [0.5, 1.0]);
        }
        check(of(&|v| v.intensities[0].noise.map(|n| f64::from(n.0))), [0.0, 0.1]);
        check(of(&|v| v.intensities[1].brightness.map(f64::from)), [0.75, 1.25]);
        check(of(&|v| v.intensities[0].contrast.map(|c| f64::from(c.0))), [0.75, 1.25]);
        check(of(&|v| v.intensities[0].low_resolution), [0.5, 1.0]);
        check(of(&|v| v.intensities[0].gamma.map(f64::from)), [0.7, 1.5]);
    }

    #[test]
    fn one_setting_does_not_affect_the_other_draws() {
        let all = Augmentation::nnunet();
        let without = with(|a| a.noise = RandomRange::new(0.0, [0.0; 2]));
        for (a, mut b) in draws(&all).into_iter().zip(draws(&without)) {
            b.intensities.iter_mut().zip(&a.intensities).for_each(|(b, a)| b.noise = a.noise);
            assert_eq!(a, b);
        }
    }
}
