//! What the engine computes: threads, sizes, batches, folding, heads.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod common;

use common::{TestGraph, engine, run, unet};
use sulcus_engine::{Engine, EngineError, EngineOptions};
use sulcus_onnx::attribute;
use sulcus_onnx::precision::{ValueRange, calibration_model, to_int8};
use sulcus_testing::Noise;

/// The sum of a few rounding errors of values near 1.
const ROUNDING: f32 = 2e-5;

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn shapes(axes: usize) -> [Vec<usize>; 2] {
    match axes {
        2 => [vec![1, 2, 40, 24], vec![1, 2, 8, 64]],
        _ => [vec![1, 2, 8, 16, 24], vec![1, 2, 16, 8, 8]],
    }
}

#[test]
fn same_bits_on_any_number_of_threads() {
    for axes in [2, 3] {
        let model = unet(axes);
        let [shape, _] = shapes(axes);
        let input = Noise(1).take(shape.iter().product(), 1.0);
        let expected = run(&engine(&model, 1), &shape, &input).unwrap();
        assert!(expected.iter().all(|value| value.is_finite()) && expected.iter().any(|value| *value != 0.0));
        for threads in [2, 3] {
            assert_eq!(run(&engine(&model, threads), &shape, &input).unwrap(), expected, "{threads} threads");
        }
        let everywhere = Engine::new(&model, &EngineOptions::default()).unwrap();
        assert_eq!(run(&everywhere, &shape, &input).unwrap(), expected);
    }
}

#[test]
fn results_do_not_depend_on_earlier_sizes_or_on_other_samples() {
    for axes in [2, 3] {
        let engine = engine(&unet(axes), 2);
        let [first, second] = shapes(axes);
        let mut noise = Noise(2);
        let inputs: Vec<Vec<f32>> = (0..3).map(|_| noise.take(first.iter().product(), 1.0)).collect();
        let alone: Vec<Vec<f32>> = inputs.iter().map(|input| run(&engine, &first, input).unwrap()).collect();
        let other = noise.take(second.iter().product(), 1.0);
        let of_other = run(&engine, &second, &other).unwrap();
        // More sizes than are kept.
        for edge in [8, 16, 24, 32, 40, 48] {
            let mut shape = first.clone();
            *shape.last_mut().unwrap() = edge;
            run(&engine, &shape, &vec![0.5; shape.iter().product()]).unwrap();
        }
        let mut batch = first.clone();
        batch[0] = 3;
        assert_eq!(run(&engine, &batch, &inputs.concat()).unwrap(), alone.concat());
        assert_eq!(run(&engine, &second, &other).unwrap(), of_other);
    }
}

#[test]
fn calls_at_the_same_time_do_not_disturb_each_other() {
    let engine = engine(&unet(3), 2);
    let [shape, _] = shapes(3);
    let inputs: Vec<Vec<f32>> = (0..4).map(|i| Noise(i).take(shape.iter().product(), 1.0)).collect();
    let expected: Vec<Vec<f32>> = inputs.iter().map(|input| run(&engine, &shape, input).unwrap()).collect();
    for _ in 0..4 {
        std::thread::scope(|scope| {
            for (input, expected) in inputs.iter().zip(&expected) {
                let (engine, shape) = (&engine, &shape);
                scope.spawn(move || assert_eq!(&run(engine, shape, input).unwrap(), expected));
            }
        });
    }
}

