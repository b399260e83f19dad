//! Averaged models, on every engine.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use std::ops::ControlFlow;

use common::{builders, model, noise_scan, spec};
use sulcus_model::{
    ChannelSpec, CoarseAxis, ModelSpec, Normalisation, OutputActivation, Postprocess, Region, SpacingRule, Tiling,
};
use sulcus_onnx::{Axis, GraphBuilder, attribute, with_spec};
use sulcus_pipeline::Progress;
use sulcus_runtime::{Engine, SegmentOptions, Segmentation, Segmenter, SegmenterBuilder};
use sulcus_volume::{Image, Interpolation, LabelTable, Spacing};

/// Tolerance of the ensemble's probabilities against those computed from its members: engines and resampling use single
/// precision.
const TOLERANCE: f32 = 2e-5;

/// A model whose logit of class k is `lines[k][0] · x + lines[k][1]` in every voxel.
fn lines(spec: &ModelSpec, lines: &[[f32; 2]]) -> Vec<u8> {
    let n = spec.network.dimensions.count();
    let axes = |channels: usize| -> Vec<Axis<'_>> {
        let fixed = [Axis::Dynamic("N"), Axis::Fixed(channels)];
        fixed.into_iter().chain(["D", "H", "W"][3 - n..].iter().map(|a| Axis::Dynamic(a))).collect()
    };
    let mut g = GraphBuilder::new("lines");
    g.input("image", &axes(1), "");
    g.output("logits", &axes(lines.len()), "");
    let slopes: Vec<f32> = lines.iter().map(|l| l[0]).collect();
    let offsets: Vec<f32> = lines.iter().map(|l| l[1]).collect();
    g.constant("w", &[&[lines.len(), 1][..], &vec![1; n]].concat(), &slopes);
    g.constant("b", &[lines.len()], &offsets);
    g.node("Conv", &["image", "w", "b"], "logits", vec![attribute::ints("kernel_shape", &vec![1; n])]);
    g.finish(spec, "", "test").unwrap()
}

const ONE: [[f32; 2]; 3] = [[0.0, 0.0], [4.0, -1.0], [9.0, -5.0]];
const OTHER: [[f32; 2]; 3] = [[-3.0, 1.5], [1.0, 0.25], [2.0, -0.5]];

fn segmented(builder: &SegmenterBuilder, models: &[&Vec<u8>], scan: &Image) -> Segmentation {
    let with = models.iter().fold(builder.clone(), |b, m| b.model_bytes((*m).clone()));
    with.build().unwrap().segment(scan, SegmentOptions::default().with_probabilities()).unwrap()
}

/// The expected average of logits, from the probabilities of the members: their geometric mean, scaled to sum to one.
fn geometric_mean(members: &[Segmentation]) -> Vec<Vec<f32>> {
    let voxels = members[0].labels.data().len();
    let of =
        |m: &Segmentation, k: usize, voxel: usize| f64::from(m.probabilities.as_ref().unwrap().channel(k)[voxel]);
    let classes = members[0].probabilities.as_ref().unwrap().channels();
    let share = 1.0 / members.len() as f64;
    (0..voxels)
        .map(|voxel| {
            let both =
                |p: &dyn Fn(&Segmentation) -> f64| members.iter().map(|m| p(m).powf(share)).product::<f64>();
            if classes == 1 {
                let (yes, no) = (both(&|m| of(m, 0, voxel)), both(&|m| 1.0 - of(m, 0, voxel)));
                return vec![(yes / (yes + no)) as f32];
            }
            let means: Vec<f64> = (0..classes).map(|k| both(&|m| of(m, k, voxel))).collect();
            let sum: f64 = means.iter().sum();
            means.iter().map(|m| (m / sum) as f32).collect()
        })
        .collect()
}

