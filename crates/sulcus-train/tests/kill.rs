//! A training that is killed at a chosen point and resumed has the weights of an uninterrupted training.
//!
//! The training runs in a child process, which is this test binary with [`killed_training`] as its only test. The child
//! aborts itself from its observer, so that the kill always happens at the chosen point. It writes the point's name into a
//! file before, which the parent checks.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "../../sulcus-dataset/tests/scans/mod.rs"]
mod scans;

use std::path::Path;
use std::process::{Command, Stdio};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_pipeline::Predictor;
use sulcus_plan::{DeviceChoice, TrainConfig, preset};
use sulcus_train::{
    Checkpoint, Event, NetworkPredictor, ResumeOptions, Run, Status, TrainObserver, TrainOutcome, Weights,
    find_device, read_history, resume, train,
};

const EPOCHS: usize = 3;
/// The child reads the name of the kill point from this file in its working directory.
const POINT: &str = "kill_point";
/// The child writes this file just before it aborts.
const REACHED: &str = "killed_at";

/// Where the training is killed. Epochs and steps count from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
enum KillPoint {
    /// After a step.
    Step { epoch: usize, step: usize },
    /// After a checkpoint is written under its temporary name, before it is renamed.
    Saving { epoch: usize, weights: Weights },
    /// While validation cases are scored at the end of an epoch.
    Scoring { epoch: usize, done: usize },
    /// While the best weights are scored, after the last epoch.
    FinalScoring { done: usize },
    /// Between two epochs.
    Epoch { epoch: usize },
}

const KILL_POINTS: [KillPoint; 9] = [
    KillPoint::Step { epoch: 1, step: 5 },
    KillPoint::Saving { epoch: 1, weights: Weights::Best },
    KillPoint::Saving { epoch: 1, weights: Weights::Last },
    KillPoint::Epoch { epoch: 1 },
    KillPoint::Step { epoch: 2, step: 1 },
    KillPoint::Scoring { epoch: 2, done: 1 },
    KillPoint::Saving { epoch: 2, weights: Weights::Last },
    KillPoint::Step { epoch: EPOCHS, step: 7 },
    KillPoint::FinalScoring { done: 1 },
];

fn config() -> TrainConfig {
    let mut network = preset("unet2d-lite").unwrap();
    network.stages.truncate(2);
    network.stages.iter_mut().zip([6, 12]).for_each(|(stage, channels)| stage.channels = channels);
    TrainConfig::new(network).with(|c| {
        c.batch_size = Some(4);
        c.epochs = Some(EPOCHS);
        c.steps_per_epoch = Some(8);
        c.learning_rate = 1e-2;
        c.warmup_steps = 5;
        c.ema = Some(0.9);
        c.device = DeviceChoice::Cpu.into();
    })
}

/// Two validation cases, so that scoring can be interrupted between them.
fn split(home: &Path) -> SplitChoice {
    SplitChoice::HoldOut { splits: Some(home.join("splits.json")), fold: 0 }
}

fn write_data(home: &Path) -> Dataset {
    let names = scans::decathlon(&home.join("data"), 4, [20, 24, 16]);
    let splits = serde_json::json!([{"train": &names[..2], "val": &names[2..]}]);
    std::fs::write(home.join("splits.json"), splits.to_string()).unwrap();
    Dataset::open(home.join("data")).unwrap()
}

/// Aborts the process at a kill point.
struct AbortAt<'a> {
    point: KillPoint,
    home: &'a Path,
    /// Finished epochs.
    epochs: usize,
}

impl TrainObserver for AbortAt<'_> {
    fn event(&mut self, event: Event<'_>) {
        let reached = match event {
            Event::Step { epoch, step, .. } => KillPoint::Step { epoch, step },
            Event::Saving { weights } => KillPoint::Saving { epoch: self.epochs + 1, weights },
            Event::Scoring { done, .. } if self.epochs == EPOCHS => KillPoint::FinalScoring { done },
            Event::Scoring { done, .. } => KillPoint::Scoring { epoch: self.epochs + 1, done },
            Event::Epoch(record) => {
                self.epochs = record.epoch;
                KillPoint::Epoch { epoch: record.epoch }
            }
            _ => return,
        };
        if reached == self.point {
            std::fs::write(self.home.join(REACHED), format!("{reached:?}")).unwrap();
            std::process::abort();
        }
    }
}