/// With an activation between them, the normalisation is a layer of its own; without, it is folded.
#[test]
fn folded_batch_normalisation_equals_a_layer_of_its_own() {
    let graph = |folded: bool| {
        let mut graph = TestGraph::new(2, 2, 4);
        graph.conv("image", "c", [2, 4], 3, 1);
        graph.constant("s", &[4], &[0.5, -2.0, 1.5, 1.0]).constant("z", &[4], &[0.1, 0.0, -3.0, 1.0]);
        graph.constant("m", &[4], &[0.2, -0.3, 0.0, 5.0]).constant("v", &[4], &[0.9, 0.01, 2.0, 1.0]);
        let input = if folded {
            "c"
        } else {
            // The identity.
            graph.node("LeakyRelu", &["c"], "same", vec![attribute::float("alpha", 1.0)]);
            "same"
        };
        graph.node("BatchNormalization", &[input, "s", "z", "m", "v"], "logits", vec![]);
        graph.bytes()
    };
    let shape = [1, 2, 9, 7];
    let input = Noise(3).take(2 * 9 * 7, 1.0);
    let [folded, layer] = [true, false].map(|folded| run(&engine(&graph(folded), 1), &shape, &input).unwrap());
    assert!(largest_difference(&folded, &layer) < ROUNDING);
    assert!(largest_difference(&folded, &vec![0.0; folded.len()]) > 1.0);
}

/// The gradient of a layer that is shared by a pooling, a concatenation and a sum must not be lost.
#[test]
fn a_value_with_several_readers_keeps_its_memory() {
    let mut graph = TestGraph::new(2, 1, 2);
    graph.conv("image", "a", [1, 2], 3, 1);
    graph.pool("MaxPool", "a", "p").pool("AveragePool", "a", "q");
    graph.constant(
        "one",
        &[2, 2, 2, 2],
        &[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0],
    );
    let twice = || vec![attribute::ints("kernel_shape", &[2, 2]), attribute::ints("strides", &[2, 2])];
    graph.node("ConvTranspose", &["p", "one"], "pu", twice()).node("ConvTranspose", &["q", "one"], "qu", twice());
    graph.node("Add", &["pu", "qu"], "sum", vec![]).node("Add", &["sum", "a"], "all", vec![]);
    graph.node("Add", &["all", "all"], "logits", vec![]);
    let model = graph.bytes();
    let mut only_a = TestGraph::new(2, 1, 2);
    only_a.conv("image", "logits", [1, 2], 3, 1);
    let shape = [1, 1, 4, 6];
    let input = Noise(4).take(24, 1.0);
    let a = run(&engine(&only_a.bytes(), 1), &shape, &input).unwrap();
    let found = run(&engine(&model, 2), &shape, &input).unwrap();
    for channel in 0..2 {
        for (y, x) in (0..4).flat_map(|y| (0..6).map(move |x| (y, x))) {
            let at = |y: usize, x: usize| a[channel * 24 + y * 6 + x];
            let block = [at(y & !1, x & !1), at(y & !1, x | 1), at(y | 1, x & !1), at(y | 1, x | 1)];
            let largest = block.into_iter().fold(f32::NEG_INFINITY, f32::max);
            let expected = 2.0 * (largest + block.iter().sum::<f32>() / 4.0 + at(y, x));
            assert!((found[channel * 24 + y * 6 + x] - expected).abs() < ROUNDING);
        }
    }
}

/// An identity gives two names to the same values. What happens to one of them must not happen to the other.
#[test]
fn identities_keep_values_apart() {
    let alpha = |alpha: f32| vec![attribute::float("alpha", alpha)];
    let mut graph = TestGraph::new(2, 1, 4);
    graph.conv("image", "a", [1, 2], 3, 1);
    graph.node("LeakyRelu", &["a"], "same", alpha(1.0));
    graph.node("LeakyRelu", &["same"], "b", alpha(0.0));
    graph.concat(&["a", "b"], "logits");
    let mut plain = TestGraph::new(2, 1, 2);
    plain.conv("image", "logits", [1, 2], 3, 1);
    let shape = [1, 1, 5, 6];
    let input = Noise(6).take(30, 1.0);
    let a = run(&engine(&plain.bytes(), 1), &shape, &input).unwrap();
    assert!(a.iter().any(|value| *value < 0.0));
    let found = run(&engine(&graph.bytes(), 2), &shape, &input).unwrap();
    assert_eq!(found[..60], a);
    assert_eq!(found[60..], a.iter().map(|value| value.max(0.0)).collect::<Vec<_>>());

    // A network that changes nothing.
    let mut graph = TestGraph::new(2, 1, 1);
    graph.node("LeakyRelu", &["image"], "logits", alpha(1.0));
    assert_eq!(run(&engine(&graph.bytes(), 1), &shape, &input).unwrap(), input);
}

