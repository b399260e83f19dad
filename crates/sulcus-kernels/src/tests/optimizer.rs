//! Tests of the optimizer steps against their definitions in double precision.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use super::close::assert_close;
use super::common::{assert_same_on_any_threads, bits, noise};
use crate::{Adam, KernelError, Sgd, StepSize, sum_of_squares};

/// Single precision over a few steps.
const TOLERANCE: f64 = 1e-6;
/// One value, a few values, exactly one task, several tasks with a remainder.
const COUNTS: [usize; 4] = [1, 37, 16_384, 50_003];
const STEPS: u64 = 6;

fn size(step: u64) -> StepSize {
    StepSize { learning_rate: 0.03 / step as f64, gradient_factor: if step == 2 { 0.3 } else { 1.0 } }
}

/// Gradients of very different sizes, 0 among them.
fn gradient(count: usize, step: u64) -> Vec<f32> {
    let noise = noise(count, 100 + step);
    noise.iter().enumerate().map(|(i, g)| g * [1.0, 1e-3, 1e-7, 0.0, 50.0][i % 5]).collect()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn run_adam(rule: Adam, count: usize) -> [Vec<f32>; 3] {
    let (mut w, mut m, mut v) = (noise(count, 1), vec![0.0; count], vec![0.0; count]);
    for t in 1..=STEPS {
        rule.step(t, size(t), &mut w, &gradient(count, t), &mut m, &mut v).unwrap();
    }
    [w, m, v]
}

fn run_sgd(rule: Sgd, count: usize) -> [Vec<f32>; 2] {
    let (mut w, mut m) = (noise(count, 1), vec![0.0; count]);
    for t in 1..=STEPS {
        rule.step(size(t), &mut w, &gradient(count, t), &mut m).unwrap();
    }
    [w, m]
}

/// Algorithm 2 of Loshchilov & Hutter 2019, with the decay times the learning rate.
#[test]
fn adam_and_adamw_match_the_papers() {
    for rule in
        [Adam::new(0.0), Adam::new(0.1), Adam { beta1: 0.5, beta2: 0.9, epsilon: 1e-3, weight_decay: 0.02 }]
    {
        for count in COUNTS {
            let (mut w, mut m, mut v) = (doubles(&noise(count, 1)), vec![0.0; count], vec![0.0; count]);
            for t in 1..=STEPS {
                let StepSize { learning_rate, gradient_factor } = size(t);
                for (i, g) in doubles(&gradient(count, t)).into_iter().enumerate() {
                    let g = g * gradient_factor;
                    m[i] = rule.beta1 * m[i] + (1.0 - rule.beta1) * g;
                    v[i] = rule.beta2 * v[i] + (1.0 - rule.beta2) * g * g;
                    let mean = m[i] / (1.0 - rule.beta1.powf(t as f64));
                    let square: f64 = v[i] / (1.0 - rule.beta2.powf(t as f64));
                    w[i] -= learning_rate * rule.weight_decay * w[i];
                    w[i] -= learning_rate * mean / (square.sqrt() + rule.epsilon);
                }
            }
            let [found_w, found_m, found_v] = run_adam(rule, count);
            assert_close("weight", &found_w, &w, TOLERANCE);
            assert_close("mean", &found_m, &m, TOLERANCE);
            assert_close("square", &found_v, &v, TOLERANCE);
        }
    }
}

#[test]
fn first_adam_step_has_the_size_of_the_learning_rate() {
    let (mut w, mut m, mut v) = ([0.0; 3], [0.0; 3], [0.0; 3]);
    let size = StepSize { learning_rate: 0.25, gradient_factor: 1.0 };
    Adam::new(0.0).step(1, size, &mut w, &[4.0, -0.01, 0.0], &mut m, &mut v).unwrap();
    assert_close("weight", &w, &[-0.25, 0.25, 0.0], TOLERANCE);
}

/// The pseudocode in the documentation of PyTorch's SGD, whose first step sets the velocity to the gradient.
#[test]
fn sgd_matches_pytorch() {
    for (momentum, nesterov, weight_decay) in
        [(0.99, true, 3e-5), (0.9, false, 0.1), (0.9, true, 0.0), (0.0, false, 0.0)]
    {
        let rule = Sgd { momentum, nesterov, weight_decay };
        for count in COUNTS {
            let (mut w, mut m) = (doubles(&noise(count, 1)), vec![0.0; count]);
            for t in 1..=STEPS {
                let StepSize { learning_rate, gradient_factor } = size(t);
                for (i, g) in doubles(&gradient(count, t)).into_iter().enumerate() {
                    let g = g * gradient_factor + weight_decay * w[i];
                    m[i] = if t == 1 { g } else { momentum * m[i] + g };
                    w[i] -= learning_rate * if nesterov { g + momentum * m[i] } else { m[i] };
                }
            }
            let [found_w, found_m] = run_sgd(rule, count);
            assert_close("weight", &found_w, &w, TOLERANCE);
            assert_close("velocity", &found_m, &m, TOLERANCE);
        }
    }
}

#[test]
fn sum_of_squares_uses_double_precision() {
    for count in COUNTS {
        let values: Vec<f32> = noise(count, 7).iter().map(|value| value * 1e3 + 1e3).collect();
        let expected: f64 = doubles(&values).iter().map(|value| value * value).sum();
        assert!((sum_of_squares(&values) / expected - 1.0).abs() < 1e-12, "{count}");
    }
    assert_eq!(sum_of_squares(&[]), 0.0);
    // A square that overflows in single precision.
    assert_eq!(sum_of_squares(&[2.0_f32.powi(100), 0.0]), 2.0_f64.powi(200));
    assert!(sum_of_squares(&[1.0, f32::NAN]).is_nan());
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    assert_same_on_any_threads(|| {
        let adam = run_adam(Adam::new(0.1), 50_003).map(|values| bits(&values));
        let sgd = Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1 };
        let sgd = run_sgd(sgd, 50_003).map(|values| bits(&values));
        (adam, sgd, sum_of_squares(&noise(50_003, 3)).to_bits())
    });
}

#[test]
fn invalid_steps_are_refused() {
    let size = size(1);
    let adam = |rule: Adam, number, gradients: usize, means: usize| {
        let (mut w, mut v) = ([0.0; 2], [0.0; 2]);
        rule.step(number, size, &mut w, &vec![0.0; gradients], &mut vec![0.0; means], &mut v).unwrap_err()
    };
    let length = |what, found| KernelError::Length { what, expected: 2, found };
    assert_eq!(adam(Adam::new(0.0), 1, 3, 2), length("gradient", 3));
    assert_eq!(adam(Adam::new(0.0), 1, 2, 1), length("mean", 1));
    assert!(matches!(adam(Adam::new(0.0), 0, 2, 2), KernelError::Step(_)));
    assert!(matches!(adam(Adam { beta1: 1.0, ..Adam::new(0.0) }, 1, 2, 2), KernelError::Step(_)));
    let sgd = Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 };
    assert_eq!(sgd.step(size, &mut [0.0; 2], &[0.0; 2], &mut [0.0; 3]).unwrap_err(), length("velocity", 3));
}
