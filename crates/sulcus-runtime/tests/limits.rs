//! Memory limits and scans that cannot be segmented, on every engine.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

#[macro_use]
extern crate sulcus_harness;

mod common;

use common::{box_scan, builders, geometry, graph, model, noise_scan, spec};
use sulcus_model::{AxisRange, ChannelRange, CoarseAxis, CropRule, SpacingRule, TrainingScans};
use sulcus_pipeline::{Outputs, PipelineError};
use sulcus_runtime::{ErrorKind, SELF_TEST_MODEL, ScanWarning, SegmentOptions, peak_memory_bytes, with_causes};
use sulcus_volume::{Geometry, Image, Interpolation, OrientationSource, RasFromVoxel, Spacing};

#[test]
fn memory_limit_and_owned_scan_give_the_same_mask() {
    let scan = noise_scan([22, 19, 10], 5);
    for builder in builders() {
        for models in [vec![3], vec![3, 3], vec![3, 2]] {
            let with = models.iter().fold(builder.clone(), |b, axes| b.model_bytes(model(*axes)));
            let free = with.clone().build().unwrap();
            let expected = free.segment(&scan, SegmentOptions::default().with_probabilities()).unwrap();
            let least = free.min_memory_bytes(scan.geometry(), Outputs::LabelsAndProbabilities).unwrap();
            // Other tests of this process allocate memory too, which a segmenter that is built later would count.
            let options = || SegmentOptions::default().with_probabilities();
            for limit in [least, least + 50_000] {
                let found = free.segment_owned(scan.clone(), options().with_max_memory(limit)).unwrap();
                assert_eq!(found.labels, expected.labels, "{models:?}");
                assert_eq!(found.probabilities, expected.probabilities, "{models:?}");
                assert!(found.tiles >= expected.tiles);
            }
            let refused = free.segment_owned(scan.clone(), options().with_max_memory(least - 1)).unwrap_err();
            assert!(
                matches!(refused.kind(), ErrorKind::Pipeline(PipelineError::MemoryLimit { required, .. }) if *required == least),
                "{refused}"
            );
            let kept = with.max_memory(1_000_000).build().unwrap();
            let refused = kept.segment(&scan, SegmentOptions::default()).unwrap_err().to_string();
            assert!(refused.starts_with("the memory limit of 1 MB is too small for this scan"), "{refused}");
            assert_eq!(expected.peak_memory_bytes.is_some(), peak_memory_bytes().is_some());
        }
    }
}

/// Regression test: 32 kB of voxels with a voxel size of 100 mm ended the process when they were resampled to 1 mm.
#[test]
fn small_scan_with_huge_voxels_is_refused_before_its_voxels_are_read() {
    let mut spec = spec(3);
    let mm = Spacing::new([1.0; 3]).unwrap();
    let interpolation = Interpolation::Linear;
    spec.spacing = SpacingRule::Resample { mm, interpolation, coarse_axis: CoarseAxis::AsOthers, tolerance: 1.0 };
    let model = graph(&spec, 7).finish(&spec, "", "test").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let scan = |mm: f64, bytes: usize| {
        let file = folder.path().join("scan.nii");
        let image =
            Image::new(geometry([20, 20, 20], "RAS", [mm; 3]), 1, (0..8000).map(|i| (i % 7) as f32).collect())
                .unwrap();
        let mut content = common::encoded(&image);
        content.truncate(bytes);
        std::fs::write(&file, content).unwrap();
        file
    };
    for builder in builders() {
        let segmenter = builder.model_bytes(model.clone()).build().unwrap();
        let segment = |file, limit: Option<u64>| {
            let mut options = SegmentOptions::default();
            if let Some(bytes) = limit {
                options = options.with_max_memory(bytes);
            }
            segmenter.segment_file_with(file, folder.path().join("mask.nii"), options)
        };
        // The voxels are missing, but the header is enough.
        for limit in [None, Some(4 << 30)] {
            let refused = segment(scan(500.0, 400), limit).unwrap_err();
            let ErrorKind::Pipeline(PipelineError::MemoryLimit { limit: used, required, resampling }) =
                refused.kind()
            else {
                panic!("{refused}")
            };
            assert_eq!(resampling.as_ref().map(|r| (r.from_shape, r.to_shape)), Some(([20; 3], [10_000; 3])));
            // 10 000 voxels along each axis.
            assert!(*required > 4_000_000_000_000 && limit.is_none_or(|limit| limit == *used), "{refused}");
        }
        // Too many voxels in all, and too many along an axis.
        for (mm, edge) in [(1000.0, 20_000), (1e6, 20_000_000)] {
            let refused = segment(scan(mm, 400), None).unwrap_err();
            assert!(
                matches!(refused.kind(), ErrorKind::Pipeline(PipelineError::GridTooLarge { .. })),
                "{refused}"
            );
            let text = format!(
                "resampling from the scan's voxel size of {mm} × {mm} × {mm} mm to the model's 1 × 1 × 1 mm makes {edge} × {edge} × \
                 {edge} voxels of 20 × 20 × 20, more than can be processed (262144 along an axis, 2^40 in all); the voxel size in the \
                 scan's header is probably wrong: correct it"
            );
            assert_eq!(refused.to_string(), text);
        }
        assert_eq!(segment(scan(1.0, usize::MAX), None).unwrap().labels.geometry().shape(), [20; 3]);
        // The limit may be removed; what the system refuses is then an error too.
        let image =
            Image::new(geometry([20; 3], "RAS", [500.0; 3]), 1, (0..8000).map(|i| (i % 7) as f32).collect());
        let refused =
            image.map(|image| segmenter.segment(&image, SegmentOptions::default().with_max_memory(u64::MAX)));
        assert!(refused.unwrap().is_err());
    }
}

