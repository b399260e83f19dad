//! One suite for every engine: all engines give the same results.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use std::ops::ControlFlow;

use common::{box_scan, builders, encoded, geometry, graph, model, noise_scan, onnx_runtime, search, spec};
use sulcus_model::{Dimensions, GoldenCase, label_hash};
use sulcus_onnx::{GraphBuilder, attribute, with_spec};
use sulcus_pipeline::{Predictor, Progress, Tensor, compare_predictors};
use sulcus_runtime::ort::{OrtLibrary, OrtPredictor};
use sulcus_runtime::{
    Device, Engine, NativePredictor, SegmentOptions, Segmenter, SegmenterBuilder, TractPredictor, with_causes,
};
use sulcus_testing::Noise;
use sulcus_volume::{Image, LabelTable};

/// Engines sum in different orders. The same tolerance is used in all crates.
const MAX_LOGIT_DIFFERENCE: f32 = 1e-3;
/// Fraction of voxels whose classes are so close to a tie that the order of summation decides.
const MAX_DISAGREEMENT: f64 = 1e-4;

#[test]
fn all_engines_give_the_same_logits() {
    let runtime = onnx_runtime();
    for (axes, shapes) in [
        (2, vec![vec![1, 1, 16, 16], vec![1, 1, 34, 50], vec![3, 1, 2, 8], vec![1, 1, 16, 16]]),
        (3, vec![vec![1, 1, 8, 12, 12], vec![2, 1, 10, 4, 30]]),
    ] {
        let bytes = model(axes);
        let ort = OrtPredictor::new(&runtime, &bytes, Device::Cpu, Some(2)).unwrap();
        let tract = TractPredictor::new(&bytes, &shapes[0], Some(2)).unwrap();
        let mut noise = Noise(11);
        let inputs: Vec<Tensor> = shapes
            .into_iter()
            .map(|shape| {
                let values = noise.take(shape.iter().product(), 1.0).iter().map(|v| v.abs()).collect();
                Tensor::new(shape, values).unwrap()
            })
            .collect();
        let native = NativePredictor::new(&bytes, Some(2)).unwrap();
        for other in [&tract as &dyn Predictor, &native] {
            let parity = compare_predictors(&spec(axes), other, &ort, &inputs).unwrap();
            assert!(parity.max_abs_difference < MAX_LOGIT_DIFFERENCE, "{axes}-D: {parity:?}");
            assert!(
                parity.class_disagreements as f64 <= MAX_DISAGREEMENT * parity.voxels as f64,
                "{axes}-D: {parity:?}"
            );
        }
    }
}

#[test]
fn all_engines_give_the_same_masks() {
    onnx_runtime();
    for axes in [2, 3] {
        for mirror in [false, true] {
            let scan = noise_scan([37, 29, 19], 5);
            let masks: Vec<_> = builders()
                .into_iter()
                .map(|b| {
                    let segmenter = b.model_bytes(model(axes)).mirror(mirror).build().unwrap();
                    segmenter.segment(&scan, SegmentOptions::default()).unwrap().labels
                })
                .collect();
            let [tract, others @ ..] = &masks[..] else { panic!("no engine") };
            for other in others {
                let different = tract.data().iter().zip(other.data()).filter(|(a, b)| a != b).count();
                let allowed = MAX_DISAGREEMENT * tract.data().len() as f64;
                assert!(different as f64 <= allowed, "{axes}-D: {different} voxels");
            }
            assert!(tract.counts().len() == 3, "the masks hold both labels and background: {:?}", tract.counts());
        }
    }
}

#[test]
fn boxes_are_found_and_measured_in_every_orientation() {
    let scan = box_scan();
    for builder in builders() {
        let segmenter = builder.model_bytes(model(2)).build().unwrap();
        let found = segmenter.segment(&scan, SegmentOptions::default()).unwrap();
        let volumes = found.label_volumes();
        let voxels: Vec<_> = volumes.iter().map(|v| (v.name.as_str(), v.value, v.voxels)).collect();
        assert_eq!(voxels, [("Middle", 1, 6 * 6 * 4 - 8), ("Bright", 2, 8)]);
        assert!((volumes[1].ml.unwrap() - 8.0 * 1.5 / 1000.0).abs() < 1e-12);
        assert_eq!((found.tiles, found.precision.as_str(), found.device), (4, "fp32", Device::Cpu));
        assert!(found.seconds.engine > 0.0 && found.seconds.engine <= found.seconds.infer);

        // The same values on axes with other directions are another anatomy, with the same boxes in it.
        let turned = Image::new(geometry([12, 10, 4], "LPI", [1.0, 1.0, 1.5]), 1, scan.data().to_vec()).unwrap();
        let turned = segmenter.segment(&turned, SegmentOptions::default()).unwrap();
        assert_eq!(turned.labels.data(), found.labels.data());
    }
}

