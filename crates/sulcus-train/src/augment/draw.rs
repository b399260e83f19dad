use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Augmentation, Chance};

/// One variation of a patch, drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variation {
    pub(super) motion: Motion,
    /// A channel each.
    pub(super) tints: Vec<Tint>,
}

/// The geometric part, along or about D, H, W.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Motion {
    pub(super) degrees: [f64; 3],
    pub(super) scale: f64,
    /// In shares of the patch's edges.
    pub(super) shift: [f64; 3],
    pub(super) mirror: [bool; 3],
}

/// What happens to the intensities of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Tint {
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

impl Augmentation {
    /// Draws one variation. All numbers are drawn always, so that changing one setting leaves the others' draws alone.
    pub(crate) fn draw(&self, channels: usize, rng: &mut ChaCha8Rng) -> Variation {
        let moved = happens(self.affine_probability, rng);
        let mut when = |chance: Chance| happens(chance.probability, rng) && moved;
        let [rotated, scaled, shifted] = [self.rotation, self.scaling, self.translation].map(&mut when);
        let degrees = [(); 3].map(|()| uniform(self.rotation, rng));
        let scale = factor(self.scaling, rng);
        let shift = [(); 3].map(|()| uniform(self.translation, rng));
        let mirror = self.flips.along().map(|allowed| happens(self.flip_probability, rng) && allowed);
        let motion = Motion {
            degrees: if rotated { degrees } else { [0.0; 3] },
            scale: if scaled { scale } else { 1.0 },
            shift: if shifted { shift } else { [0.0; 3] },
            mirror,
        };

        let mut when = |chance: Chance| happens(chance.probability, rng);
        let [noise, blur, brightness, shift, contrast, low_resolution, inverted_gamma, gamma] = [
            self.noise,
            self.blur,
            self.brightness,
            self.shift,
            self.contrast,
            self.low_resolution,
            self.inverted_gamma,
            self.gamma,
        ]
        .map(&mut when);
        let noise_sd = uniform(self.noise, rng) as f32;
        let tint = |_| {
            let noise_seed = rng.random::<u64>();
            let blurred = happens(self.blur_channel_probability, rng) && blur;
            let sigma = [(); 3].map(|()| uniform(self.blur, rng));
            let coarse = happens(self.low_resolution_channel_probability, rng) && low_resolution;
            let resolution = uniform(self.low_resolution, rng);
            let sds = uniform(self.shift, rng) as f32;
            let factors = [self.brightness, self.contrast, self.inverted_gamma, self.gamma];
            let [bright, contrasted, inverted, exponent] = factors.map(|chance| factor(chance, rng) as f32);
            Tint {
                noise: noise.then_some((noise_sd, noise_seed)),
                blur: blurred.then_some(sigma),
                brightness: brightness.then_some(bright),
                shift: shift.then_some(sds),
                contrast: contrast.then_some((contrasted, self.contrast_keeps_range)),
                low_resolution: coarse.then_some(resolution),
                inverted_gamma: inverted_gamma.then_some(inverted),
                gamma: gamma.then_some(exponent),
            }
        };
        Variation { motion, tints: (0..channels).map(tint).collect() }
    }
}

fn happens(probability: f64, rng: &mut ChaCha8Rng) -> bool {
    rng.random::<f64>() < probability
}

fn uniform(chance: Chance, rng: &mut ChaCha8Rng) -> f64 {
    let [low, high] = chance.range;
    low + (high - low) * rng.random::<f64>()
}

