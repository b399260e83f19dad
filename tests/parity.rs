//! One suite for Burn, ONNX Runtime, tract and the native engine: the same file and the same scans give the same results.

use std::ops::ControlFlow;

use sulcus_io::read_scan;
use sulcus_model::{Activation, Dimensions, Downsampling, Encoder, ModelSpec, NetworkSpec, Norm, StageConfig};
use sulcus_pipeline::{Outputs, Predictor, Tensor, WindowOptions, predict_logits, preprocess};
use sulcus_plan::DeviceChoice;
use sulcus_runtime::ort::{OrtPredictor, find_onnx_runtime};
use sulcus_runtime::{Device, Engine, NativePredictor, SegmentOptions, TractPredictor};
use sulcus_tests::{
    builder, development_data, engines, held_out_cases, onnx_runtime, shipped_int8_model, shipped_model,
    shipped_models, shipped_spec,
};
use sulcus_train::{NetworkPredictor, UNet, export_onnx, find_device};
use sulcus_volume::{Image, LabelMap};

/// Maximum fraction of voxels whose labels differ between engines: single precision, different orders of summation.
const MAX_DIFFERING_SHARE: f64 = 1e-4;
/// Maximum difference of a logit between engines.
const MAX_LOGIT_DIFFERENCE: f32 = 1e-3;

fn differing_share(a: &LabelMap, b: &LabelMap) -> f64 {
    assert_eq!(a.geometry(), b.geometry());
    a.data().iter().zip(b.data()).filter(|(a, b)| a != b).count() as f64 / a.data().len() as f64
}

fn logits(spec: &ModelSpec, image: &Image, predictor: &dyn Predictor) -> Vec<f32> {
    let (prepared, _) = preprocess(spec, image).unwrap();
    let on_tile = &mut |_| ControlFlow::Continue(());
    predict_logits(spec, &prepared, &[predictor], &WindowOptions::default(), on_tile).unwrap().data().to_vec()
}

fn labels(spec: &ModelSpec, image: &Image, predictor: &dyn Predictor) -> LabelMap {
    let (prepared, restore) = preprocess(spec, image).unwrap();
    let on_tile = &mut |_| ControlFlow::Continue(());
    let logits = predict_logits(spec, &prepared, &[predictor], &WindowOptions::default(), on_tile).unwrap();
    restore.finish(spec, logits, Outputs::Labels).unwrap().labels
}

/// An engine as a predictor, so that its logits can be compared too.
fn engine_predictor(engine: Engine, spec: &ModelSpec, file: &[u8]) -> Option<Box<dyn Predictor>> {
    if engine == Engine::Tract {
        let shape = [&[1, spec.channels.len()], spec.patch.as_slice()].concat();
        return Some(Box::new(TractPredictor::new(file, &shape, None).unwrap()));
    }
    if engine == Engine::Native {
        return Some(Box::new(NativePredictor::new(file, None).unwrap()));
    }
    let runtime = find_onnx_runtime(&onnx_runtime()?).unwrap().0.unwrap();
    Some(Box::new(OrtPredictor::new(&runtime, file, Device::Cpu, None).unwrap()))
}

#[test]
fn burn_and_all_engines_agree_on_a_newly_exported_network() {
    let mut spec = shipped_spec().unwrap();
    spec.golden_case = None;
    let (device, _) = find_device(DeviceChoice::Cpu).unwrap();
    // With random weights, classes are close to each other, which makes the test stricter than a trained network.
    let network = UNet::new(&spec.network, spec.channels.len(), spec.classes(), 7, &device).unwrap();
    let file = export_onnx(&network, &spec).unwrap();
    assert_eq!(sulcus_onnx::read_spec(&file).unwrap(), spec);
    let burn = NetworkPredictor::new(&network, &device);
    for (name, image, _) in held_out_cases().unwrap().into_iter().take(2) {
        let image = read_scan(&image).unwrap().image;
        let expected = logits(&spec, &image, &burn);
        let expected_labels = labels(&spec, &image, &burn);
        for engine in [Engine::Tract, Engine::Native, Engine::Ort] {
            let Some(predictor) = engine_predictor(engine, &spec, &file) else { continue };
            let found = logits(&spec, &image, predictor.as_ref());
            let apart = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart <= MAX_LOGIT_DIFFERENCE, "{name}, {engine}: logits differ by {apart}");
            let share = differing_share(&expected_labels, &labels(&spec, &image, predictor.as_ref()));
            assert!(share <= MAX_DIFFERING_SHARE, "{name}, {engine}: {share} of the voxels differ");
        }
    }
}

