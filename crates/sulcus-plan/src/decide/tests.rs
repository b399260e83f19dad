//! Plans for synthetic facts, and for the hippocampus data set in comparison with nnU-Net's own plan.

use std::collections::BTreeMap;

use sulcus_dataset::{CaseMeasures, ForegroundSample};
use sulcus_model::{
    CoarseAxis, CropRule, Dimensions, Encoder, Normalisation, OutputActivation, Region, SpacingRule, Tiling,
};
use sulcus_volume::{Geometry, Interpolation, LabelTable, Orientation, OrientationSource, RasFromVoxel, Spacing};

use super::*;
use crate::cost::multiply_adds;
use crate::device::DeviceChoice;
use crate::pace::{STEP_PASSES, StepShape};
use crate::preset::NetworkRule;

fn facts(shape: [usize; 3], mm: [f64; 3]) -> CaseFacts {
    facts_of(shape, RasFromVoxel::aligned(Orientation::RAS, Spacing::new(mm).unwrap()))
}

fn facts_of(shape: [usize; 3], map: RasFromVoxel) -> CaseFacts {
    let geometry = Geometry::new(shape, map, OrientationSource::Sform).unwrap();
    CaseFacts {
        name: "a".into(),
        shape,
        spacing: geometry.spacing(),
        unit: geometry.unit(),
        picture: geometry.is_picture(),
        rgb: false,
        orientation: geometry.orientation(),
        acquired: geometry.acquired_orientation(),
        obliquity_degrees: geometry.obliquity_degrees(),
        channels: 1,
        intensity: [0.0, 1.0],
        label_voxels: BTreeMap::new(),
        sha256: String::new(),
        measures: CaseMeasures { crop_ratio: 1.0, crop_shape: shape, ..CaseMeasures::default() },
    }
}

fn labels(structures: u16) -> LabelTable {
    LabelTable::from_names((1..=structures).map(|v| (v, format!("s{v}")))).unwrap()
}

fn preset(name: &str, device: DeviceChoice) -> TrainConfig {
    TrainConfig::from_preset(name).unwrap().with(|c| c.device = device.into())
}

fn kind(config: &TrainConfig) -> DeviceKind {
    DeviceKind::of(&config.device).unwrap_or(DeviceKind::Processor)
}

fn decide(facts: &[CaseFacts], structures: u16) -> Plan {
    let config = TrainConfig::from_preset("unet2d-lite").unwrap();
    Plan::decide(&config, kind(&config), &["MRI".into()], &labels(structures), facts).unwrap()
}

fn by_rule(config: &TrainConfig, facts: &[CaseFacts]) -> Plan {
    let plan = Plan::decide(config, kind(config), &["MRI".into()], &labels(2), facts).unwrap();
    plan.check().unwrap();
    plan
}

/// As many cases as the whole data set has, of its median shape.
fn hippocampus() -> Vec<CaseFacts> {
    vec![facts([35, 50, 36], [1.0; 3]); 260]
}

#[test]
fn slices_are_taken_across_the_coarsest_axis() {
    let coronal = decide(&[facts([200, 30, 200], [1.0, 5.0, 1.0])], 1);
    assert_eq!(coronal.orientation.to_string(), "RSA");
    assert_eq!((coronal.patch, coronal.tiling), (vec![208, 208], Tiling::Whole));
    assert_eq!((coronal.output, coronal.flips), (OutputActivation::Sigmoid, Flips::all(2)));
    assert_eq!(coronal.batch_size, 16);
}

#[test]
fn cubic_voxels_are_sliced_across_the_shortest_axis() {
    let sagittal = decide(&[facts([35, 50, 36], [1.0; 3]), facts([33, 48, 40], [1.0; 3])], 2);
    assert_eq!(sagittal.orientation.to_string(), "ASR");
    // H runs along superior, W along anterior.
    assert_eq!(sagittal.patch, [48, 64]);
    assert_eq!((sagittal.spacing, sagittal.output), (similar([1.0; 3]), OutputActivation::Softmax));
    assert_eq!((sagittal.flips, sagittal.dice_scope), (Flips::none(), DiceScope::Batch));
}

