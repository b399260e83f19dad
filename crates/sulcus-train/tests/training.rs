//! The training loop on small phantoms: it learns, it can be interrupted, and it keeps what it promises on disk.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod scans;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use sulcus_model::{
    Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, OutputActivation, StageConfig,
};
use sulcus_pipeline::Predictor;
use sulcus_train::{
    Augmentation, Changes, Checkpoint, Dataset, DeviceChoice, Event, NetworkPredictor, Optimiser, Outcome, Run,
    SplitChoice, Status, TrainConfig, TrainError, TrainObserver, UNet, Weights, preset, read_history, resume,
    train,
};

const SHAPE: [usize; 3] = [20, 24, 16];

/// Two stages of a few maps: enough for a ball and a box.
fn tiny() -> TrainConfig {
    let mut network = preset("unet2d-lite").unwrap();
    network.stages.truncate(2);
    network.stages.iter_mut().zip([6, 12]).for_each(|(stage, channels)| stage.channels = channels);
    let mut config = TrainConfig::new(network);
    config.batch_size = Some(4);
    config.epochs = Some(3);
    config.steps_per_epoch = Some(12);
    config.learning_rate = 1e-2;
    config.warmup_steps = 5;
    config.device = DeviceChoice::Cpu.into();
    config
}

/// Blocks, with all that a step can have: residual blocks, deep supervision, SGD with momentum, clipped gradients,
/// nnU-Net's augmentations.
fn tiny_blocks() -> TrainConfig {
    let stage = |(depth, channels): (usize, usize)| StageConfig {
        channels,
        convolutions: 1,
        kernel: vec![3; 3],
        stride: vec![if depth == 0 { 1 } else { 2 }; 3],
    };
    let network = NetworkSpec {
        name: "tiny blocks".into(),
        dimensions: Dimensions::Three,
        stages: [4, 6, 8, 8].into_iter().enumerate().map(stage).collect(),
        norm: Norm::Instance,
        activation: Activation::LeakyRelu { slope: 0.01 },
        downsampling: Downsampling::StridedConvolution,
        encoder: Encoder::Residual,
        deep_supervision: true,
    };
    let mut config = TrainConfig::new(network);
    config.patch = Some(vec![16, 24, 16]);
    config.batch_size = Some(2);
    config.epochs = Some(3);
    config.steps_per_epoch = Some(12);
    config.optimiser = Optimiser::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 };
    config.learning_rate = 1e-2;
    // Low enough to act.
    config.gradient_clip = Some(0.1);
    config.augmentation = Augmentation::nnunet();
    config.device = DeviceChoice::Cpu.into();
    config
}

/// Stops after so many steps.
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

fn finished(outcome: Outcome) -> Option<f64> {
    match outcome {
        Outcome::Finished { validation_dice, .. } => validation_dice,
        Outcome::Stopped { .. } => panic!("it stopped: {outcome:?}"),
    }
}

/// What the weights of the last step answer.
fn last_weights(run: &Path) -> Vec<f32> {
    let device = DeviceChoice::Cpu.resolve().unwrap().0;
    answer(&Checkpoint::load(&run.join("checkpoints/last.ckpt")).unwrap().network(&device).unwrap())
}

/// What the network that would be exported answers.
fn exported(run: &Path, weights: Weights) -> Vec<f32> {
    let device = DeviceChoice::Cpu.resolve().unwrap().0;
    answer(&Run::open(run).unwrap().load_network(weights, &device).unwrap())
}

fn answer(network: &UNet) -> Vec<f32> {
    let device = DeviceChoice::Cpu.resolve().unwrap().0;
    let axes = network.dimensions().count();
    let values = (0..16_usize.pow(axes as u32)).map(|i| (i % 256) as f32 / 99.0).collect();
    let input = sulcus_pipeline::Tensor::new([vec![1, 1], vec![16; axes]].concat(), values).unwrap();
    NetworkPredictor::new(network, &device).logits(input).unwrap().data().to_vec()
}

