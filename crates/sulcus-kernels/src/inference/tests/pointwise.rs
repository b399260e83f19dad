//! Pooling and transforms against their definitions, in every storage.

use super::{Tensor, available, bits, close, transformed};
use crate::MaxPool;
use crate::inference::pointwise::{apply_on, pool_on};
use crate::inference::rows::to_bf16;
use crate::inference::{LayerInput, Pooling, Quantization, Values, ValuesMut, pool};

#[test]
fn max_pooling_equals_that_of_the_transformed_input() {
    for (size, window) in
        [([5, 6, 37], [2, 2, 2]), ([1, 9, 50], [1, 2, 2]), ([3, 4, 5], [1, 2, 1]), ([2, 2, 2], [2; 3])]
    {
        let x = Tensor::noise([2, 3, size.iter().product()], 1);
        let unfused = MaxPool::new(6, size, window).unwrap();
        let count = 6 * unfused.output().iter().product::<usize>();
        let (mut expected, mut argmax) = (vec![0.0; count], vec![0; count]);
        unfused.forward(&x.materialised(), &mut expected, &mut argmax).unwrap();
        for with in available() {
            let mut y = vec![f32::NAN; count];
            pool_on(with, Pooling::Max, [2, 3], size, window, &x.input(), ValuesMut::F32(&mut y)).unwrap();
            close("y", &y, &expected, 1e-6).unwrap();
        }
    }
}

#[test]
fn average_pooling_is_the_mean_of_each_window() {
    let (size, window) = ([4, 5, 7], [2, 2, 2]);
    let x = Tensor::noise([1, 2, 140], 1);
    let transformed = x.materialised();
    let mut expected = vec![0.0; 2 * 2 * 2 * 3];
    for (index, expected) in expected.iter_mut().enumerate() {
        let [c, d, h, w] = [index / 12, index / 6 % 2, index / 3 % 2, index % 3];
        for (a, b, e) in (0..8).map(|block| (block / 4, block / 2 % 2, block % 2)) {
            *expected += transformed[((c * 4 + 2 * d + a) * 5 + 2 * h + b) * 7 + 2 * w + e] / 8.0;
        }
    }
    for with in available() {
        let mut y = vec![f32::NAN; expected.len()];
        pool_on(with, Pooling::Average, [1, 2], size, window, &x.input(), ValuesMut::F32(&mut y)).unwrap();
        close("y", &y, &expected, 1e-6).unwrap();
    }
}

#[test]
fn pooling_refuses_windows_and_lengths() {
    let x = [0.0; 8];
    let run = |size, window, count: usize| {
        let mut y = [0.0; 8];
        pool(Pooling::Max, [1, 1], size, window, &LayerInput::raw(&x), ValuesMut::F32(&mut y[..count]))
    };
    assert_eq!(run([2, 2, 2], [2, 2, 2], 1), Ok(()));
    assert!(run([2, 2, 2], [3, 2, 2], 1).is_err(), "a window of 3");
    assert!(run([2, 2, 2], [2, 2, 2], 2).is_err(), "the output");
    assert!(run([2, 2, 1], [2, 2, 1], 1).is_err(), "the input");
    assert!(run([1, 2, 4], [2, 2, 2], 1).is_err(), "an axis shorter than the window");
}

#[test]
fn transform_with_a_residual_in_every_storage() {
    let shape = [2, 3, 2500];
    let (x, r) = (Tensor::noise(shape, 1), Tensor::noise(shape, 2));
    let sum = x.materialised().iter().zip(r.materialised()).map(|(x, r)| x + r).collect::<Vec<f32>>();
    let expected = transformed(&sum, &[1.0], &[0.0], 0.25);
    for with in available() {
        let mut y = vec![f32::NAN; expected.len()];
        apply_on(with, shape, &x.input(), Some(&r.input()), 0.25, ValuesMut::F32(&mut y)).unwrap();
        close("y", &y, &expected, 1e-6).unwrap();

        let mut halves = vec![0; y.len()];
        apply_on(with, shape, &x.input(), Some(&r.input()), 0.25, ValuesMut::Bf16(&mut halves)).unwrap();
        assert_eq!(halves, y.iter().map(|value| to_bf16(*value)).collect::<Vec<u16>>());

        let quantization = Quantization { scale: 0.05, zero_point: 17 };
        let mut bytes = vec![0; y.len()];
        let target = ValuesMut::U8 { values: &mut bytes, quantization };
        apply_on(with, shape, &x.input(), Some(&r.input()), 0.25, target).unwrap();
        let quantize = |value: &f32| ((value / 0.05).round_ties_even() + 17.0).clamp(0.0, 255.0) as u8;
        assert_eq!(bytes, y.iter().map(quantize).collect::<Vec<u8>>());

        // The stored values are read back as numbers.
        let mut back = vec![f32::NAN; y.len()];
        let input = LayerInput { values: Values::Bf16(&halves), transform: None };
        apply_on(with, shape, &input, None, 1.0, ValuesMut::F32(&mut back)).unwrap();
        assert_eq!(bits(&back), halves.iter().map(|half| u32::from(*half) << 16).collect::<Vec<u32>>());
        let input = LayerInput { values: Values::U8(&bytes), transform: None };
        apply_on(with, shape, &input, None, 1.0, ValuesMut::F32(&mut back)).unwrap();
        assert_eq!(back, bytes.iter().map(|byte| f32::from(*byte)).collect::<Vec<f32>>());
    }
}

#[test]
fn bfloat16_is_rounded_to_nearest_even() {
    for (value, expected) in [
        (1.0, 0x3f80),
        (f32::from_bits(0x3f80_8000), 0x3f80),
        (f32::from_bits(0x3f81_8000), 0x3f82),
        (f32::from_bits(0x3f80_8001), 0x3f81),
        (-0.0, 0x8000),
        (f32::MAX, 0x7f80),
        (f32::INFINITY, 0x7f80),
        (f32::NEG_INFINITY, 0xff80),
    ] {
        assert_eq!(to_bf16(value), expected, "{value}");
    }
    for nan in [f32::NAN, f32::from_bits(0x7fff_ffff), f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
        assert!(f32::from_bits(u32::from(to_bf16(nan)) << 16).is_nan());
    }
}