/// Below 1 as often as above, where the range holds 1: uniform on either side.
fn factor(chance: Chance, rng: &mut ChaCha8Rng) -> f64 {
    let [low, high] = chance.range;
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

    use super::*;
    use crate::Flips;

    const DRAWS: usize = 20_000;
    /// Five standard deviations of a share over so many draws.
    const TOLERANCE: f64 = 5.0 * 0.5 / 141.4;

    fn draws(augmentation: &Augmentation) -> Vec<Variation> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..DRAWS).map(|_| augmentation.draw(2, &mut rng)).collect()
    }

    #[test]
    fn each_change_happens_as_often_as_it_should() {
        let drawn = draws(&Augmentation { flips: Flips::all(3), ..Augmentation::nnunet() });
        let check = |name: &str, expected: f64, happened: &dyn Fn(&Variation) -> bool| {
            let share = drawn.iter().filter(|v| happened(v)).count() as f64 / DRAWS as f64;
            assert!((share - expected).abs() < TOLERANCE, "{name}: {share}, expected {expected}");
        };
        check("rotation", 0.2, &|v| v.motion.degrees.iter().any(|d| *d != 0.0));
        check("scaling", 0.2, &|v| v.motion.scale != 1.0);
        check("translation", 0.0, &|v| v.motion.shift != [0.0; 3]);
        for axis in 0..3 {
            check("mirroring", 0.5, &|v| v.motion.mirror[axis]);
        }
        check("noise", 0.1, &|v| v.tints[0].noise.is_some());
        check("blur of a channel", 0.1, &|v| v.tints[1].blur.is_some());
        check("brightness", 0.15, &|v| v.tints[0].brightness.is_some());
        check("shift", 0.0, &|v| v.tints[0].shift.is_some());
        check("contrast", 0.15, &|v| v.tints[1].contrast.is_some());
        check("low resolution of a channel", 0.125, &|v| v.tints[0].low_resolution.is_some());
        check("gamma", 0.3, &|v| v.tints[0].gamma.is_some());
        check("inverted gamma", 0.1, &|v| v.tints[0].inverted_gamma.is_some());
        check("nothing geometric", 0.64 / 8.0, &|v| {
            v.motion == Motion { degrees: [0.0; 3], scale: 1.0, shift: [0.0; 3], mirror: [false; 3] }
        });

        let light = draws(&Augmentation::light());
        let sharp = light.iter().filter(|v| v.motion.degrees == [0.0; 3]).count() as f64 / DRAWS as f64;
        assert!((sharp - 0.2).abs() < TOLERANCE, "{sharp}");
        assert!(light.iter().all(|v| v.motion.mirror == [false; 3]), "Auto that nobody decided mirrors nothing");
    }

    #[test]
    fn amounts_fill_their_ranges_and_balance_around_one() {
        let drawn = draws(&Augmentation::nnunet());
        let check = |amounts: Vec<f64>, [low, high]: [f64; 2]| {
            let least = amounts.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = amounts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let slack = 0.01 * (high - low);
            assert!((low - 1e-6..low + slack).contains(&least), "{least} for {low}");
            assert!((high - slack..high + 1e-6).contains(&greatest), "{greatest} for {high}");
        };
        let of =
            |amount: &dyn Fn(&Variation) -> Option<f64>| drawn.iter().filter_map(amount).collect::<Vec<f64>>();
        let scales = of(&|v| Some(v.motion.scale).filter(|s| *s != 1.0));
        let smaller = scales.iter().filter(|s| **s < 1.0).count() as f64 / scales.len() as f64;
        assert!((smaller - 0.5).abs() < 0.05, "{smaller}");
        check(scales, [0.7, 1.4]);
        for axis in 0..3 {
            check(of(&|v| Some(v.motion.degrees[axis]).filter(|d| *d != 0.0)), [-30.0, 30.0]);
            check(of(&|v| v.tints[0].blur.map(|b| b[axis])), [0.5, 1.0]);
        }
        check(of(&|v| v.tints[0].noise.map(|n| f64::from(n.0))), [0.0, 0.1]);
        check(of(&|v| v.tints[1].brightness.map(f64::from)), [0.75, 1.25]);
        check(of(&|v| v.tints[0].contrast.map(|c| f64::from(c.0))), [0.75, 1.25]);
        check(of(&|v| v.tints[0].low_resolution), [0.5, 1.0]);
        check(of(&|v| v.tints[0].gamma.map(f64::from)), [0.7, 1.5]);
    }

    #[test]
    fn one_setting_leaves_the_other_draws_alone() {
        let all = Augmentation::nnunet();
        let without = Augmentation { noise: Chance::new(0.0, [0.0; 2]), ..all };
        for (a, mut b) in draws(&all).into_iter().zip(draws(&without)) {
            b.tints.iter_mut().zip(&a.tints).for_each(|(b, a)| b.noise = a.noise);
            assert_eq!(a, b);
        }
    }
}