#[test]
fn it_learns_and_leaves_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 5, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let at = folder.path().join("run");
    let config = TrainConfig { epochs: Some(5), steps_per_epoch: Some(50), ..tiny() };
    let dice = finished(train(&dataset, &SplitChoice::default(), &config, &at, &mut ()).unwrap()).unwrap();
    assert!(dice > 0.8, "Dice {dice}");

    let run = Run::open(&at).unwrap();
    let history = run.history().unwrap();
    assert_eq!(history.len(), 5);
    assert!(history[4].loss < 0.6 * history[0].loss, "{} then {}", history[0].loss, history[4].loss);
    assert_eq!(history[4].steps, 250);
    let manifest = run.manifest();
    assert_eq!((manifest.progress.status, manifest.progress.epochs), (Status::Finished, 5));
    assert_eq!((manifest.split.training.len(), manifest.split.validation.len()), (4, 1));
    assert_eq!(manifest.plan.output, OutputActivation::Softmax);
    assert_eq!(manifest.data_sha256.len(), 5);
    let summary = run.summary().unwrap().unwrap();
    assert_eq!(summary.mean_dice(), Some(dice));
    let held_out = &manifest.split.validation[0];
    let mask = sulcus_io::read_labels(&at.join("validation").join(format!("{held_out}.nii.gz"))).unwrap();
    let truth = sulcus_io::read_labels(&scans::label_file(&root, held_out)).unwrap();
    mask.0.geometry().check_same_grid(truth.0.geometry()).unwrap();
    assert!(std::fs::read_to_string(at.join("curves.svg")).unwrap().contains("in epoch"));

    // What an export needs, without the data set.
    std::fs::remove_dir_all(&root).unwrap();
    let device = DeviceChoice::Cpu.resolve().unwrap().0;
    let predictor = NetworkPredictor::new(&run.load_network(Weights::Best, &device).unwrap(), &device);
    let spec = run.model_spec(Weights::Best, &predictor).unwrap();
    assert_eq!(spec.training.validation_dice, Some(dice));
    assert_eq!((spec.training.training_cases, spec.training.epochs), (4, manifest.progress.best_epoch));
    assert!(spec.golden_case.unwrap().foreground_voxels > 0);
    let inputs = run.parity_inputs(4).unwrap();
    assert!(inputs.iter().any(|i| i.shape()[0] == 2), "a batch of two");
    assert!(inputs.iter().all(|i| predictor.logits(i.clone()).is_ok()));

    let again = train(&dataset, &SplitChoice::All, &config, &at, &mut ()).unwrap_err();
    assert!(matches!(again, TrainError::RunExists { .. }), "{again}");
}

fn losses(run: &Path) -> Vec<f64> {
    read_history(&run.join("history.jsonl")).unwrap().iter().map(|r| r.loss).collect()
}

/// Trains in one go and in three parts; gives the data set and the run in parts, once both have ended alike.
fn trained_in_parts(folder: &Path, config: &TrainConfig) -> (Dataset, PathBuf) {
    let root = folder.join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let whole = folder.join("whole");
    finished(train(&dataset, &SplitChoice::default(), config, &whole, &mut ()).unwrap());

    // Once in the middle of an epoch, with another number of workers; once between two.
    let broken = folder.join("broken");
    let stopped =
        train(&dataset, &SplitChoice::default(), config, &broken, &mut StopAfter(Cell::new(17))).unwrap();
    assert!(matches!(stopped, Outcome::Stopped { epochs: 1, .. }), "{stopped:?}");
    assert_eq!(Run::open(&broken).unwrap().manifest().progress.status, Status::Stopped);
    let changes = Changes { workers: Some(3), ..Changes::default() };
    let stopped = resume(&dataset, &broken, &changes, &mut StopAfter(Cell::new(7))).unwrap();
    assert!(matches!(stopped, Outcome::Stopped { epochs: 1, .. }), "{stopped:?}");
    finished(resume(&dataset, &broken, &Changes::default(), &mut ()).unwrap());

    assert_eq!(last_weights(&broken), last_weights(&whole));
    for weights in [Weights::Best, Weights::Last] {
        assert_eq!(exported(&broken, weights), exported(&whole, weights));
    }
    assert_eq!(losses(&broken), losses(&whole));
    (dataset, broken)
}

#[test]
fn a_stopped_run_goes_on_as_if_it_had_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, broken) = trained_in_parts(folder.path(), &tiny());
    let root = folder.path().join("data");

    // More epochs than it was begun with; a line that a crash cut short is no obstacle.
    let mut history = std::fs::read_to_string(broken.join("history.jsonl")).unwrap();
    history.push_str("{\"epoch\":4,\"st");
    std::fs::write(broken.join("history.jsonl"), history).unwrap();
    finished(resume(&dataset, &broken, &Changes { epochs: Some(4), ..Changes::default() }, &mut ()).unwrap());
    assert_eq!(losses(&broken).len(), 4);

    scans::write_labels(
        &scans::label_file(&root, "case_01"),
        scans::geometry(SHAPE, [1.0; 3]),
        scans::phantom(SHAPE, 2, 2).1,
    );
    let changed = resume(&dataset, &broken, &Changes::default(), &mut ()).unwrap_err();
    assert!(changed.to_string().contains("[\"case_01\"] changed since it began"), "{changed}");
}

/// As a kill: nothing after it is done.
struct Dies;

impl TrainObserver for Dies {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Step { .. } = event {
            std::panic::panic_any("killed");
        }
    }
}

