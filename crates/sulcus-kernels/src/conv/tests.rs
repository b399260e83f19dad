//! Tests of the convolutions against the definition in double precision.

use super::micro_kernel::{LaneType, MAX_POSITIONS, TileSize, choose_tile, micro_kernel_for};
use super::weight_micro_kernel::{WeightTileSize, choose_weight_tile, weight_micro_kernel_for};
use super::{ConvShape, conv_weight_gradient, forward_with, input_gradient_with, weight_gradient_with};
use crate::convolution::{conv_forward, conv_input_gradient};
use crate::error::KernelError;
use crate::instruction_set::{InstructionSet, instruction_set};
use proptest::prelude::*;

/// Single precision over a few thousand terms of size one: 1e-5 of the largest possible result.
const TOLERANCE: f64 = 1e-5;

/// The instruction sets that this processor can run.
fn available() -> Vec<InstructionSet> {
    match instruction_set() {
        InstructionSet::Amx => {
            vec![InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512, InstructionSet::Amx]
        }
        InstructionSet::Avx512 => vec![InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512],
        InstructionSet::Avx2 => vec![InstructionSet::Portable, InstructionSet::Avx2],
        InstructionSet::Simd128 => vec![InstructionSet::Portable, InstructionSet::Simd128],
        InstructionSet::Portable => vec![InstructionSet::Portable],
    }
}

