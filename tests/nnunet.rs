//! Imported models of nnU-Net in every engine: the logits are those that PyTorch computes with nnU-Net's own classes, the masks those
//! of its predictor.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::Value;
use sulcus_io::{read_labels, read_scan};
use sulcus_model::{Encoder, ModelSpec, Norm, OutputActivation, Region, StageConfig, Tiling};
use sulcus_nnunet::{Fold, ImportOptions, NamedTensor, NnunetModel, import};
use sulcus_pipeline::{Numerics, Outputs, Predictor, Progress, Tensor};
use sulcus_plan::DeviceChoice;
use sulcus_runtime::ort::{OrtPredictor, find_onnx_runtime};
use sulcus_runtime::{Device, Engine, NativePredictor, SegmentOptions, TractPredictor};
use sulcus_testing::test_spec;
use sulcus_tests::{builder, engines, onnx_runtime, root};
use sulcus_train::{NetworkPredictor, NetworkWeights, UNet, find_device, network_weights};
use sulcus_volume::{Image, LabelMap, LabelTable};

/// Maximum difference between a logit and PyTorch's: single precision, other orders of summation. The file of expected logits has
/// six decimals.
const MAX_DIFFERENCE: f32 = 1e-5;
/// The file of expected logits has every fifth one.
const STEP: usize = 5;

fn fixtures() -> PathBuf {
    root().join("crates/sulcus-nnunet/tests/fixtures")
}

