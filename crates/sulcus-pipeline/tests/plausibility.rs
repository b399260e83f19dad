//! Scans on which a model is unreliable get a warning, and others do not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use sulcus_model::{
    AxisRange, ChannelRange, ChannelSpec, CoarseAxis, ModelSpec, Normalisation, SpacingRule, TrainingScans,
};
use sulcus_pipeline::{PipelineError, ScanChecks, ScanWarning, check_scan};
use sulcus_testing::test_spec;
use sulcus_volume::{
    Geometry, GridUnit, Image, Interpolation, Orientation, OrientationSource, RasFromVoxel, Reorientation, Spacing,
};

const CT: Normalisation = Normalisation::Ct { clip: [-800.0, 300.0], mean: -100.0, sd: 200.0 };

fn range(min: [f64; 3], max: [f64; 3]) -> AxisRange {
    AxisRange { min, median: min, max }
}

/// Scans of 20–30 × 30–40 × 10–20 mm with voxels of 1 × 1 × 2 mm.
fn model(normalisation: Normalisation, low: [f64; 2], high: [f64; 2]) -> ModelSpec {
    let mut spec = test_spec(3).normalisation(normalisation).build();
    spec.training_scans = Some(TrainingScans {
        cases: 10,
        spacing_mm: range([1.0, 1.0, 2.0], [1.0, 1.0, 2.0]),
        extent_mm: range([20.0, 30.0, 10.0], [30.0, 40.0, 20.0]),
        channels: vec![ChannelRange { percentile_00_5: low, percentile_99_5: high, max_mode_fraction: 0.2 }],
    });
    spec.format_version = spec.min_format_version();
    spec.check().unwrap();
    spec
}

fn mr() -> ModelSpec {
    model(Normalisation::ZScore, [0.0, 5.0], [100.0, 100_000.0])
}

fn ct() -> ModelSpec {
    model(CT, [-1000.0, -700.0], [150.0, 600.0])
}

fn image(shape: [usize; 3], mm: [f64; 3], channels: usize, value: impl Fn(usize) -> f32) -> Image {
    let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new(mm).unwrap());
    let geometry = Geometry::new(shape, map, OrientationSource::Sform).unwrap();
    let values = (0..channels * geometry.voxels()).map(value).collect();
    Image::new(geometry, channels, values).unwrap()
}

/// A scan like those of the training, with these values.
fn usual(value: impl Fn(usize) -> f32) -> Image {
    image([25, 35, 8], [1.0, 1.0, 2.0], 1, value)
}

/// A ramp of 1000 values.
fn ramp(from: f32, to: f32) -> impl Fn(usize) -> f32 {
    move |i| from + (to - from) * (i % 1000) as f32 / 999.0
}

fn warnings(spec: &ModelSpec, scan: &Image) -> Vec<ScanWarning> {
    let mut checks = ScanChecks::default();
    checks.allow_constant = true;
    check_scan(&[spec], scan, checks).unwrap()
}

fn messages(spec: &ModelSpec, scan: &Image) -> String {
    warnings(spec, scan).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn kinds(spec: &ModelSpec, scan: &Image) -> Vec<&'static str> {
    warnings(spec, scan).iter().map(ScanWarning::kind).collect()
}

#[test]
fn scan_like_the_training_scans_gives_no_warning() {
    for scale in [1.0, 1e-3, 1e6] {
        assert_eq!(warnings(&mr(), &usual(ramp(0.0, 100.0 * scale))), []);
    }
    assert_eq!(warnings(&ct(), &usual(ramp(-950.0, 400.0))), []);
    // Without a description of the training scans nothing but the scan itself is judged.
    let mut unknown = mr();
    unknown.training_scans = None;
    assert_eq!(warnings(&unknown, &image([300, 300, 3], [9.0; 3], 1, ramp(-1000.0, 400.0))), []);
}

#[test]
fn description_of_the_training_scans_needs_its_format_version_and_is_absent_otherwise() {
    let mut described = mr();
    assert_eq!(described.format_version, 5);
    let read = ModelSpec::from_json(&described.to_json().unwrap()).unwrap();
    assert_eq!(read, described);
    described.format_version = 4;
    insta::assert_snapshot!(described.check().unwrap_err(), @"this model cannot be used: it uses features of format version 5, but states format version 4");
    described.training_scans = None;
    assert_eq!(described.min_format_version(), 1);
    assert!(!described.to_json().unwrap().contains("training_scans"));
}

