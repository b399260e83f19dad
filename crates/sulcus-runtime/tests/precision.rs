//! Models in reduced precision, compared with the same models in single precision.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use std::collections::BTreeMap;

use common::{has_onnx_runtime, model, noise_scan, onnx_runtime, search, spec};
use sulcus_model::{Precision, QuantizationReport};
use sulcus_onnx::precision::{ValueRange, calibration_model, to_half, to_int8};
use sulcus_onnx::{Axis, GraphBuilder, attribute, with_spec};
use sulcus_pipeline::{Predictor, Tensor};
use sulcus_runtime::ort::{OnnxRuntime, OrtLibrary, OrtMeasurements, OrtPredictor, OrtSearch};
use sulcus_runtime::{
    Device, Engine, ErrorKind, NativePredictor, SegmentOptions, Segmenter, SegmenterBuilder, TractPredictor,
};
use sulcus_testing::Noise;

/// Root mean square of the error of the logits relative to the logits: 8 bits, of which 7 are used, give an error of one
/// percent per layer.
const INT8_ERROR: f64 = 0.02;
/// The same for weights in half precision, whose last bit is 1/2048.
const HALF_ERROR: f64 = 1e-3;
/// Fraction of voxels that get the same label in 8 bits.
const INT8_AGREEMENT: f64 = 0.99;

fn input(shape: &[usize], seed: u64) -> Tensor {
    let values = Noise(seed).take(shape.iter().product(), 0.5).iter().map(|v| v + 0.5).collect();
    Tensor::new(shape.to_vec(), values).unwrap()
}

/// Batches and sizes that differ from those of the calibration, so that nothing in the graph may be fixed.
fn inputs(axes: u8) -> Vec<Tensor> {
    let shapes: [&[usize]; 3] = match axes {
        2 => [&[1, 1, 16, 16], &[2, 1, 24, 10], &[1, 1, 2, 2]],
        _ => [&[1, 1, 8, 12, 12], &[2, 1, 6, 10, 4], &[1, 1, 2, 2, 2]],
    };
    shapes.iter().zip(1..).map(|(shape, seed)| input(shape, seed)).collect()
}

fn ranges(runtime: &OnnxRuntime, whole: &[u8], inputs: &[Tensor]) -> BTreeMap<String, ValueRange> {
    let (graph, outputs) = calibration_model(whole).unwrap();
    let mut engine = OrtMeasurements::new(runtime, &graph).unwrap();
    let mut ranges: BTreeMap<String, ValueRange> = BTreeMap::new();
    for input in inputs {
        let found: BTreeMap<String, f32> = engine.measure(input).unwrap().into_iter().collect();
        for output in &outputs {
            let range = ValueRange::new(found[&output.low], found[&output.high]).unwrap();
            ranges.entry(output.value.clone()).and_modify(|all| *all = all.union(range)).or_insert(range);
        }
    }
    ranges
}

fn ort(runtime: &OnnxRuntime, model: &[u8]) -> OrtPredictor {
    OrtPredictor::new(runtime, model, Device::Cpu, Some(1)).unwrap()
}

/// Root mean square of the difference relative to `expected`, and the fraction of voxels with the same greatest logit.
fn compare(expected: &dyn Predictor, found: &dyn Predictor, inputs: &[Tensor]) -> (f64, f64) {
    let (mut error, mut signal, mut same, mut voxels) = (0.0, 0.0, 0, 0);
    for input in inputs {
        let (shape, a) = expected.logits(input.clone()).unwrap().into_parts();
        let (found_shape, b) = found.logits(input.clone()).unwrap().into_parts();
        assert_eq!(shape, found_shape);
        error += a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        signal += a.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>();
        let space: usize = shape[2..].iter().product();
        for item in 0..shape[0] {
            for voxel in 0..space {
                let class = |values: &[f32]| {
                    let at = |k: usize| values[(item * shape[1] + k) * space + voxel];
                    (1..shape[1]).fold(0, |best, k| if at(k) > at(best) { k } else { best })
                };
                same += usize::from(class(&a) == class(&b));
                voxels += 1;
            }
        }
    }
    ((error / signal).sqrt(), same as f64 / f64::from(voxels))
}