/// Scans with about this voxel size are not resampled, others are.
fn similar(mm: [f64; 3]) -> SpacingRule {
    SpacingRule::Resample {
        mm: Spacing::new(mm).unwrap(),
        interpolation: Interpolation::Cubic,
        coarse_axis: CoarseAxis::Nearest,
        tolerance: SIMILAR,
    }
}

#[test]
fn similar_spacings_are_kept_and_others_are_resampled_to_their_median() {
    let cases = [0.9, 1.0, 1.05].map(|mm| facts([100, 100, 80], [mm, 1.0, 1.0]));
    let plan = by_rule(&preset("nnunet-3d", DeviceChoice::Cpu), &cases);
    assert_eq!(plan.spacing, similar([1.0; 3]));
    let target = |mm: [f64; 3]| plan.spacing.target_for(Spacing::new(mm).unwrap()).map(Spacing::mm);
    for kept in [[0.9, 1.0, 1.0], [1.0; 3], [1.19, 0.84, 1.0]] {
        assert_eq!(target(kept), None);
    }
    for resampled in [[0.5; 3], [2.0; 3], [1.0, 1.0, 3.0], [1.0, 1.0, 0.8], [1.21, 1.0, 1.0]] {
        assert_eq!(target(resampled), Some([1.0; 3]));
    }
    let config = preset("nnunet-3d", DeviceChoice::Cpu).with(|c| c.spacing = SpacingChoice::Native);
    assert_eq!(by_rule(&config, &cases).spacing, SpacingRule::Native);
}

/// A stack of 8 mm slices whose normal is horizontal, turned by this angle from anterior towards right.
fn upright_stack(angle: f64) -> CaseFacts {
    let (s, c) = f64::to_radians(angle).sin_cos();
    let [x, y, z] = [[1.25 * c, -1.25 * s, 0.0], [0.0, 0.0, 1.25], [8.0 * s, 8.0 * c, 0.0]];
    let rows = std::array::from_fn(|ras| [x[ras], y[ras], z[ras], 0.0]);
    facts_of([256, 216, 12], RasFromVoxel::new(rows).unwrap())
}

#[test]
fn slices_between_two_patient_axes_keep_the_axes_of_their_acquisition() {
    let cases: Vec<_> = [38.0, 42.0, 44.0, 46.0, 48.0, 52.0].map(upright_stack).into();
    let codes: std::collections::BTreeSet<_> = cases.iter().map(|f| f.orientation.axes()[2].ras_axis()).collect();
    assert_eq!(codes.len(), 2, "the nearest patient axis differs");
    for name in ["auto", "nnunet-3d", "unet2d-lite"] {
        let plan = by_rule(&preset(name, DeviceChoice::Cpu), &cases);
        assert_eq!((plan.orientation, plan.spacing), (GridAxes::Acquired, similar([1.25, 1.25, 8.0])));
        assert!(plan.why[0].contains("6 of 6"), "{:?}", plan.why);
        // Slices lie along H and W.
        let [.., height, width] = plan.patch[..] else { panic!("{:?}", plan.patch) };
        assert!(height >= 128 && width >= 128, "{:?}", plan.patch);
    }
    let straight: Vec<_> = [0.0, 10.0, -20.0].map(upright_stack).into();
    let plan = by_rule(&preset("nnunet-3d", DeviceChoice::Cpu), &straight);
    assert_eq!(plan.orientation.to_string(), "RSA");
}

