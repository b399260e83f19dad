//! Tests of normalisation against the definition in double precision.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use super::close::assert_close;
use super::common::{assert_same_on_any_threads, bits, noise};
use crate::{KernelError, Norm, NormScope, NormShape, ResidualGradient};
use proptest::prelude::*;

/// Single precision, with the cancellation in a few hundred values.
const TOLERANCE: f64 = 2e-6;
const EPSILON: f32 = 1e-5;

struct Case {
    shape: NormShape,
    x: Vec<f32>,
    r: Vec<f32>,
    dy: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    slope: f32,
}

impl Case {
    fn new(batch: usize, channels: usize, voxels: usize, scope: NormScope, slope: f32, seed: u64) -> Self {
        let shape = NormShape { batch, channels, voxels, scope };
        let len = batch * channels * voxels;
        Self {
            shape,
            x: noise(len, seed),
            r: noise(len, seed + 1),
            dy: noise(len, seed + 2),
            gamma: noise(channels, seed + 3).iter().map(|value| value + 1.5).collect(),
            beta: noise(channels, seed + 4),
            slope,
        }
    }

    fn norm(&self) -> Norm<'_> {
        Norm::new(self.shape, &self.gamma, &self.beta, self.slope).unwrap()
    }

    fn channel(&self, at: usize) -> usize {
        at / self.shape.voxels % self.shape.channels
    }

    fn group(&self, at: usize) -> usize {
        match self.shape.scope {
            NormScope::Instance => at / self.shape.voxels,
            NormScope::Batch => self.channel(at),
        }
    }

    fn mean_by_group(&self, value: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut sums = vec![(0.0, 0.0); self.shape.groups()];
        for at in 0..self.x.len() {
            let sum = &mut sums[self.group(at)];
            *sum = (sum.0 + value(at), sum.1 + 1.0);
        }
        sums.into_iter().map(|(sum, count)| sum / count).collect()
    }

    /// The inverse standard deviations, x̂ and the input of the activation.
    fn reference(&self, residual: bool) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let mean = self.mean_by_group(|at| f64::from(self.x[at]));
        let variance = self.mean_by_group(|at| (f64::from(self.x[at]) - mean[self.group(at)]).powi(2));
        let inv_sd: Vec<f64> =
            variance.iter().map(|variance| 1.0 / (variance + f64::from(EPSILON)).sqrt()).collect();
        let hat: Vec<f64> = (0..self.x.len())
            .map(|at| (f64::from(self.x[at]) - mean[self.group(at)]) * inv_sd[self.group(at)])
            .collect();
        let u = hat
            .iter()
            .enumerate()
            .map(|(at, hat)| {
                let r = if residual { f64::from(self.r[at]) } else { 0.0 };
                f64::from(self.gamma[self.channel(at)]) * hat + f64::from(self.beta[self.channel(at)]) + r
            })
            .collect();
        (inv_sd, hat, u)
    }

    fn check(&self, residual: bool) {
        let len = self.x.len();
        let (inv_sd, hat, u) = self.reference(residual);
        let slope = f64::from(self.slope);
        let mut y = vec![f32::NAN; len];
        let r = residual.then_some(&self.r[..]);
        let moments = self.norm().forward_train(&self.x, r, EPSILON, &mut y).unwrap();
        assert_close("inv_sd", &moments.inv_sd, &inv_sd, TOLERANCE);
        let expected: Vec<f64> = u.iter().map(|&u| if u > 0.0 { u } else { slope * u }).collect();
        // The rounding error of x − mean is relative to x, which is at most 1, and is then multiplied by 1 / sd.
        let tolerance = TOLERANCE + 1e-7 * inv_sd.iter().fold(0.0, |max: f64, &inv_sd| max.max(inv_sd));
        assert_close("y", &y, &expected, tolerance);

        let g: Vec<f64> =
            (0..len).map(|at| f64::from(self.dy[at]) * if u[at] > 0.0 { 1.0 } else { slope }).collect();
        // If the input of the activation is 0 up to rounding, either slope is correct.
        let near_zero = u.iter().any(|u| u.abs() < 10.0 * tolerance) && self.slope != 1.0;
        let mean_g = self.mean_by_group(|at| g[at]);
        let mean_gx = self.mean_by_group(|at| g[at] * hat[at]);
        let expected: Vec<f64> = (0..len)
            .map(|at| {
                let (group, gamma) = (self.group(at), f64::from(self.gamma[self.channel(at)]));
                gamma * inv_sd[group] * (g[at] - mean_g[group] - hat[at] * mean_gx[group])
            })
            .collect();
        let (mut dx, mut dr) = (vec![f32::NAN; len], vec![f32::NAN; len]);
        let channels = self.shape.channels;
        let (mut dgamma, mut dbeta) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
        let gradient = residual.then_some(ResidualGradient { residual: &self.r, gradient: &mut dr });
        self.norm().backward(&self.x, &moments, &self.dy, gradient, &mut dx, &mut dgamma, &mut dbeta).unwrap();
        if near_zero {
            return;
        }
        // g and its two means, each at most 1, may nearly cancel before they are multiplied by 1 / sd.
        for (at, (&found, &expected)) in dx.iter().zip(&expected).enumerate() {
            let scale = inv_sd[self.group(at)] * f64::from(self.gamma[self.channel(at)]);
            assert!(
                (f64::from(found) - expected).abs() <= 2.0 * tolerance * scale,
                "dx[{at}]: {found} {expected}"
            );
        }
        if residual {
            assert_close("dr", &dr, &g, 1e-6);
        }
        for (what, found, term) in
            [("dgamma", &dgamma, &|at: usize| g[at] * hat[at]), ("dbeta", &dbeta, &|at: usize| g[at])]
                as [(_, _, &dyn Fn(usize) -> f64); 2]
        {
            // The tolerance is relative to the absolute terms of the sum, because the terms may cancel.
            let (mut sums, mut sizes) = (vec![0.0; channels], vec![0.0; channels]);
            for at in 0..len {
                sums[self.channel(at)] += term(at);
                sizes[self.channel(at)] += term(at).abs();
            }
            for channel in 0..channels {
                let error = (f64::from(found[channel]) - sums[channel]).abs();
                assert!(error <= tolerance * (1e-3 + sizes[channel]), "{what}: {found:?}, expected {sums:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn values_and_gradients_match_the_definition(
        batch in 1_usize..4,
        channels in 1_usize..6,
        voxels in prop_oneof![2_usize..40, 60_usize..300, Just(4096), Just(5000)],
        batch_scope: bool,
        slope in prop_oneof![Just(0.0_f32), Just(0.01), Just(1.0)],
        residual: bool,
        seed: u64,
    ) {
        let scope = if batch_scope { NormScope::Batch } else { NormScope::Instance };
        Case::new(batch, channels, voxels, scope, slope, seed >> 8).check(residual);
    }
}

#[test]
fn moments_of_a_large_channel_are_precise() {
    let mut case = Case::new(1, 2, 89_600, NormScope::Instance, 0.01, 3);
    for (i, x) in case.x.iter_mut().enumerate() {
        *x = *x * 3.0 + (i % 89_600) as f32 / 20_000.0 - 1.0;
    }
    let (inv_sd, _, _) = case.reference(false);
    let mut y = vec![0.0; case.x.len()];
    let moments = case.norm().forward_train(&case.x, None, EPSILON, &mut y).unwrap();
    assert_close("inv_sd", &moments.inv_sd, &inv_sd, 1e-7);
    let mean = case.mean_by_group(|at| f64::from(case.x[at]));
    assert_close("mean", &moments.mean, &mean, 1e-7);
}

#[test]
fn constant_input_gives_beta_for_any_magnitude() {
    for value in [0.0, 1e4, -1e4, 1e-20, 1e20, 12_345.678] {
        let mut case = Case::new(2, 3, 4999, NormScope::Instance, 1.0, 5);
        case.x.fill(value);
        let mut y = vec![f32::NAN; case.x.len()];
        let moments = case.norm().forward_train(&case.x, None, EPSILON, &mut y).unwrap();
        assert!(moments.mean.iter().all(|&mean| mean == value), "{value}: {:?}", moments.mean);
        assert!(moments.variance.iter().all(|&variance| variance == 0.0), "{value}: {:?}", moments.variance);
        for (at, &y) in y.iter().enumerate() {
            assert_eq!(y, case.beta[case.channel(at)], "{value}");
        }
    }
}

#[test]
fn large_offset_costs_no_precision_beyond_its_rounding() {
    let mut case = Case::new(1, 2, 20_000, NormScope::Instance, 0.01, 6);
    case.x.iter_mut().for_each(|x| *x = *x * 10.0 + 1e4);
    let (inv_sd, _, u) = case.reference(false);
    let mut y = vec![0.0; case.x.len()];
    let moments = case.norm().forward_train(&case.x, None, EPSILON, &mut y).unwrap();
    assert_close("inv_sd", &moments.inv_sd, &inv_sd, 1e-6);
    let expected: Vec<f64> = u.iter().map(|&u| if u > 0.0 { u } else { 0.01 * u }).collect();
    assert_close("y", &y, &expected, 1e-4);
}

#[test]
fn group_of_one_voxel_gives_beta_and_no_gradient() {
    let case = Case::new(2, 3, 1, NormScope::Instance, 1.0, 7);
    let mut y = vec![f32::NAN; 6];
    let moments = case.norm().forward_train(&case.x, None, EPSILON, &mut y).unwrap();
    assert_eq!(y, [&case.beta[..], &case.beta[..]].concat());
    let (mut dx, mut dgamma, mut dbeta) = (vec![f32::NAN; 6], vec![f32::NAN; 3], vec![f32::NAN; 3]);
    case.norm().backward(&case.x, &moments, &case.dy, None, &mut dx, &mut dgamma, &mut dbeta).unwrap();
    assert!(dx.iter().all(|&dx| dx == 0.0), "{dx:?}");
    assert!(dgamma.iter().all(|&dgamma| dgamma == 0.0), "{dgamma:?}");
}

#[test]
fn forward_fixed_uses_the_given_moments() {
    let case = Case::new(2, 3, 37, NormScope::Batch, 0.0, 8);
    let (mean, inv_sd) = ([0.5, -0.25, 0.0], [2.0, 1.0, 0.5]);
    let mut y = vec![f32::NAN; case.x.len()];
    case.norm().forward_fixed(&case.x, &mean, &inv_sd, Some(&case.r), &mut y).unwrap();
    let expected: Vec<f64> = (0..y.len())
        .map(|at| {
            let c = case.channel(at);
            let hat = f64::from((case.x[at] - mean[c]) * inv_sd[c]);
            (f64::from(case.gamma[c]) * hat + f64::from(case.beta[c]) + f64::from(case.r[at])).max(0.0)
        })
        .collect();
    assert_close("y", &y, &expected, TOLERANCE);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for scope in [NormScope::Instance, NormScope::Batch] {
        let case = Case::new(3, 5, 9001, scope, 0.01, 9);
        assert_same_on_any_threads(|| {
            let mut y = vec![0.0; case.x.len()];
            let moments = case.norm().forward_train(&case.x, Some(&case.r), EPSILON, &mut y).unwrap();
            let (mut dx, mut dr) = (y.clone(), y.clone());
            let (mut dgamma, mut dbeta) = (vec![0.0; 5], vec![0.0; 5]);
            let residual = Some(ResidualGradient { residual: &case.r, gradient: &mut dr });
            case.norm().backward(&case.x, &moments, &case.dy, residual, &mut dx, &mut dgamma, &mut dbeta).unwrap();
            [y, dx, dr, dgamma, dbeta, moments.mean, moments.inv_sd].map(|values| bits(&values))
        });
    }
}

#[test]
fn wrong_lengths_and_shapes_are_refused() {
    let shape = NormShape { batch: 1, channels: 2, voxels: 3, scope: NormScope::Instance };
    assert!(matches!(Norm::new(shape, &[1.0], &[0.0; 2], 0.0), Err(KernelError::Length { what: "gamma", .. })));
    let empty = NormShape { voxels: 0, ..shape };
    assert!(matches!(Norm::new(empty, &[1.0; 2], &[0.0; 2], 0.0), Err(KernelError::Shape(_))));
    let norm = Norm::new(shape, &[1.0; 2], &[0.0; 2], 0.0).unwrap();
    let found = norm.forward_train(&[0.0; 5], None, EPSILON, &mut [0.0; 6]);
    assert_eq!(found, Err(KernelError::Length { what: "x", expected: 6, found: 5 }));
}
