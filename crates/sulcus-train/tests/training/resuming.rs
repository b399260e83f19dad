//! Trainings that were stopped, killed or diverged, and continue.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use super::*;

/// Stops after a number of steps.
struct StopAfter(Cell<usize>);

impl TrainObserver for StopAfter {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Step { .. } = event {
            self.0.set(self.0.get().saturating_sub(1));
        }
    }

    fn should_stop(&self) -> bool {
        self.0.get() == 0
    }
}

fn losses(run: &Path) -> Vec<f64> {
    read_history(&run.join("history.jsonl")).unwrap().iter().map(|r| r.loss).collect()
}

/// Trains without interruption and in three parts, and compares the results. Returns the data set and the run in parts.
fn trained_in_parts(folder: &Path, config: &TrainConfig) -> (Dataset, PathBuf) {
    let dataset = phantoms(folder, 3);
    let whole = folder.join("whole");
    finished(train(&dataset, &SplitChoice::default(), config, &whole, &mut ()).unwrap());

    // First in the middle of an epoch, resumed with another number of workers; then between two epochs.
    let broken = folder.join("broken");
    let stopped =
        train(&dataset, &SplitChoice::default(), config, &broken, &mut StopAfter(Cell::new(17))).unwrap();
    assert!(matches!(stopped, TrainOutcome::Stopped { epochs: 1, .. }), "{stopped:?}");
    assert_eq!(Run::open(&broken).unwrap().manifest().progress.status, Status::Stopped);
    let changes = ResumeOptions::default().with(|c| c.workers = Some(3));
    let stopped = resume(&dataset, &broken, &changes, &mut StopAfter(Cell::new(7))).unwrap();
    assert!(matches!(stopped, TrainOutcome::Stopped { epochs: 1, .. }), "{stopped:?}");
    finished(resume(&dataset, &broken, &ResumeOptions::default(), &mut ()).unwrap());

    assert_eq!(last_weights(&broken), last_weights(&whole));
    for weights in [Weights::Best, Weights::Last] {
        assert_eq!(exported(&broken, weights), exported(&whole, weights));
    }
    assert_eq!(losses(&broken), losses(&whole));
    (dataset, broken)
}

#[test]
fn stopped_and_resumed_run_has_identical_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, broken) = trained_in_parts(folder.path(), &tiny());
    let root = folder.path().join("data");

    // More epochs than at the start, and a truncated line after a crash.
    let mut history = std::fs::read_to_string(broken.join("history.jsonl")).unwrap();
    history.push_str("{\"epoch\":4,\"st");
    std::fs::write(broken.join("history.jsonl"), history).unwrap();
    finished(resume(&dataset, &broken, &ResumeOptions::default().with(|c| c.epochs = Some(4)), &mut ()).unwrap());
    assert_eq!(losses(&broken).len(), 4);

    scans::write_labels(
        &scans::label_file(&root, "case_01"),
        scans::geometry(SHAPE, [1.0; 3]),
        scans::phantom(SHAPE, 2, 2).1,
    );
    let changed = resume(&dataset, &broken, &ResumeOptions::default(), &mut ()).unwrap_err();
    assert!(changed.to_string().contains("[\"case_01\"] changed since it began"), "{changed}");
}

/// Panics in the first step; nothing is saved after it.
struct PanicInFirstStep;

impl TrainObserver for PanicInFirstStep {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Step { .. } = event {
            std::panic::panic_any("killed");
        }
    }
}

/// The pretrained weights were once lost by a kill in the first epoch.
#[test]
fn run_from_pretrained_weights_keeps_them_after_a_kill_in_its_first_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantoms(folder.path(), 3);
    let at = |name: &str| folder.path().join(name);
    finished(train(&dataset, &SplitChoice::default(), &tiny(), &at("trained"), &mut ()).unwrap());
    for ema in [None, Some(0.9)] {
        let config = tiny().with(|c| {
            c.init = Some(at("trained"));
            c.ema = ema;
            c.seed = 5;
            c.epochs = Some(1);
        });
        let run = |name: &str| at(&format!("{name} {ema:?}"));
        finished(train(&dataset, &SplitChoice::default(), &config, &run("whole"), &mut ()).unwrap());
        let killed = std::panic::catch_unwind(|| {
            train(&dataset, &SplitChoice::default(), &config, &run("killed"), &mut PanicInFirstStep).ok()
        });
        assert!(killed.is_err());
        finished(resume(&dataset, &run("killed"), &ResumeOptions::default(), &mut ()).unwrap());
        assert_eq!(losses(&run("killed")), losses(&run("whole")));
        assert_eq!(last_weights(&run("killed")), last_weights(&run("whole")));

        assert!(
            std::panic::catch_unwind(|| {
                train(&dataset, &SplitChoice::default(), &config, &run("lost"), &mut PanicInFirstStep).ok()
            })
            .is_err()
        );
        std::fs::remove_file(run("lost").join("checkpoints/last.ckpt")).unwrap();
        let lost = resume(&dataset, &run("lost"), &ResumeOptions::default(), &mut ()).unwrap_err().to_string();
        assert!(lost.contains("the weights that the run started from"), "{lost}");
    }
}