#[test]
fn slices_along_different_patient_axes_keep_the_axes_of_their_acquisition() {
    let coronal = [200, 30, 200];
    let mut cases = vec![facts([200, 200, 30], [1.0, 1.0, 5.0]); 38];
    cases.push(facts(coronal, [1.0, 5.0, 1.0]));
    let config = preset("nnunet-3d", DeviceChoice::Cpu);
    assert_eq!(by_rule(&config, &cases).orientation, Orientation::RAS.into(), "one exception");
    cases.push(facts(coronal, [1.0, 5.0, 1.0]));
    cases.push(facts(coronal, [1.0, 5.0, 1.0]));
    let plan = by_rule(&config, &cases);
    assert_eq!((plan.orientation, plan.spacing), (GridAxes::Acquired, similar([1.0, 1.0, 5.0])));
    assert!(plan.why[0].contains("sagittal in 0, coronal in 3 and axial in 38"), "{:?}", plan.why);
    let chosen = config.with(|c| c.orientation = Some(Orientation::RAS.into()));
    assert_eq!(by_rule(&chosen, &cases).orientation, Orientation::RAS.into());
}

#[test]
fn different_spacings_are_resampled_to_the_median() {
    let cases = [[1.0, 1.0, 3.0], [0.5, 1.0, 3.0], [1.0, 1.0, 4.0]].map(|mm| facts([256, 128, 40], mm));
    let plan = decide(&cases, 1);
    assert_eq!(plan.orientation, Orientation::RAS.into());
    let mm = Spacing::new([1.0, 1.0, 3.0]).unwrap();
    assert_eq!(
        plan.spacing,
        SpacingRule::Resample {
            mm,
            interpolation: Interpolation::Cubic,
            coarse_axis: CoarseAxis::Nearest,
            tolerance: 1.0
        }
    );
    assert!(plan.why.iter().any(|w| w.contains("factor of 2.00")), "{:?}", plan.why);
}

#[test]
fn thick_slices_are_resampled_to_the_10th_percentile() {
    // Median 5 mm; of eleven thicknesses 2, 2, 5 … the 10th percentile is the second.
    let thickness = |i: usize| if i < 2 { 2.0 } else { 5.0 };
    let cases: Vec<_> = (0..11).map(|i| facts([256, 256, 30], [1.0, 1.0, thickness(i)])).collect();
    let plan = by_rule(&preset("nnunet-3d", DeviceChoice::Cpu), &cases);
    let SpacingRule::Resample { mm, .. } = plan.spacing else { panic!("{:?}", plan.spacing) };
    assert_eq!(mm.mm(), [1.0, 1.0, 2.0]);
    assert!(plan.why.iter().any(|w| w.contains("10th percentile")), "{:?}", plan.why);
}

#[test]
fn large_slices_are_cut_into_patches() {
    let plan = decide(&[facts([512, 400, 60], [0.5, 0.5, 3.0])], 1);
    assert_eq!((plan.patch, plan.tiling), (vec![320, 320], Tiling::Patch));
}

/// Reference: nnU-Net's published plan: patch 40 × 56 × 40, batch 9, 32 to 256 maps; 2-D 56 × 40, batch 366.
#[test]
fn hippocampus_gets_nnunets_plan() {
    let plan = by_rule(&preset("nnunet-3d", DeviceChoice::Cuda(0)), &hippocampus());
    assert_eq!((plan.orientation, plan.spacing), (Orientation::RAS.into(), similar([1.0; 3])));
    assert_eq!((plan.patch.as_slice(), plan.batch_size), ([40, 56, 40].as_slice(), 9));
    let maps: Vec<usize> = plan.network.stages.iter().map(|s| s.channels).collect();
    assert_eq!(maps, [32, 64, 128, 256]);
    assert!(plan.network.deep_supervision && plan.network.stages.iter().all(|s| s.convolutions == 2));
    assert_eq!((plan.dice_scope, plan.tiling), (DiceScope::Case, Tiling::Patch));
    let config =
        preset("nnunet-2d", DeviceChoice::Cuda(0)).with(|c| c.orientation = Some(Orientation::RAS.into()));
    let slices = by_rule(&config, &hippocampus());
    assert_eq!(slices.patch, [56, 40]);
    assert!((365..=366).contains(&slices.batch_size), "{}", slices.batch_size);
}