/// Plain with deep supervision, residual, and pooled with batch normalisation, over blocks and slices, with uneven
/// kernels and strides.
fn other_kinds() -> Vec<NetworkSpec> {
    let stage = |channels, kernel: [usize; 3], stride: [usize; 3]| StageConfig {
        channels,
        convolutions: 2,
        kernel: kernel.to_vec(),
        stride: stride.to_vec(),
    };
    let blocks = NetworkSpec {
        name: "blocks".into(),
        dimensions: Dimensions::Three,
        stages: vec![
            stage(4, [1, 3, 3], [1, 1, 1]),
            stage(6, [3, 3, 3], [1, 2, 2]),
            stage(8, [3, 3, 3], [2, 2, 1]),
            stage(8, [3, 1, 3], [2, 1, 2]),
        ],
        norm: Norm::Instance,
        activation: Activation::LeakyRelu { slope: 0.01 },
        downsampling: Downsampling::StridedConvolution,
        encoder: Encoder::Plain,
        deep_supervision: true,
        imported: None,
    };
    let residual = NetworkSpec { name: "residual".into(), encoder: Encoder::Residual, ..blocks.clone() };
    let pooled = NetworkSpec {
        name: "pooled".into(),
        norm: Norm::Batch,
        activation: Activation::Relu,
        downsampling: Downsampling::MaxPool,
        deep_supervision: false,
        ..blocks.clone()
    };
    let mut slices = NetworkSpec { name: "slices".into(), dimensions: Dimensions::Two, ..residual.clone() };
    for stage in &mut slices.stages {
        stage.kernel.remove(0);
        stage.stride.remove(0);
    }
    vec![blocks, residual, pooled, slices]
}

#[test]
fn burn_and_all_engines_agree_on_every_kind_of_network() {
    let (device, _) = find_device(DeviceChoice::Cpu).unwrap();
    for network in other_kinds() {
        let mut spec = shipped_spec().unwrap();
        (spec.golden_case, spec.mirror_axes) = (None, vec![]);
        spec.padding_multiple = network.padding_multiple();
        spec.patch = spec.padding_multiple.iter().map(|edge| 4 * edge).collect();
        spec.network = network;
        let trainers = UNet::new(&spec.network, spec.channels.len(), spec.classes(), 7, &device).unwrap();
        let file = export_onnx(&trainers, &spec).unwrap();
        let burn = NetworkPredictor::new(&trainers, &device);
        let shape = [&[1, spec.channels.len()], spec.patch.as_slice()].concat();
        let values = (0..shape.iter().product()).map(|i: usize| ((i * 37) % 101) as f32 / 50.0 - 1.0);
        let input = Tensor::new(shape, values.collect()).unwrap();
        let expected = burn.logits(input.clone()).unwrap();
        for engine in [Engine::Tract, Engine::Native, Engine::Ort] {
            let Some(predictor) = engine_predictor(engine, &spec, &file) else { continue };
            let found = predictor.logits(input.clone()).unwrap();
            assert_eq!(found.shape(), expected.shape());
            let apart = expected.data().iter().zip(found.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart <= MAX_LOGIT_DIFFERENCE, "{}, {engine}: logits differ by {apart}", spec.network.name);
        }
    }
}

