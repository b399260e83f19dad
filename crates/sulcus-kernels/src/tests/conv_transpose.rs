//! Tests of the transposed convolution against the definition in double precision.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use super::close::assert_close;
use super::common::{assert_same_on_any_threads, bits, noise};
use crate::{ConvTranspose, ConvTransposeGradients, KernelError};
use proptest::prelude::*;

/// Single precision sums of a few hundred to a few thousand products.
const TOLERANCE: f64 = 5e-6;

struct Case {
    batch: usize,
    channels: [usize; 2],
    grid: [usize; 3],
    stride: [usize; 3],
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    fn new(batch: usize, channels: [usize; 2], grid: [usize; 3], stride: [usize; 3], seed: u64) -> Self {
        let voxels: usize = grid.iter().product();
        let fold: usize = stride.iter().product();
        Self {
            batch,
            channels,
            grid,
            stride,
            x: noise(batch * channels[0] * voxels, seed),
            weight: noise(channels[0] * channels[1] * fold, seed + 1),
            bias: noise(channels[1], seed + 2),
            dy: noise(batch * channels[1] * voxels * fold, seed + 3),
        }
    }

    fn layer(&self) -> ConvTranspose {
        ConvTranspose::new(self.batch, self.channels, self.grid, self.stride).unwrap()
    }

    fn forward(&self) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.dy.len()];
        self.layer().forward(&self.x, &self.weight, &self.bias, &mut y).unwrap();
        y
    }

    /// The gradients of the input, the weight and the bias.
    fn backward(&self) -> [Vec<f32>; 3] {
        let [mut input, mut weight, mut bias] =
            [self.x.len(), self.weight.len(), self.bias.len()].map(|len| vec![f32::NAN; len]);
        let gradients = ConvTransposeGradients { input: &mut input, weight: &mut weight, bias: &mut bias };
        self.layer().backward(&self.x, &self.weight, &self.dy, gradients).unwrap();
        [input, weight, bias]
    }

    /// Calls `each` with the indices into x, weight and y of each product.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let ([inputs, outputs], [depth, height, width], [sd, sh, sw]) = (self.channels, self.grid, self.stride);
        for n in 0..self.batch {
            for (i, o) in (0..inputs).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
                for v in 0..depth * height * width {
                    let (d, h, w) = (v / (height * width), v / width % height, v % width);
                    for k in 0..sd * sh * sw {
                        let (a, b, c) = (k / (sh * sw), k / sw % sh, k % sw);
                        let row = ((n * outputs + o) * depth * sd + d * sd + a) * height * sh + h * sh + b;
                        each(
                            (n * inputs + i) * depth * height * width + v,
                            (i * outputs + o) * sd * sh * sw + k,
                            row * width * sw + w * sw + c,
                        );
                    }
                }
            }
        }
    }

    fn check(&self) {
        let of_output = self.dy.len() / (self.batch * self.channels[1]);
        let output = |at: usize| at / of_output % self.channels[1];
        let mut y: Vec<f64> = (0..self.dy.len()).map(|at| f64::from(self.bias[output(at)])).collect();
        let mut dx = vec![0.0; self.x.len()];
        let mut dw = vec![0.0; self.weight.len()];
        self.products(|at_x, at_w, at_y| {
            let [x, w, dy] = [self.x[at_x], self.weight[at_w], self.dy[at_y]].map(f64::from);
            y[at_y] += x * w;
            dx[at_x] += w * dy;
            dw[at_w] += x * dy;
        });
        let mut db = vec![0.0; self.bias.len()];
        self.dy.iter().enumerate().for_each(|(at, &dy)| db[output(at)] += f64::from(dy));
        assert_close("y", &self.forward(), &y, TOLERANCE);
        let [input, weight, bias] = self.backward();
        assert_close("dx", &input, &dx, TOLERANCE);
        assert_close("dw", &weight, &dw, TOLERANCE);
        // The tolerance is relative to the absolute terms of the sum, because the terms may cancel.
        let terms = self.dy.iter().map(|dy| f64::from(dy.abs())).sum::<f64>() / self.bias.len() as f64;
        let scale = db.iter().fold(1e-3, |scale: f64, sum| scale.max(sum.abs()));
        assert_close("db", &bias, &db, TOLERANCE * (terms / scale).max(1.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn values_and_gradients_match_the_definition(
        batch in 1_usize..4,
        channels in [1_usize..20, 1_usize..14],
        grid in [1_usize..4, 1_usize..6, 1_usize..30],
        stride in [1_usize..3, 1_usize..3, 1_usize..3],
        seed: u64,
    ) {
        Case::new(batch, channels, grid, stride, seed >> 8).check();
    }
}

#[test]
fn several_slabs_and_blocks_match_the_definition() {
    Case::new(2, [5, 3], [7, 40, 33], [2, 2, 2], 1).check();
    Case::new(1, [5, 3], [1, 90, 70], [1, 2, 2], 2).check();
    Case::new(40, [3, 2], [1, 9, 5], [1, 2, 2], 3).check();
    Case::new(1, [2, 2], [1, 60, 50], [2, 2, 1], 4).check();
}

/// Without a bias, ⟨y, dy⟩ = ⟨x, dx⟩ = ⟨weight, dw⟩.
#[test]
fn gradients_are_adjoint() {
    let mut case = Case::new(2, [32, 16], [5, 7, 5], [2, 2, 2], 5);
    case.bias.fill(0.0);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let [input, weight, _] = case.backward();
    let all = dot(&case.forward(), &case.dy);
    assert!((dot(&case.x, &input) - all).abs() < 1e-2, "{all}");
    assert!((dot(&case.weight, &weight) - all).abs() < 1e-2, "{all}");
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let case = Case::new(2, [9, 7], [9, 20, 17], [2, 2, 2], 6);
    assert_same_on_any_threads(|| (bits(&case.forward()), case.backward().map(|values| bits(&values))));
}

#[test]
fn wrong_lengths_and_shapes_are_refused() {
    assert!(matches!(ConvTranspose::new(1, [1, 1], [1, 1, 1], [1, 3, 2]), Err(KernelError::Shape(_))));
    assert!(matches!(ConvTranspose::new(1, [0, 1], [1, 1, 1], [1, 2, 2]), Err(KernelError::Shape(_))));
    assert!(matches!(ConvTranspose::new(1, [1, 1], [1, usize::MAX, 2], [1, 2, 2]), Err(KernelError::Shape(_))));
    let layer = ConvTranspose::new(1, [1, 1], [1, 1, 1], [2, 2, 2]).unwrap();
    let found = layer.forward(&[0.0], &[0.0; 8], &[0.0], &mut [0.0; 7]);
    assert_eq!(found, Err(KernelError::Length { what: "y", expected: 8, found: 7 }));
}