#[test]
fn processor_gets_half_the_width_and_a_batch_of_two() {
    let plan = by_rule(&preset("auto", DeviceChoice::Cpu), &hippocampus());
    assert_eq!(plan.network.stages.iter().map(|s| s.channels).collect::<Vec<_>>(), [16, 32, 64, 128]);
    assert_eq!((plan.patch.as_slice(), plan.batch_size), ([40, 56, 40].as_slice(), 2));
    let large = by_rule(&preset("auto", DeviceChoice::Cpu), &vec![facts([400; 3], [1.0; 3]); 20]);
    assert!(large.patch.iter().product::<usize>() <= 96 * 96 * 96, "{:?}", large.patch);
    let gpu = by_rule(&preset("auto", DeviceChoice::Cuda(0)), &hippocampus());
    assert_eq!(gpu.network.stages[0].channels, 32);
}

#[test]
fn patches_shrink_until_they_fit_the_memory() {
    let scans = vec![facts([400, 400, 300], [1.0; 3]); 50];
    let mut last = usize::MAX;
    for gigabytes in [64, 16, 8, 2] {
        let bytes = gigabytes * 1_000_000_000;
        let config = preset("nnunet-3d", DeviceChoice::Cuda(0)).with(|c| c.memory_bytes = Some(bytes));
        let plan = by_rule(&config, &scans);
        let voxels = plan.patch.iter().product();
        assert!(voxels < last && plan.batch_size >= 2, "{gigabytes} GB: {:?}", plan.patch);
        assert!(plan.memory_bytes(&config, DeviceKind::Gpu) <= bytes, "{gigabytes} GB: {:?}", plan.patch);
        last = voxels;
    }
    let config = preset("nnunet-3d", DeviceChoice::Cpu).with(|c| c.memory_bytes = Some(1_000_000));
    let refused =
        Plan::decide(&config, kind(&config), &["MRI".into()], &labels(1), &scans).unwrap_err().to_string();
    assert!(refused.contains("not even the smallest patch fits 1 MB"), "{refused}");
}

#[test]
fn scans_of_one_slice_get_no_3d_network() {
    let photographs = vec![facts([300, 280, 1], [1.0; 3]); 9];
    for name in ["nnunet-3d", "resenc-3d", "unet3d-lite"] {
        let config = preset(name, DeviceChoice::Cpu);
        let channels = ["MRI".to_owned()];
        let refused = Plan::decide(&config, kind(&config), &channels, &labels(1), &photographs).unwrap_err();
        assert!(matches!(refused, PlanError::FlatScans), "{name}: {refused}");
    }
    assert_eq!(by_rule(&preset("auto", DeviceChoice::Cpu), &photographs).network.dimensions, Dimensions::Two);
}

#[test]
fn few_or_distant_slices_give_a_2d_network() {
    let dimensions = |shape, mm| {
        let plan = by_rule(&preset("auto", DeviceChoice::Cpu), &vec![facts(shape, mm); 20]);
        assert!(plan.why[0].starts_with(if plan.patch.len() == 2 { "a 2-D" } else { "a 3-D" }), "{:?}", plan.why);
        plan.network.dimensions
    };
    assert_eq!(dimensions([256, 256, 5], [1.0, 1.0, 8.0]), Dimensions::Two);
    assert_eq!(dimensions([256, 256, 20], [0.4, 0.4, 8.0]), Dimensions::Two);
    assert_eq!(dimensions([256, 256, 20], [1.0, 1.0, 5.0]), Dimensions::Three);
    assert_eq!(dimensions([300, 1, 300], [1.0; 3]), Dimensions::Two);
}

