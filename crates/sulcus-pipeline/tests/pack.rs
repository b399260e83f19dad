//! Recipes of packs: which fit, and what they do with scans and masks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use sulcus_model::{
    CanonicalGrid, FileSpec, Locate, ModelSpec, NothingFound, PACK_VERSION, PackNetwork, PackSpec, Part, Recipe,
    Region, SpecError, SplitRule,
};
use sulcus_pipeline::{PackGrid, PipelineError, locate, merge};
use sulcus_testing::test_spec;
use sulcus_volume::{
    Geometry, Image, Label, LabelMap, LabelTable, Orientation, OrientationSource, RasFromVoxel, Spacing,
};

fn network(name: &str) -> PackNetwork {
    let spec = test_spec(3).labels(&[(1, "one"), (2, "two")]).build();
    PackNetwork { name: name.to_owned(), spec }
}

fn pack() -> PackSpec {
    PackSpec {
        format_version: PACK_VERSION,
        name: "both".to_owned(),
        labels: LabelTable::from_names([(3, "three".to_owned()), (4, "four".to_owned())]).unwrap(),
        regions: Vec::new(),
        recipe: Recipe {
            locate: Some(Locate {
                network: "rough".to_owned(),
                grid: Some(CanonicalGrid { mm: Some([6.0; 3]) }),
                labels: vec![2],
                margin_mm: [20.0; 3],
                nothing_found: NothingFound::EmptyMask,
            }),
            grid: Some(CanonicalGrid { mm: None }),
            split: Some(SplitRule { above_voxels: 100, above_slices: 60, margin: 20 }),
            parts: vec![
                Part { network: "first".to_owned(), merge: Some(vec![[1, 3], [2, 4]]) },
                Part { network: "second".to_owned(), merge: Some(vec![[2, 3]]) },
            ],
        },
        networks: ["rough", "first", "second"].map(network).to_vec(),
    }
}