/// The same numbers as `noise` of `tests/peers/nnunet_import.py`.
fn noise(shape: &[usize]) -> Tensor {
    let mut state = 99_u32;
    let values = (0..shape.iter().product()).map(|_: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    Tensor::new(shape.to_vec(), values.collect()).unwrap()
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// Plain and residual networks of slices and blocks with instance and batch normalisation, both residual blocks, stems, decoders with
/// other numbers of convolutions than the encoder, activations before the normalisation, plans of old versions, two folds.
#[test]
fn logits_of_every_imported_network_are_pytorchs() {
    let expected: Value = serde_json::from_slice(&std::fs::read(fixtures().join("logits.json")).unwrap()).unwrap();
    let runtime = onnx_runtime().map(|library| find_onnx_runtime(&library).unwrap().0.unwrap());
    let models = expected.as_object().unwrap();
    assert_eq!(models.len(), 15);
    for (name, expected) in models {
        let model = import(&fixtures().join(format!("{name}.zip")), &ImportOptions::default()).unwrap();
        let input = noise(&numbers(&expected["input"]));
        let mut predictors: Vec<(&str, Box<dyn Predictor>)> = Vec::new();
        predictors.push(("tract", Box::new(TractPredictor::new(&model.bytes, input.shape(), None).unwrap())));
        predictors.push(("native", Box::new(NativePredictor::new(&model.bytes, Some(2)).unwrap())));
        if let Some(runtime) = &runtime {
            predictors
                .push(("ORT", Box::new(OrtPredictor::new(runtime, &model.bytes, Device::Cpu, None).unwrap())));
        }
        let values: Vec<f64> =
            expected["every_fifth"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        for (engine, predictor) in predictors {
            let found = predictor.logits(input.clone()).unwrap();
            assert_eq!(found.shape(), numbers(&expected["shape"]), "{name}, {engine}");
            let found: Vec<f32> = found.data().iter().copied().step_by(STEP).collect();
            assert_eq!(found.len(), values.len());
            let apart = found.iter().zip(&values).map(|(a, b)| (a - *b as f32).abs()).fold(0.0, f32::max);
            assert!(apart <= MAX_DIFFERENCE, "{name}, {engine}: logits differ by {apart}");
        }
    }
}

/// A model with the scan that nnU-Net's predictor segmented.
struct Case {
    model: &'static str,
    /// The file among the fixtures; by default the scan of the examples.
    scan: Option<&'static str>,
    ending: &'static str,
}

impl Case {
    const fn of_nifti(model: &'static str, scan: Option<&'static str>) -> Self {
        Self { model, scan, ending: "nii.gz" }
    }
}

const TURNED: Option<&str> = Some("turned.nii.gz");
const CASES: [Case; 8] = [
    // Thick slices: separate resampling along z.
    Case::of_nifti("plain_3d", None),
    Case::of_nifti("plain_2d", None),
    // Two folds, regions, another isotropic voxel size.
    Case::of_nifti("folds_regions_3d", None),
    // Transposed axes of a scan that is stored in another order, z-score of the voxels that are not 0.
    Case::of_nifti("residual_3d", TURNED),
    // Batch normalisation and CT, a reader that turns scans to RAS, a margin of zeros that is cropped.
    Case::of_nifti("plain_3d_bn", TURNED),
    // A cascade with two folds, a margin of zeros that is cropped.
    Case::of_nifti("cascade_3d", TURNED),
    // Pictures that state a pixel size, which nnU-Net does not read.
    Case { model: "picture_2d", scan: Some("picture.png"), ending: "png" },
    Case { model: "tiff_3d", scan: Some("pages.tif"), ending: "tif" },
];

impl Case {
    fn scan(&self) -> Image {
        let path = match self.scan {
            Some(name) => fixtures().join(name),
            None => root().join("examples/data/case/image.nii.gz"),
        };
        read_scan(&path).unwrap().image
    }

    /// The name of the mask.
    fn name(&self, mirror: bool) -> String {
        format!("{}{}", self.model, if mirror { "_mirrored" } else { "" })
    }

    /// The mask of nnU-Net's own predictor on the processor.
    fn expected(&self, mirror: bool) -> LabelMap {
        read_labels(&fixtures().join(format!("{}.{}", self.name(mirror), self.ending))).unwrap().0
    }

    fn found(&self, scan: &Image, mirror: bool, engine: Engine, numerics: Numerics) -> LabelMap {
        let configuration = (self.model == "cascade_3d").then(|| "3d_cascade_fullres".to_owned());
        let options = ImportOptions { configuration, ..ImportOptions::default() };
        let model = import(&fixtures().join(format!("{}.zip", self.model)), &options).unwrap();
        let builder = builder(engine).unwrap().model_bytes(model.bytes).mirror(mirror).numerics(numerics);
        builder.build().unwrap().segment(scan, SegmentOptions::default()).unwrap().labels
    }
}

/// Voxels that differ, and the number of voxels that are foreground in one of the masks.
fn differences(found: &LabelMap, expected: &LabelMap) -> (Vec<usize>, usize) {
    assert_eq!(found.geometry().shape(), expected.geometry().shape());
    let pairs = || found.data().iter().zip(expected.data());
    let different = pairs().enumerate().filter(|(_, (a, b))| a != b).map(|(voxel, _)| voxel);
    (different.collect(), pairs().filter(|(a, b)| **a != 0 || **b != 0).count())
}

/// Voxels of a mask where the two greatest logits of nnU-Net, which are in half precision, are equal or neighbours. There an engine
/// that sums in another order than PyTorch can change the mask.
fn near_ties(mask: &str) -> Vec<usize> {
    let ties: Value = serde_json::from_slice(&std::fs::read(fixtures().join("ties.json")).unwrap()).unwrap();
    numbers(&ties[mask])
}

/// Of about 60,000 voxels, some 50 are near ties and none or one of them differs.
const MAX_DIFFERENT_TIES: usize = 2;
/// Single precision instead of half: with random weights, whose masks consist of borders, 0.2 % of the foreground differ at most.
const MAX_DIFFERENT_SHARE: f64 = 0.003;
/// In a cascade the differences of the first stage are an input of the second.
const MAX_DIFFERENT_SHARE_OF_CASCADE: f64 = 0.01;

/// In every engine, with and without mirroring: in the exact mode no voxel differs from nnU-Net's mask, except where nnU-Net's own logits
/// are equal to the last place of half precision; in the default mode few do.
#[test]
fn masks_are_those_of_nnunets_predictor() {
    for case in CASES {
        let scan = case.scan();
        for mirror in [false, true] {
            let expected = case.expected(mirror);
            assert_ne!(expected.data(), case.expected(!mirror).data(), "mirroring changes the mask");
            let ties = near_ties(&case.name(mirror));
            for (engine, _) in engines() {
                let what = format!("{}, {engine}", case.name(mirror));
                let found = case.found(&scan, mirror, engine, Numerics::Nnunet);
                let (different, _) = differences(&found, &expected);
                assert!(different.iter().all(|voxel| ties.contains(voxel)), "{what}: {different:?}");
                assert!(different.len() <= MAX_DIFFERENT_TIES, "{what}: {different:?}");

                let found = case.found(&scan, mirror, engine, Numerics::Float32);
                let (different, foreground) = differences(&found, &expected);
                let share = different.len() as f64 / foreground as f64;
                let most =
                    if case.model == "cascade_3d" { MAX_DIFFERENT_SHARE_OF_CASCADE } else { MAX_DIFFERENT_SHARE };
                assert!(share <= most, "{what}: {} of {foreground} by default", different.len());
            }
        }
    }
}

fn cascade(folds: &[u16]) -> Vec<u8> {
    let options = ImportOptions {
        configuration: Some("3d_cascade_fullres".to_owned()),
        folds: folds.iter().copied().map(Fold::Number).collect(),
        ..ImportOptions::default()
    };
    import(&fixtures().join("cascade_3d.zip"), &options).unwrap().bytes
}

/// The first stage counts for progress, tiles and memory, and is not predicted twice.
#[test]
fn stages_of_a_cascade_share_progress_and_memory() {
    let scan = CASES[5].scan();
    for numerics in [Numerics::Float32, Numerics::Nnunet] {
        let builder = builder(Engine::Tract).unwrap().model_bytes(cascade(&[])).numerics(numerics);
        let segmenter = builder.build().unwrap();
        let mut seen = Vec::new();
        let mut observer = |progress: Progress| {
            seen.push((progress.done, progress.total));
            ControlFlow::Continue(())
        };
        let options = SegmentOptions::default().with_observer(&mut observer);
        let found = segmenter.segment(&scan, options).unwrap();
        let expected: Vec<(usize, usize)> = (1..=found.tiles).map(|done| (done, found.tiles)).collect();
        assert_eq!(seen, expected, "every tile is counted once");
        let of_last = segmenter.plan(scan.geometry(), Outputs::Labels).unwrap().tiles;
        assert!(found.tiles > 1 && of_last >= 1, "{} of {}", of_last, found.tiles);

        let required = segmenter.min_memory_bytes(scan.geometry(), Outputs::Labels).unwrap();
        let limited = |bytes: u64| {
            let options = SegmentOptions::default().with_max_memory(bytes);
            segmenter.segment_owned(scan.clone(), options)
        };
        assert_eq!(limited(required).unwrap().labels, found.labels);
        let error = limited(segmenter.loaded_memory_bytes() + 1).unwrap_err().to_string();
        assert!(error.contains("memory limit"), "{error}");
        // Stopped in the first stage.
        let mut stop = |_: Progress| ControlFlow::Break(());
        let options = SegmentOptions::default().with_observer(&mut stop);
        assert!(segmenter.segment(&scan, options).unwrap_err().to_string().contains("stopped"));
    }
}

/// In nnU-Net the folds of the second stage see the same mask.
#[test]
fn cascades_with_different_first_stages_are_not_averaged() {
    let builder = builder(Engine::Tract).unwrap().model_bytes(cascade(&[0])).model_bytes(cascade(&[1]));
    let error = builder.build().unwrap_err().to_string();
    assert!(error.contains("previous network") && error.contains("3d_lowres, fold 1"), "{error}");
}

/// A network of Sulcus, written for nnU-Net and imported again, computes the same logits: plain and residual, slices and blocks, both
/// normalisations, every kind of output, with and without heads of deep supervision.
#[test]
fn exported_networks_are_imported_with_the_same_logits() {
    let (device, _) = find_device(DeviceChoice::Cpu).unwrap();
    for axes in [2, 3] {
        for (encoder, norm) in [
            (Encoder::Plain, Norm::Instance),
            (Encoder::Plain, Norm::Batch),
            (Encoder::Residual, Norm::Instance),
            (Encoder::Residual, Norm::Batch),
        ] {
            for activation in [OutputActivation::Softmax, OutputActivation::Sigmoid, OutputActivation::Regions] {
                let spec = exported_spec(axes, encoder, norm, activation);
                let what = format!("{axes}-D, {encoder:?}, {norm:?}, {activation:?}");
                let network = UNet::new(&spec.network, spec.channels.len(), spec.classes(), 3, &device).unwrap();
                let named = |tensor: NetworkWeights| NamedTensor {
                    name: tensor.name,
                    shape: tensor.shape,
                    values: tensor.values,
                };
                let tensors = network_weights(&network).unwrap().into_iter().map(named).collect();
                let folder = tempfile::tempdir().unwrap();
                let written = NnunetModel::new(&spec).unwrap();
                let fold = folder.path().join("fold_0");
                std::fs::create_dir(&fold).unwrap();
                std::fs::write(folder.path().join("plans.json"), written.plans_json()).unwrap();
                std::fs::write(folder.path().join("dataset.json"), written.dataset_json()).unwrap();
                let checkpoint = written.checkpoint(&spec, 0, tensors).unwrap();
                std::fs::write(fold.join(NnunetModel::CHECKPOINT), checkpoint).unwrap();

                let imported = import(folder.path(), &ImportOptions::default()).unwrap();
                assert_eq!(imported.spec.orientation, spec.orientation, "{what}");
                assert_eq!(imported.spec.labels.entries().len(), spec.labels.entries().len(), "{what}");
                assert_eq!(imported.spec.regions, spec.regions, "{what}");
                assert_eq!(imported.spec.mirror_axes, spec.mirror_axes, "{what}");
                let input = noise(&[&[2, spec.channels.len()], spec.patch.as_slice()].concat());
                let expected = NetworkPredictor::new(&network, &device).logits(input.clone()).unwrap();
                let found =
                    TractPredictor::new(&imported.bytes, input.shape(), None).unwrap().logits(input).unwrap();
                // With a sigmoid a background of zeros precedes the label.
                let background = found.shape()[1] - expected.shape()[1];
                assert_eq!(background, usize::from(activation == OutputActivation::Sigmoid), "{what}");
                let voxels: usize = expected.shape()[2..].iter().product();
                let of_item = |tensor: &Tensor, item: usize, skip: usize| {
                    let classes = tensor.shape()[1];
                    tensor.data()[(item * classes + skip) * voxels..(item + 1) * classes * voxels].to_vec()
                };
                for item in 0..2 {
                    let (left, right) = (of_item(&expected, item, 0), of_item(&found, item, background));
                    assert_eq!(left.len(), right.len(), "{what}");
                    let largest = left.iter().fold(0.0_f32, |largest, v| largest.max(v.abs()));
                    let apart = left.iter().zip(&right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(largest > 0.1 && apart <= MAX_DIFFERENCE * largest.max(1.0), "{what}: {apart}");
                    assert!(of_item(&found, item, 0)[..background * voxels].iter().all(|v| *v == 0.0), "{what}");
                }
            }
        }
    }
}

/// A model with axes in another order, kernels and strides that differ by axis, and a decoder with several convolutions.
fn exported_spec(axes: u8, encoder: Encoder, norm: Norm, activation: OutputActivation) -> ModelSpec {
    let n = usize::from(axes);
    let stage = |channels, convolutions, kernel: [usize; 3], stride: [usize; 3]| StageConfig {
        channels,
        convolutions,
        kernel: kernel[3 - n..].to_vec(),
        stride: stride[3 - n..].to_vec(),
    };
    let mut spec = test_spec(axes)
        .strided()
        .stages(vec![
            stage(3, 2, [1, 3, 3], [1, 1, 1]),
            stage(4, 1, [3, 3, 3], [1, 2, 2]),
            stage(4, 2, [3, 1, 3], [2, 2, 1]),
            stage(5, 1, [3, 3, 3], [1, 1, 2]),
        ])
        .channels(["first", "second"])
        .labels(&[(1, "one"), (2, "two")])
        .orientation("ASR")
        .patch(&[8, 16, 16][3 - n..], Tiling::Patch)
        .mirrored()
        .build();
    spec.network.encoder = encoder;
    spec.network.norm = norm;
    spec.network.deep_supervision = norm == Norm::Instance;
    spec.activation = activation;
    match activation {
        OutputActivation::Softmax => {}
        OutputActivation::Sigmoid => spec.labels = LabelTable::from_names([(1, "one".to_owned())]).unwrap(),
        OutputActivation::Regions => {
            let region =
                |name: &str, values: &[u16], writes| Region { name: name.into(), values: values.to_vec(), writes };
            spec.regions = vec![region("whole", &[1, 2], 1), region("core", &[2], 2)];
        }
    }
    spec.format_version = spec.min_format_version();
    spec.check().unwrap();
    spec
}