/// Weights that a run was started from were once forgotten by a kill in its first epoch.
#[test]
fn a_run_from_trained_weights_that_was_killed_in_its_first_epoch_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let at = |name: &str| folder.path().join(name);
    finished(train(&dataset, &SplitChoice::default(), &tiny(), &at("trained"), &mut ()).unwrap());
    for ema in [None, Some(0.9)] {
        let config = TrainConfig { init: Some(at("trained")), ema, seed: 5, epochs: Some(1), ..tiny() };
        let run = |name: &str| at(&format!("{name} {ema:?}"));
        finished(train(&dataset, &SplitChoice::default(), &config, &run("whole"), &mut ()).unwrap());
        let killed = std::panic::catch_unwind(|| {
            train(&dataset, &SplitChoice::default(), &config, &run("killed"), &mut Dies)
        });
        assert!(killed.is_err());
        finished(resume(&dataset, &run("killed"), &Changes::default(), &mut ()).unwrap());
        assert_eq!(losses(&run("killed")), losses(&run("whole")));
        assert_eq!(last_weights(&run("killed")), last_weights(&run("whole")));

        assert!(
            std::panic::catch_unwind(|| {
                train(&dataset, &SplitChoice::default(), &config, &run("lost"), &mut Dies)
            })
            .is_err()
        );
        std::fs::remove_file(run("lost").join("checkpoints/last.ckpt")).unwrap();
        let lost = resume(&dataset, &run("lost"), &Changes::default(), &mut ()).unwrap_err().to_string();
        assert!(lost.contains("the weights that the run started from"), "{lost}");
    }
}

#[test]
fn a_stopped_run_of_blocks_goes_on_as_if_it_had_never_stopped() {
    trained_in_parts(tempfile::tempdir().unwrap().path(), &tiny_blocks());
}

#[test]
fn a_mean_of_weights_is_kept_and_is_what_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    for (name, plain) in [("slices", tiny()), ("blocks", tiny_blocks())] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let config = TrainConfig { ema: Some(0.9), ..plain.clone() };
        let (dataset, run) = trained_in_parts(&folder, &config);
        assert_ne!(exported(&run, Weights::Last), last_weights(&run), "{name}");
        // What is trained does not change by being averaged.
        let without = folder.join("without");
        finished(train(&dataset, &SplitChoice::default(), &plain, &without, &mut ()).unwrap());
        assert_eq!(last_weights(&without), last_weights(&run), "{name}");
        assert_eq!(exported(&without, Weights::Last), last_weights(&without), "{name}");

        // A run that averages does not go on from weights alone.
        let last = "checkpoints/last.ckpt";
        std::fs::copy(without.join(last), run.join(last)).unwrap();
        let refused = resume(&dataset, &run, &Changes { epochs: Some(4), ..Changes::default() }, &mut ());
        let refused = refused.unwrap_err().to_string();
        assert!(refused.starts_with("it holds no mean of the weights, though the run averages them"), "{refused}");
    }
}

/// Files without a mean can be read by programs that know of none.
#[test]
fn only_checkpoints_with_a_mean_of_weights_are_of_a_new_version() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let version = |run: &Path, which: &str| {
        let bytes = std::fs::read(run.join("checkpoints").join(which)).unwrap();
        let length = u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[16..16 + length]).unwrap();
        header["format_version"].as_u64().unwrap()
    };
    for (ema, last) in [(None, 2), (Some(0.9), 3)] {
        let at = folder.path().join(format!("run {last}"));
        let config = TrainConfig { ema, epochs: Some(1), steps_per_epoch: Some(2), ..tiny() };
        finished(train(&dataset, &SplitChoice::default(), &config, &at, &mut ()).unwrap());
        assert_eq!((version(&at, "best.ckpt"), version(&at, "last.ckpt")), (2, last));
    }
}

#[test]
fn training_ends_early_when_the_score_does_not_rise() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    // Without batch normalisation nothing moves but the weights.
    let still = TrainConfig { learning_rate: 1e-12, early_stopping: Some(2), epochs: Some(9), ..tiny_blocks() };
    let epochs = |name: &str, config: &TrainConfig| {
        let at = folder.path().join(name);
        finished(train(&dataset, &SplitChoice::default(), config, &at, &mut ()).unwrap());
        read_history(&at.join("history.jsonl")).unwrap().len()
    };
    // The first epoch's score, and two that are no better.
    assert_eq!(epochs("still", &still), 3);
    let patient = TrainConfig { early_stopping: None, epochs: Some(4), ..still.clone() };
    assert_eq!(epochs("patient", &patient), 4);
    // Nothing held out, nothing to judge by.
    let all = train(&dataset, &SplitChoice::All, &still, &folder.path().join("all"), &mut ()).unwrap_err();
    assert!(all.to_string().contains("no case is held out"), "{all}");
}