#[test]
fn packs_have_a_version_of_their_own() {
    let pack = pack();
    assert!(pack.check().is_ok(), "{:?}", pack.check());
    let json = pack.to_json().unwrap();
    assert_eq!(PackSpec::from_json(&json).unwrap(), pack);
    assert_eq!(FileSpec::from_json(&json).unwrap(), FileSpec::Pack(Box::new(pack.clone())));
    let outline = pack.outline().unwrap();
    assert_eq!((outline.name.as_str(), &outline.labels), ("both", &pack.labels));
    assert_eq!(pack.networks[1].graph_names(), [["first.image".to_owned(), "first.logits".to_owned()]]);
    // Where one model is needed, a pack is refused by its kind.
    assert_eq!(ModelSpec::from_json(&json), Err(SpecError::Pack));
    let alone = network("alone").spec;
    assert_eq!(FileSpec::from_json(&alone.to_json().unwrap()).unwrap(), FileSpec::Model(Box::new(alone)));
    // A newer pack, and a version without its recipe.
    let newer = json.replace("\"format_version\":8,\"name\":\"both\"", "\"format_version\":9,\"name\":\"both\"");
    insta::assert_snapshot!(FileSpec::from_json(&newer).unwrap_err(), @"this model cannot be used: its format version is 9, this program knows 1 to 8: use a newer sulcus");
    insta::assert_snapshot!(FileSpec::from_json(r#"{"format_version": 8}"#).unwrap_err(), @"this model cannot be used: its format version is 8, that of packs, but it has no recipe");
    let unknown = json.replace("\"split\"", "\"splits\"");
    assert!(FileSpec::from_json(&unknown).unwrap_err().to_string().contains("unknown field `splits`"));
}

#[test]
fn recipes_that_do_not_fit_are_refused() {
    let refused = |change: &dyn Fn(&mut PackSpec)| {
        let mut pack = pack();
        change(&mut pack);
        match pack.check() {
            Err(SpecError::Invalid(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    let locate = |change: &dyn Fn(&mut Locate)| refused(&|p| change(p.recipe.locate.as_mut().unwrap()));
    insta::assert_snapshot!(refused(&|p| p.format_version = 7), @"it is a pack of format version 7, this program knows 8: use a newer sulcus");
    insta::assert_snapshot!(refused(&|p| p.networks[0].name = "a b".into()), @"the name of its network `a b` must be letters, digits, - and _");
    insta::assert_snapshot!(refused(&|p| p.networks[0].name = "first".into()), @"two of its networks are named `first`");
    insta::assert_snapshot!(refused(&|p| p.networks[2].name = "third".into()), @"its recipe does not use the network `third`");
    insta::assert_snapshot!(refused(&|p| p.networks.push(network("more"))), @"its recipe does not use the network `more`");
    insta::assert_snapshot!(refused(&|p| p.networks.clear()), @"it has 0 networks, possible are 1 to 32");
    insta::assert_snapshot!(refused(&|p| p.networks[1].spec = test_spec(3).channels(["a", "b"]).build()), @"its network `first` has 2 input channel(s), its first one has 1");
    insta::assert_snapshot!(locate(&|l| l.network = "nobody".into()), @"its recipe does not use the network `rough`");
    insta::assert_snapshot!(locate(&|l| l.labels = vec![]), @"its recipe looks for no label of the network `rough`");
    insta::assert_snapshot!(locate(&|l| l.labels = vec![2, 2]), @"its recipe looks for label 2 twice");
    insta::assert_snapshot!(locate(&|l| l.labels = vec![7]), @"its recipe looks for label 7, which the network `rough` lacks");
    for margin in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(locate(&|l| l.margin_mm[1] = margin).contains("margin"), "{margin}");
    }
    for mm in [0.0, -1.0, f64::NAN, 1e9] {
        assert!(
            locate(&|l| l.grid = Some(CanonicalGrid { mm: Some([1.0, mm, 1.0]) })).contains("voxel size"),
            "{mm}"
        );
        assert!(
            refused(&|p| p.recipe.grid = Some(CanonicalGrid { mm: Some([mm; 3]) })).contains("voxel size"),
            "{mm}"
        );
    }
    for (above_slices, margin) in [(60, 0), (59, 20), (60, usize::MAX)] {
        let split = SplitRule { above_voxels: 1, above_slices, margin };
        assert!(refused(&|p| p.recipe.split = Some(split)).contains("margin"));
    }
    insta::assert_snapshot!(refused(&|p| p.recipe.parts.clear()), @"its recipe does not use the network `first`");
    insta::assert_snapshot!(refused(&|p| p.recipe.parts[1].network = "first".into()), @"its recipe does not use the network `second`");
    let merge = |merge: Option<Vec<[Label; 2]>>| refused(&|p| p.recipe.parts[0].merge.clone_from(&merge));
    insta::assert_snapshot!(merge(Some(vec![])), @"its recipe takes no label of the network `first`");
    insta::assert_snapshot!(merge(Some(vec![[1, 3], [1, 4]])), @"its recipe takes label 1 of the network `first` twice");
    insta::assert_snapshot!(merge(Some(vec![[9, 3]])), @"its recipe takes label 9 of the network `first`, which lacks it");
    insta::assert_snapshot!(merge(Some(vec![[1, 9]])), @"its recipe turns label 1 of the network `first` into 9, which is no label of the pack");
    insta::assert_snapshot!(merge(None), @"its recipe turns label 1 of the network `first` into 1, which is no label of the pack");
    let region = Region { name: "all".into(), values: vec![3, 4], writes: 3 };
    assert!(refused(&|p| p.regions = vec![region.clone()]).contains("regions"));
}

fn geometry(shape: [usize; 3], orientation: &str, mm: [f64; 3]) -> Geometry {
    let map = RasFromVoxel::aligned(orientation.parse().unwrap(), Spacing::new(mm).unwrap());
    Geometry::new(shape, map, OrientationSource::Sform).unwrap()
}

/// In every orientation: the same voxels of the patient, and masks that come back to where they were.
#[test]
fn grids_turn_resample_and_come_back_in_every_orientation() {
    let rule = CanonicalGrid { mm: Some([2.0, 1.0, 3.0]) };
    for orientation in Orientation::all() {
        let turned = geometry([9, 8, 7], "RAS", [1.0, 1.0, 1.5]);
        let values = (0..turned.voxels()).map(|v| v as f32 * 1.75 - 300.4).collect();
        let ras = Image::new(turned, 1, values).unwrap();
        let scan = ras.reoriented(orientation);
        let grid = PackGrid::new(&rule, scan.geometry(), false).unwrap();
        // 9 / 2 and 7 / 2 are halves, which are rounded to even.
        assert_eq!(grid.geometry().shape(), [4, 8, 4], "{orientation}");
        let seen = grid.image(&scan).unwrap();
        assert!(seen.data().iter().all(|v| v.fract() == 0.0), "whole numbers");
        let of_ras = PackGrid::new(&rule, ras.geometry(), false).unwrap().image(&ras).unwrap();
        assert_eq!(seen.data(), of_ras.data(), "{orientation}");
        // The first and the last voxel keep their values, truncated towards zero.
        let last = *ras.data().last().unwrap();
        assert_eq!((seen.data()[0], seen.data().last()), (-300.0, Some(&last.trunc())), "{orientation}");
        let labels: Vec<Label> = (0..seen.data().len()).map(|v| v as Label).collect();
        let back = grid.labels_back(&LabelMap::new(*grid.geometry(), labels).unwrap()).unwrap();
        back.geometry().check_same_grid(scan.geometry()).unwrap();
        let expected = [0, 0, 1, 1, 2, 2, 2, 3, 3];
        let row: Vec<Label> = back.reoriented("RAS".parse().unwrap()).data()[..9].to_vec();
        assert_eq!(row, expected, "{orientation}");
    }
}

#[test]
fn scans_of_the_wanted_voxel_size_stay_as_they_are() {
    let geometry = geometry([4, 3, 2], "LPS", [1.5; 3]);
    let image = Image::new(geometry, 1, (0..24).map(|v| v as f32 + 0.5).collect()).unwrap();
    let rule = CanonicalGrid { mm: Some([1.5; 3]) };
    let whole = PackGrid::new(&rule, &geometry, false).unwrap().image(&image).unwrap();
    assert_eq!(whole.data(), image.reoriented("RAS".parse().unwrap()).data());
    // A box of a scan has whole numbers, as TotalSegmentator cuts it.
    let cropped = PackGrid::new(&rule, &geometry, true).unwrap().image(&image).unwrap();
    assert!(cropped.data().iter().zip(whole.data()).all(|(a, b)| *a == b - 0.5));
    let huge = CanonicalGrid { mm: Some([0.01; 3]) };
    let far = self::geometry([4, 3, 2], "LPS", [1e4; 3]);
    match PackGrid::new(&huge, &far, false) {
        Err(PipelineError::GridTooLarge { shape, resampling: Some(_), .. }) => assert_eq!(shape[0], 4_000_000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn boxes_have_their_margin_in_whole_voxels_inside_the_scan() {
    let geometry = geometry([20, 10, 10], "RAS", [2.0, 3.0, 4.0]);
    let mut labels = vec![0; geometry.voxels()];
    let at = |x: usize, y: usize, z: usize| (z * 10 + y) * 20 + x;
    (labels[at(8, 5, 3)], labels[at(10, 6, 3)], labels[at(0, 0, 0)]) = (2, 2, 1);
    let mask = LabelMap::new(geometry, labels).unwrap();
    let mut rule = pack().recipe.locate.unwrap();
    rule.margin_mm = [5.0, 8.9, 12.0];
    let crop = locate(&rule, &mask).unwrap().unwrap();
    // 2.5, 2.97 and 3 voxels; the scan begins at slice 0.
    assert_eq!(crop.ranges(), &[6..13, 3..9, 0..7]);
    assert_eq!(crop.part().ras_from_voxel().apply([0.0; 3]).0, [12.0, 9.0, 0.0]);
    rule.labels = vec![1, 2];
    assert_eq!(locate(&rule, &mask).unwrap().unwrap().ranges(), &[0..13, 0..9, 0..7]);
    let empty = LabelMap::new(geometry, vec![0; geometry.voxels()]).unwrap();
    assert!(locate(&rule, &empty).unwrap().is_none());
}

#[test]
fn later_parts_win_where_they_find_something() {
    let geometry = geometry([4, 1, 1], "RAS", [1.0; 3]);
    let mask = |labels: [Label; 4]| LabelMap::new(geometry, labels.to_vec()).unwrap();
    let [first, second] = &pack().recipe.parts[..] else { panic!("two parts") };
    let result = merge(first, &mask([0, 1, 2, 1]), mask([0; 4])).unwrap();
    assert_eq!(result.data(), [0, 3, 4, 3]);
    // Label 1 of the second part is not taken over.
    let result = merge(second, &mask([2, 1, 2, 0]), result).unwrap();
    assert_eq!(result.data(), [3, 3, 3, 3]);
    let all = Part { network: "first".into(), merge: None };
    assert_eq!(merge(&all, &mask([0, 1, 2, 0]), mask([3; 4])).unwrap().data(), [3, 1, 2, 3]);
    let other = LabelMap::new(self::geometry([2, 2, 1], "RAS", [1.0; 3]), vec![0; 4]).unwrap();
    assert!(merge(&all, &other, mask([0; 4])).is_err());
}
