//! Packs: a rough network that finds the part of a scan that another one sees, and masks of several networks in one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use std::ops::ControlFlow;

use common::{builders, geometry, graph, model, spec};
use sulcus_model::{
    CanonicalGrid, Locate, ModelSpec, NothingFound, PACK_VERSION, PackNetwork, PackSpec, Part, Recipe, SplitRule,
};
use sulcus_onnx::join_networks;
use sulcus_pipeline::{Crop, Outputs, PipelineError, Progress};
use sulcus_runtime::{ErrorKind, PackStep, ScanWarning, SegmentOptions, Segmenter, VoxelBox, with_causes};
use sulcus_testing::Noise;
use sulcus_volume::{Image, LabelTable};

/// A `Bright` block far from the border in a dark scan that lies another way, with some noise.
fn scan() -> Image {
    let shape = [40, 36, 30];
    let mut noise = Noise(3);
    let mut values = Vec::new();
    for z in 0..shape[2] {
        for y in 0..shape[1] {
            for x in 0..shape[0] {
                let inside = (12..20).contains(&x) && (10..18).contains(&y) && (12..18).contains(&z);
                values.push(if inside { 97.0 } else { 3.0 } + 3.0 * noise.next());
            }
        }
    }
    Image::new(geometry(shape, "LPS", [1.0, 1.5, 2.0]), 1, values).unwrap()
}

/// The tiny network with intensities that do not depend on the box that it sees.
fn fixed_spec() -> ModelSpec {
    let mut spec = spec(3);
    spec.channels[0].normalisation = sulcus_model::Normalisation::Ct { clip: [0.0, 100.0], mean: 0.0, sd: 100.0 };
    spec.format_version = spec.min_format_version();
    spec
}

fn network(name: &str) -> PackNetwork {
    PackNetwork { name: name.to_owned(), spec: fixed_spec() }
}

fn coarse_to_fine(nothing_found: NothingFound) -> PackSpec {
    PackSpec {
        format_version: PACK_VERSION,
        name: "coarse-to-fine".to_owned(),
        labels: fixed_spec().labels,
        regions: Vec::new(),
        recipe: Recipe {
            locate: Some(Locate {
                network: "rough".to_owned(),
                grid: None,
                labels: vec![2],
                margin_mm: [3.0; 3],
                nothing_found,
            }),
            grid: None,
            split: None,
            parts: vec![Part { network: "fine".to_owned(), merge: None }],
        },
        networks: vec![network("rough"), network("fine")],
    }
}

/// Both networks on a grid of other voxels, whose labels are renumbered.
fn two_parts(mm: [f64; 3]) -> PackSpec {
    let part =
        |network: &str, merge: &[[u16; 2]]| Part { network: network.to_owned(), merge: Some(merge.to_vec()) };
    let names = [(5, "middle".to_owned()), (6, "bright".to_owned()), (7, "bright of the second".to_owned())];
    PackSpec {
        name: "parts".to_owned(),
        labels: LabelTable::from_names(names).unwrap(),
        recipe: Recipe {
            locate: None,
            grid: Some(CanonicalGrid { mm: Some(mm) }),
            split: None,
            parts: vec![part("rough", &[[1, 5], [2, 6]]), part("fine", &[[2, 7]])],
        },
        ..coarse_to_fine(NothingFound::EmptyMask)
    }
}

fn bytes(pack: &PackSpec) -> Vec<u8> {
    pack.check().unwrap();
    let files = [7, 8].map(|seed| graph(&fixed_spec(), seed).finish(&fixed_spec(), "", "test").unwrap());
    join_networks(&[&files[0], &files[1]], pack, "", "test").unwrap()
}

fn alone(seed: u64) -> Vec<u8> {
    graph(&fixed_spec(), seed).finish(&fixed_spec(), "", "test").unwrap()
}

fn build(pack: &PackSpec) -> Segmenter {
    builders()[0].clone().model_bytes(bytes(pack)).build().unwrap()
}