/// Pseudo-random values in [-1, 1).
fn noise(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

/// Calls `visit(output, input, weight)` for every product of the convolution, with flat indices.
pub(crate) fn products(shape: &ConvShape, mut visit: impl FnMut(usize, usize, usize)) {
    let ConvShape { batch, inputs, outputs, size, kernel, stride } = *shape;
    let out = shape.output_size();
    let source = |position: usize, stride: usize, tap: usize, kernel: usize, size: usize| {
        (position * stride + tap).checked_sub(kernel / 2).filter(|&at| at < size)
    };
    for n in 0..batch {
        for o in 0..outputs {
            for (z, y, x) in
                (0..out[0]).flat_map(|z| (0..out[1]).flat_map(move |y| (0..out[2]).map(move |x| (z, y, x))))
            {
                let output = (((n * outputs + o) * out[0] + z) * out[1] + y) * out[2] + x;
                for i in 0..inputs {
                    for kz in 0..kernel[0] {
                        let Some(z) = source(z, stride[0], kz, kernel[0], size[0]) else { continue };
                        for ky in 0..kernel[1] {
                            let Some(y) = source(y, stride[1], ky, kernel[1], size[1]) else { continue };
                            for kx in 0..kernel[2] {
                                let Some(x) = source(x, stride[2], kx, kernel[2], size[2]) else { continue };
                                let input = (((n * inputs + i) * size[0] + z) * size[1] + y) * size[2] + x;
                                let weight =
                                    (((o * inputs + i) * kernel[0] + kz) * kernel[1] + ky) * kernel[2] + kx;
                                visit(output, input, weight);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn input_length(shape: &ConvShape) -> usize {
    shape.batch * shape.inputs * shape.input_plane()
}

/// Splits `[N, C, …]` into its first `channels` channels and the remaining ones.
fn split(whole: &[f32], shape: &ConvShape, channels: usize) -> (Vec<f32>, Vec<f32>) {
    let plane = shape.input_plane();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for sample in whole.chunks(shape.inputs * plane) {
        first.extend_from_slice(&sample[..channels * plane]);
        second.extend_from_slice(&sample[channels * plane..]);
    }
    (first, second)
}

fn close(found: &[f32], expected: &[f64], what: &str) -> Result<(), TestCaseError> {
    let scale = expected.iter().fold(1.0f64, |scale, value| scale.max(value.abs()));
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        prop_assert!(error <= TOLERANCE * scale, "{what}[{index}]: {found} instead of {expected}, scale {scale}");
    }
    Ok(())
}

/// Checks all three passes on one instruction set, with the input in two tensors that are split after `cut` channels.
fn check(with: InstructionSet, shape: &ConvShape, cut: usize, seed: u64) -> Result<(), TestCaseError> {
    let x = noise(input_length(shape), seed);
    let weight = noise(shape.weight_length(), seed + 1);
    let bias = noise(shape.outputs, seed + 2);
    let dy = noise(shape.output_length(), seed + 3);
    let mut expected_y: Vec<f64> = Vec::new();
    for _ in 0..shape.batch {
        for &bias in &bias {
            expected_y.extend(std::iter::repeat_n(f64::from(bias), shape.output_plane()));
        }
    }
    let mut expected_dx = vec![0.0f64; x.len()];
    let mut expected_dw = vec![0.0f64; weight.len()];
    let mut expected_db = vec![0.0f64; shape.outputs];
    products(shape, |o, i, w| {
        expected_y[o] += f64::from(x[i]) * f64::from(weight[w]);
        expected_dx[i] += f64::from(dy[o]) * f64::from(weight[w]);
        expected_dw[w] += f64::from(dy[o]) * f64::from(x[i]);
    });
    for (index, dy) in dy.iter().enumerate() {
        expected_db[index / shape.output_plane() % shape.outputs] += f64::from(*dy);
    }

    let (first, second) = split(&x, shape, cut);
    let parts: Vec<&[f32]> = if cut == shape.inputs { vec![&x] } else { vec![&first, &second] };
    let mut y = vec![f32::NAN; dy.len()];
    forward_with(with, shape, &parts, &weight, Some(&bias), &mut y).unwrap();
    close(&y, &expected_y, "y")?;

    let (mut dx_first, mut dx_second) = (vec![f32::NAN; first.len()], vec![f32::NAN; second.len()]);
    if cut == shape.inputs {
        input_gradient_with(with, shape, &weight, &dy, &mut [&mut dx_first]).unwrap();
    } else {
        input_gradient_with(with, shape, &weight, &dy, &mut [&mut dx_first, &mut dx_second]).unwrap();
    }
    let plane = shape.input_plane();
    let mut dx = Vec::new();
    for sample in 0..shape.batch {
        dx.extend_from_slice(&dx_first[sample * cut * plane..][..cut * plane]);
        let rest = (shape.inputs - cut) * plane;
        dx.extend_from_slice(&dx_second[sample * rest..][..rest]);
    }
    close(&dx, &expected_dx, "dx")?;

    let (mut dw, mut db) = (vec![f32::NAN; weight.len()], vec![f32::NAN; shape.outputs]);
    weight_gradient_with(with, shape, &parts, &dy, &mut dw, Some(&mut db)).unwrap();
    close(&dw, &expected_dw, "dw")?;
    close(&db, &expected_db, "db")
}

prop_compose! {
    fn any_shape()(
        batch in 1usize..=3,
        inputs in prop_oneof![1usize..=5, Just(16), Just(17), Just(20)],
        outputs in prop_oneof![1usize..=5, Just(16), Just(19), Just(32), Just(37), Just(48)],
        size in (1usize..=5, 1usize..=9, prop_oneof![1usize..=13, 20usize..=50]),
        kernel in [0usize..=2, 0usize..=2, 0usize..=3],
        stride in [1usize..=2, 1usize..=2, 1usize..=2],
    ) -> ConvShape {
        ConvShape { batch, inputs, outputs, size: [size.0, size.1, size.2], kernel: kernel.map(|half| 2 * half + 1), stride }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn forward_and_gradients_match_the_definition(shape in any_shape(), cut in 1usize..=20, seed in 0u64..1000) {
        let cut = cut.min(shape.inputs);
        for with in available() {
            check(with, &shape, cut, seed)?;
        }
    }
}

/// A missing micro-kernel would leave outputs unwritten.
#[test]
fn every_tile_size_has_a_micro_kernel() {
    let lane_types = [
        LaneType::Array,
        LaneType::ArrayBf16,
        LaneType::ArrayInt8,
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        LaneType::Simd128,
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        LaneType::Simd128Int8,
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx2,
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx2Int8,
        #[cfg(target_arch = "x86_64")]
        LaneType::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx512,
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx512Bf16,
        #[cfg(target_arch = "x86_64")]
        LaneType::Avx512Vnni,
    ];
    for with in lane_types {
        for (width, panels, taps) in
            (1..=200).flat_map(|w| [(w, 1, 1), (w, 1, 3), (w, 2, 1), (w, 2, 3), (w, 9, 3)])
        {
            let size = choose_tile(with, width, panels, taps);
            assert!(size.rows * size.columns <= MAX_POSITIONS);
            for rows in [1, 2, 4].into_iter().filter(|&rows| rows <= size.rows) {
                for columns in [size.columns, width % size.columns].into_iter().filter(|&columns| columns > 0) {
                    assert!(
                        micro_kernel_for(with, TileSize { rows, columns, ..size }).is_some(),
                        "{with:?} {width} {size:?}"
                    );
                }
            }
        }
    }
    for with in available() {
        for (panels, taps) in [(1, 1), (1, 3), (2, 1), (2, 3), (5, 5)] {
            let size = choose_weight_tile(with, taps, panels);
            for (panels, rows) in
                (1..=size.panels).flat_map(|panels| (1..=size.rows).map(move |rows| (panels, rows)))
            {
                assert!(
                    weight_micro_kernel_for(with, WeightTileSize { panels, rows, ..size }).is_some(),
                    "{with:?} {size:?}"
                );
            }
        }
    }
}

/// `<conv(x), y> = <x, convᵀ(y)>`, and the same inner product once more through the weight gradient.
#[test]
fn gradients_are_adjoint_to_the_forward_pass() {
    let shapes = [
        ([2, 16, 16], [12, 56, 40], [3, 3, 3], [1, 1, 1]),
        ([2, 32, 16], [6, 28, 40], [3, 3, 3], [1, 1, 1]),
        ([2, 16, 32], [12, 56, 40], [3, 3, 3], [2, 2, 2]),
        ([1, 128, 64], [10, 14, 10], [3, 3, 3], [1, 1, 1]),
        ([2, 128, 128], [5, 7, 5], [3, 3, 3], [1, 1, 1]),
        ([4, 32, 32], [1, 64, 64], [1, 3, 3], [1, 1, 1]),
        ([2, 16, 3], [20, 28, 20], [1, 1, 1], [1, 1, 1]),
        ([2, 32, 40], [9, 15, 13], [1, 1, 1], [2, 2, 2]),
        ([1, 4, 32], [9, 32, 32], [1, 7, 7], [1, 2, 1]),
    ];
    for ([batch, inputs, outputs], size, kernel, stride) in shapes {
        let shape = ConvShape { batch, inputs, outputs, size, kernel, stride };
        let x = noise(input_length(&shape), 7);
        let weight = noise(shape.weight_length(), 8);
        let dy = noise(shape.output_length(), 9);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        for with in available() {
            let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
            let mut dw = vec![f32::NAN; weight.len()];
            forward_with(with, &shape, &[&x], &weight, None, &mut y).unwrap();
            input_gradient_with(with, &shape, &weight, &dy, &mut [&mut dx]).unwrap();
            weight_gradient_with(with, &shape, &[&x], &dy, &mut dw, None).unwrap();
            let forward = dot(&y, &dy);
            // The products have random signs, so their sum is much smaller than this scale, which the errors follow.
            let scale = dot(&y, &y).sqrt() * dot(&dy, &dy).sqrt();
            assert!((forward - dot(&x, &dx)).abs() < 1e-6 * scale, "{shape:?} on {with:?}: dx");
            assert!((forward - dot(&weight, &dw)).abs() < 1e-6 * scale, "{shape:?} on {with:?}: dw");
        }
    }
}

/// A kernel with a single 1 shifts the input, which reveals mirrored or swapped axes.
#[test]
fn single_tap_kernel_shifts_the_input() {
    let shape = ConvShape { batch: 1, inputs: 1, outputs: 1, size: [3, 4, 5], kernel: [3, 3, 3], stride: [1; 3] };
    let x: Vec<f32> = (0..60u8).map(f32::from).collect();
    for with in available() {
        for (tap, from) in [(13, 0isize), (14, 1), (12, -1), (16, 5), (22, 20)] {
            let mut weight = vec![0.0; 27];
            weight[tap] = 1.0;
            let mut y = vec![f32::NAN; 60];
            forward_with(with, &shape, &[&x], &weight, None, &mut y).unwrap();
            // The voxel in the middle has all its neighbours inside the volume.
            let middle = (20 + 2 * 5 + 2) as usize;
            assert_eq!(y[middle], x[middle.checked_add_signed(from).unwrap()], "{with:?}, tap {tap}");
        }
    }
}

#[test]
fn wrong_lengths_and_shapes_are_refused() {
    let shape =
        ConvShape { batch: 2, inputs: 3, outputs: 4, size: [5, 6, 7], kernel: [3, 3, 3], stride: [1, 2, 2] };
    let x = noise(input_length(&shape), 1);
    let weight = noise(shape.weight_length(), 2);
    let mut y = vec![0.0; shape.output_length()];
    let mut dx = x.clone();
    let mut dw = weight.clone();
    let length = |argument, expected, found| Err(KernelError::Length { what: argument, expected, found });
    assert_eq!(conv_forward(&shape, &[&x], &weight, None, &mut y), Ok(()));
    assert_eq!(conv_forward(&shape, &[&x[1..]], &weight, None, &mut y), length("x", x.len(), x.len() - 1));
    assert_eq!(conv_forward(&shape, &[&x], &weight[1..], None, &mut y), length("weight", weight.len(), 323));
    assert_eq!(conv_forward(&shape, &[&x], &weight, Some(&[0.0; 5]), &mut y), length("bias", 4, 5));
    assert_eq!(conv_forward(&shape, &[&x], &weight, None, &mut y[1..]), length("y", 480, 479));
    assert_eq!(conv_input_gradient(&shape, &weight, &y[1..], &mut [&mut dx]), length("dy", 480, 479));
    assert_eq!(conv_input_gradient(&shape, &weight, &y, &mut [&mut dx[1..]]), length("dx", x.len(), x.len() - 1));
    assert_eq!(conv_weight_gradient(&shape, &[&x], &y, &mut dw[1..], None), length("dw", 324, 323));
    assert_eq!(conv_weight_gradient(&shape, &[&x], &y, &mut dw, Some(&mut [0.0; 3])), length("db", 4, 3));
    let refused = |shape: ConvShape, x: &[&[f32]]| {
        let mut y = vec![0.0; shape.output_length()];
        let weight = vec![0.0; shape.weight_length()];
        matches!(conv_forward(&shape, x, &weight, None, &mut y), Err(KernelError::Shape(_)))
    };
    assert!(refused(shape, &[]), "no input");
    assert!(refused(shape, &[&x[..1], &x[1..]]), "half a channel");
    assert!(refused(ConvShape { kernel: [3, 2, 3], ..shape }, &[&x]), "an even kernel");
    assert!(refused(ConvShape { kernel: [3, 9, 3], ..shape }, &[&x]), "a kernel beyond 7");
    assert!(refused(ConvShape { stride: [3, 1, 1], ..shape }, &[&x]), "a stride beyond 2");
    assert!(refused(ConvShape { batch: 0, ..shape }, &[&[]]), "an empty batch");
    let vast = ConvShape { size: [usize::MAX; 3], ..shape };
    assert!(matches!(conv_forward(&vast, &[&x], &weight, None, &mut y), Err(KernelError::Shape(_))), "vast");
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let shapes = [
        ConvShape { batch: 2, inputs: 16, outputs: 16, size: [9, 30, 22], kernel: [3; 3], stride: [1; 3] },
        ConvShape { batch: 3, inputs: 40, outputs: 70, size: [5, 7, 5], kernel: [3; 3], stride: [2, 2, 1] },
    ];
    for shape in shapes {
        let x = noise(input_length(&shape), 11);
        let weight = noise(shape.weight_length(), 12);
        let dy = noise(shape.output_length(), 13);
        let results: Vec<_> = [1, 2, 3]
            .map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
                    let (mut dw, mut db) = (vec![0.0; weight.len()], vec![0.0; shape.outputs]);
                    conv_forward(&shape, &[&x], &weight, None, &mut y).unwrap();
                    conv_input_gradient(&shape, &weight, &dy, &mut [&mut dx]).unwrap();
                    conv_weight_gradient(&shape, &[&x], &dy, &mut dw, Some(&mut db)).unwrap();
                    [y, dx, dw, db].map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
                })
            })
            .into_iter()
            .collect();
        assert!(results[0] == results[1] && results[0] == results[2], "{shape:?}");
    }
}
