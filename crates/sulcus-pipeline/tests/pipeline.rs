//! From a scan to a mask with a known network, in every orientation.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::ops::ControlFlow;

use sulcus_metrics::*;
use sulcus_model::*;
use sulcus_pipeline::*;
use sulcus_testing::test_spec;
use sulcus_volume::*;

/// Predicts class 1 where the input is above 0.5, and class 2 where it is above 1.5, voxel by voxel.
struct Thresholds;

impl Predictor for Thresholds {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let (mut shape, values) = input.into_parts();
        shape[1] = 3;
        let mut out: Vec<f32> = vec![0.0; values.len()];
        out.extend(values.iter().map(|v| v - 0.5));
        out.extend(values.iter().map(|v| 2.0 * v - 2.0));
        Tensor::new(shape, out).map_err(|e| PredictorError { engine: "test", message: e.to_string() })
    }
}

fn spec(orientation: &str, dimensions: Dimensions) -> ModelSpec {
    test_spec(dimensions.into())
        .normalisation(Normalisation::Ct { clip: [0.0, 2.0], mean: 0.0, sd: 1.0 })
        .labels(&[(3, "one"), (7, "two")])
        .orientation(orientation)
        .patch(&vec![4; dimensions.count()], Tiling::Whole)
        .mirrored()
        .build()
}

/// An image without any symmetry, and the mask that [`Thresholds`] predicts.
fn phantom() -> (Image, LabelMap) {
    let map =
        RasFromVoxel::new([[-0.9, 0.1, 0.2, 12.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0]]).unwrap();
    let geometry = Geometry::new([7, 9, 5], map, OrientationSource::Sform).unwrap();
    let labels: Vec<u16> = (0..7 * 9 * 5_usize)
        .map(|i| if i % 7 < 3 && i / 7 % 9 > 3 { 3 + 4 * u16::from(i / 63 > 2) } else { 0 })
        .collect();
    let values = labels.iter().map(|l| [0.0, 1.0, 2.0][usize::from(*l).div_ceil(4)]).collect();
    (Image::new(geometry, 1, values).unwrap(), Volume::new(geometry, labels).unwrap())
}

fn run(spec: &ModelSpec, image: &Image, options: WindowOptions) -> Result<Prediction, PipelineError> {
    spec.check()?;
    let (prepared, restore) = preprocess(spec, image)?;
    let logits = predict_logits(spec, &prepared, &[&Thresholds], &options, &mut |_| ControlFlow::Continue(()))?;
    restore.finish(spec, logits, Outputs::LabelsAndProbabilities)
}

#[test]
fn every_orientation_of_scan_and_model_gives_the_same_mask_in_the_patient() {
    let (image, mask) = phantom();
    for model in Orientation::all() {
        let spec = spec(&model.to_string(), Dimensions::Two);
        for scan in Orientation::all().step_by(5) {
            let prediction = run(&spec, &image.reoriented(scan), WindowOptions::default()).unwrap();
            assert_eq!(prediction.labels, mask.reoriented(scan), "model {model}, scan {scan}");
        }
    }
}

#[test]
fn windows_and_mirrors_of_a_local_network_change_nothing() {
    let (image, mask) = phantom();
    for dimensions in [Dimensions::Two, Dimensions::Three] {
        for tiling in [Tiling::Whole, Tiling::Patch] {
            for mirror in [false, true] {
                for step in [None, Some(0.25), Some(1.0)] {
                    let spec = ModelSpec { tiling, ..spec("PIR", dimensions) };
                    let prediction = run(&spec, &image, WindowOptions { step, mirror }).unwrap();
                    assert_eq!(prediction.labels, mask, "{dimensions:?} {tiling:?} {mirror} {step:?}");
                }
            }
        }
    }
}

#[test]
fn mask_of_a_resampled_scan_has_the_grid_of_the_scan() {
    let (image, mask) = phantom();
    for mm in [[0.5, 0.5, 0.5], [0.9, 1.3, 0.8]] {
        let spacing = SpacingRule::Resample {
            mm: Spacing::new(mm).unwrap(),
            interpolation: Interpolation::Linear,
            coarse_axis: CoarseAxis::AsOthers,
            tolerance: 1.0,
        };
        let spec = ModelSpec { spacing, ..spec("LSP", Dimensions::Three) };
        let prediction = run(&spec, &image, WindowOptions::default()).unwrap();
        assert_eq!(prediction.labels.geometry(), image.geometry());
        // Surfaces shift by up to a voxel; the inside of each structure must not change.
        let counts = count_labels(&prediction.labels, &mask, &[3, 7]).unwrap();
        assert!(counts.iter().all(|c| c.dice().unwrap() > 0.75), "{mm:?}: {counts:?}");
        let labels = preprocess_labels(&spec, &image, &mask, None).unwrap();
        assert_eq!(labels.shape(), preprocess(&spec, &image).unwrap().0.shape());
        assert!(labels.classes().contains(&2));
    }
}

