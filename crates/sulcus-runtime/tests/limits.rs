//! Memory limits and scans that cannot be segmented, on every engine.
#![cfg(all(feature = "ort", feature = "tract"))]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use common::{builders, geometry, model, noise_scan};
use sulcus_pipeline::{Outputs, PipelineError};
use sulcus_runtime::{RuntimeError, SegmentOptions, peak_memory_bytes};
use sulcus_volume::{Geometry, Image, OrientationSource, RasFromVoxel};

#[test]
fn a_limit_and_a_scan_that_is_given_away_change_nothing_in_the_answer() {
    let scan = noise_scan([22, 19, 10], 5);
    for builder in builders() {
        for models in [vec![3], vec![3, 3], vec![3, 2]] {
            let with = models.iter().fold(builder.clone(), |b, axes| b.model_bytes(model(*axes)));
            let free = with.clone().build().unwrap();
            let expected = free.segment(&scan, SegmentOptions::default().with_probabilities()).unwrap();
            let least = free.least_memory_bytes(scan.geometry(), Outputs::LabelsAndProbabilities).unwrap();
            // Other tests of this process take memory too, which a segmenter that is built later would count.
            let options = || SegmentOptions::default().with_probabilities();
            for limit in [least, least + 50_000] {
                let found = free.segment_owned(scan.clone(), options().with_max_memory(limit)).unwrap();
                assert_eq!(found.labels, expected.labels, "{models:?}");
                assert_eq!(found.probabilities, expected.probabilities, "{models:?}");
                assert!(found.tiles >= expected.tiles);
            }
            let refused = free.segment_owned(scan.clone(), options().with_max_memory(least - 1)).unwrap_err();
            assert!(
                matches!(refused, RuntimeError::Pipeline(PipelineError::MemoryLimit { least: l, .. }) if l == least),
                "{refused}"
            );
            let kept = with.max_memory(1_000_000).build().unwrap();
            let refused = kept.segment(&scan, SegmentOptions::default()).unwrap_err().to_string();
            assert!(refused.starts_with("the memory limit of 1 MB is too small for this scan"), "{refused}");
            assert_eq!(expected.peak_memory_bytes.is_some(), peak_memory_bytes().is_some());
        }
    }
}

#[test]
fn scans_that_mean_nothing_are_refused_and_small_ones_are_padded() {
    for builder in builders() {
        let segmenter = builder.model_bytes(model(3)).build().unwrap();
        for broken in [f32::NAN, f32::INFINITY] {
            let mut values = noise_scan([6, 5, 4], 1).data().to_vec();
            values[7] = broken;
            let scan = Image::new(geometry([6, 5, 4], "RAS", [1.0; 3]), 1, values).unwrap();
            let error = segmenter.segment(&scan, SegmentOptions::default()).unwrap_err().to_string();
            assert!(error.starts_with("the image has 1 voxel(s) that are not finite numbers"), "{error}");
        }
        // Smaller than the patch, along one axis and along all.
        for shape in [[40, 30, 2], [3, 2, 1]] {
            let found = segmenter.segment(&noise_scan(shape, 2), SegmentOptions::default()).unwrap();
            assert_eq!(found.labels.geometry().shape(), shape);
        }
    }
    // What no scan can have is refused before there is one.
    let singular = RasFromVoxel::new([[1.0, 2.0, 0.0, 0.0], [2.0, 4.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
    assert!(singular.unwrap_err().to_string().contains("no inverse"));
    let upright = *geometry([1, 1, 1], "RAS", [1.0; 3]).ras_from_voxel();
    assert!(Geometry::new([4, 0, 4], upright, OrientationSource::Sform).is_err());
}