#[test]
fn int8_models_give_nearly_the_same_logits_and_labels() {
    let runtime = onnx_runtime();
    for axes in [2, 3] {
        let (whole, inputs) = (model(axes), inputs(axes));
        let ranges = ranges(&runtime, &whole, &inputs);
        let expected = ort(&runtime, &whole);
        let bytes = to_int8(&whole, &ranges).unwrap();
        let (error, agreement) = compare(&expected, &ort(&runtime, &bytes), &inputs);
        assert!(error < INT8_ERROR && agreement > INT8_AGREEMENT, "{axes}-D: {error}, {agreement}");
        assert!(error > 1e-6, "{axes}-D: no value was rounded, so nothing is in 8 bits");
        // A wrong scale is detected: here every value saturates at half of its range.
        let halved = ranges
            .iter()
            .map(|(name, range)| (name.clone(), ValueRange::new(range.low() / 2.0, range.high() / 2.0).unwrap()));
        let wrong = to_int8(&whole, &halved.collect()).unwrap();
        let (error, _) = compare(&expected, &ort(&runtime, &wrong), &inputs);
        assert!(error > INT8_ERROR, "{axes}-D: halved ranges leave an error of {error}");
    }
}

/// The native engine sums the same integers, so that only values next to the middle between two integers differ.
#[test]
fn native_computes_int8_models_as_onnx_runtime_does() {
    let runtime = onnx_runtime();
    for axes in [2, 3] {
        let (whole, inputs) = (model(axes), inputs(axes));
        let bytes = to_int8(&whole, &ranges(&runtime, &whole, &inputs)).unwrap();
        let native = NativePredictor::new(&bytes, Some(2)).unwrap();
        let (error, agreement) = compare(&ort(&runtime, &bytes), &native, &inputs);
        assert!(error < INT8_ERROR / 2.0 && agreement > INT8_AGREEMENT, "{axes}-D: {error}, {agreement}");
        let (error, _) = compare(&ort(&runtime, &whole), &native, &inputs);
        assert!(error < INT8_ERROR && error > 1e-6, "{axes}-D: {error} from single precision");
    }
}

/// Relative error of the logits in bfloat16, which has eight significant bits.
const BF16_ERROR: f64 = 0.02;

#[test]
fn native_computes_in_bfloat16_on_request() {
    let whole = model(3);
    let Ok(half) = NativePredictor::bf16(&whole, Some(2)) else {
        let refused = Segmenter::builder().model_bytes(whole).engine(Engine::Native).precision(Precision::Bf16);
        let error = refused.build().unwrap_err();
        assert!(error.to_string().contains("no bf16 arithmetic"), "{error}");
        sulcus_harness::skip("the rest, which needs AVX512-BF16");
    };
    for axes in [2, 3] {
        let (whole, inputs) = (model(axes), inputs(axes));
        let [half, single] =
            [NativePredictor::bf16, NativePredictor::new].map(|new| new(&whole, Some(2)).unwrap());
        let (error, _) = compare(&single, &half, &inputs);
        assert!(error > 1e-5 && error < BF16_ERROR, "{axes}-D: {error}");
        // Values between layers take half the memory.
        let [half, single] = [half, single].map(|engine| engine.workspace_bytes(inputs[0].shape()).unwrap());
        assert!(2 * half <= single + 4096, "{half} and {single} bytes");
    }
    drop(half);
    let scan = noise_scan([12, 12, 8], 4);
    let builder = |precision| Segmenter::builder().device(Device::Cpu).precision(precision);
    for engine in [Engine::Native, Engine::Auto] {
        for bytes in [whole.clone(), declared(Precision::Fp16, &to_half(&whole).unwrap())] {
            let segmenter = builder(Precision::Bf16).engine(engine).model_bytes(bytes).build().unwrap();
            let found = segmenter.segment(&scan, SegmentOptions::default()).unwrap();
            assert_eq!((found.precision.as_str(), found.engine), ("bf16", Engine::Native));
        }
    }
    let refused =
        |builder: SegmenterBuilder, bytes: &[u8]| builder.model_bytes(bytes).build().unwrap_err().to_string();
    let native = |precision| builder(precision).engine(Engine::Native);
    let int8 = declared(Precision::Int8, &whole);
    assert!(refused(native(Precision::Bf16), &int8).contains("an int8 model computes in int8"));
    assert!(refused(native(Precision::Fp16), &whole).contains("it computes in bf16"));
    assert!(refused(builder(Precision::Bf16).engine(Engine::Tract), &whole).contains("no half precision"));
}