#[test]
fn a_loss_that_is_no_number_keeps_the_last_good_weights() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let at = folder.path().join("run");
    let config = TrainConfig { epochs: Some(1), optimiser: Optimiser::Adam, ..tiny() };
    finished(train(&dataset, &SplitChoice::default(), &config, &at, &mut ()).unwrap());
    let good = last_weights(&at);

    let file = at.join("run.json");
    let manifest = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, manifest.replace("\"learning_rate\": 0.01", "\"learning_rate\": 1e38")).unwrap();
    let changes = Changes { epochs: Some(2), ..Changes::default() };
    let diverged = resume(&dataset, &at, &changes, &mut ()).unwrap_err();
    assert!(matches!(diverged, TrainError::Diverged { epoch: 2, .. }), "{diverged}");
    assert!(diverged.to_string().contains("Lower the learning rate"), "{diverged}");
    assert_eq!(last_weights(&at), good);
    assert!(Checkpoint::load(&at.join("checkpoints/best.ckpt")).is_ok());
}

/// No next loss shows it, and nothing is held out that would.
#[test]
fn a_last_step_that_diverges_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let at = folder.path().join("run");
    let config = TrainConfig { steps_per_epoch: Some(1), epochs: Some(1), warmup_steps: 0, ..tiny_blocks() };
    finished(train(&dataset, &SplitChoice::All, &config, &at, &mut ()).unwrap());
    let good = last_weights(&at);
    let file = at.join("run.json");
    let manifest = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, manifest.replace("\"learning_rate\": 0.01", "\"learning_rate\": 1e300")).unwrap();
    let changes = Changes { epochs: Some(2), ..Changes::default() };
    let diverged = resume(&dataset, &at, &changes, &mut ()).unwrap_err();
    assert!(matches!(diverged, TrainError::Diverged { epoch: 2, step: 1, .. }), "{diverged}");
    assert_eq!(last_weights(&at), good);
}

#[test]
fn one_structure_is_a_sigmoid_and_all_cases_need_no_split() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    for part in ["images", "labels"] {
        std::fs::create_dir_all(root.join(part)).unwrap();
    }
    for seed in 0..2 {
        let (image, labels) = scans::phantom(SHAPE, 1, seed);
        let geometry = scans::geometry(SHAPE, [1.0, 1.0, 3.0]);
        scans::write_image(&root.join(format!("images/{seed}.nii.gz")), geometry, 1, image);
        scans::write_labels(&root.join(format!("labels/{seed}.nii.gz")), geometry, labels);
    }
    let dataset = Dataset::open(&root).unwrap();
    let at = folder.path().join("run");
    let config = TrainConfig { epochs: Some(2), ..tiny() };
    assert_eq!(finished(train(&dataset, &SplitChoice::All, &config, &at, &mut ()).unwrap()), None);
    let run = Run::open(&at).unwrap();
    assert_eq!(run.manifest().plan.output, OutputActivation::Sigmoid);
    // Slices lie across the coarsest axis.
    assert_eq!(run.manifest().plan.orientation.to_string(), "RAS");
    assert_eq!(run.manifest().progress.best_epoch, 2);
    assert!(run.summary().unwrap().is_none());
    let history = run.history().unwrap();
    assert!(history[1].loss < history[0].loss);
}

#[test]
fn a_time_budget_ends_an_epoch_early_and_is_never_too_short_for_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 3, SHAPE);
    let dataset = Dataset::open(&root).unwrap();
    let at = folder.path().join("run");
    let config = TrainConfig { epochs: None, time_budget_secs: Some(1e-6), ..tiny() };
    let dice = finished(train(&dataset, &SplitChoice::default(), &config, &at, &mut ()).unwrap());
    assert!(dice.is_some());
    let history = Run::open(&at).unwrap().history().unwrap();
    assert_eq!((history.len(), history[0].steps), (1, 1));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("data");
    scans::decathlon(&root, 2, SHAPE);
    let in_the_way = folder.path().join("run");
    std::fs::write(&in_the_way, "a file").unwrap();
    let dataset = Dataset::open(&root).unwrap();
    let refused = train(&dataset, &SplitChoice::All, &tiny(), &in_the_way, &mut ()).unwrap_err().to_string();
    assert!(refused.starts_with("the run's folder cannot be made: "), "{refused}");
    assert!(refused.ends_with("run/checkpoints"), "{refused}");
}

#[test]
fn a_folder_that_is_no_run_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let message = Run::open(folder.path()).unwrap_err().to_string();
    assert!(message.starts_with("this folder is no run of `sulcus train`: it has no run.json: "), "{message}");
    std::fs::write(folder.path().join("run.json"), "{\"format_version\": 9}").unwrap();
    let message = Run::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("has format version 9, this program knows 2"), "{message}");
}