#[test]
fn all_engines_give_the_same_masks_with_the_shipped_model() {
    let mut scans: Vec<_> = held_out_cases().unwrap().into_iter().take(3).map(|(_, image, _)| image).collect();
    scans.extend(development_data("colin27/t1.nii.gz"));
    let Some(ort) = builder(Engine::Ort) else { return };
    let ort = ort.model(shipped_model()).build().unwrap();
    let others = [Engine::Tract, Engine::Native]
        .map(|engine| builder(engine).unwrap().model(shipped_model()).build().unwrap());
    for scan in scans {
        let image = read_scan(&scan).unwrap().image;
        let expected = ort.segment(&image, SegmentOptions::default()).unwrap();
        for other in &others {
            let found = other.segment(&image, SegmentOptions::default()).unwrap();
            let share = differing_share(&expected.labels, &found.labels);
            assert!(
                share <= MAX_DIFFERING_SHARE,
                "{}, {}: {share} of the voxels differ",
                other.engine(),
                scan.display()
            );
        }
    }
}

/// In 8 bits a value next to the middle between two integers is rounded up by one engine and down by the other. The logits of the shipped
/// model reach 10.
const MAX_LOGIT_DIFFERENCE_INT8: f32 = 0.6;
/// The share of voxels that then get another label.
const MAX_DIFFERING_SHARE_INT8: f64 = 5e-4;

#[test]
fn native_and_onnx_runtime_agree_on_the_golden_case_of_every_shipped_model() {
    if onnx_runtime().is_none() {
        return;
    }
    for path in shipped_models() {
        let file = std::fs::read(&path).unwrap();
        let spec = sulcus_onnx::read_spec(&file).unwrap();
        let image = spec.golden_case.as_ref().unwrap().image(spec.orientation.nominal()).unwrap();
        let [native, ort] =
            [Engine::Native, Engine::Ort].map(|engine| engine_predictor(engine, &spec, &file).unwrap());
        let [found, expected] = [&native, &ort].map(|engine| logits(&spec, &image, engine.as_ref()));
        let apart = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let in_bytes = path == shipped_int8_model();
        let allowed = if in_bytes { MAX_LOGIT_DIFFERENCE_INT8 } else { MAX_LOGIT_DIFFERENCE };
        assert!(apart <= allowed, "{}: logits differ by {apart}", path.display());
        let [found, expected] = [&native, &ort].map(|engine| labels(&spec, &image, engine.as_ref()));
        assert!(expected.data().iter().any(|label| *label != 0), "an empty mask tests nothing");
        let share = differing_share(&expected, &found);
        let allowed = if in_bytes { MAX_DIFFERING_SHARE_INT8 } else { MAX_DIFFERING_SHARE };
        assert!(share <= allowed, "{}: {share} of the voxels differ", path.display());
    }
}

#[test]
fn mirrored_predictions_agree_and_follow_what_the_model_was_trained_with() {
    let (_, image, _) = &held_out_cases().unwrap()[1];
    let image = read_scan(image).unwrap().image;
    let plain = builder(Engine::Tract).unwrap().model(shipped_model()).build().unwrap();
    let plain = plain.segment(&image, SegmentOptions::default()).unwrap().labels;
    assert!(plain.data().iter().any(|label| *label != 0), "an empty mask tests nothing");
    let file = std::fs::read(shipped_model()).unwrap();
    let mut spec = shipped_spec().unwrap();
    assert!(spec.mirror_axes.is_empty(), "the shipped model was trained without mirrored slices");
    spec.mirror_axes = vec![1];
    let mirrored_file = sulcus_onnx::with_spec(&file, &spec).unwrap();
    let mut mirrored: Vec<LabelMap> = Vec::new();
    for (engine, builder) in engines() {
        let mask = |file: &[u8]| {
            let segmenter = builder.clone().mirror(true).model_bytes(file).build().unwrap();
            segmenter.segment(&image, SegmentOptions::default()).unwrap().labels
        };
        // The model does not recognise an upside-down hippocampus, so averaging with mirrored predictions would be
        // harmful.
        assert!(differing_share(&mask(&file), &plain) <= MAX_DIFFERING_SHARE, "{engine}");
        mirrored.push(mask(&mirrored_file));
    }
    assert!(differing_share(&mirrored[0], &plain) > MAX_DIFFERING_SHARE, "mirroring did nothing");
    for mask in &mirrored {
        assert!(differing_share(&mirrored[0], mask) <= MAX_DIFFERING_SHARE);
    }
}