/// The coarsest axis is D; it is neither pooled nor convolved until the others are as coarse.
#[test]
fn anisotropic_scans_are_reoriented_and_pooled_unevenly() {
    let config = preset("nnunet-3d", DeviceChoice::Cuda(0)).with(|c| c.memory_bytes = Some(24_000_000_000));
    let plan = by_rule(&config, &vec![facts([320, 20, 320], [0.6, 3.6, 0.6]); 32]);
    assert_eq!(plan.orientation.to_string(), "RSA");
    assert_eq!(plan.patch[0], 20);
    let first = &plan.network.stages[0];
    assert_eq!(
        (first.kernel.as_slice(), plan.network.stages[1].stride.as_slice()),
        ([1, 3, 3].as_slice(), [1, 2, 2].as_slice())
    );
    assert_eq!(plan.network.stages[2].kernel, [3, 3, 3]);
}

#[test]
fn ct_is_normalised_by_the_data_set_and_other_channels_by_their_scan() {
    let mut case = facts([64; 3], [1.0; 3]);
    let sample =
        ForegroundSample { values: (0..=1000).map(|v| v as f32 / 5.0).collect(), range: Some([0.0, 200.0]) };
    case.measures = CaseMeasures {
        crop_ratio: 0.5,
        crop_shape: [64, 64, 32],
        foreground: vec![sample.clone(), sample],
        ..CaseMeasures::default()
    };
    let config = preset("auto", DeviceChoice::Cpu);
    let plan =
        Plan::decide(&config, kind(&config), &["CT".into(), "PET".into()], &labels(1), &[case.clone()]).unwrap();
    let Normalisation::Ct { clip, mean, .. } = plan.normalisation[0] else { panic!("{:?}", plan.normalisation) };
    assert_eq!((clip, mean), ([1.0, 199.0], 100.0));
    assert_eq!((plan.normalisation[1], plan.crop), (Normalisation::ZScoreNonzero, CropRule::Nonzero));
    assert_eq!(plan.model_spec(String::new(), sulcus_model::Training::default()).channels[1].name, "PET");
    assert!(
        plan.why.iter().any(|w| w.contains("50 %") && w.contains("cropped to the bounding box")),
        "{:?}",
        plan.why
    );
    // A foreground of one value has no standard deviation.
    case.measures.foreground[0].values = vec![5.0; 9];
    let flat = Plan::decide(&config, kind(&config), &["CT".into(), "PET".into()], &labels(1), &[case]).unwrap();
    assert_eq!(flat.normalisation[0], Normalisation::ZScoreNonzero);
}

#[test]
fn configured_patch_shapes_the_network_or_is_refused() {
    let config = preset("auto", DeviceChoice::Cpu).with(|c| c.patch = Some(vec![32, 32]));
    let plan = by_rule(&config, &hippocampus());
    assert_eq!((plan.network.dimensions, plan.patch), (Dimensions::Two, vec![32, 32]));
    let refused = |patch: Vec<usize>| {
        let config = preset("unet3d-lite", DeviceChoice::Cpu).with(|c| c.patch = Some(patch));
        Plan::decide(&config, kind(&config), &["MRI".into()], &labels(1), &hippocampus()).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused(vec![40, 50, 40]), @"cannot train with this configuration: `patch` [40, 50, 40] must have edges that are multiples of [8, 8, 8]: [40, 56, 40] would do");
    insta::assert_snapshot!(refused(vec![32, 32]), @"cannot train with this configuration: `patch` must have 3 edges for a 3-D network, found [32, 32]");
}

#[test]
fn every_rule_gives_a_valid_plan() {
    for (name, structures) in [("resenc-3d", 1), ("unet3d-lite", 2), ("nnunet-2d", 3), ("auto", 1)] {
        for device in [DeviceChoice::Cpu, DeviceChoice::Vulkan(0)] {
            let scans = vec![facts([197, 233, 189], [1.0; 3]); 30];
            let config = preset(name, device);
            let plan = Plan::decide(&config, kind(&config), &["T1".into()], &labels(structures), &scans).unwrap();
            plan.check_data(&["T1".into()], &labels(structures), &[]).unwrap();
            let residual = plan.network.encoder == Encoder::Residual;
            assert_eq!(residual, name == NetworkRule::ResEnc3d.name());
            assert!(plan.why.iter().all(|w| w.len() > 20), "{:?}", plan.why);
        }
    }
}

