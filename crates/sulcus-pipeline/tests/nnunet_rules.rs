//! Rules of models from nnU-Net in the default mode: stored axes, voxel size, centred tiles, several networks in one file.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::cell::RefCell;
use std::ops::ControlFlow;

use sulcus_model::{
    AxisOrder, GridAxes, ModelSpec, NnunetOrigin, NnunetResampling, NnunetSpacing, Normalisation, Postprocess,
    SpacingRule, Tiling,
};
use sulcus_pipeline::{
    Outputs, Predictor, PredictorError, Tensor, WindowOptions, compare_predictors, predict_logits, preprocess,
};
use sulcus_testing::test_spec;
use sulcus_volume::{Geometry, Image, Orientation, OrientationSource, RasFromVoxel, Spacing};

fn scan(shape: [usize; 3], mm: [f64; 3], orientation: Orientation) -> Image {
    let map = RasFromVoxel::aligned(orientation, Spacing::new(mm).unwrap());
    let geometry = Geometry::new(shape, map, OrientationSource::Sform).unwrap();
    let values = (0..geometry.voxels()).map(|i| (i * i % 101) as f32 + 1.0).collect();
    Image::new(geometry, 1, values).unwrap()
}

fn nnunet(mm: [Option<f64>; 3]) -> SpacingRule {
    let (image, logits) = (NnunetResampling::DEFAULT_IMAGE, NnunetResampling::DEFAULT_LOGITS);
    SpacingRule::Nnunet(NnunetSpacing { mm, image, logits })
}

fn versioned(mut spec: ModelSpec) -> ModelSpec {
    spec.format_version = spec.min_format_version();
    spec.check().unwrap();
    assert_eq!(ModelSpec::from_json(&spec.to_json().unwrap()).unwrap(), spec);
    spec
}

/// Returns its input as the logits of every class, and records it.
struct Echo {
    classes: usize,
    seen: RefCell<Vec<Tensor>>,
}

impl Predictor for Echo {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        self.seen.borrow_mut().push(input.clone());
        let (mut shape, data) = input.into_parts();
        shape[1] = self.classes;
        let scaled = |class: usize| data.iter().map(move |v| v * (class + 1) as f32);
        Ok(Tensor::new(shape, (0..self.classes).flat_map(scaled).collect()).unwrap())
    }
}

fn echo(classes: usize) -> Echo {
    Echo { classes, seen: RefCell::default() }
}

#[test]
fn each_rule_of_nnunet_needs_the_new_format_version_and_older_files_keep_theirs() {
    let plain = test_spec(3).build();
    assert_eq!((plain.min_format_version(), plain.to_json().unwrap().contains("networks")), (1, false));
    let changes: [fn(&mut ModelSpec); 7] = [
        |s| s.orientation = GridAxes::Stored(AxisOrder::STORED),
        |s| s.spacing = nnunet([Some(1.0), Some(1.0), None]),
        |s| s.tiling = Tiling::CentredPatch,
        |s| s.networks = 5,
        |s| s.nnunet = Some(NnunetOrigin::default()),
        |s| s.channels[0].normalisation = Normalisation::None,
        |s| s.postprocessing = vec![Postprocess::KeepLargestComponents { labels: vec![1] }],
    ];
    for change in changes {
        let mut spec = plain.clone();
        change(&mut spec);
        assert_eq!(spec.min_format_version(), 6);
        assert!(spec.check().unwrap_err().to_string().contains("format version 6"));
        versioned(spec);
    }
    for networks in [0, 65] {
        let spec = ModelSpec { networks, format_version: 6, ..plain.clone() };
        assert!(spec.check().unwrap_err().to_string().contains("networks"));
    }
}

#[test]
fn stored_axes_are_transposed_and_never_reversed() {
    // nnU-Net: data.transpose(0, 3, 1, 2) of the array c, z, y, x.
    let order = AxisOrder::of_transpose_forward([2, 0, 1]).unwrap();
    let channel_as_is = |mut spec: ModelSpec| {
        spec.channels[0].normalisation = Normalisation::None;
        spec
    };
    let spec =
        versioned(channel_as_is(ModelSpec { orientation: GridAxes::Stored(order), ..test_spec(3).build() }));
    for orientation in [Orientation::RAS, Orientation::LPI, "SAL".parse().unwrap()] {
        let image = scan([2, 3, 4], [1.0; 3], orientation);
        let (found, _) = preprocess(&spec, &image).unwrap();
        assert_eq!(found.shape(), [3, 4, 2], "x, y, z of the new grid are y, z, x of the file");
        let at = |x: usize, y: usize, z: usize| image.data()[(z * 3 + y) * 2 + x];
        let expected: Vec<f32> = (0..2)
            .flat_map(|x| (0..4).flat_map(move |z| (0..3).map(move |y| (x, y, z))))
            .map(|(x, y, z)| at(x, y, z))
            .collect();
        assert_eq!(found.data(), expected);
    }
}