#[test]
fn probabilities_sum_to_one_and_agree_with_the_mask() {
    let (image, _) = phantom();
    let prediction = run(&spec("RAS", Dimensions::Two), &image, WindowOptions::default()).unwrap();
    let probabilities = prediction.probabilities.unwrap();
    assert_eq!((probabilities.channels(), probabilities.geometry()), (3, image.geometry()));
    for (voxel, label) in prediction.labels.data().iter().enumerate() {
        let p: Vec<f32> = (0..3).map(|k| probabilities.channel(k)[voxel]).collect();
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let best = [0, 3, 7].iter().position(|l| l == label).unwrap();
        assert!(p.iter().all(|v| *v <= p[best]));
    }
}

#[test]
fn scans_that_do_not_fit_are_refused_with_the_reason() {
    let (image, mask) = phantom();
    let spec = spec("RAS", Dimensions::Two);
    let geometry = *image.geometry();
    let two = Image::new(geometry, 2, [image.data(), image.data()].concat()).unwrap();
    insta::assert_snapshot!(preprocess(&spec, &two).unwrap_err(), @"the model expects 1 channel(s) (MRI), the image has 2");
    let mut values = image.data().to_vec();
    values[17] = f32::NAN;
    let broken = Image::new(geometry, 1, values).unwrap();
    insta::assert_snapshot!(preprocess(&spec, &broken).unwrap_err(), @"the image has 1 voxel(s) that are not finite numbers (NaN or infinity); replace them before prediction or training, because their meaning is unknown");
    let other = mask.map(|l| if *l == 7 { 9 } else { *l });
    insta::assert_snapshot!(preprocess_labels(&spec, &image, &other, None).unwrap_err(), @"the mask has label value(s) [9], which are not in the label table [3, 7]");
    let smaller = Geometry::new([7, 9, 4], *geometry.ras_from_voxel(), OrientationSource::Sform).unwrap();
    let smaller = Volume::new(smaller, vec![0; 7 * 9 * 4]).unwrap();
    insta::assert_snapshot!(count_labels(&smaller, &mask, &[3]).unwrap_err(), @"the two volumes lie on different grids: shapes [7, 9, 4] and [7, 9, 5]");
}

#[test]
fn networks_with_wrong_output_are_refused() {
    struct Wrong(fn(Vec<usize>, Vec<f32>) -> Tensor);
    impl Predictor for Wrong {
        fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
            let (shape, values) = input.into_parts();
            Ok((self.0)(shape, values))
        }
    }
    let (image, _) = phantom();
    let spec = spec("RAS", Dimensions::Two);
    let (prepared, _) = preprocess(&spec, &image).unwrap();
    let ask = |network: &Wrong| {
        predict_logits(&spec, &prepared, &[network], &WindowOptions::default(), &mut |_| ControlFlow::Continue(()))
            .unwrap_err()
            .to_string()
    };
    let two_classes = Wrong(|shape, values| Tensor::new(shape, values).unwrap());
    insta::assert_snapshot!(ask(&two_classes), @"the network returned shape [1, 1, 10, 8], expected [1, 3, 10, 8]: the file's graph and its specification differ");
    let nan = Wrong(|mut shape, values| {
        shape[1] = 3;
        Tensor::new(shape, vec![f32::NAN; values.len() * 3]).unwrap()
    });
    insta::assert_snapshot!(ask(&nan), @"the network returned NaN or infinity: its weights or its input are invalid");
}

#[test]
fn stopped_prediction_returns_cancelled() {
    let (image, _) = phantom();
    let spec = spec("RAS", Dimensions::Two);
    let (prepared, _) = preprocess(&spec, &image).unwrap();
    let mut seen = 0;
    let stopped = predict_logits(&spec, &prepared, &[&Thresholds], &WindowOptions::default(), &mut |progress| {
        seen = progress.done;
        if progress.done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(PipelineError::Cancelled)));
    assert_eq!(seen, 2);
}