#[test]
fn half_precision_weights_give_nearly_the_same_logits_in_both_engines() {
    for axes in [2, 3] {
        let (whole, inputs) = (model(axes), inputs(axes));
        let half = to_half(&whole).unwrap();
        let shape = inputs[0].shape();
        let tract = |bytes: &[u8]| TractPredictor::new(bytes, shape, Some(1)).unwrap();
        let (error, _) = compare(&tract(&whole), &tract(&half), &inputs[..1]);
        assert!(error > 0.0 && error < HALF_ERROR, "tract, {axes}-D: {error}");
        if !has_onnx_runtime() {
            continue;
        }
        let runtime = onnx_runtime();
        let (error, _) = compare(&ort(&runtime, &whole), &ort(&runtime, &half), &inputs);
        assert!(error > 0.0 && error < HALF_ERROR, "ONNX Runtime, {axes}-D: {error}");
    }
}

#[test]
fn weights_beyond_half_precision_are_refused() {
    let mut graph = GraphBuilder::new("large");
    let axes = |n| [Axis::Dynamic("n"), Axis::Fixed(n), Axis::Dynamic("h"), Axis::Dynamic("w")];
    graph.input("image", &axes(1), "");
    graph.output("logits", &axes(1), "");
    graph.constant("w", &[1, 1, 1, 1], &[1e5]);
    graph.constant("b", &[1], &[0.0]);
    graph.node("Conv", &["image", "w", "b"], "logits", vec![attribute::ints("kernel_shape", &[1, 1])]);
    let model = graph.finish(&spec(2), "", "test").unwrap();
    let error = to_half(&model).unwrap_err().to_string();
    assert!(
        error.contains("a weight of `w` is 1e5, and the largest number in half precision is 65504"),
        "{error}"
    );
    let error = to_int8(&model, &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("no convolution except the last"), "{error}");
}

/// With integers that 8 bits represent exactly, only the output is rounded: every product and sum must equal that of the
/// 3-D convolution, at every border and stride.
#[test]
fn convolution_3d_in_8_bits_is_exact_for_integers() {
    let runtime = onnx_runtime();
    let kernels = [[3, 3, 3], [1, 3, 3], [3, 1, 1], [1, 1, 1], [5, 3, 1], [3, 3, 5]];
    let strides = [[1, 1, 1], [2, 2, 2], [1, 2, 2], [2, 1, 1]];
    for (kernel, stride) in kernels.into_iter().flat_map(|k| strides.map(|s| (k, s))) {
        let (inputs, outputs) = (2, 3);
        let mut noise = Noise(5);
        let mut whole_numbers =
            |n: usize, limit: f32| noise.take(n, limit).iter().map(|v| v.round()).collect::<Vec<_>>();
        let taps: usize = kernel.iter().product();
        let mut weights = whole_numbers(outputs * inputs * taps, 60.0);
        // The greatest weight of each channel makes the scale 1.
        weights.chunks_exact_mut(inputs * taps).for_each(|kernel| kernel[0] = 64.0);
        let axes = |channels| {
            let space = ["d", "h", "w"].map(Axis::Dynamic);
            [vec![Axis::Dynamic("n"), Axis::Fixed(channels)], space.to_vec()].concat()
        };
        let mut graph = GraphBuilder::new("blocks");
        graph.input("image", &axes(inputs), "");
        graph.output("logits", &axes(outputs), "");
        graph.constant("w", &[&[outputs, inputs], &kernel[..]].concat(), &weights);
        graph.constant("b", &[outputs], &[0.0, 100.0, -700.0]);
        let half = kernel.map(|edge| edge / 2);
        let attributes = vec![
            attribute::ints("kernel_shape", &kernel),
            attribute::ints("strides", &stride),
            attribute::ints("pads", &[half, half].concat()),
        ];
        graph.node("Conv", &["image", "w", "b"], "sums", attributes);
        let mut identity = vec![0.0; outputs * outputs];
        identity.iter_mut().step_by(outputs + 1).for_each(|w| *w = 1.0);
        graph.constant("one.w", &[outputs, outputs, 1, 1, 1], &identity);
        graph.constant("one.b", &[outputs], &vec![0.0; outputs]);
        let unit = vec![attribute::ints("kernel_shape", &[1, 1, 1])];
        graph.node("Conv", &["sums", "one.w", "one.b"], "logits", unit);
        let whole = graph.finish(&spec(3), "", "test").unwrap();

        let shape = [2, inputs, 6, 8, 10];
        let values = whole_numbers(shape.iter().product(), 127.0).iter().map(|v| v + 128.0).collect();
        let image = Tensor::new(shape.to_vec(), values).unwrap();
        let mut ranges = ranges(&runtime, &whole, std::slice::from_ref(&image));
        ranges.insert("image".into(), ValueRange::new(0.0, 255.0).unwrap());
        let sums = ranges["sums"];
        let step = (sums.high().max(0.0) - sums.low().min(0.0)) / 255.0;
        let bytes = to_int8(&whole, &ranges).unwrap();
        let (expected_shape, expected) = ort(&runtime, &whole).logits(image.clone()).unwrap().into_parts();
        let native = NativePredictor::new(&bytes, Some(2)).unwrap();
        for engine in [&ort(&runtime, &bytes) as &dyn Predictor, &native] {
            let (found_shape, found) = engine.logits(image.clone()).unwrap().into_parts();
            assert_eq!(expected_shape, found_shape, "{kernel:?} {stride:?}");
            let worst = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Half a step, and another half at the ends for the rounding of the zero point.
            assert!(worst <= step * 1.001, "{kernel:?} {stride:?}: off by {worst}, a step is {step}");
        }
    }
}