#[test]
fn constant_scan_is_refused_unless_it_is_allowed() {
    for value in [0.0, 7.0, -1e30] {
        let blank = usual(|_| value);
        let error = check_scan(&[&mr()], &blank, ScanChecks::default()).unwrap_err();
        let PipelineError::Implausible { reasons } = &error else { panic!("{error}") };
        assert_eq!(reasons[..], [ScanWarning::ConstantChannel { channel: "MRI".into(), min: value, max: value }]);
        assert_eq!(kinds(&mr(), &blank), ["constant_channel"]);
    }
    let error = check_scan(&[&mr()], &usual(|_| 7.0), ScanChecks::default()).unwrap_err();
    insta::assert_snapshot!(error, @"the scan is not plausible: channel `MRI` is 7 in every voxel, so it shows nothing");
}

#[test]
fn values_that_normalisation_makes_equal_are_constant() {
    // The spacing of single precision at 1e6 is 0.0625.
    assert_eq!(kinds(&mr(), &usual(|i| 1e6 + 0.0625 * (i % 2) as f32)), ["constant_channel"]);
    assert_eq!(kinds(&mr(), &usual(ramp(1e6, 1e6 + 10.0))), [] as [&str; 0]);
    // An image from 0 to 1 has no voxel in the window of this model, an image of air neither.
    let bright = model(Normalisation::Ct { clip: [2.0, 300.0], mean: 50.0, sd: 10.0 }, [0.0, 2.0], [150.0, 600.0]);
    insta::assert_snapshot!(messages(&bright, &usual(ramp(0.0, 1.0))), @"channel `MRI` has values from 0 to 1, which the model cannot tell apart, so it shows nothing");
    assert_eq!(kinds(&ct(), &usual(ramp(-1024.0, -900.0))), ["constant_channel"]);
}

#[test]
fn scan_with_few_varied_voxels_gives_a_warning() {
    // At most 20 % of the voxels of a training scan are equal.
    let masked = |percent: usize| usual(move |i| if i % 100 < percent { 0.0 } else { 1.0 + (i % 977) as f32 });
    assert_eq!(warnings(&mr(), &masked(60)), []);
    insta::assert_snapshot!(messages(&mr(), &masked(85)), @"85.0 % of the voxels of channel `MRI` have the same value, at most 20.0 % in the training scans: the scan may be empty or masked");
    let mut unknown = mr();
    unknown.training_scans = None;
    assert_eq!(warnings(&unknown, &masked(98)), []);
    let single = usual(|i| f32::from(u8::from(i == 3000)));
    insta::assert_snapshot!(messages(&unknown, &single), @"100.0 % of the voxels of channel `MRI` have the same value: the scan may be empty or masked");
}

#[test]
fn voxel_size_and_field_of_view_outside_the_training_scans_give_warnings() {
    let head = image([180, 220, 90], [1.0, 1.0, 2.0], 1, ramp(0.0, 100.0));
    insta::assert_snapshot!(messages(&mr(), &head), @"the scan covers 180 × 220 × 180 mm along right, anterior, superior, the training scans 20–30 × 30–40 × 10–20 mm: the scan may show another part of the body, or more of it");
    let coarse = image([25, 35, 3], [1.0, 1.0, 5.0], 1, ramp(0.0, 100.0));
    insta::assert_snapshot!(messages(&mr(), &coarse), @"the voxels measure 1.00 × 1.00 × 5.00 mm along right, anterior, superior, in the training scans 1.00 × 1.00 × 2.00 mm: the voxel size may be wrong, or the scan is of another kind");
    // In metres.
    assert_eq!(
        kinds(&mr(), &image([25, 35, 8], [0.001, 0.001, 0.002], 1, ramp(0.0, 100.0))),
        ["voxel_size", "field_of_view"]
    );
    let smaller = image([14, 24, 4], [1.1, 0.9, 2.0], 1, ramp(0.0, 100.0));
    assert_eq!(warnings(&mr(), &smaller), []);
    // A model that resamples takes coarser voxels.
    let mut resampling = mr();
    let mm = Spacing::new([1.0, 1.0, 2.0]).unwrap();
    resampling.spacing = SpacingRule::Resample {
        mm,
        interpolation: Interpolation::Cubic,
        coarse_axis: Default::default(),
        tolerance: 1.0,
    };
    assert_eq!(warnings(&resampling, &image([25, 35, 4], [1.0, 1.0, 4.0], 1, ramp(0.0, 100.0))), []);
    assert_eq!(kinds(&resampling, &coarse), ["voxel_size"]);
}

