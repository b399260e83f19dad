//! Cropping to the nonzero voxels, normalising inside them, and coarse axes, compared with nnU-Net's definitions, which
//! are implemented here again.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::ops::ControlFlow;

use proptest::prelude::*;
use sulcus_model::*;
use sulcus_pipeline::*;
use sulcus_testing::test_spec;
use sulcus_volume::*;

/// Predicts class 1 where the input is greater than a threshold.
struct Bright(f32);

impl Predictor for Bright {
    fn logits(&self, input: Tensor) -> Result<Tensor, PredictorError> {
        let (mut shape, values) = input.into_parts();
        shape[1] = 2;
        let mut out = vec![0.0; values.len()];
        out.extend(values.iter().map(|v| v - self.0));
        Tensor::new(shape, out).map_err(|e| PredictorError { engine: "test", message: e.to_string() })
    }
}

fn spec(crop: CropRule, normalisation: Normalisation, spacing: SpacingRule) -> ModelSpec {
    let mut spec = test_spec(3)
        .normalisation(normalisation)
        .labels(&[(4, "bright")])
        .orientation("ASR")
        .patch(&[4; 3], Tiling::Patch)
        .build();
    (spec.crop, spec.spacing) = (crop, spacing);
    spec.format_version = spec.min_format_version();
    spec.check().unwrap();
    spec
}

/// A scan of zeros except for a block, which has a hole.
fn head(shape: [usize; 3], start: [usize; 3], block: [usize; 3], mm: [f64; 3]) -> Image {
    let map = RasFromVoxel::aligned("LPI".parse().unwrap(), Spacing::new(mm).unwrap());
    let geometry = Geometry::new(shape, map, OrientationSource::Sform).unwrap();
    let mut values = vec![0.0; geometry.voxels()];
    for (i, value) in values.iter_mut().enumerate() {
        let at = [i % shape[0], i / shape[0] % shape[1], i / shape[0] / shape[1]];
        if (0..3).all(|a| (start[a]..start[a] + block[a]).contains(&at[a])) {
            *value = ((i * 2_654_435_761) % 1009 + 1) as f32;
        }
    }
    let hole: [usize; 3] = std::array::from_fn(|a| start[a] + block[a] / 2);
    if block.iter().all(|n| *n >= 3) {
        values[(hole[2] * shape[1] + hole[1]) * shape[0] + hole[0]] = 0.0;
    }
    Image::new(geometry, 1, values).unwrap()
}

fn predict(spec: &ModelSpec, image: &Image, threshold: f32) -> Prediction {
    let (prepared, restore) = preprocess(spec, image).unwrap();
    let go = &mut |_| ControlFlow::Continue(());
    let logits = predict_logits(spec, &prepared, &[&Bright(threshold)], &WindowOptions::default(), go).unwrap();
    restore.finish(spec, logits, Outputs::LabelsAndProbabilities).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn mask_of_the_box_has_its_position_in_the_scan(
        start in prop::array::uniform3(0..4_usize),
        block in prop::array::uniform3(1..6_usize),
        after in prop::array::uniform3(0..4_usize),
    ) {
        let shape = std::array::from_fn(|a| start[a] + block[a] + after[a]);
        let image = head(shape, start, block, [1.0, 1.25, 1.5]);
        let spec = spec(CropRule::Nonzero, Normalisation::Ct { clip: [0.0, 2000.0], mean: 0.0, sd: 1.0 }, SpacingRule::Native);
        let (prepared, _) = preprocess(&spec, &image).unwrap();
        prop_assert_eq!(prepared.data().len(), block.iter().product::<usize>());
        let prediction = predict(&spec, &image, 500.0);
        // The hole is dark, and everything outside the box is background.
        let expected: Vec<u16> = image.data().iter().map(|v| if *v > 500.0 { 4 } else { 0 }).collect();
        prop_assert_eq!(prediction.labels.geometry(), image.geometry());
        prop_assert_eq!(prediction.labels.data(), &expected[..]);
        let probabilities = prediction.probabilities.unwrap();
        for (i, value) in image.data().iter().enumerate() {
            let [background, bright] = [probabilities.channel(0)[i], probabilities.channel(1)[i]];
            prop_assert!((background + bright - 1.0).abs() < 1e-6);
            let at = [i % shape[0], i / shape[0] % shape[1], i / shape[0] / shape[1]];
            if !(0..3).all(|a| (start[a]..start[a] + block[a]).contains(&at[a])) {
                prop_assert_eq!((*value, background), (0.0, 1.0));
            }
        }
        // The mask is cropped like its image.
        let labels = preprocess_labels(&spec, &image, &prediction.labels, None).unwrap();
        prop_assert_eq!(labels.shape(), prepared.shape());
        let inside = prepared.data().iter().map(|v| u8::from(*v > 500.0));
        prop_assert!(labels.classes().iter().copied().eq(inside));
    }
}