#[test]
fn plan_states_the_memory_of_each_device() {
    let scans = vec![facts([200, 200, 150], [1.0; 3]); 50];
    let says = |devices: &str| {
        let device = devices.parse().unwrap();
        let config = preset("nnunet-3d", DeviceChoice::Cuda(0)).with(|c| c.device = device);
        let plan = by_rule(&config, &scans);
        let halved = Plan { batch_size: plan.batch_size.div_ceil(2), ..plan.clone() };
        let bytes = [&plan, &halved].map(|plan| plan.memory_bytes(&config, DeviceKind::Gpu) as f64 / 1e9);
        (plan.why.join("; "), bytes)
    };
    let (why, [whole, half]) = says("cuda:0,1");
    assert!(why.contains(&format!("a step needs about {whole:.1} GB")), "{why}");
    assert!(why.contains(&format!("with 2 devices about {half:.1} GB on each")), "{why}");
    assert!(half < whole);
    assert!(!says("cuda:0").0.contains("on each"));
}

#[test]
fn memory_limits_the_batch_of_a_fixed_network() {
    let scans = [facts([300, 300, 60], [1.0, 1.0, 2.0])];
    let decide = |memory_bytes, batch_size| {
        let config = preset("unet2d-classic", DeviceChoice::Cpu).with(|c| {
            c.memory_bytes = memory_bytes;
            c.batch_size = batch_size;
        });
        let plan = Plan::decide(&config, kind(&config), &["MRI".into()], &labels(1), &scans)?;
        let bytes = plan.memory_bytes(&config, DeviceKind::Processor);
        Ok::<_, PlanError>((plan.batch_size, bytes, plan.why.join("; ")))
    };
    let (free, wanted, _) = decide(None, None).unwrap();
    assert_eq!(free, 16);
    assert_eq!(decide(Some(wanted), None).unwrap().0, free);
    let (fewer, bytes, why) = decide(Some(wanted / 2), None).unwrap();
    assert!((1..free).contains(&fewer) && bytes <= wanted / 2, "{fewer}");
    assert!(why.contains(&format!("batches of {fewer} instead of 16")), "{why}");
    let refused = |memory, batch| decide(Some(memory), batch).unwrap_err().to_string();
    assert!(refused(1_000_000, None).contains("a step of 1 patch(es) of 304 × 304 takes about"));
    // A configured batch size is not changed.
    assert!(refused(wanted / 2, Some(16)).contains("a step of 16 patch(es)"));
}

#[test]
fn regions_have_one_channel_each_unless_another_output_is_configured() {
    let region =
        |name: &str, values: &[u16], writes| Region { name: name.into(), values: values.to_vec(), writes };
    let regions = [region("whole", &[1, 2], 1), region("back", &[2], 2)];
    let table = Region::label_table(&regions).unwrap();
    let scans = hippocampus();
    let fingerprint = Fingerprint::new(&["MRI".into()], &table, &regions, &scans);
    let decide = |output| {
        let config = preset("auto", DeviceChoice::Cpu).with(|c| c.output = output);
        decide_plan(&config, DeviceKind::Processor, &table, &regions, &scans, (&fingerprint, &mut ()))
    };
    let plan = decide(None).unwrap();
    plan.check().unwrap();
    assert_eq!((plan.output, plan.classes(), plan.flips), (OutputActivation::Regions, 2, Flips::none()));
    assert!(plan.why.iter().any(|why| why.contains("whole as 1, back as 2")), "{:?}", plan.why);
    let structures: Vec<String> = plan.structures().iter().map(sulcus_model::Structure::key).collect();
    assert_eq!(structures, ["(1, 2)", "2"]);
    plan.check_data(&["MRI".into()], &table, &regions).unwrap();
    let other = [regions[0].clone(), region("rear", &[2], 2)];
    assert!(plan.check_data(&["MRI".into()], &table, &other).unwrap_err().to_string().contains("`regions` are"));
    let json = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    let plain = decide(Some(OutputActivation::Softmax)).unwrap();
    plain.check().unwrap();
    assert_eq!((plain.classes(), plain.regions.len()), (3, 0));
    let config = preset("auto", DeviceChoice::Cpu).with(|c| c.output = Some(OutputActivation::Regions));
    let refused =
        Plan::decide(&config, kind(&config), &["MRI".into()], &labels(2), &scans).unwrap_err().to_string();
    assert!(refused.contains("the data set has no regions"), "{refused}");
}

