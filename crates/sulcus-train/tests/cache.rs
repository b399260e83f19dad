//! A training with cached cases gives the same losses as one that prepares them.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../sulcus-dataset/tests/scans/mod.rs"]
mod scans;

use std::path::Path;

use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_plan::{DeviceChoice, TrainConfig, preset};
use sulcus_train::{read_history, train};

#[test]
fn cached_cases_give_identical_losses() {
    const CASES: usize = 3;
    const SHAPE: [usize; 3] = [20, 24, 16];
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, CASES, SHAPE);
    let cache = folder.path().join("cache");
    let losses = |run: &str, cache: Option<&Path>| -> Vec<f64> {
        let mut network = preset("unet2d-lite").unwrap();
        network.stages.truncate(2);
        network.stages.iter_mut().zip([4, 8]).for_each(|(stage, channels)| stage.channels = channels);
        let mut config = TrainConfig::new(network);
        (config.epochs, config.steps_per_epoch, config.batch_size) = (Some(2), Some(3), Some(2));
        config.device = DeviceChoice::Cpu.into();
        config.cache = cache.map(Path::to_path_buf);
        let at = folder.path().join(run);
        let dataset = Dataset::open(&root).unwrap();
        train(&dataset, &SplitChoice::default(), &config, &at, &mut ()).unwrap();
        read_history(&at.join("history.jsonl")).unwrap().iter().map(|record| record.loss).collect()
    };
    let files = || std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();

    let plain = losses("plain", None);
    assert!(!cache.exists());
    assert_eq!(losses("filling", Some(&cache)), plain);
    assert_eq!(files().len(), CASES);
    assert_eq!(losses("reading", Some(&cache)), plain);
    assert_eq!(files().len(), CASES);

    // A truncated file is replaced.
    let damaged = &files()[0];
    let whole = std::fs::read(damaged).unwrap();
    std::fs::write(damaged, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(losses("mending", Some(&cache)), plain);
    assert_eq!(std::fs::read(damaged).unwrap(), whole);

    // Another mask gives another key.
    let changed = scans::phantom(SHAPE, 2, 1).1;
    scans::write_labels(&scans::label_file(&root, "case_00"), scans::geometry(SHAPE, [1.0; 3]), changed);
    losses("changed", Some(&cache));
    assert_eq!(files().len(), CASES + 1);
}