#[test]
fn specification_round_trips_and_refuses_unknown_fields() {
    let (image, mask) = phantom();
    let mut full = spec("PIR", Dimensions::Three);
    full.golden_case = Some(GoldenCase::new(&image, &mask));
    full.postprocessing = vec![Postprocess::KeepLargestComponent { labels: vec![3, 7] }];
    let json = full.to_json().unwrap();
    assert_eq!(ModelSpec::from_json(&json).unwrap(), full);
    let golden = full.golden_case.unwrap();
    assert_eq!(golden.image(full.orientation.nominal()).unwrap().data(), image.data());
    golden.check(&mask).unwrap();
    assert!(golden.check(&mask.map(|l| l / 2)).is_err());

    let newer = json.replacen("\"format_version\":1", "\"format_version\":9,\"thing\":0", 1);
    insta::assert_snapshot!(ModelSpec::from_json(&newer).unwrap_err(), @"this model cannot be used: its format version is 9, this program knows 1 to 8: use a newer sulcus");
    let unknown = json.replacen("\"overlap\"", "\"overlapp\"", 1);
    assert!(ModelSpec::from_json(&unknown).unwrap_err().to_string().contains("unknown field `overlapp`"));
    assert!(ModelSpec::from_json("[]").is_err());
    let odd = json.replacen("\"patch\":[4,4,4]", "\"patch\":[4,4,5]", 1);
    insta::assert_snapshot!(ModelSpec::from_json(&odd).unwrap_err(), @"this model cannot be used: its patch [4, 4, 5] must have 3 axes, each a multiple of [2, 2, 2]");
}