/// A colour photograph of the eye: its pixels have no physical size.
fn photograph(width: usize) -> CaseFacts {
    let grid = Geometry::of_picture([width, 960, 1], Spacing::new([1.0; 3]).unwrap(), GridUnit::Pixel).unwrap();
    CaseFacts {
        channels: 3,
        rgb: true,
        spacing: grid.spacing(),
        unit: grid.unit(),
        picture: true,
        orientation: grid.orientation(),
        acquired: grid.acquired_orientation(),
        ..facts(grid.shape(), [1.0; 3])
    }
}

#[test]
fn colour_pictures_are_divided_by_255_and_not_resampled() {
    let config = preset("auto", DeviceChoice::Cpu);
    let names = ["R".into(), "G".into(), "B".into()];
    let decide = |cases: &[CaseFacts]| Plan::decide(&config, kind(&config), &names, &labels(1), cases).unwrap();
    let plan = decide(&[photograph(999), photograph(1200)]);
    assert_eq!(plan.normalisation, [Normalisation::RgbTo01; 3]);
    assert_eq!((plan.spacing, plan.orientation.to_string()), (SpacingRule::Native, "LPS".into()));
    assert_eq!(plan.network.dimensions, Dimensions::Two);
    // One picture that states the size of its pixels beside one that does not.
    let mut stated = photograph(999);
    (stated.unit, stated.spacing) = (GridUnit::MillimetreInPlane, Spacing::new([0.01, 0.01, 1.0]).unwrap());
    let mixed = decide(&[photograph(999), stated.clone()]);
    assert_eq!(
        (mixed.spacing, &mixed.patch),
        (SpacingRule::Native, &decide(&[photograph(999), photograph(999)]).patch)
    );
    assert!(matches!(decide(&[stated]).spacing, SpacingRule::Resample { .. }));
    // Values of 16 bits are not in 0 to 255.
    let deep = CaseFacts { rgb: false, ..photograph(999) };
    assert_eq!(decide(&[deep, photograph(999)]).normalisation, [Normalisation::ZScore; 3]);
}

/// A machine that makes this many multiply-adds per second.
struct Machine(f64);

impl StepTimer for Machine {
    fn seconds_per_step(&mut self, step: &StepShape<'_>) -> Option<f64> {
        let pass = multiply_adds(step.network, step.patch, step.channels, step.classes);
        Some(STEP_PASSES * step.batch_size as f64 * pass / self.0)
    }
}

fn timed(config: &TrainConfig, facts: &[CaseFacts], machine: &mut dyn StepTimer) -> Plan {
    let names = ["MRI".to_owned()];
    let fingerprint = Fingerprint::new(&names, &labels(1), &[], facts);
    let plan = decide_plan(config, kind(config), &labels(1), &[], facts, (&fingerprint, machine)).unwrap();
    plan.check().unwrap();
    plan
}

fn budget(name: &str, minutes: f64) -> TrainConfig {
    preset(name, DeviceChoice::Cpu).with(|c| c.time_budget_secs = Some(60.0 * minutes))
}

