//! Which grid a scan is brought to: voxel sizes within the tolerance, and axes as they were acquired.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::ops::ControlFlow;

use sulcus_model::{CoarseAxis, GridAxes, ModelSpec, SpacingRule};
use sulcus_pipeline::{
    Outputs, Predictor, PredictorError, Preprocessed, Tensor, WindowOptions, predict_logits, preprocess,
};
use sulcus_testing::test_spec;
use sulcus_volume::{
    Geometry, Image, Interpolation, LabelMap, Orientation, OrientationSource, RasFromVoxel, Reorientation, Spacing,
};

fn image(geometry: Geometry) -> Image {
    let values = (0..geometry.voxels()).map(|i| (i * i % 101) as f32).collect();
    Image::new(geometry, 1, values).unwrap()
}

fn aligned(shape: [usize; 3], mm: [f64; 3]) -> Image {
    let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new(mm).unwrap());
    image(Geometry::new(shape, map, OrientationSource::Sform).unwrap())
}

fn spec(axes: GridAxes, tolerance: f64) -> ModelSpec {
    let spacing = SpacingRule::Resample {
        mm: Spacing::new([1.0; 3]).unwrap(),
        interpolation: Interpolation::Linear,
        coarse_axis: CoarseAxis::Nearest,
        tolerance,
    };
    let mut spec = ModelSpec { spacing, orientation: axes, ..test_spec(3).build() };
    spec.format_version = spec.min_format_version();
    spec.check().unwrap();
    spec
}

fn preprocessed(spec: &ModelSpec, image: &Image) -> Preprocessed {
    preprocess(spec, image).unwrap().0
}

#[test]
fn voxel_sizes_within_the_tolerance_are_kept_and_others_resampled() {
    let ras = Orientation::RAS.into();
    let tolerant = spec(ras, 1.2);
    for kept in [[1.0; 3], [1.19, 1.0, 0.85]] {
        assert_eq!(preprocessed(&tolerant, &aligned([10, 12, 14], kept)).shape(), [10, 12, 14]);
    }
    for (mm, shape) in [([2.0; 3], [20, 24, 28]), ([0.5; 3], [5, 6, 7]), ([1.0, 1.0, 3.0], [10, 12, 42])] {
        let scan = aligned([10, 12, 14], mm);
        let found = preprocessed(&tolerant, &scan);
        assert_eq!(found.shape(), shape);
        assert_eq!(found, preprocessed(&spec(ras, 1.0), &scan));
    }
    let native = ModelSpec { spacing: SpacingRule::Native, ..tolerant.clone() };
    let scan = aligned([10, 12, 14], [1.1, 0.9, 1.0]);
    assert_eq!(preprocessed(&tolerant, &scan), preprocessed(&native, &scan));
    assert_ne!(preprocessed(&tolerant, &scan), preprocessed(&spec(ras, 1.0), &scan));
}

#[test]
fn specification_with_an_impossible_tolerance_is_refused() {
    for tolerance in [0.5, 2.5, f64::NAN, f64::INFINITY] {
        let mut bad = spec(Orientation::RAS.into(), 1.0);
        bad.format_version = 5;
        let SpacingRule::Resample { tolerance: value, .. } = &mut bad.spacing else { unreachable!() };
        *value = tolerance;
        let refused = bad.check().unwrap_err().to_string();
        assert!(refused.contains("tolerance of the voxel size"), "{refused}");
    }
}

/// Slices of 4 mm whose normal is turned from anterior towards right by this angle.
fn upright_stack(degrees: f64) -> Image {
    let (s, c) = degrees.to_radians().sin_cos();
    let (x, y, z) = ([c, -s, 0.0], [0.0, 0.0, 1.0], [4.0 * s, 4.0 * c, 0.0]);
    let rows = std::array::from_fn(|ras| [x[ras], y[ras], z[ras], 10.0 * ras as f64]);
    image(Geometry::new([9, 10, 5], RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap())
}

/// Labels voxels whose normalised intensity is positive.
struct AboveMean;

impl Predictor for AboveMean {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let (mut shape, values) = input.into_parts();
        shape[1] = 2;
        let logits = [vec![0.0; values.len()], values].concat();
        Tensor::new(shape, logits).map_err(|e| PredictorError { engine: "test", message: e.to_string() })
    }
}

fn segmented(spec: &ModelSpec, image: &Image) -> LabelMap {
    let (prepared, inverse) = preprocess(spec, image).unwrap();
    let window = WindowOptions::default();
    let logits =
        predict_logits(spec, &prepared, &[&AboveMean], &window, &mut |_| ControlFlow::Continue(())).unwrap();
    inverse.finish(spec, logits, Outputs::Labels).unwrap().labels
}

#[test]
fn acquired_axes_give_rotated_copies_of_a_scan_the_same_input() {
    let acquired = spec(GridAxes::Acquired, 1.0);
    let anatomical = spec(Orientation::RAS.into(), 1.0);
    let expected = preprocessed(&acquired, &upright_stack(40.0));
    assert_eq!(expected.shape(), [9, 10, 20]);
    let mut shapes = std::collections::BTreeSet::new();
    for degrees in [36.0, 44.0, 46.0, 54.0] {
        let scan = upright_stack(degrees);
        assert_eq!(preprocessed(&acquired, &scan), expected, "{degrees}");
        shapes.insert(preprocessed(&anatomical, &scan).shape());
        // The way back leads to the scan's own grid, however it is stored.
        let mask = segmented(&acquired, &scan);
        let mean = scan.data().iter().sum::<f32>() / scan.data().len() as f32;
        assert!(scan.data().iter().zip(mask.data()).all(|(value, label)| (*value > mean) == (*label == 1)));
        for code in Orientation::all().step_by(7) {
            assert_eq!(segmented(&acquired, &scan.reoriented(code)), mask.reoriented(code), "{degrees} {code}");
        }
    }
    assert_eq!(shapes.len(), 2, "patient axes bring the slices to one axis or another");
    // A stored flip of rows, as some converters make, changes nothing.
    let scan = upright_stack(44.0);
    let [x, y, z] = scan.geometry().orientation().axes().map(|axis| axis.letter());
    let flipped: Orientation = match y {
        'S' => format!("{x}I{z}"),
        _ => format!("{x}S{z}"),
    }
    .parse()
    .unwrap();
    assert!(!Reorientation::between(scan.geometry().orientation(), flipped).is_identity());
    assert_eq!(preprocessed(&acquired, &scan.reoriented(flipped)), expected);
}