#[test]
fn scans_without_zeros_and_of_only_zeros_are_not_cropped() {
    let spec = spec(CropRule::Nonzero, Normalisation::ZScoreNonzero, SpacingRule::Native);
    let empty = head([5, 6, 7], [0; 3], [0; 3], [1.0; 3]);
    let (prepared, _) = preprocess(&spec, &empty).unwrap();
    assert_eq!(prepared.data(), &vec![0.0; 210][..]);
    assert!(predict(&spec, &empty, 0.5).labels.data().iter().all(|l| *l == 0));
    let full = head([5, 6, 7], [0; 3], [5, 6, 7], [1.0; 3]);
    assert!(Crop::of(&spec, &full).unwrap().is_none());
    assert_eq!(preprocess(&spec, &full).unwrap().0.data().len(), 210);
}

/// nnU-Net's `ZScoreNormalization` with `use_mask_for_norm`: mean and deviation over the filled mask; other voxels stay
/// 0.
#[test]
fn mean_and_deviation_are_those_of_the_filled_mask() {
    // A block with a closed hole (filled) and an L of zeros on its edge (outside).
    let mut values = vec![3.0_f32; 5 * 5 * 5];
    for (i, value) in values.iter_mut().enumerate() {
        *value += ((i * 37) % 11) as f32;
    }
    let at = |x: usize, y: usize, z: usize| (z * 5 + y) * 5 + x;
    let hole = at(2, 2, 2);
    let outside = [at(0, 0, 0), at(1, 0, 0), at(1, 1, 0), at(1, 1, 1)];
    for index in outside.iter().chain([&hole]) {
        values[*index] = 0.0;
    }
    let map = RasFromVoxel::aligned("ASR".parse().unwrap(), Spacing::new([1.0; 3]).unwrap());
    let geometry = Geometry::new([5, 5, 5], map, OrientationSource::Sform).unwrap();
    let image = Image::new(geometry, 1, values.clone()).unwrap();
    let counted: Vec<f64> =
        values.iter().enumerate().filter(|(i, _)| !outside.contains(i)).map(|(_, v)| f64::from(*v)).collect();
    let n = counted.len() as f64;
    let mean = counted.iter().sum::<f64>() / n;
    let sd = (counted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let spec = spec(CropRule::Nonzero, Normalisation::ZScoreNonzero, SpacingRule::Native);
    let (prepared, _) = preprocess(&spec, &image).unwrap();
    for (i, (found, value)) in prepared.data().iter().zip(&values).enumerate() {
        let expected = if outside.contains(&i) { 0.0 } else { (f64::from(*value) - mean) / sd };
        assert!((f64::from(*found) - expected).abs() < 1e-5, "voxel {i}: {found} for {expected}");
    }
    assert!(prepared.data()[hole] < -1.0, "a hole inside counts and is dark");
}

/// Thick slices: the nearest slice is used along the coarse axis, spline interpolation in plane, as in nnU-Net's
/// `resample_data_or_seg` with `order_z = 0`.
#[test]
fn nearest_slice_is_used_along_a_coarse_axis_in_both_directions() {
    let mm = Spacing::new([1.0, 1.0, 2.5]).unwrap();
    let rule = |coarse_axis| SpacingRule::Resample {
        mm,
        interpolation: Interpolation::Cubic,
        coarse_axis,
        tolerance: 1.0,
    };
    let ct = Normalisation::Ct { clip: [0.0, 2000.0], mean: 0.0, sd: 1.0 };
    let model = |coarse_axis| ModelSpec {
        orientation: "LPI".parse().unwrap(),
        ..spec(CropRule::Whole, ct, rule(coarse_axis))
    };
    // 5 : 1, so the scan is anisotropic; slices of 5 mm become two of 2.5 mm each.
    let image = head([6, 7, 4], [0; 3], [6, 7, 4], [1.0, 1.0, 5.0]);
    let (prepared, _) = preprocess(&model(CoarseAxis::Nearest), &image).unwrap();
    assert_eq!(prepared.shape(), [6, 7, 8]);
    for z in 0..8 {
        assert_eq!(prepared.data()[z * 42..][..42], image.data()[z / 2 * 42..][..42], "slice {z}");
    }
    let (blended, _) = preprocess(&model(CoarseAxis::AsOthers), &image).unwrap();
    assert_ne!(prepared.data(), blended.data());
    // The mask also uses nearest slices, so that its classes are those of its slices.
    let labels: Vec<u16> = image.data().iter().map(|v| if *v > 500.0 { 4 } else { 0 }).collect();
    let mask = LabelMap::new(*image.geometry(), labels).unwrap();
    let classes = preprocess_labels(&model(CoarseAxis::Nearest), &image, &mask, None).unwrap();
    for z in 0..8 {
        let slice = mask.data()[z / 2 * 42..][..42].iter().map(|l| u8::from(*l > 0));
        assert!(classes.classes()[z * 42..][..42].iter().copied().eq(slice), "slice {z}");
    }
    // The inverse: of two slices for one, nnU-Net's order 0 takes the one that contains its centre; a centre on a
    // boundary belongs to the later one.
    assert_eq!(predict(&model(CoarseAxis::Nearest), &image, 500.0).labels.data(), mask.data());

    // In plane, spline interpolation is still used: the result equals resampling the slices alone.
    let finer = Spacing::new([0.5, 1.0, 5.0]).unwrap();
    let in_plane = |coarse_axis| SpacingRule::Resample {
        mm: finer,
        interpolation: Interpolation::Cubic,
        coarse_axis,
        tolerance: 1.0,
    };
    let [nearest, others] = [CoarseAxis::Nearest, CoarseAxis::AsOthers].map(|coarse_axis| {
        let model = ModelSpec { spacing: in_plane(coarse_axis), ..model(coarse_axis) };
        preprocess(&model, &image).unwrap().0
    });
    assert_eq!(nearest, others);
}

#[test]
fn isotropic_voxels_and_two_coarse_axes_have_no_coarse_axis() {
    let ct = Normalisation::Ct { clip: [0.0, 2000.0], mean: 0.0, sd: 1.0 };
    // nnU-Net: 3.0 is not above its threshold; (0.24, 1.25, 1.25) has two equally long axes.
    for (from, to) in [([1.0, 1.0, 3.0], [1.0, 1.0, 1.5]), ([0.24, 1.25, 1.25], [0.24, 1.25, 0.6])] {
        let image = head([6, 7, 4], [0; 3], [6, 7, 4], from);
        let mm = Spacing::new(to).unwrap();
        let [nearest, others] = [CoarseAxis::Nearest, CoarseAxis::AsOthers].map(|coarse_axis| {
            let spacing =
                SpacingRule::Resample { mm, interpolation: Interpolation::Cubic, coarse_axis, tolerance: 1.0 };
            let model = ModelSpec { orientation: "LPI".parse().unwrap(), ..spec(CropRule::Whole, ct, spacing) };
            (preprocess(&model, &image).unwrap().0, predict(&model, &image, 500.0).labels)
        });
        assert_eq!(nearest, others, "{from:?} to {to:?}");
    }
}

#[test]
fn models_have_the_oldest_version_with_their_features() {
    let plain = spec(CropRule::Whole, Normalisation::ZScore, SpacingRule::Native);
    assert_eq!(plain.format_version, 1);
    assert!(!plain.to_json().unwrap().contains("crop"));
    for change in [
        |s: &mut ModelSpec| s.crop = CropRule::Nonzero,
        |s: &mut ModelSpec| s.channels[0].normalisation = Normalisation::ZScoreNonzero,
        |s: &mut ModelSpec| {
            let mm = Spacing::new([1.0; 3]).unwrap();
            let coarse_axis = CoarseAxis::Nearest;
            s.spacing =
                SpacingRule::Resample { mm, interpolation: Interpolation::Cubic, coarse_axis, tolerance: 1.0 };
        },
    ] {
        let mut newer = plain.clone();
        change(&mut newer);
        let refused = newer.check().unwrap_err().to_string();
        assert!(refused.contains("uses features of format version 3, but states format version 1"), "{refused}");
        newer.format_version = newer.min_format_version();
        assert_eq!(ModelSpec::from_json(&newer.to_json().unwrap()).unwrap(), newer);
    }
}