fn assert_is_mean(found: &Segmentation, members: &[Segmentation], what: &str) {
    let probabilities = found.probabilities.as_ref().unwrap();
    let values = found.table.entries().iter().map(|e| e.value);
    let values: Vec<u16> = std::iter::once(0).chain(values).collect();
    let mut labels_checked = 0;
    for (voxel, expected) in geometric_mean(members).iter().enumerate() {
        for (k, expected) in expected.iter().enumerate() {
            let found = probabilities.channel(k)[voxel];
            assert!((found - expected).abs() < TOLERANCE, "{what}, voxel {voxel}: {found}, expected {expected}");
        }
        let whole = if expected.len() == 1 { vec![1.0 - expected[0], expected[0]] } else { expected.clone() };
        let best = (0..whole.len()).max_by(|a, b| whole[*a].total_cmp(&whole[*b])).unwrap();
        // If two classes are equal, rounding decides.
        if whole.iter().enumerate().all(|(k, p)| k == best || whole[best] - p > 1e-3) {
            assert_eq!(found.labels.data()[voxel], values[best], "{what}, voxel {voxel}");
            labels_checked += 1;
        }
    }
    assert!(labels_checked * 10 > found.labels.data().len() * 9, "{what}: {labels_checked}");
}

#[test]
fn ensemble_of_equal_models_equals_the_model() {
    let scan = noise_scan([20, 14, 6], 9);
    for builder in builders() {
        for axes in [2, 3] {
            let bytes = model(axes);
            let alone = segmented(&builder, &[&bytes], &scan);
            let twice = segmented(&builder, &[&bytes, &bytes], &scan);
            assert_eq!((&alone.labels, &alone.probabilities), (&twice.labels, &twice.probabilities), "{axes}-D");
            assert_eq!(alone.tiles, twice.tiles, "equal tiles are cut once");
        }
    }
}

#[test]
fn two_models_give_the_manually_computed_average() {
    let scan = noise_scan([9, 8, 5], 4);
    let (least, most) = scan.data().iter().fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
    let (one, other) = (lines(&spec(2), &ONE), lines(&spec(2), &OTHER));
    for builder in builders() {
        let found = segmented(&builder, &[&one, &other], &scan);
        let alone = segmented(&builder, &[&one], &scan);
        assert_ne!(alone.labels, found.labels, "the second model has an effect");
        let mut level = 0;
        for (voxel, value) in scan.data().iter().enumerate() {
            let x = (value - least) / (most - least);
            let mean: Vec<f32> =
                (0..3).map(|k| ((ONE[k][0] * x + ONE[k][1]) + (OTHER[k][0] * x + OTHER[k][1])) / 2.0).collect();
            let best = (0..3).max_by(|a, b| mean[*a].total_cmp(&mean[*b])).unwrap();
            if (0..3).any(|k| k != best && mean[best] - mean[k] < 1e-4) {
                level += 1;
                continue;
            }
            assert_eq!(usize::from(found.labels.data()[voxel]), best, "voxel {voxel}: {mean:?}");
        }
        assert!(level < 5, "{level} voxels are ties");
    }
}

/// Members with different preprocessing: each gives the same logits as alone, and the ensemble their mean.
#[test]
fn members_keep_their_own_network_patch_grid_and_normalisation() {
    let scan = noise_scan([21, 17, 9], 8);
    let base = || lines(&spec(2), &ONE);
    let resample = |mm| SpacingRule::Resample {
        mm: Spacing::new(mm).unwrap(),
        interpolation: Interpolation::Linear,
        coarse_axis: CoarseAxis::AsOthers,
        tolerance: 1.0,
    };
    let z_score = vec![ChannelSpec { name: "MRI".into(), normalisation: Normalisation::ZScore }];
    let windowed = ModelSpec { patch: vec![8, 8], tiling: Tiling::Patch, tile_step: 0.25, ..spec(2) };
    let sagittal = ModelSpec { orientation: "SAR".parse().unwrap(), ..spec(2) };
    let cases = [
        ("another patch", windowed),
        ("2-D and 3-D", spec(3)),
        ("another normalisation", ModelSpec { channels: z_score.clone(), ..spec(2) }),
        ("another orientation", sagittal.clone()),
        ("another voxel size", ModelSpec { spacing: resample([1.5, 1.25, 2.0]), ..spec(3) }),
        ("all of it", ModelSpec { spacing: resample([0.8, 1.0, 1.0]), channels: z_score, ..sagittal }),
    ];
    for builder in builders() {
        for (what, spec) in &cases {
            let (first, second) = (base(), lines(spec, &OTHER));
            let members = [&first, &second].map(|m| segmented(&builder, &[m], &scan));
            let found = segmented(&builder, &[&first, &second], &scan);
            assert_is_mean(&found, &members, what);
            let turned = segmented(&builder, &[&second, &first], &scan);
            let [a, b] = [&found, &turned].map(|s| s.probabilities.as_ref().unwrap().data());
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < TOLERANCE), "{what}: the order has an effect");
            assert_eq!(found.labels.geometry(), scan.geometry());
            let seconds = found.seconds;
            assert!(seconds.preprocess > 0.0 && seconds.postprocess > 0.0 && seconds.engine > 0.0, "{what}");
        }
    }
}