/// Twenty photographs.
fn retina() -> Vec<CaseFacts> {
    vec![facts([999, 960, 1], [1.0; 3]); 20]
}

#[test]
fn time_budget_shortens_patch_and_batch_until_there_are_enough_steps() {
    let untimed = timed(&preset("auto", DeviceChoice::Cpu), &retina(), &mut Machine(1e9));
    assert_eq!((untimed.patch.as_slice(), untimed.pace), ([320, 320].as_slice(), None));
    let unmeasured = timed(&budget("auto", 8.0), &retina(), &mut ());
    assert_eq!((unmeasured.patch, unmeasured.pace), (untimed.patch.clone(), None));
    let mut voxels = usize::MAX;
    for minutes in [1000.0, 30.0, 8.0, 2.0] {
        let plan = timed(&budget("auto", minutes), &retina(), &mut Machine(20e9));
        let pace = plan.pace.unwrap();
        let of_step = plan.batch_size * plan.patch.iter().product::<usize>();
        assert!(of_step <= voxels && plan.patch.iter().all(|edge| *edge >= 64), "{plan:?}");
        assert!(pace.steps >= 1000 || plan.patch == [96, 96], "{plan:?}");
        assert!(plan.why.iter().any(|why| why.contains("steps") && why.contains("time budget")), "{:?}", plan.why);
        voxels = of_step;
    }
    let fast = timed(&budget("auto", 30.0), &retina(), &mut Machine(1e15));
    assert_eq!((fast.patch, fast.batch_size), (untimed.patch, untimed.batch_size));
}

#[test]
fn similar_measurements_give_the_same_plan() {
    let plan = |speed| timed(&budget("auto", 8.0), &retina(), &mut Machine(speed));
    assert_eq!(plan(16e9), plan(16.9e9));
    assert_ne!(plan(16e9).pace, plan(33e9).pace);
}

#[test]
fn chosen_patch_and_presets_of_nnunet_are_kept_within_a_time_budget() {
    let mut slow = Machine(1e6);
    let chosen = timed(&budget("auto", 1.0).with(|c| c.patch = Some(vec![256, 192])), &retina(), &mut slow);
    assert_eq!((chosen.patch.as_slice(), chosen.batch_size), ([256, 192].as_slice(), 2));
    let both = budget("auto", 1.0).with(|c| (c.patch, c.batch_size) = (Some(vec![256, 192]), Some(5)));
    assert_eq!(timed(&both, &retina(), &mut slow).pace, None);
    let nnunet = timed(&budget("nnunet-2d", 1.0), &retina(), &mut slow);
    let untimed = timed(&preset("nnunet-2d", DeviceChoice::Cpu), &retina(), &mut ());
    assert_eq!((nnunet.patch, nnunet.pace), (untimed.patch, None));
}

/// 15 minutes on two cores, which make about 80 G multiply-adds per second in these networks: nothing changes.
#[test]
fn time_budget_does_not_change_small_scans() {
    let plan = timed(&budget("auto", 15.0), &hippocampus(), &mut Machine(60e9));
    assert_eq!((plan.patch.as_slice(), plan.batch_size), ([40, 56, 40].as_slice(), 2));
    let pace = plan.pace.unwrap();
    assert!(pace.cases_per_epoch(250, 2) >= 16 && pace.tiles_per_scan == 1, "{pace:?}");
}

#[test]
fn scoring_takes_a_tenth_of_an_epoch_at_most() {
    let plan = timed(&budget("auto", 30.0), &retina(), &mut Machine(20e9));
    let pace = plan.pace.unwrap();
    let cases = pace.cases_per_epoch(250, plan.batch_size);
    let in_steps = (cases * pace.tiles_per_scan) as f64 / (STEP_PASSES * plan.batch_size as f64);
    assert!(cases == 1 || in_steps <= 25.0, "{cases} cases of {} tiles", pace.tiles_per_scan);
    assert_eq!(pace.cases_per_epoch(1, plan.batch_size), 1);
}