#[test]
fn two_dimensional_configuration_keeps_the_distance_of_slices() {
    let spec = versioned(ModelSpec { spacing: nnunet([Some(1.0), Some(1.5), None]), ..test_spec(2).build() });
    let (found, _) = preprocess(&spec, &scan([10, 12, 5], [2.0, 0.75, 7.0], Orientation::RAS)).unwrap();
    assert_eq!(found.shape(), [20, 6, 5]);
}

#[test]
fn number_of_voxels_is_rounded_as_nnunet_does() {
    // Python: round(0.05 / 0.2 * 58) = 14, the even neighbour of 14.5; round(0.05 * 58 / 0.2) = 15.
    let spec = versioned(ModelSpec { spacing: nnunet([Some(0.2); 3]), ..test_spec(3).build() });
    let (found, _) = preprocess(&spec, &scan([58, 6, 7], [0.05, 0.2, 0.1], Orientation::RAS)).unwrap();
    assert_eq!(found.shape(), [14, 6, 4], "3.5 becomes 4");
}

#[test]
fn small_scan_lies_in_the_middle_of_a_centred_tile() {
    let base = test_spec(3).patch(&[8, 8, 8], Tiling::CentredPatch).normalisation(Normalisation::None);
    let spec = versioned(base.build());
    let (prepared, inverse) = preprocess(&spec, &scan([5, 8, 11], [1.0; 3], Orientation::RAS)).unwrap();
    let network = echo(2);
    let options = WindowOptions::default();
    let logits =
        predict_logits(&spec, &prepared, &[&network], &options, &mut |_| ControlFlow::Continue(())).unwrap();
    // x: 3 voxels are missing, 1 before and 2 after.
    let first = network.seen.borrow()[0].clone();
    assert_eq!(first.shape(), [1, 1, 8, 8, 8]);
    assert_eq!(first.data()[..8], [0.0, 1.0, 2.0, 5.0, 10.0, 17.0, 0.0, 0.0]);
    // Tiles overlap along z; an echo gives the scan back wherever a voxel is.
    let twice: Vec<f32> = prepared.data().iter().map(|v| v * 2.0).collect();
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs());
    assert!(close(&logits.data()[..440], prepared.data()) && close(&logits.data()[440..], &twice));
    let mask = inverse.finish(&spec, logits, Outputs::Labels).unwrap().labels;
    assert!(mask.data().iter().all(|label| *label == 1));
}

#[test]
fn logits_of_the_networks_of_a_file_are_averaged() {
    // Three networks of two classes: logits v·(1, 2), v·(3, 4), v·(5, 6), on average v·(3, 4).
    let spec = versioned(ModelSpec { networks: 3, ..test_spec(3).normalisation(Normalisation::None).build() });
    let (prepared, _) = preprocess(&spec, &scan([4; 3], [1.0; 3], Orientation::RAS)).unwrap();
    let (options, mut go_on) = (WindowOptions::default(), |_| ControlFlow::Continue(()));
    let logits = predict_logits(&spec, &prepared, &[&echo(6)], &options, &mut go_on).unwrap();
    let expected: Vec<f32> = [3.0, 4.0].iter().flat_map(|f| prepared.data().iter().map(move |v| v * f)).collect();
    assert_eq!(logits.data(), expected);
    let refused = predict_logits(&spec, &prepared, &[&echo(2)], &options, &mut go_on).unwrap_err();
    assert!(refused.to_string().contains("[1, 6, 4, 4, 4]"), "{refused}");
    let input = Tensor::new(vec![1, 1, 4, 4, 4], prepared.data().to_vec()).unwrap();
    let parity = compare_predictors(&spec, &echo(6), &echo(6), &[input]).unwrap();
    assert_eq!((parity.voxels, parity.class_disagreements), (64, 0));
}