#[test]
fn rough_network_says_what_the_other_one_sees() {
    let scan = scan();
    for builder in builders() {
        let segmenter =
            builder.clone().model_bytes(bytes(&coarse_to_fine(NothingFound::WholeScan))).build().unwrap();
        let mut seen = Vec::new();
        let mut observer = |progress: Progress| {
            seen.push(progress);
            ControlFlow::Continue(())
        };
        let options = SegmentOptions::default().with_probabilities().with_observer(&mut observer);
        let found = segmenter.segment(&scan, options).unwrap();
        // 3, 2 and 1 voxels around the block.
        let expected = VoxelBox { first: [9, 8, 11], shape: [14, 12, 8] };
        let [PackStep::Locate { found: Some(location), .. }, PackStep::Part { network, shape, .. }] =
            &found.steps[..]
        else {
            panic!("{:?}", found.steps)
        };
        assert_eq!((*location, network.as_str(), *shape), (expected, "fine", expected.shape));
        // The mask is that of the other network for the box.
        let crop = Crop::to_box(scan.geometry(), [9..23, 8..20, 11..19]).unwrap();
        let other = builder.model_bytes(alone(8)).build().unwrap();
        let options = SegmentOptions::default().with_probabilities();
        let inside = other.segment(&crop.image(&scan).unwrap(), options).unwrap();
        assert_eq!(crop.labels(&found.labels).unwrap(), inside.labels);
        assert!(inside.labels.counts()[&2] > 0);
        assert_eq!(found.labels.counts()[&2], inside.labels.counts()[&2], "background outside");
        let probabilities = found.probabilities.clone().unwrap();
        assert_eq!(probabilities.channels(), 3);
        assert_eq!(crop.image(&probabilities).unwrap().data(), inside.probabilities.unwrap().data());
        assert_eq!((probabilities.channel(0)[0], probabilities.channel(2)[0]), (1.0, 0.0));
        // Progress ends at its end, and tiles are those of both.
        let last = seen.last().unwrap();
        assert_eq!((last.done, last.total, seen.len()), (found.tiles, found.tiles, found.tiles));
        assert_eq!(found.report().steps, found.steps);
        assert_eq!((segmenter.models(), segmenter.specs().count()), (1, 2));
        assert_eq!(segmenter.spec().labels, fixed_spec().labels);
    }
}

#[test]
fn scans_without_what_is_sought_get_what_the_recipe_says() {
    let mut dark = scan().into_parts();
    dark.1.iter_mut().for_each(|v| *v = v.min(5.0));
    let dark = Image::new(dark.0, 1, dark.1).unwrap();
    let empty = build(&coarse_to_fine(NothingFound::EmptyMask));
    let found = empty.segment(&dark, SegmentOptions::default().with_probabilities()).unwrap();
    assert!(found.labels.data().iter().all(|label| *label == 0));
    assert!(found.probabilities.unwrap().channel(0).iter().all(|p| *p == 1.0));
    assert!(matches!(&found.steps[..], [PackStep::Locate { found: None, .. }]));
    assert!(matches!(&found.warnings[..], [ScanWarning::NothingLocated { mask_is_empty: true, .. }]));
    let whole = build(&coarse_to_fine(NothingFound::WholeScan));
    let found = whole.segment(&dark, SegmentOptions::default()).unwrap();
    assert!(matches!(&found.steps[..], [_, PackStep::Part { shape: [40, 36, 30], .. }]));
    assert!(matches!(&found.warnings[..], [ScanWarning::NothingLocated { mask_is_empty: false, .. }]));
    // Strict: a warning is an error.
    let strict = builders()[0].clone().strict(true);
    let strict = strict.model_bytes(bytes(&coarse_to_fine(NothingFound::WholeScan))).build().unwrap();
    let error = strict.segment(&dark, SegmentOptions::default()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Implausible { .. })), "{error}");
    assert!(error.to_string().contains("`rough` found nothing"), "{error}");
    assert!(strict.segment(&scan(), SegmentOptions::default()).is_ok());
}