/// A model that crops scans needs memory for the whole mask too: for the minimum that is reported and for the limit that
/// is checked.
#[test]
fn required_memory_of_a_cropping_model_includes_the_whole_mask() {
    let mut spec = spec(3);
    spec.crop = CropRule::Nonzero;
    spec.format_version = spec.min_format_version();
    let bytes = graph(&spec, 7).finish(&spec, "", "test").unwrap();
    let shape = [22, 19, 10];
    let whole = noise_scan(shape, 5);
    let inside = |i: usize| (3..16).contains(&(i % 22)) && (2..15).contains(&(i / 22 % 19));
    let values = whole.data().iter().enumerate().map(|(i, v)| if inside(i) { *v } else { 0.0 }).collect();
    let scan = Image::new(*whole.geometry(), 1, values).unwrap();
    let beside = whole.geometry().voxels() as u64 * (2 + 4 * spec.classes() as u64);
    let outputs = Outputs::LabelsAndProbabilities;
    for builder in builders() {
        let segmenter = builder.model_bytes(bytes.clone()).build().unwrap();
        let least = segmenter.min_memory_bytes(scan.geometry(), outputs).unwrap();
        let ask = |limit| {
            let options = SegmentOptions::default().with_probabilities().with_max_memory(limit);
            segmenter.segment_owned(scan.clone(), options).map(|found| found.labels)
        };
        let expected = segmenter.segment(&scan, SegmentOptions::default()).unwrap().labels;
        assert_eq!(ask(least).unwrap(), expected);
        let ErrorKind::Pipeline(PipelineError::MemoryLimit { limit, required: told, resampling: None }) =
            ask(beside + 1).unwrap_err().into_kind()
        else {
            panic!("another error")
        };
        // A box that is smaller than the scan.
        assert!(limit == beside + 1 && told > beside && told <= least, "{limit} {told} {least}");
        assert_eq!(ask(told).unwrap(), expected);
    }
}