#[test]
fn stopped_and_resumed_3d_run_has_identical_weights() {
    trained_in_parts(tempfile::tempdir().unwrap().path(), &tiny_blocks());
}

#[test]
fn averaged_weights_are_kept_and_exported() {
    let folder = tempfile::tempdir().unwrap();
    for (name, plain) in [("slices", tiny()), ("blocks", tiny_blocks())] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let config = plain.clone().with(|c| c.ema = Some(0.9));
        let (dataset, run) = trained_in_parts(&folder, &config);
        assert_ne!(exported(&run, Weights::Last), last_weights(&run), "{name}");
        // Averaging does not change the training.
        let without = folder.join("without");
        finished(train(&dataset, &SplitChoice::default(), &plain, &without, &mut ()).unwrap());
        assert_eq!(last_weights(&without), last_weights(&run), "{name}");
        assert_eq!(exported(&without, Weights::Last), last_weights(&without), "{name}");

        // A run that averages cannot be resumed from a checkpoint without an average.
        let last = "checkpoints/last.ckpt";
        std::fs::copy(without.join(last), run.join(last)).unwrap();
        let refused = resume(&dataset, &run, &ResumeOptions::default().with(|c| c.epochs = Some(4)), &mut ());
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("it holds no mean of the weights, though the run averages them"), "{refused}");
    }
}

/// Older programs can read checkpoints without an average.
#[test]
fn only_checkpoints_with_averaged_weights_have_the_new_version() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantoms(folder.path(), 3);
    let version = |run: &Path, which: &str| {
        let bytes = std::fs::read(run.join("checkpoints").join(which)).unwrap();
        let length = u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[16..16 + length]).unwrap();
        header["format_version"].as_u64().unwrap()
    };
    for (ema, last) in [(None, 2), (Some(0.9), 3)] {
        let at = folder.path().join(format!("run {last}"));
        let config = tiny().with(|c| {
            c.ema = ema;
            c.epochs = Some(1);
            c.steps_per_epoch = Some(2);
        });
        finished(train(&dataset, &SplitChoice::default(), &config, &at, &mut ()).unwrap());
        assert_eq!((version(&at, "best.ckpt"), version(&at, "last.ckpt")), (2, last));
    }
}

#[test]
fn non_finite_loss_keeps_the_last_good_weights() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantoms(folder.path(), 3);
    let at = folder.path().join("run");
    let config = tiny().with(|c| {
        c.epochs = Some(1);
        c.optimizer = Optimizer::Adam;
    });
    finished(train(&dataset, &SplitChoice::default(), &config, &at, &mut ()).unwrap());
    let good = last_weights(&at);

    let file = at.join("run.json");
    let manifest = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, manifest.replace("\"learning_rate\": 0.01", "\"learning_rate\": 1e38")).unwrap();
    let changes = ResumeOptions::default().with(|c| c.epochs = Some(2));
    let diverged = resume(&dataset, &at, &changes, &mut ()).unwrap_err();
    assert!(matches!(diverged, TrainError::Diverged { epoch: 2, .. }), "{diverged}");
    assert!(diverged.to_string().contains("Lower the learning rate"), "{diverged}");
    assert_eq!(last_weights(&at), good);
    assert!(Checkpoint::load(&at.join("checkpoints/best.ckpt")).is_ok());
}

/// There is neither a next loss nor a validation score that would show it.
#[test]
fn diverged_last_step_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantoms(folder.path(), 3);
    let at = folder.path().join("run");
    let config = tiny_blocks().with(|c| {
        c.steps_per_epoch = Some(1);
        c.epochs = Some(1);
        c.warmup_steps = 0;
    });
    finished(train(&dataset, &SplitChoice::All, &config, &at, &mut ()).unwrap());
    let good = last_weights(&at);
    let file = at.join("run.json");
    let manifest = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, manifest.replace("\"learning_rate\": 0.01", "\"learning_rate\": 1e300")).unwrap();
    let changes = ResumeOptions::default().with(|c| c.epochs = Some(2));
    let diverged = resume(&dataset, &at, &changes, &mut ()).unwrap_err();
    assert!(matches!(diverged, TrainError::Diverged { epoch: 2, step: 1, .. }), "{diverged}");
    assert_eq!(last_weights(&at), good);
}
