//! The shipped models on scans whose voxel size differs from the training's. Without resampling their Dice was 0.02 to 0.32.

use sulcus_io::{read_labels, read_scan};
use sulcus_metrics::count_labels;
use sulcus_runtime::{Engine, SegmentOptions};
use sulcus_tests::{builder, held_out_cases, shipped_models};
use sulcus_volume::{Interpolation, Spacing};

#[test]
fn shipped_models_segment_scans_of_other_voxel_sizes() {
    const CASES: usize = 3;
    const MIN_DICE: f64 = 0.80;
    let cases = held_out_cases().unwrap();
    for model in shipped_models().iter().filter(|path| !path.ends_with("model-int8.onnx")) {
        let segmenter = builder(Engine::Tract).unwrap().model(model).build().unwrap();
        for mm in [0.5, 0.7, 1.0, 1.5, 2.0] {
            let mut dice = Vec::new();
            for (_, image, truth) in cases.iter().take(CASES) {
                let (scan, truth) = (read_scan(image).unwrap().image, read_labels(truth).unwrap().0);
                let grid = scan.geometry().respaced(Spacing::new([mm; 3]).unwrap()).unwrap();
                let scan = scan.resample_to(&grid, Interpolation::Cubic, 0.0).unwrap();
                let truth = truth.resample_to(&grid, 0).unwrap();
                let found = segmenter.segment(&scan, SegmentOptions::default()).unwrap();
                let counts = count_labels(&found.labels, &truth, &[1, 2]).unwrap();
                dice.extend(counts.iter().map(|count| count.dice().unwrap()));
            }
            let mean = dice.iter().sum::<f64>() / dice.len() as f64;
            assert!(mean >= MIN_DICE, "{} at {mm} mm: {dice:?}", model.display());
        }
    }
}