/// The child process.
#[test]
#[ignore = "the child process of killed_and_resumed_training_has_identical_weights"]
fn killed_training() {
    let home = std::env::current_dir().unwrap();
    let Ok(name) = std::fs::read_to_string(home.join(POINT)) else { return };
    let point = KILL_POINTS.into_iter().find(|point| format!("{point:?}") == name).unwrap();
    let dataset = Dataset::open(home.join("data")).unwrap();
    let mut observer = AbortAt { point, home: &home, epochs: 0 };
    train(&dataset, &split(&home), &config(), &home.join("run"), &mut observer).unwrap();
}

/// All weights, and the network's answer, which also depends on the running statistics of batch normalisation.
fn weights_and_answer(checkpoint: &Path, average: bool) -> (Vec<f32>, Vec<f32>) {
    struct Collect(Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
            self.0.extend(parameter.val().try_into_vec_as::<f32>().unwrap());
        }
    }
    let device = find_device(DeviceChoice::Cpu).unwrap().0;
    let checkpoint = Checkpoint::load(checkpoint).unwrap();
    let network =
        if average { checkpoint.trained_network(&device).unwrap() } else { checkpoint.network(&device).unwrap() };
    let mut weights = Collect(Vec::new());
    network.visit(&mut weights);
    let values = (0..256).map(|i| i as f32 / 99.0).collect();
    let input = sulcus_pipeline::Tensor::new(vec![1, 1, 16, 16], values).unwrap();
    let answer = NetworkPredictor::new(&network, &device).logits(input).unwrap().data().to_vec();
    (weights.0, answer)
}

/// Weights and answers of the checkpoints, loss and score of each epoch, the final score.
type RunResult = (Vec<(Vec<f32>, Vec<f32>)>, Vec<(f64, Option<f64>)>, Option<f64>);

/// What must not depend on an interruption: the weights of all checkpoints, the losses and the scores.
fn result(run: &Path) -> RunResult {
    let last = Weights::Last.file_in(run);
    let weights = vec![
        weights_and_answer(&last, false),
        weights_and_answer(&last, true),
        weights_and_answer(&Weights::Best.file_in(run), true),
    ];
    let history = read_history(&run.join("history.jsonl")).unwrap();
    let progress = Run::open(run).unwrap().manifest().progress.clone();
    assert_eq!(progress.status, Status::Finished);
    (weights, history.iter().map(|r| (r.loss, r.mean_dice)).collect(), progress.validation_dice)
}

/// The files of the checkpoints, which the kit names.
trait FileIn {
    fn file_in(&self, run: &Path) -> std::path::PathBuf;
}

impl FileIn for Weights {
    fn file_in(&self, run: &Path) -> std::path::PathBuf {
        run.join("checkpoints").join(if *self == Weights::Best { "best.ckpt" } else { "last.ckpt" })
    }
}

fn temporary_files(run: &Path) -> usize {
    let names = std::fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".tmp")).count()
}

#[test]
fn killed_and_resumed_training_has_identical_weights() {
    let folder = tempfile::tempdir().unwrap();
    let uninterrupted = folder.path().join("uninterrupted");
    std::fs::create_dir(&uninterrupted).unwrap();
    let dataset = write_data(&uninterrupted);
    let run = uninterrupted.join("run");
    let outcome = train(&dataset, &split(&uninterrupted), &config(), &run, &mut ()).unwrap();
    assert!(matches!(outcome, TrainOutcome::Finished { epochs: EPOCHS, .. }), "{outcome:?}");
    let expected = result(&run);
    assert_eq!(expected.1.len(), EPOCHS);

    for (index, point) in KILL_POINTS.into_iter().enumerate() {
        let home = folder.path().join(format!("killed_{index}"));
        std::fs::create_dir(&home).unwrap();
        let dataset = write_data(&home);
        std::fs::write(home.join(POINT), format!("{point:?}")).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed_training", "--ignored"])
            .current_dir(&home)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!child.success(), "{point:?}: the child was not killed");
        let reached = std::fs::read_to_string(home.join(REACHED)).unwrap();
        assert_eq!(reached, format!("{point:?}"), "the child was killed elsewhere");
        let run = home.join("run");
        let killed = Run::open(&run).unwrap();
        assert_eq!(killed.manifest().progress.status, Status::Training, "{point:?}");
        if let KillPoint::Saving { .. } = point {
            // The temporary file is still there.
            assert_eq!(temporary_files(&run), 1, "{point:?}");
        }

        let outcome = resume(&dataset, &run, &ResumeOptions::default(), &mut ()).unwrap();
        assert!(matches!(outcome, TrainOutcome::Finished { epochs: EPOCHS, .. }), "{point:?}: {outcome:?}");
        assert!(result(&run) == expected, "{point:?}: the resumed training differs");
        assert_eq!(temporary_files(&run), 0, "{point:?}");
    }
}