/// A file whose specification declares a reduced precision.
fn declared(kind: Precision, bytes: &[u8]) -> Vec<u8> {
    let reduction = QuantizationReport { kind, dice_fp32: 0.9, dice: 0.9, cases: 1, calibration: None };
    with_spec(bytes, &sulcus_model::ModelSpec { precision: Some(reduction), ..spec(3) }).unwrap()
}

#[test]
fn results_report_the_precision_and_ensembles_may_mix_precisions() {
    let runtime = onnx_runtime();
    let whole = model(3);
    let int8 = declared(Precision::Int8, &to_int8(&whole, &ranges(&runtime, &whole, &inputs(3))).unwrap());
    let half = declared(Precision::Fp16, &to_half(&whole).unwrap());
    let scan = noise_scan([12, 12, 8], 4);
    for (models, expected) in [
        (vec![&whole], "fp32"),
        (vec![&half], "fp16"),
        (vec![&int8], "int8"),
        (vec![&int8, &whole, &int8], "fp32+int8"),
    ] {
        let builder = models.iter().fold(Segmenter::builder(), |b, model| b.model_bytes(model.as_slice()));
        let builder = builder.engine(Engine::Ort).ort_library(OrtLibrary::Search(search()));
        let segmenter = builder.device(Device::Cpu).build().unwrap();
        let found = segmenter.segment(&scan, SegmentOptions::default()).unwrap();
        assert_eq!((found.precision.as_str(), found.engine), (expected, Engine::Ort));
    }
}

#[test]
fn tract_refuses_int8_and_names_the_other_engines() {
    // The specification decides; the graph is not examined.
    let int8 = declared(Precision::Int8, &model(3));
    let error = Segmenter::builder().model_bytes(int8.as_slice()).engine(Engine::Tract).build().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NeedsOnnxRuntime { precision: Precision::Int8, .. }), "{error}");
    assert!(error.to_string().contains("the native engine and ONNX Runtime do"), "{error}");
    if !has_onnx_runtime() {
        let nowhere = OrtLibrary::Search(OrtSearch::default());
        let auto = Segmenter::builder().model_bytes(int8.as_slice()).ort_library(nowhere).build().unwrap();
        assert_eq!(auto.engine(), Engine::Native);
    }
    let half = declared(Precision::Fp16, &to_half(&model(3)).unwrap());
    assert!(Segmenter::builder().model_bytes(half).engine(Engine::Tract).build().is_ok());
}

sulcus_harness::main!();