#[test]
fn members_have_equal_weights_in_any_grouping() {
    let scan = noise_scan([11, 9, 6], 1);
    let sagittal = ModelSpec { orientation: "SAR".parse().unwrap(), ..spec(2) };
    // Two models share their tiles, one has its own window, one its own grid.
    let models = [
        lines(&spec(2), &ONE),
        lines(&spec(2), &OTHER),
        lines(&spec(3), &[[1.0, 0.0], [0.0, 0.0], [3.0, -2.0]]),
        lines(&sagittal, &[[0.0, 1.0], [6.0, -3.0], [0.0, 0.5]]),
    ];
    for builder in builders() {
        let members: Vec<Segmentation> = models.iter().map(|m| segmented(&builder, &[m], &scan)).collect();
        let [a, b, c, d] = &models;
        assert_is_mean(&segmented(&builder, &[a, b, c, d], &scan), &members, "in order");
        assert_is_mean(&segmented(&builder, &[d, b, c, a], &scan), &members, "in another order");
    }
}

#[test]
fn one_structure_with_a_sigmoid_is_averaged_too() {
    let scan = noise_scan([10, 12, 4], 6);
    let labels = LabelTable::from_names([(5, "Tumour".to_owned())]).unwrap();
    let flat = ModelSpec { labels: labels.clone(), activation: OutputActivation::Sigmoid, ..spec(2) };
    let deep = ModelSpec { labels, activation: OutputActivation::Sigmoid, ..spec(3) };
    let (one, other) = (lines(&flat, &[[6.0, -2.0]]), lines(&deep, &[[1.0, -1.0]]));
    for builder in builders() {
        let members = [&one, &other].map(|m| segmented(&builder, &[m], &scan));
        let found = segmented(&builder, &[&one, &other], &scan);
        assert_is_mean(&found, &members, "sigmoid");
        assert!(found.labels.counts().len() == 2 && members[1].labels.counts().len() == 1);
    }
}

