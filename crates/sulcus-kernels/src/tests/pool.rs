//! Tests of max pooling against the definition.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use super::common::{assert_same_on_any_threads, bits, noise};
use crate::{KernelError, MaxPool};
use proptest::prelude::*;

type Pooled = (Vec<f32>, Vec<u8>, Vec<f32>);

/// y, argmax and dx, computed one window at a time.
fn reference(planes: usize, input: [usize; 3], window: [usize; 3], x: &[f32], dy: &[f32]) -> Pooled {
    let output: [usize; 3] = std::array::from_fn(|axis| input[axis] / window[axis]);
    let (mut y, mut argmax, mut dx) = (Vec::new(), Vec::new(), vec![0.0; x.len()]);
    for plane in 0..planes {
        for d in 0..output[0] {
            for h in 0..output[1] {
                for w in 0..output[2] {
                    let mut best: Option<(f32, usize, usize)> = None;
                    for i in 0..window.iter().product() {
                        let (a, b, c) = (i / (window[1] * window[2]), i / window[2] % window[1], i % window[2]);
                        let row = (plane * input[0] + d * window[0] + a) * input[1] + h * window[1] + b;
                        let at = row * input[2] + w * window[2] + c;
                        if best.is_none_or(|(best, ..)| x[at] > best) {
                            best = Some((x[at], i, at));
                        }
                    }
                    let (value, i, at) = best.unwrap();
                    dx[at] = dy[y.len()];
                    y.push(value);
                    argmax.push(i as u8);
                }
            }
        }
    }
    (y, argmax, dx)
}

proptest! {
    #[test]
    fn output_argmax_and_gradient_match_the_definition(
        planes in 1_usize..4,
        input in [2_usize..7, 2_usize..9, 2_usize..40],
        window in [1_usize..3, 1_usize..3, 1_usize..3],
        coarse: bool,
        seed: u64,
    ) {
        let mut x = noise(planes * input.iter().product::<usize>(), seed >> 8);
        if coarse {
            // Many equal values, of which the first must be taken.
            x.iter_mut().for_each(|x| *x = (*x * 2.0).round());
        }
        let pool = MaxPool::new(planes, input, window).unwrap();
        let len = planes * pool.output().iter().product::<usize>();
        let dy = noise(len, seed >> 9);
        let (mut y, mut argmax, mut dx) = (vec![f32::NAN; len], vec![9; len], vec![f32::NAN; x.len()]);
        pool.forward(&x, &mut y, &mut argmax).unwrap();
        pool.backward(&dy, &argmax, &mut dx).unwrap();
        prop_assert_eq!((y, argmax, dx), reference(planes, input, window, &x, &dy));
    }
}

#[test]
fn nan_propagates() {
    let pool = MaxPool::new(1, [1, 2, 4], [1, 2, 2]).unwrap();
    let (mut y, mut argmax) = ([0.0; 2], [0; 2]);
    pool.forward(&[1.0, 2.0, 3.0, 4.0, f32::NAN, 5.0, -1.0, 0.0], &mut y, &mut argmax).unwrap();
    assert!(y[0].is_nan());
    assert_eq!((y[1], argmax), (4.0, [2, 1]));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let pool = MaxPool::new(7, [4, 9, 31], [2, 2, 2]).unwrap();
    let x = noise(7 * 4 * 9 * 31, 1);
    let len = 7 * 2 * 4 * 15;
    assert_same_on_any_threads(|| {
        let (mut y, mut argmax, mut dx) = (vec![0.0; len], vec![0; len], vec![0.0; x.len()]);
        pool.forward(&x, &mut y, &mut argmax).unwrap();
        pool.backward(&y, &argmax, &mut dx).unwrap();
        (bits(&y), argmax, bits(&dx))
    });
}

#[test]
fn wrong_lengths_and_shapes_are_refused() {
    assert!(matches!(MaxPool::new(1, [4, 4, 4], [1, 3, 1]), Err(KernelError::Shape(_))));
    assert!(matches!(MaxPool::new(1, [1, 4, 4], [2, 2, 2]), Err(KernelError::Shape(_))));
    let pool = MaxPool::new(1, [2, 2, 2], [2, 2, 2]).unwrap();
    let found = pool.forward(&[0.0; 8], &mut [0.0; 1], &mut [0; 2]);
    assert_eq!(found, Err(KernelError::Length { what: "argmax", expected: 1, found: 2 }));
}
