//! Training refuses a bad data set with the findings of its check, and writes nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../sulcus-dataset/tests/scans/mod.rs"]
mod scans;
#[path = "../../sulcus-dataset/tests/scans/spoiled.rs"]
mod spoiled;

use spoiled::{SHAPE, spoil_all};
use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_plan::{DeviceChoice, SpacingChoice, TrainConfig};
use sulcus_train::{Event, TrainObserver, train};
use sulcus_volume::Spacing;

#[test]
fn training_reports_all_findings_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    scans::decathlon(root, 14, SHAPE);
    spoil_all(root);

    let at = root.join("run");
    let mut observer = CollectWarnings(Vec::new());
    let config = TrainConfig::from_preset("unet2d-lite").unwrap().with(|c| c.device = DeviceChoice::Cpu.into());
    let refused =
        train(&Dataset::open(root).unwrap(), &SplitChoice::All, &config, &at, &mut observer).unwrap_err();
    let survey = Dataset::open(root).unwrap().survey(&[]);
    let warnings: Vec<String> = survey.warnings.iter().map(ToString::to_string).collect();
    assert!(!survey.problems.is_empty() && !warnings.is_empty());
    assert_eq!(observer.0, warnings);
    for problem in &survey.problems {
        assert!(refused.to_string().contains(&problem.to_string()), "{problem}");
    }
    assert!(!at.exists());
}

/// Regression test: a case with a voxel size of 100 mm ended the process when it was resampled.
#[test]
fn case_that_needs_more_memory_than_the_limit_is_named_before_it_is_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let names = scans::decathlon(root, 3, SHAPE);
    let (image, labels) = scans::phantom(SHAPE, 2, 0);
    let wrong = scans::geometry(SHAPE, [100.0; 3]);
    scans::write_image(&scans::image_file(root, &names[1]), wrong, 1, image);
    scans::write_labels(&scans::label_file(root, &names[1]), wrong, labels);
    let dataset = Dataset::open(root).unwrap();
    let config = TrainConfig::from_preset("unet2d-lite").unwrap().with(|c| {
        c.device = DeviceChoice::Cpu.into();
        c.spacing = SpacingChoice::Resample(Spacing::new([1.0; 3]).unwrap());
    });
    let at = root.join("run");
    let refused =
        |limit| train(&dataset, &SplitChoice::All, &config, &at, &mut Limit(limit)).unwrap_err().to_string();
    insta::assert_snapshot!(refused(20_000_000_000), @"case case_01 needs about 20161 MB of memory to be resampled to the network's voxel size, but the limit is 20000 MB: resampling from the scan's voxel size of 100 × 100 × 100 mm to the model's 1 × 1 × 1 mm makes 1200 × 1400 × 1000 voxels of 12 × 14 × 10; the voxel size in its header may be wrong");
    insta::assert_snapshot!(refused(10_000), @"case case_00 needs about 1 MB of memory to be read, but the limit is 0 MB; the shape in its header may be wrong");
    assert!(!at.exists());

    // More than any limit.
    let (image, labels) = scans::phantom(SHAPE, 2, 0);
    let wrong = scans::geometry(SHAPE, [10_000.0; 3]);
    scans::write_image(&scans::image_file(root, &names[1]), wrong, 1, image);
    scans::write_labels(&scans::label_file(root, &names[1]), wrong, labels);
    let dataset = Dataset::open(root).unwrap();
    let refused = train(&dataset, &SplitChoice::All, &config, &at, &mut Limit(u64::MAX)).unwrap_err();
    assert_eq!(refused.to_string(), "case case_01");
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.starts_with(
        "resampling from the scan's voxel size of 10000 × 10000 × 10000 mm to the model's 1 × 1 × 1 mm"
    ));
    assert!(cause.ends_with("the voxel size in the scan's header is probably wrong: correct it"), "{cause}");
    assert!(!at.exists());
}

struct Limit(u64);

impl TrainObserver for Limit {
    fn event(&mut self, _: Event<'_>) {}

    fn memory_limit(&self) -> Option<u64> {
        Some(self.0)
    }
}

struct CollectWarnings(Vec<String>);

impl TrainObserver for CollectWarnings {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.push(text.to_owned());
        }
    }
}