#[test]
fn geometry_is_compared_along_the_axes_of_the_patient() {
    let shape = [25, 35, 8];
    for orientation in Orientation::all() {
        let turn = Reorientation::between(Orientation::RAS, orientation);
        let map = RasFromVoxel::aligned(orientation, Spacing::new(turn.permute([1.0, 1.0, 2.0])).unwrap());
        let geometry = Geometry::new(turn.shape(shape), map, OrientationSource::Sform).unwrap();
        let values = (0..geometry.voxels()).map(ramp(0.0, 100.0)).collect();
        assert_eq!(warnings(&mr(), &Image::new(geometry, 1, values).unwrap()), [], "{orientation}");
    }
}

#[test]
fn intensities_in_other_units_give_a_warning_where_units_are_absolute() {
    // Without the intercept of -1024.
    insta::assert_snapshot!(messages(&ct(), &usual(ramp(74.0, 1424.0))), @"the intensities of channel `MRI` are from 81 to 1417 (0.5th and 99.5th percentile), in the training scans from -1000…-700 to 150…600: they may be in other units, or the scan is of another modality");
    assert_eq!(kinds(&ct(), &usual(ramp(0.0, 4000.0))), ["intensities"]);
    assert_eq!(kinds(&ct(), &usual(ramp(-1000.0, -200.0))), ["intensities"]);
    // The model clips to -800…300, so padding and metal beyond that change nothing.
    assert_eq!(warnings(&ct(), &usual(|i| if i % 10 == 0 { -3024.0 } else { ramp(-1000.0, 3000.0)(i) })), []);
}

#[test]
fn negative_values_give_a_warning_where_the_training_scans_had_none() {
    insta::assert_snapshot!(messages(&mr(), &usual(ramp(-1000.0, 400.0))), @"channel `MRI` has values below zero (0.5th percentile -993, in the training scans at least 0): the scan may be of another modality, such as CT");
    // Cubic resampling makes small negative values.
    assert_eq!(warnings(&mr(), &usual(ramp(-5.0, 100.0))), []);
    let standardised = model(Normalisation::ZScore, [-2.0, -1.0], [2.0, 4.0]);
    assert_eq!(warnings(&standardised, &usual(ramp(-1000.0, 400.0))), []);
}

fn three_channels() -> ModelSpec {
    let channel = |name: &str| ChannelSpec { name: name.into(), normalisation: Normalisation::ZScore };
    let mut spec = test_spec(3).build();
    spec.channels = ["T1", "T2", "FLAIR"].map(channel).into();
    spec
}

#[test]
fn the_same_image_in_two_channels_gives_a_warning() {
    let (spec, shape) = (three_channels(), [25, 35, 8]);
    let voxels: usize = shape.iter().product();
    let scan = |second: f32, third: f32| {
        image(shape, [1.0; 3], 3, move |i| [1.0, second, third][i / voxels] * ramp(0.0, 100.0)(i % voxels))
    };
    assert_eq!(warnings(&spec, &scan(2.0, 3.0)), []);
    insta::assert_snapshot!(messages(&spec, &scan(2.0, 1.0)), @"channels `T1` and `FLAIR` are equal in every voxel: the same image may have been given twice");
    // Two empty channels are equal too. Only the more specific warning is given: that they are empty.
    let empty = scan(0.0, 0.0);
    assert_eq!(kinds(&spec, &empty), ["constant_channel", "constant_channel"]);
    let error = check_scan(&[&spec], &empty, ScanChecks::default()).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"the scan is not plausible: channel `T2` is 0 in every voxel, so it shows nothing; channel `FLAIR` is 0 in every voxel, so it shows nothing");
}

#[test]
fn strict_checks_refuse_a_scan_with_all_reasons() {
    let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0, 1.0, 2.0]).unwrap());
    let lost = Geometry::new([180, 35, 8], map, OrientationSource::None).unwrap();
    let scan = Image::new(lost, 1, (0..lost.voxels()).map(ramp(0.0, 100.0)).collect()).unwrap();
    assert_eq!(kinds(&mr(), &scan), ["unknown_orientation", "field_of_view"]);
    let mut strict = ScanChecks::default();
    strict.strict = true;
    let error = check_scan(&[&mr()], &scan, strict).unwrap_err();
    let PipelineError::Implausible { reasons } = error else { panic!("{error}") };
    assert_eq!(reasons, warnings(&mr(), &scan));
    assert_eq!(check_scan(&[&mr()], &usual(ramp(0.0, 100.0)), strict).unwrap(), []);
}