/// The networks of an ensemble in one file, and values that are concatenated again and again.
#[test]
fn many_values_are_concatenated() {
    let mut graph = TestGraph::new(2, 1, 5);
    graph.concat(&["image"; 5], "logits");
    let (shape, input) = ([1, 1, 3, 4], Noise(7).take(12, 1.0));
    assert_eq!(run(&engine(&graph.bytes(), 1), &shape, &input).unwrap(), input.repeat(5));
    let mut graph = TestGraph::new(2, 1, 64);
    graph.concat(&["image"; 4], "a").concat(&["a"; 4], "b").concat(&["b"; 4], "logits");
    assert_eq!(run(&engine(&graph.bytes(), 1), &shape, &input).unwrap(), input.repeat(64));
}

#[test]
fn softmax_sigmoid_and_resize_end_a_network() {
    let head = |operator: &str| {
        let mut graph = TestGraph::new(3, 1, 2);
        graph.conv("image", "c", [1, 2], 1, 1);
        let attributes = if operator == "Softmax" { vec![attribute::int("axis", 1)] } else { vec![] };
        graph.node(operator, &["c"], "logits", attributes);
        graph.bytes()
    };
    let plain = {
        let mut graph = TestGraph::new(3, 1, 2);
        graph.conv("image", "logits", [1, 2], 1, 1);
        graph.bytes()
    };
    let shape = [1, 1, 2, 3, 4];
    let input = Noise(5).take(24, 4.0);
    let logits = run(&engine(&plain, 1), &shape, &input).unwrap();
    let sigmoid: Vec<f32> = logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    assert!(largest_difference(&run(&engine(&head("Sigmoid"), 1), &shape, &input).unwrap(), &sigmoid) < ROUNDING);
    let softmax = run(&engine(&head("Softmax"), 1), &shape, &input).unwrap();
    for voxel in 0..24 {
        let expected = 1.0 / (1.0 + (logits[24 + voxel] - logits[voxel]).exp());
        assert!(
            (softmax[voxel] - expected).abs() < ROUNDING
                && (softmax[24 + voxel] + expected - 1.0).abs() < ROUNDING
        );
    }
    let mut graph = TestGraph::new(3, 1, 2);
    graph.conv("image", "c", [1, 2], 1, 1).constant("factors", &[5], &[1.0, 1.0, 2.0, 1.0, 2.0]);
    graph.node("Resize", &["c", "", "factors"], "logits", vec![]);
    let resized = run(&engine(&graph.bytes(), 1), &shape, &input).unwrap();
    assert_eq!(resized.len(), 4 * logits.len());
    for (index, value) in resized.iter().enumerate() {
        let (x, y, z, channel) = (index % 8, index / 8 % 3, index / 24 % 4, index / 96);
        assert_eq!(*value, logits[channel * 24 + (z / 2 * 3 + y) * 4 + x / 2]);
    }
}

