//! Training refuses a bad data set with the findings of its check, and writes nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../sulcus-dataset/tests/scans/mod.rs"]
mod scans;
#[path = "../../sulcus-dataset/tests/scans/spoiled.rs"]
mod spoiled;

use spoiled::{SHAPE, spoil_all};
use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_plan::{DeviceChoice, TrainConfig};
use sulcus_train::{Event, TrainObserver, train};

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

struct CollectWarnings(Vec<String>);

impl TrainObserver for CollectWarnings {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.push(text.to_owned());
        }
    }
}