#[test]
fn invalid_scans_are_refused_and_small_ones_are_padded() {
    for builder in builders() {
        let segmenter = builder.model_bytes(model(3)).build().unwrap();
        for broken in [f32::NAN, f32::INFINITY] {
            let mut values = noise_scan([6, 5, 4], 1).data().to_vec();
            values[7] = broken;
            let scan = Image::new(geometry([6, 5, 4], "RAS", [1.0; 3]), 1, values).unwrap();
            let error = segmenter.segment(&scan, SegmentOptions::default()).unwrap_err().to_string();
            assert!(error.starts_with("the image has 1 voxel(s) that are not finite numbers"), "{error}");
        }
        // Smaller than the patch, along one axis and along all axes.
        for shape in [[40, 30, 2], [3, 2, 1]] {
            let found = segmenter.segment(&noise_scan(shape, 2), SegmentOptions::default()).unwrap();
            assert_eq!(found.labels.geometry().shape(), shape);
        }
    }
    // Impossible shapes are refused before memory is allocated.
    let empty = |shape| {
        Geometry::new(shape, *geometry([1; 3], "RAS", [1.0; 3]).ras_from_voxel(), OrientationSource::Sform)
    };
    for shape in [[0, 4, 4], [4, 0, 4], [4, 4, 0]] {
        assert!(empty(shape).is_err(), "{shape:?}");
    }
    let grid = geometry([6, 5, 4], "RAS", [1.0; 3]);
    for (channels, length) in [(1, 119), (1, 121), (2, 120), (0, 0)] {
        assert!(Image::new(grid, channels, vec![0.0; length]).is_err(), "{channels} channel(s) of {length}");
    }
    let not_a_number = RasFromVoxel::new([[f64::NAN, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
    assert!(not_a_number.is_err());
    let singular = RasFromVoxel::new([[1.0, 2.0, 0.0, 0.0], [2.0, 4.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);
    assert!(singular.unwrap_err().to_string().contains("no inverse"));
}

#[test]
fn scan_with_surplus_channels_is_refused() {
    let grid = geometry([6, 5, 4], "RAS", [1.0; 3]);
    for builder in builders() {
        let segmenter = builder.model_bytes(model(3)).build().unwrap();
        let scan = Image::new(grid, 2, vec![1.0; 240]).unwrap();
        let error = segmenter.segment(&scan, SegmentOptions::default()).unwrap_err().to_string();
        assert!(error.contains('2') && error.contains('1') && error.contains("channel"), "{error}");
    }
}

/// The tiny model of volumes, trained on scans of 12 × 10 × 6 mm with voxels of 1 × 1 × 1.5 mm.
fn model_with_training_scans() -> Vec<u8> {
    let at = |values: [f64; 3]| AxisRange { min: values, median: values, max: values };
    let channel =
        ChannelRange { percentile_00_5: [0.0, 1.0], percentile_99_5: [90.0, 100.0], max_mode_fraction: 0.1 };
    let mut spec = spec(3);
    spec.training_scans = Some(TrainingScans {
        cases: 4,
        spacing_mm: at([1.0, 1.0, 1.5]),
        extent_mm: at([12.0, 10.0, 6.0]),
        channels: vec![channel],
    });
    spec.format_version = spec.min_format_version();
    graph(&spec, 7).finish(&spec, "", "test").unwrap()
}

#[test]
fn scan_unlike_the_training_scans_gets_a_mask_with_a_warning_or_an_error_if_strict() {
    let bytes = model_with_training_scans();
    let wide = noise_scan([40, 10, 4], 5);
    for builder in builders() {
        let (plain, strict) = (builder.clone().model_bytes(bytes.clone()), builder.model_bytes(bytes.clone()));
        let (plain, strict) = (plain.build().unwrap(), strict.strict(true).build().unwrap());
        for usual in [noise_scan([12, 10, 4], 5), box_scan()] {
            assert_eq!(plain.segment(&usual, SegmentOptions::default()).unwrap().warnings, []);
            strict.segment(&usual, SegmentOptions::default()).unwrap();
        }
        let found = plain.segment(&wide, SegmentOptions::default()).unwrap();
        assert!(matches!(found.warnings[..], [ScanWarning::FieldOfView { found_mm: [40.0, 10.0, 6.0], .. }]));
        assert_eq!(found.report().warnings, found.warnings);
        let ErrorKind::Pipeline(PipelineError::Implausible { reasons }) =
            strict.segment_owned(wide.clone(), SegmentOptions::default()).unwrap_err().into_kind()
        else {
            panic!("another error")
        };
        assert_eq!(reasons, found.warnings);
    }
}

#[test]
fn constant_scan_gets_no_mask_unless_it_is_allowed() {
    let blank = Image::new(geometry([12, 10, 4], "RAS", [1.0; 3]), 1, vec![7.0; 480]).unwrap();
    for builder in builders() {
        let builder = builder.model_bytes(model(3));
        let error = builder.clone().build().unwrap().segment(&blank, SegmentOptions::default()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Pipeline(PipelineError::Implausible { reasons }) if reasons.len() == 1),
            "{error}"
        );
        let allowed = builder.allow_constant(true).build().unwrap();
        let found = allowed.segment(&blank, SegmentOptions::default()).unwrap();
        assert_eq!(found.warnings.iter().map(ScanWarning::kind).collect::<Vec<_>>(), ["constant_channel"]);
    }
}

#[test]
fn golden_case_is_not_compared_with_the_training_scans() {
    // It is a small part of a training scan.
    let mut spec = sulcus_onnx::read_spec(SELF_TEST_MODEL).unwrap();
    let everywhere = AxisRange { min: [100.0; 3], median: [100.0; 3], max: [100.0; 3] };
    let channel =
        ChannelRange { percentile_00_5: [0.0, 1.0], percentile_99_5: [2.0, 3.0], max_mode_fraction: 0.0 };
    spec.training_scans =
        Some(TrainingScans { cases: 1, spacing_mm: everywhere, extent_mm: everywhere, channels: vec![channel] });
    spec.format_version = spec.min_format_version();
    let bytes = sulcus_onnx::with_spec(SELF_TEST_MODEL, &spec).unwrap();
    for builder in builders() {
        builder.model_bytes(bytes.clone()).strict(true).build().unwrap().replay_golden().unwrap();
    }
}

#[test]
fn model_of_a_newer_format_is_refused_with_its_version() {
    let mut newer = model(2);
    let version = br#""format_version":1"#;
    let at = newer.windows(version.len()).position(|bytes| bytes == version).unwrap();
    newer[at + version.len() - 1] = b'9';
    for builder in builders() {
        let error = with_causes(&builder.model_bytes(newer.clone()).build().unwrap_err());
        assert!(error.contains("its format version is 9, this program knows"), "{error}");
        assert!(error.ends_with("use a newer sulcus"), "{error}");
    }
}

sulcus_harness::main!();