#[test]
fn probabilities_are_returned_on_request() {
    for builder in builders() {
        let segmenter = builder.model_bytes(model(3)).build().unwrap();
        let scan = box_scan();
        assert!(segmenter.segment(&scan, SegmentOptions::default()).unwrap().probabilities.is_none());
        let found = segmenter.segment(&scan, SegmentOptions::default().with_probabilities()).unwrap();
        let probabilities = found.probabilities.unwrap();
        assert_eq!(probabilities.channels(), 3);
        for voxel in 0..found.labels.data().len() {
            let sum: f32 = (0..3).map(|k| probabilities.channel(k)[voxel]).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }
    }
}

#[test]
fn progress_is_reported_and_break_stops() {
    for builder in builders() {
        let segmenter = builder.model_bytes(model(2)).build().unwrap();
        let mut seen = Vec::new();
        let mut observer = |progress: Progress| {
            seen.push((progress.done, progress.total));
            if progress.done == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let error =
            segmenter.segment(&box_scan(), SegmentOptions::default().with_observer(&mut observer)).unwrap_err();
        assert_eq!(error.to_string(), "stopped on request");
        assert_eq!(seen, [(1, 4), (2, 4), (3, 4)]);
    }
}

#[test]
fn self_test_model_equals_its_builder_and_replays_on_every_engine() {
    let plain = Segmenter::builder().engine(Engine::Tract).model_bytes(model(2)).build().unwrap();
    assert_eq!(
        plain.replay_golden().unwrap_err().to_string(),
        "model 1 contains no golden case, so nothing can be replayed"
    );
    let scan = box_scan();
    let mask = plain.segment(&scan, SegmentOptions::default()).unwrap().labels;
    let mut with_golden = spec(2);
    with_golden.golden_case = Some(GoldenCase::new(&scan, &mask));
    let made = with_spec(&model(2), &with_golden).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/self-test.onnx");
    if std::env::var_os("SULCUS_BLESS").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let committed = std::fs::read(path).unwrap();
    assert!(
        committed == made,
        "data/self-test.onnx differs from the model of tests/common: run this test with SULCUS_BLESS=1"
    );
    assert!(committed == sulcus_runtime::SELF_TEST_MODEL, "the library was built with another file");
    for builder in builders() {
        builder
            .model_bytes(sulcus_runtime::SELF_TEST_MODEL)
            .mirror(true)
            .build()
            .unwrap()
            .replay_golden()
            .unwrap();
    }
}

#[test]
fn golden_case_with_another_mask_is_an_error() {
    let mut broken = spec(2);
    let scan = box_scan();
    let segmenter = Segmenter::builder().engine(Engine::Tract).model_bytes(model(2)).build().unwrap();
    let mask = segmenter.segment(&scan, SegmentOptions::default()).unwrap().labels;
    let mut golden = GoldenCase::new(&scan, &mask);
    assert_eq!(golden.labels_sha256, label_hash(&mask));
    golden.labels_sha256.replace_range(..4, "0000");
    broken.golden_case = Some(golden);
    for builder in builders() {
        let segmenter = builder.model_bytes(with_spec(&model(2), &broken).unwrap()).build().unwrap();
        let error = segmenter.replay_golden().unwrap_err().to_string();
        assert!(error.contains("gives another mask here"), "{error}");
    }
}

#[test]
fn threads_share_one_segmenter() {
    fn assert_send_sync<T: Send + Sync>(_: &T) {}
    let scan = noise_scan([20, 14, 6], 2);
    for builder in builders() {
        let segmenter = builder.model_bytes(model(2)).build().unwrap();
        assert_send_sync(&segmenter);
        let masks: Vec<_> = std::thread::scope(|scope| {
            let work = || segmenter.segment(&scan, SegmentOptions::default()).unwrap().labels;
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(masks.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn mask_of_a_file_has_the_grid_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (scan, mask) = (folder.path().join("scan.nii.gz"), folder.path().join("mask.nii.gz"));
    let image = box_scan();
    std::fs::write(&scan, encoded(&image)).unwrap();
    for builder in builders() {
        let segmenter = builder.model_bytes(model(2)).build().unwrap();
        let found = segmenter.segment_file(&scan, &mask).unwrap();
        let (written, _) = sulcus_io::read_labels(&mask).unwrap();
        assert_eq!(written.data(), found.labels.data());
        assert_eq!(written.geometry().shape(), image.geometry().shape());
    }
}

#[test]
fn mask_never_overwrites_its_scan() {
    let folder = tempfile::tempdir().unwrap();
    let scan = folder.path().join("scan.nii");
    let bytes = encoded(&box_scan());
    std::fs::write(&scan, &bytes).unwrap();
    std::fs::create_dir(folder.path().join("beside")).unwrap();
    let mut same = vec![scan.clone(), folder.path().join("beside/../scan.nii")];
    #[cfg(unix)]
    {
        same.push(folder.path().join("link.nii"));
        std::os::unix::fs::symlink(&scan, &same[2]).unwrap();
    }
    let segmenter = Segmenter::builder().engine(Engine::Tract).model_bytes(model(2)).build().unwrap();
    for mask in same {
        let error = segmenter.segment_file(&scan, &mask).unwrap_err().to_string();
        assert!(error.starts_with("the mask would overwrite the scan itself"), "{error}");
        assert!(error.ends_with(&mask.display().to_string()), "{error}");
        assert_eq!(std::fs::read(&scan).unwrap(), bytes);
    }
    // An existing mask is not a scan and may be replaced.
    let mask = folder.path().join("mask.nii");
    for _ in 0..2 {
        segmenter.segment_file(&scan, &mask).unwrap();
    }
}

#[test]
fn files_that_are_not_models_are_refused_before_an_engine_starts() {
    let error = Segmenter::builder().build().unwrap_err().to_string();
    assert!(error.starts_with("no model was given"), "{error}");
    let error = with_causes(&Segmenter::builder().model("/nowhere/model.onnx").build().unwrap_err());
    assert!(error.starts_with("could not read the model file /nowhere/model.onnx: "), "{error}");
    let error = with_causes(&Segmenter::builder().model_bytes(b"hello".to_vec()).build().unwrap_err());
    assert!(error.starts_with("the model cannot be used: this is not an ONNX file"), "{error}");
    let error = Segmenter::builder().model_bytes(model(2)).model_bytes(b"hello".to_vec()).build().unwrap_err();
    let error = with_causes(&error);
    assert!(error.starts_with("model 2 of 2 cannot be used: "), "{error}");
}

/// The operators of a graph are replaced by one that no engine supports; its input and output get other names.
#[test]
fn unsupported_graphs_are_refused_when_loaded() {
    let mut unknown = GraphBuilder::new("unknown");
    let axes = [sulcus_onnx::Axis::Dynamic("N"), sulcus_onnx::Axis::Fixed(1)];
    let space = [sulcus_onnx::Axis::Dynamic("H"), sulcus_onnx::Axis::Dynamic("W")];
    unknown.input("image", &[axes, space].concat(), "");
    unknown.output("logits", &[axes, space].concat(), "");
    unknown.node("Transmogrify", &["image"], "logits", vec![attribute::int("calvin", 1)]);
    let unknown = unknown.finish(&spec(2), "", "test").unwrap();

    let mut renamed = GraphBuilder::new("renamed");
    renamed.input("x", &[axes, space].concat(), "");
    renamed.output("y", &[axes, space].concat(), "");
    renamed.node("Relu", &["x"], "y", vec![]);
    let renamed = renamed.finish(&spec(2), "", "test").unwrap();

    let mut cut = model(2);
    let weights = cut.windows(3).position(|w| w == b"d.w").unwrap();
    cut[weights] = b'q';

    for (what, bytes, words) in
        [("unknown", unknown, "Transmogrify"), ("renamed", renamed, "image"), ("cut", cut, ".w")]
    {
        for builder in builders() {
            let error = builder.model_bytes(bytes.clone()).build().unwrap_err().to_string();
            assert!(error.contains("engine does not support this model's graph"), "{what}: {error}");
            assert!(error.contains(words), "{what}: {error}");
        }
    }
}

#[test]
fn graph_whose_output_contradicts_its_specification_is_an_error() {
    let mut other = spec(2);
    other.labels = LabelTable::from_names([(1, "Only".to_owned())]).unwrap();
    let bytes = graph(&spec(2), 7).finish(&other, "", "test").unwrap();
    for builder in builders() {
        let segmenter = builder.model_bytes(bytes.clone()).build().unwrap();
        let error = segmenter.segment(&box_scan(), SegmentOptions::default()).unwrap_err().to_string();
        assert!(error.starts_with("the network returned shape"), "{error}");
    }
}

#[test]
fn damaged_files_never_panic() {
    let whole = model(2);
    let mut noise = Noise(1);
    for builder in builders() {
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..4 {
                let at = ((noise.next() + 1.0) / 2.0 * bytes.len() as f32) as usize % bytes.len();
                bytes[at] ^= 1 << (at % 8);
            }
            // Whether it loads depends on the damaged byte; it must only not panic.
            if let Ok(segmenter) = builder.clone().model_bytes(bytes).build() {
                segmenter.segment(&box_scan(), SegmentOptions::default()).ok();
            }
        }
    }
}

#[test]
fn unavailable_device_is_refused_with_the_reason() {
    let refusal = |builder: SegmenterBuilder, device| {
        builder.model_bytes(model(2)).device(device).build().unwrap_err().to_string()
    };
    let tract = || Segmenter::builder().engine(Engine::Tract);
    assert_eq!(
        refusal(tract(), Device::Cuda(0)),
        "the device `cuda:0` cannot be used: the built-in engine (tract) runs only on the processor; GPUs need the \
         engine `ort`"
    );
    assert!(refusal(tract(), Device::Vulkan(1)).contains("inference runs on cpu, openvino, cuda and tensorrt"));
    assert!(refusal(tract(), Device::OpenVino).contains("OpenVINO is a provider of ONNX Runtime"));
    onnx_runtime();
    let ort = || Segmenter::builder().ort_library(OrtLibrary::Search(search()));
    assert!(refusal(ort(), Device::Vulkan(0)).contains("inference runs on cpu, openvino, cuda and tensorrt"));
    for device in [Device::Cuda(99), Device::TensorRt(99)] {
        let error = refusal(ort(), device);
        assert!(error.starts_with(&format!("the device `{device}` cannot be used: ")), "{error}");
    }
    // Without a named device, the processor is used if there is no GPU. With ONNX Runtime, a note says so.
    let auto = ort().model_bytes(model(2)).build().unwrap();
    if auto.device() == Device::Cpu && sulcus_engine::has_vector_kernels() {
        assert_eq!(auto.engine(), Engine::Native);
        return;
    }
    assert_eq!(auto.engine(), Engine::Ort);
    assert!(
        auto.device() == Device::Cuda(0)
            || auto.notes().iter().any(|n| n.to_string().starts_with("running on the processor: "))
    );
}

#[test]
fn specification_equals_that_of_the_model() {
    for builder in builders() {
        let segmenter = builder.model_bytes(model(3)).build().unwrap();
        assert_eq!(segmenter.spec(), &spec(3));
        assert_eq!(segmenter.spec().network.dimensions, Dimensions::Three);
    }
}

#[test]
fn tract_plans_more_shapes_than_it_keeps() {
    let predictor = TractPredictor::new(&model(2), &[1, 1, 16, 16], Some(1)).unwrap();
    for round in 0..2 {
        for edge in (2..=16).step_by(2) {
            let input = Tensor::new(vec![1, 1, edge, edge], vec![0.5; edge * edge]).unwrap();
            let answer = predictor.logits(input).unwrap();
            assert_eq!(answer.shape(), [1, 3, edge, edge], "round {round}");
        }
    }
}

sulcus_harness::main!();