#[test]
fn progress_counts_the_tiles_of_all_members() {
    let scan = noise_scan([21, 17, 9], 8);
    let (one, other) = (lines(&spec(2), &ONE), lines(&spec(3), &OTHER));
    for builder in builders() {
        let segmenter = builder.model_bytes(one.clone()).model_bytes(other.clone()).build().unwrap();
        let mut seen = Vec::new();
        let mut observer = |progress: Progress| {
            seen.push(progress);
            ControlFlow::Continue(())
        };
        let found = segmenter.segment(&scan, SegmentOptions::default().with_observer(&mut observer)).unwrap();
        // Nine slices; 2 × 2 × 3 blocks of 8 × 12 × 12 over 9 × 17 × 21 voxels.
        assert_eq!(found.tiles, 9 + 2 * 2 * 3);
        let expected: Vec<Progress> =
            (1..=found.tiles).map(|done| Progress { done, total: found.tiles }).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn models_with_different_labels_or_channels_are_not_averaged() {
    let base = || spec(2);
    let table = |names: [(u16, &str); 2]| {
        LabelTable::from_names(names.map(|(value, name)| (value, name.to_owned()))).unwrap()
    };
    let channel = |name: &str| ChannelSpec { name: name.into(), normalisation: Normalisation::MinMax };
    let single = LabelTable::from_names([(1, "Middle".to_owned())]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["a.onnx", "b.onnx"].map(|name| folder.path().join(name));
    let refusal = |one: &ModelSpec, other: &ModelSpec| {
        for (file, spec) in [(&first, one), (&second, other)] {
            std::fs::write(file, with_spec(&model(2), spec).unwrap()).unwrap();
        }
        let builder = Segmenter::builder().engine(Engine::Tract).models([&first, &second]);
        let error = builder.build().unwrap_err().to_string();
        error.replace(&folder.path().join("").display().to_string(), "")
    };
    let differ = "the models cannot be averaged: they differ in their ";
    for (labels, found) in [
        ([(1, "Bright"), (2, "Middle")], "1 Bright, 2 Middle"),
        ([(1, "Middle"), (3, "Bright")], "1 Middle, 3 Bright"),
    ] {
        assert_eq!(
            refusal(&base(), &ModelSpec { labels: table(labels), ..base() }),
            format!("{differ}labels: 1 Middle, 2 Bright in a.onnx, {found} in b.onnx")
        );
    }
    assert_eq!(
        refusal(&base(), &ModelSpec { channels: vec![channel("CT")], ..base() }),
        format!("{differ}channels: 1 (MRI) in a.onnx, 1 (CT) in b.onnx")
    );
    assert_eq!(
        refusal(&base(), &ModelSpec { channels: vec![channel("MRI"), channel("CT")], ..base() }),
        format!("{differ}channels: 1 (MRI) in a.onnx, 2 (MRI, CT) in b.onnx")
    );
    let softmax = ModelSpec { labels: single, ..base() };
    assert_eq!(
        refusal(&softmax, &ModelSpec { activation: OutputActivation::Sigmoid, ..softmax.clone() }),
        format!("{differ}activation: softmax in a.onnx, sigmoid in b.onnx")
    );
    // The meaning of each channel, and the order in which regions are written.
    let region =
        |name: &str, values: &[u16], writes| Region { name: name.into(), values: values.to_vec(), writes };
    let with_regions = |regions: [Region; 2]| ModelSpec {
        format_version: ModelSpec::version_for(&regions),
        labels: table([(1, "Middle"), (2, "Bright")]),
        activation: OutputActivation::Regions,
        regions: regions.to_vec(),
        ..base()
    };
    let (a, b) = (region("all", &[1, 2], 1), region("bright", &[2], 2));
    assert_eq!(
        refusal(&with_regions([a.clone(), b]), &with_regions([a, region("rear", &[2], 2)])),
        format!(
            "{differ}regions: all [1, 2] written as 1, bright [2] written as 2 in a.onnx, all [1, 2] written as 1, rear \
             [2] written as 2 in b.onnx"
        )
    );
    // Colours do not affect the mask.
    let mut entries = base().labels.entries().to_vec();
    entries[0].color = entries[1].color;
    let recoloured = ModelSpec { labels: LabelTable::new(entries).unwrap(), ..base() };
    let recoloured = with_spec(&model(2), &recoloured).unwrap();
    Segmenter::builder().engine(Engine::Tract).model_bytes(model(2)).model_bytes(recoloured).build().unwrap();
}

#[test]
fn only_common_postprocessing_is_applied() {
    let keep = |labels: &[u16]| Postprocess::KeepLargestComponent { labels: labels.to_vec() };
    let with = |steps: &[Postprocess]| lines(&ModelSpec { postprocessing: steps.to_vec(), ..spec(2) }, &ONE);
    let (both, second, none) = (with(&[keep(&[1]), keep(&[2])]), with(&[keep(&[2])]), with(&[]));
    let scan = noise_scan([20, 14, 6], 9);
    let builder = Segmenter::builder().engine(Engine::Tract);
    let build = |models: [&Vec<u8>; 2]| {
        models.iter().fold(builder.clone(), |b, m| b.model_bytes((*m).clone())).build().unwrap()
    };
    let mask = |models: [&Vec<u8>; 2]| build(models).segment(&scan, SegmentOptions::default()).unwrap().labels;
    assert_eq!(build([&both, &both]).spec().postprocessing.len(), 2);
    assert!(build([&both, &both]).notes().is_empty());
    for models in [[&both, &second], [&second, &both]] {
        let segmenter = build(models);
        assert_eq!(segmenter.spec().postprocessing, [keep(&[2])]);
        let note = segmenter.notes()[0].to_string();
        assert!(note.starts_with("the models have different postprocessing"), "{note}");
        assert_eq!(mask(models), segmented(&builder, &[&second], &scan).labels);
    }
    assert!(build([&both, &none]).notes()[0].to_string().ends_with("so none is applied"));
    assert_eq!(mask([&both, &none]), segmented(&builder, &[&none], &scan).labels);
    assert_ne!(mask([&both, &none]), mask([&both, &second]));
}

sulcus_harness::main!();