#[test]
fn inputs_of_another_shape_are_refused() {
    let three = engine(&unet(3), 1);
    let mut output = vec![0.0; 3 * 512];
    for shape in
        [vec![1, 2, 8, 8], vec![1, 1, 8, 8, 8], vec![0, 2, 8, 8, 8], vec![1, 2, 0, 8, 8], vec![], vec![1; 9]]
    {
        let error = three.run(&shape, &[], &mut output).unwrap_err();
        assert!(matches!(error, EngineError::InputShape { .. }), "{shape:?}: {error}");
    }
    let input = vec![0.0; 2 * 512];
    let error = three.run(&[1, 2, 8, 8, 8], &input[1..], &mut output).unwrap_err();
    assert!(matches!(error, EngineError::Length { what: "input", expected: 1024, found: 1023 }), "{error}");
    let error = three.run(&[1, 2, 8, 8, 8], &input, &mut output[1..]).unwrap_err();
    assert!(matches!(error, EngineError::Length { what: "output", expected: 1536, found: 1535 }), "{error}");
    // The skip connection has another size than what is upsampled.
    let error = three.output_shape(&[1, 2, 8, 8, 10]).unwrap_err();
    assert!(matches!(error, EngineError::Size { .. }), "{error}");
    let error = three.output_shape(&[1, 2, 4, 8, 8]).unwrap_err();
    assert!(matches!(&error, EngineError::Size { node, operator: "MaxPool", .. } if node == "m"), "{error}");
    // More memory than can be addressed.
    for edge in [1 << 16, 1 << 30, 1 << 48, usize::MAX & !15] {
        let shape = [1, 2, edge, edge, edge];
        assert!(three.run(&shape, &input, &mut output).is_err());
        if let Ok(bytes) = three.workspace_bytes(&shape) {
            assert!(bytes > 1 << 40);
        }
    }
}

#[test]
fn workspace_is_smaller_than_all_values_together() {
    let three = engine(&unet(3), 1);
    let shape = [1, 2, 32, 32, 32];
    let bytes = three.workspace_bytes(&shape).unwrap();
    let voxels = 32_u64.pow(3);
    // The finest level holds at least the skip connection and the upsampled values.
    assert!(bytes >= 4 * voxels * 16, "{bytes}");
    assert!(bytes <= 4 * voxels * 48, "{bytes}");
    // The padded copy of the input of a layer whose weights do not fit a cache is counted: six frequencies of eight tiles a row.
    let mut graph = TestGraph::new(3, 1, 64);
    graph.conv("image", "a", [1, 64], 3, 1).conv("a", "logits", [64, 64], 3, 1);
    let wide = engine(&graph.bytes(), 1);
    let bytes = wide.workspace_bytes(&[1, 1, 32, 32, 32]).unwrap();
    assert_eq!(bytes, 4 * 64 * (voxels + 34_u64.pow(2) * 6 * 8));
    assert_eq!(three.input_channels(), 2);
    assert_eq!(three.output_shape(&shape).unwrap(), [1, 3, 32, 32, 32]);
}

/// A network in 8-bit integers in which a convolution reads a skip connection and upsampled values; with `more`, the last layer also reads the
/// upsampled values.
fn upsampling_in_bytes(more: bool) -> Engine {
    let mut graph = TestGraph::new(3, 2, 3);
    graph.conv("image", "a", [2, 16], 3, 1).conv("a", "b", [16, 16], 3, 2).up("b", "u", [16, 16]);
    graph.concat(&["a", "u"], "j").conv("j", "d", [32, 16], 3, 1);
    if more {
        graph.concat(&["d", "u"], "e").conv("e", "logits", [32, 3], 1, 1);
    } else {
        graph.conv("d", "logits", [16, 3], 1, 1);
    }
    let model = graph.bytes();
    let (_, outputs) = calibration_model(&model).unwrap();
    let range = ValueRange::new(-4.0, 4.0).unwrap();
    let ranges = outputs.into_iter().map(|output| (output.value, range)).collect();
    engine(&to_int8(&model, &ranges).unwrap(), 1)
}

/// Upsampled values that only a convolution in 8 bits reads take a byte each.
#[test]
fn upsampled_values_are_stored_in_bytes_unless_they_are_read_exactly() {
    let voxels = 32_u64.pow(3);
    let [once, twice] =
        [false, true].map(|more| upsampling_in_bytes(more).workspace_bytes(&[1, 2, 32, 32, 32]).unwrap());
    // The skip connection, the upsampled values and the output of the convolution that reads both, of sixteen channels each.
    assert_eq!(once, voxels * (16 + 16 + 16));
    assert_eq!(twice, voxels * (16 + 4 * 16 + 16));
}