/// A grid that is the scan itself, so that the masks of the parts are known.
#[test]
fn masks_of_parts_become_one() {
    let scan = scan();
    let ras = scan.reoriented("RAS".parse().unwrap());
    let single = |seed: u64| {
        let segmenter = builders()[0].clone().model_bytes(alone(seed)).build().unwrap();
        segmenter.segment(&ras, SegmentOptions::default()).unwrap().labels
    };
    let (first, second) = (single(7), single(8));
    let found = build(&two_parts([1.0, 1.5, 2.0])).segment(&scan, SegmentOptions::default()).unwrap();
    let merged: Vec<u16> = first
        .data()
        .iter()
        .zip(second.data())
        .map(|(a, b)| match (a, b) {
            (_, 2) => 7,
            (2, _) => 6,
            (1, _) => 5,
            _ => 0,
        })
        .collect();
    assert_eq!(found.labels.reoriented("RAS".parse().unwrap()).data(), merged);
    assert!(found.labels.counts()[&7] > 0);
    assert_eq!(found.table, two_parts([1.0; 3]).labels);
    let names: Vec<String> = found.label_volumes().into_iter().map(|label| label.name).collect();
    assert_eq!(names, ["middle", "bright", "bright of the second"]);
    // On another grid, and divided into three.
    let mut pack = two_parts([1.0, 1.0, 0.8]);
    let whole = build(&pack).segment(&scan, SegmentOptions::default()).unwrap();
    whole.labels.geometry().check_same_grid(scan.geometry()).unwrap();
    assert!(matches!(&whole.steps[..], [PackStep::Part { shape: [40, 54, 75], .. }, _]), "{:?}", whole.steps);
    pack.recipe.split = Some(SplitRule { above_voxels: 1, above_slices: 60, margin: 12 });
    let thirds = build(&pack).segment(&scan, SegmentOptions::default()).unwrap();
    assert_eq!(thirds.steps.len(), 6);
    assert!(matches!(&thirds.steps[0], PackStep::Part { shape: [40, 54, 37], .. }), "{:?}", thirds.steps);
    // The margin is wider than the field of view of these small networks.
    let different = whole.labels.data().iter().zip(thirds.labels.data()).filter(|(a, b)| a != b).count();
    assert!(different * 200 < thirds.labels.data().len(), "{different} voxels");
    assert!(thirds.labels.counts()[&7] > 0);
}

#[test]
fn packs_keep_the_memory_limit_and_can_be_stopped() {
    let scan = scan();
    for pack in [coarse_to_fine(NothingFound::WholeScan), two_parts([1.0, 1.0, 0.8])] {
        let segmenter = build(&pack);
        let geometry = scan.geometry();
        let required = segmenter.min_memory_bytes(geometry, Outputs::Labels).unwrap();
        assert!(required > segmenter.loaded_memory_bytes());
        assert!(segmenter.check_memory(geometry, 0, Outputs::Labels, Some(required)).is_ok());
        let error = segmenter.check_memory(geometry, 0, Outputs::Labels, Some(required - 1)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Pipeline(PipelineError::MemoryLimit { .. })), "{error}");
        let limited = |bytes: u64| segmenter.segment(&scan, SegmentOptions::default().with_max_memory(bytes));
        let free = segmenter.segment(&scan, SegmentOptions::default()).unwrap();
        assert_eq!(limited(2 * required).unwrap().labels, free.labels);
        let error = limited(segmenter.loaded_memory_bytes() + 1).unwrap_err();
        assert!(with_causes(&error).contains("memory limit"), "{error}");
        assert!(segmenter.plan(geometry, Outputs::Labels).unwrap().tiles > 0);
        // Stopped in the first and in the last step.
        for last in [1, free.tiles] {
            let mut stop = |progress: Progress| match progress.done >= last {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let options = SegmentOptions::default().with_observer(&mut stop);
            let error = segmenter.segment(&scan, options).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Cancelled)), "{error}");
        }
    }
}

#[test]
fn what_a_pack_cannot_do_is_refused() {
    let scan = scan();
    let parts = build(&two_parts([1.0; 3]));
    let error = parts.segment(&scan, SegmentOptions::default().with_probabilities()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the mask of `parts` is put together from masks on another grid, so there are no probabilities; ask for the mask alone"
    );
    let both = builders()[0].clone().model_bytes(bytes(&two_parts([1.0; 3]))).model_bytes(model(3));
    assert_eq!(
        both.build().unwrap_err().to_string(),
        "a pack has a recipe of its own, so it cannot be averaged with other models: model 1 of 2"
    );
    let two_channels = Image::new(*scan.geometry(), 2, [scan.data(), scan.data()].concat()).unwrap();
    for pack in [coarse_to_fine(NothingFound::WholeScan), two_parts([1.0; 3])] {
        let error = build(&pack).segment(&two_channels, SegmentOptions::default()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Channels { found: 2, .. })), "{error}");
    }
    // Each network has its own golden case, and these have none.
    assert!(matches!(parts.replay_golden().unwrap_err().kind(), ErrorKind::NoGoldenCase { model: 1 }));
}

sulcus_harness::main!();