/// Programs that do not know the mark must not accept such a model.
#[test]
fn mark_of_an_unchecked_model_needs_its_format_version() {
    let mut marked = spec("RAS", Dimensions::Two);
    let version = marked.min_format_version();
    assert!(!marked.to_json().unwrap().contains("unchecked"));
    marked.unchecked = Some("logits differ".into());
    assert_eq!((version, marked.min_format_version()), (1, 4));
    marked.format_version = 3;
    insta::assert_snapshot!(marked.check().unwrap_err(), @"this model cannot be used: it uses features of format version 4, but states format version 3");
    marked.format_version = 4;
    let json = marked.to_json().unwrap();
    assert!(json.contains(r#""unchecked":"logits differ""#), "{json}");
    assert_eq!(ModelSpec::from_json(&json).unwrap(), marked);
}

#[test]
fn predictors_are_compared_by_logits_and_classes() {
    struct Shifted;
    impl Predictor for Shifted {
        fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
            let (shape, mut values) = Thresholds.logits(input)?.into_parts();
            values[0] += 4.0;
            Ok(Tensor::new(shape, values).unwrap())
        }
    }
    let spec = spec("RAS", Dimensions::Two);
    let input = Tensor::new(vec![1, 1, 2, 2], vec![0.0, 1.0, 2.0, 1.0]).unwrap();
    let same = compare_predictors(&spec, &Thresholds, &Thresholds, std::slice::from_ref(&input)).unwrap();
    assert_eq!((same.max_abs_difference, same.class_disagreements, same.values, same.voxels), (0.0, 0, 12, 4));
    let input = Tensor::new(vec![1, 1, 2, 2], vec![2.0, 1.0, 2.0, 1.0]).unwrap();
    let other = compare_predictors(&spec, &Thresholds, &Shifted, &[input]).unwrap();
    assert_eq!((other.max_abs_difference, other.class_disagreements), (4.0, 1));
}

#[test]
fn voxels_without_a_label_have_their_own_class_and_no_score() {
    let (image, mask) = phantom();
    let (geometry, values) = mask.into_parts();
    let with = |change: &dyn Fn(usize, u16) -> u16| {
        Volume::new(geometry, values.iter().enumerate().map(|(i, v)| change(i, *v)).collect()).unwrap()
    };
    let unlabelled = |i: usize| i.is_multiple_of(7);
    let reference = with(&|i, v| if unlabelled(i) { 9 } else { v });
    let native = spec("RAS", Dimensions::Two);
    let refused = preprocess_labels(&native, &image, &reference, None).unwrap_err();
    assert!(matches!(refused, PipelineError::UnknownLabels { .. }), "{refused}");
    let refused = preprocess_labels(&native, &image, &reference, Some(7)).unwrap_err().to_string();
    assert!(refused.contains("[9]"), "{refused}");

    let ignored = |labels: &PreprocessedLabels| {
        labels.classes().iter().filter(|c| **c == PreprocessedLabels::IGNORED).count()
    };
    let prepared = preprocess_labels(&native, &image, &reference, Some(9)).unwrap();
    assert_eq!(ignored(&prepared), 45);
    assert!(prepared.classes().iter().all(|c| [0, 1, 2, PreprocessedLabels::IGNORED].contains(c)));
    let mm = Spacing::new([geometry.spacing().mm()[0] * 7.0 / 14.0, 1.0, 1.0]).unwrap();
    let finer = ModelSpec {
        spacing: SpacingRule::Resample {
            mm,
            interpolation: Interpolation::Linear,
            coarse_axis: CoarseAxis::AsOthers,
            tolerance: 1.0,
        },
        ..native.clone()
    };
    let resampled = preprocess_labels(&finer, &image, &reference, Some(9)).unwrap();
    assert_eq!(resampled.shape()[0], 14);
    assert!(ignored(&resampled) > 0);

    // A prediction that is wrong only where the reference has no label is perfect.
    let prediction = with(&|i, v| if unlabelled(i) { 3 } else { v });
    let (p, r) = mask_ignored_voxels(&prediction, &reference, 9).unwrap();
    for counts in count_labels(&p, &r, &[3, 7]).unwrap() {
        assert_eq!(counts.dice(), Some(1.0));
    }
    assert_ne!(count_labels(&prediction, &reference, &[3]).unwrap()[0].dice(), Some(1.0));
}

/// The logits of three channels by `Thresholds`: 0, v − ½, 2 v − 2.
#[test]
fn regions_are_written_in_order_and_have_their_own_probabilities() {
    let region =
        |name: &str, values: &[u16], writes| Region { name: name.into(), values: values.to_vec(), writes };
    let regions = vec![region("never", &[9], 9), region("whole", &[3, 7], 3), region("inner", &[7], 7)];
    let spec = ModelSpec {
        format_version: ModelSpec::version_for(&regions),
        labels: Region::label_table(&regions).unwrap(),
        activation: OutputActivation::Regions,
        regions,
        ..spec("RAS", Dimensions::Three)
    };
    assert_eq!(spec.format_version, 2);
    let json = spec.to_json().unwrap();
    assert_eq!(ModelSpec::from_json(&json).unwrap(), spec);
    let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
    let grid = Geometry::new([4, 1, 1], map, OrientationSource::Sform).unwrap();
    let image = Image::new(grid, 1, vec![-1.0, 0.6, 1.0, 1.1]).unwrap();
    let plain = ModelSpec {
        channels: vec![ChannelSpec {
            name: "x".into(),
            normalisation: Normalisation::Ct { clip: [-9.0, 9.0], mean: 0.0, sd: 1.0 },
        }],
        ..spec.clone()
    };
    let (prepared, restore) = preprocess(&plain, &image).unwrap();
    let go = &mut |_| ControlFlow::Continue(());
    let logits = predict_logits(&plain, &prepared, &[&Thresholds], &WindowOptions::default(), go).unwrap();
    assert_eq!(decide(&plain, &logits), [0, 3, 3, 7]);
    let found = restore.finish(&plain, logits, Outputs::LabelsAndProbabilities).unwrap();
    assert_eq!(found.labels.data(), [0, 3, 3, 7]);
    let probabilities = found.probabilities.unwrap();
    assert!(probabilities.channel(0).iter().all(|p| *p == 0.5));
    assert!((probabilities.channel(1)[1] - 1.0 / (1.0 + (-0.1_f32).exp())).abs() < 1e-6);

    let refused = |change: &dyn Fn(&mut ModelSpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        spec.check().unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused(&|s| s.format_version = 1), @"this model cannot be used: it uses features of format version 2, but states format version 1");
    insta::assert_snapshot!(refused(&|s| s.activation = OutputActivation::Softmax), @"this model cannot be used: it names region `never`, but its output is of no regions");
    insta::assert_snapshot!(refused(&|s| s.regions.clear()), @"this model cannot be used: its output is of regions, but it names none");
    insta::assert_snapshot!(refused(&|s| { s.regions.remove(0); }), @"this model cannot be used: its label 9 belongs to no region");
    insta::assert_snapshot!(refused(&|s| s.labels = LabelTable::from_names([(3, "a".into()), (9, "b".into())]).unwrap()), @"this model cannot be used: a region has value 7, which the label table lacks");
}