#[test]
fn models_of_an_ensemble_are_all_asked_and_repeat_nothing() {
    let head = image([180, 220, 90], [1.0, 1.0, 2.0], 1, ramp(0.0, 100.0));
    let mut unknown = mr();
    unknown.training_scans = None;
    let found = |models: &[&ModelSpec]| check_scan(models, &head, ScanChecks::default()).unwrap();
    assert_eq!(found(&[&unknown]), []);
    assert_eq!(found(&[&unknown, &mr()]).len(), 1);
    assert_eq!(found(&[&mr(), &mr(), &unknown]).len(), 1);
}

#[test]
fn scans_that_do_not_fit_the_model_at_all_are_errors_of_their_own() {
    let two = image([4, 4, 4], [1.0; 3], 2, |_| 0.0);
    let error = check_scan(&[&mr()], &two, ScanChecks::default()).unwrap_err();
    assert!(matches!(error, PipelineError::Channels { .. }), "{error}");
    let error = check_scan(&[&mr()], &usual(|_| f32::NAN), ScanChecks::default()).unwrap_err();
    assert!(matches!(error, PipelineError::NonFinite { .. }), "{error}");
}

#[test]
fn json_has_the_kind_the_data_and_the_message() {
    let name = || "MRI".to_owned();
    let all = [
        ScanWarning::UnknownOrientation,
        ScanWarning::ConstantChannel { channel: name(), min: 7.0, max: 7.0 },
        ScanWarning::NearlyConstantChannel { channel: name(), fraction: 0.9, training_max: None },
        ScanWarning::IdenticalChannels { channel: name(), other: name() },
        ScanWarning::VoxelSize { found_mm: [1.0; 3], training_min_mm: [2.0; 3], training_max_mm: [3.0; 3] },
        ScanWarning::FieldOfView { found_mm: [1.0; 3], training_min_mm: [2.0; 3], training_max_mm: [3.0; 3] },
        ScanWarning::Intensities {
            channel: name(),
            found: [0.0, 1.0],
            training_low: [2.0, 3.0],
            training_high: [4.0, 5.0],
        },
        ScanWarning::NegativeIntensities { channel: name(), found: -5.0, training_min: 0.0 },
    ];
    for warning in &all {
        let json = serde_json::to_value(warning).unwrap();
        assert_eq!((&json["kind"], &json["message"]), (&warning.kind().into(), &warning.to_string().into()));
    }
    insta::assert_snapshot!(serde_json::to_string(&all[5]).unwrap(), @r#"{"kind":"field_of_view","found_mm":[1.0,1.0,1.0],"training_min_mm":[2.0,2.0,2.0],"training_max_mm":[3.0,3.0,3.0],"message":"the scan covers 1 × 1 × 1 mm along right, anterior, superior, the training scans 2–3 × 2–3 × 2–3 mm: the scan may show another part of the body, or more of it"}"#);
}

/// A picture of 25 × 35 pixels like those of the training, unless another size is given.
fn picture(size: [usize; 2], unit: GridUnit) -> Image {
    let spacing = Spacing::new([1.0; 3]).unwrap();
    let geometry = Geometry::of_picture([size[0], size[1], 1], spacing, unit).unwrap();
    let value = ramp(0.0, 100.0);
    Image::new(geometry, 1, (0..geometry.voxels()).map(value).collect()).unwrap()
}

#[test]
fn picture_of_unknown_pixel_size_is_a_warning_of_models_that_resample() {
    let mut spec = mr();
    let mm = Spacing::new([0.5; 3]).unwrap();
    let (interpolation, coarse_axis) = (Interpolation::Cubic, CoarseAxis::AsOthers);
    spec.spacing = SpacingRule::Resample { mm, interpolation, coarse_axis, tolerance: 1.0 };
    assert_eq!(kinds(&spec, &picture([25, 35], GridUnit::Pixel)), ["unknown_pixel_size"]);
    assert_eq!(
        messages(&spec, &picture([25, 35], GridUnit::Pixel)),
        "the picture does not state the size of its pixels, which are taken for 1 mm; the model was trained on voxels of \
         1.00 × 1.00 × 2.00 mm"
    );
}

#[test]
fn picture_is_compared_in_pixels_with_a_model_of_pixels() {
    let mut spec = mr();
    spec.spacing = SpacingRule::Native;
    // Neither the orientation nor the size of the pixels is missed.
    for unit in [GridUnit::Pixel, GridUnit::MillimetreInPlane] {
        assert_eq!(kinds(&spec, &picture([25, 35], unit)), [""; 0]);
    }
    assert_eq!(
        messages(&spec, &picture([70, 35], GridUnit::Pixel)),
        "the picture has 70 × 35 pixels, the training pictures 20 × 30 to 30 × 40: what it shows may be larger or smaller than the \
         model expects; scale it to a similar size"
    );
}
