//! The training loop on small phantoms: learning, refusals, interruption, and the files of a run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod resuming;
#[path = "../../../sulcus-dataset/tests/scans/mod.rs"]
mod scans;

use std::path::Path;

use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_model::{Encoder, OutputActivation};
use sulcus_pipeline::Predictor;
use sulcus_plan::{Augmentation, DeviceChoice, Optimizer, SpacingChoice, TrainConfig, preset};
use sulcus_testing::{test_spec, test_stage};
use sulcus_train::{
    Checkpoint, Event, NetworkPredictor, Preflight, PreflightError, ResumeOptions, Run, Status, TrainError,
    TrainObserver, TrainOutcome, UNet, Weights, find_device, read_history, resume, train,
};
use sulcus_volume::{Orientation, Spacing};

const SHAPE: [usize; 3] = [20, 24, 16];

/// A network of two stages with few maps, sufficient for a ball and a box.
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

/// A 3-D network with all features of a step: residual blocks, deep supervision, SGD with momentum, clipped gradients,
/// nnU-Net's augmentation.
fn tiny_blocks() -> TrainConfig {
    let stages = vec![test_stage(3, 4, 1), test_stage(3, 6, 2), test_stage(3, 8, 2), test_stage(3, 8, 2)];
    let mut network = test_spec(3).name("tiny blocks").strided().stages(stages).build().network;
    (network.encoder, network.deep_supervision) = (Encoder::Residual, true);
    let mut config = TrainConfig::new(network);
    config.patch = Some(vec![16, 24, 16]);
    config.batch_size = Some(2);
    config.epochs = Some(3);
    config.steps_per_epoch = Some(12);
    config.optimizer = Optimizer::Sgd { momentum: 0.99, nesterov: true, weight_decay: 3e-5 };
    config.learning_rate = 1e-2;
    // Low enough to have an effect.
    config.gradient_clip = Some(0.1);
    config.augmentation = Augmentation::nnunet();
    config.device = DeviceChoice::Cpu.into();
    config
}

fn finished(outcome: TrainOutcome) -> Option<f64> {
    match outcome {
        TrainOutcome::Finished { validation_dice, .. } => validation_dice,
        _ => panic!("it did not finish: {outcome:?}"),
    }
}

/// The output of the network with the weights of the last step.
fn last_weights(run: &Path) -> Vec<f32> {
    let device = find_device(DeviceChoice::Cpu).unwrap().0;
    answer(&Checkpoint::load(&run.join("checkpoints/last.ckpt")).unwrap().network(&device).unwrap())
}

/// The output of the network that would be exported.
fn exported(run: &Path, weights: Weights) -> Vec<f32> {
    let device = find_device(DeviceChoice::Cpu).unwrap().0;
    answer(&Run::open(run).unwrap().load_network(weights, &device).unwrap())
}

fn answer(network: &UNet) -> Vec<f32> {
    let device = find_device(DeviceChoice::Cpu).unwrap().0;
    let axes = network.dimensions().count();
    let values = (0..16_usize.pow(axes as u32)).map(|i| (i % 256) as f32 / 99.0).collect();
    let input = sulcus_pipeline::Tensor::new([vec![1, 1], vec![16; axes]].concat(), values).unwrap();
    NetworkPredictor::new(network, &device).logits(input).unwrap().data().to_vec()
}

/// A data set of this many cases in the folder `data`.
fn phantoms(folder: &Path, cases: usize) -> Dataset {
    let root = folder.join("data");
    scans::decathlon(&root, cases, SHAPE);
    Dataset::open(&root).unwrap()
}

#[test]
fn training_learns_and_writes_a_complete_run() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantoms(folder.path(), 5);
    let at = folder.path().join("run");
    let config = tiny().with(|c| {
        c.epochs = Some(5);
        c.steps_per_epoch = Some(50);
    });
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
    let truth = sulcus_io::read_labels(&scans::label_file(dataset.root(), held_out)).unwrap();
    mask.0.geometry().check_same_grid(truth.0.geometry()).unwrap();
    assert!(std::fs::read_to_string(at.join("curves.svg")).unwrap().contains("in epoch"));

    // The data that an export needs, without the data set.
    std::fs::remove_dir_all(dataset.root()).unwrap();
    let device = find_device(DeviceChoice::Cpu).unwrap().0;
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

/// The export of such a plan failed after the training.
#[test]
fn plan_2d_that_resamples_one_slice_to_two_is_exported() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantoms(folder.path(), 3);
    let spacing = SpacingChoice::Resample(Spacing::new([1.0, 0.8, 0.5]).unwrap());
    let config = tiny().with(|c| {
        (c.epochs, c.steps_per_epoch) = (Some(1), Some(1));
        (c.spacing, c.orientation) = (spacing, Some(Orientation::RAS.into()));
    });
    let at = folder.path().join("run");
    finished(train(&dataset, &SplitChoice::All, &config, &at, &mut ()).unwrap());

    let run = Run::open(&at).unwrap();
    let device = find_device(DeviceChoice::Cpu).unwrap().0;
    let predictor = NetworkPredictor::new(&run.load_network(Weights::Best, &device).unwrap(), &device);
    let inputs = run.parity_inputs(4).unwrap();
    let items: Vec<usize> = inputs.iter().map(|input| input.shape()[0]).collect();
    assert_eq!(items, [4, 2, 2], "two slices of each sample, the first sample twice");
    assert!(inputs.iter().all(|input| predictor.logits(input.clone()).is_ok()));
    assert!(run.model_spec(Weights::Best, &predictor).unwrap().golden_case.is_some());
}

/// Accepts or refuses the model before the first step.
struct Inspector {
    refuses: bool,
    inspected: usize,
    steps: usize,
}

impl TrainObserver for Inspector {
    fn event(&mut self, event: Event<'_>) {
        self.steps += usize::from(matches!(event, Event::Step { .. }));
    }

    fn preflight(&mut self, model: &Preflight<'_>) -> Result<(), PreflightError> {
        assert_eq!(self.steps, 0);
        self.inspected += 1;
        assert!(model.spec().golden_case.is_some() && !model.file().is_empty() && !model.inputs().is_empty());
        let scan = model.scan().unwrap();
        // Slices lie across the shortest axis; eight slices are used.
        assert_eq!(scan.geometry().voxels(), 20 * 24 * 8, "{}", model.case());
        if self.refuses { Err("no engine takes it".into()) } else { Ok(()) }
    }
}

#[test]
fn refused_preflight_takes_no_step_and_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantoms(folder.path(), 3);
    let at = folder.path().join("run");
    let config = tiny().with(|c| (c.epochs, c.steps_per_epoch) = (Some(1), Some(1)));
    let mut strict = Inspector { refuses: true, inspected: 0, steps: 0 };
    let error = train(&dataset, &SplitChoice::All, &config, &at, &mut strict).unwrap_err();
    assert!(matches!(&error, TrainError::Preflight { source } if source.to_string() == "no engine takes it"));
    assert_eq!((strict.inspected, strict.steps), (1, 0));
    assert!(!at.exists());

    let mut lenient = Inspector { refuses: false, inspected: 0, steps: 0 };
    finished(train(&dataset, &SplitChoice::All, &config, &at, &mut lenient).unwrap());
    assert_eq!((lenient.inspected, lenient.steps), (1, 1));
    // A resumed training is checked too; if refused, its files stay.
    let mut strict = Inspector { refuses: true, inspected: 0, steps: 0 };
    let changes = ResumeOptions::default().with(|c| c.epochs = Some(2));
    resume(&dataset, &at, &changes, &mut strict).unwrap_err();
    assert_eq!((strict.inspected, strict.steps), (1, 0));
    finished(resume(&dataset, &at, &changes, &mut ()).unwrap());
}

#[test]
fn early_stopping_ends_training_without_improvement() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantoms(folder.path(), 3);
    // Without batch normalisation only the weights change.
    let still = tiny_blocks().with(|c| {
        c.learning_rate = 1e-12;
        c.early_stopping = Some(2);
        c.epochs = Some(9);
    });
    let epochs = |name: &str, config: &TrainConfig| {
        let at = folder.path().join(name);
        finished(train(&dataset, &SplitChoice::default(), config, &at, &mut ()).unwrap());
        read_history(&at.join("history.jsonl")).unwrap().len()
    };
    // The first epoch, and two without improvement.
    assert_eq!(epochs("still", &still), 3);
    let patient = still.clone().with(|c| {
        c.early_stopping = None;
        c.epochs = Some(4);
    });
    assert_eq!(epochs("patient", &patient), 4);
    // Without validation cases there is no score.
    let all = train(&dataset, &SplitChoice::All, &still, &folder.path().join("all"), &mut ()).unwrap_err();
    assert!(all.to_string().contains("there are no validation cases"), "{all}");
}

#[test]
fn one_structure_uses_a_sigmoid_and_training_on_all_cases_needs_no_split() {
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
    let config = tiny().with(|c| c.epochs = Some(2));
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
fn time_budget_ends_an_epoch_early_and_allows_at_least_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = phantoms(folder.path(), 3);
    let at = folder.path().join("run");
    let config = tiny().with(|c| {
        c.epochs = None;
        c.time_budget_secs = Some(1e-6);
    });
    let dice = finished(train(&dataset, &SplitChoice::default(), &config, &at, &mut ()).unwrap());
    assert!(dice.is_some());
    let history = Run::open(&at).unwrap().history().unwrap();
    assert_eq!((history.len(), history[0].steps), (1, 1));
}

#[test]
fn folder_that_cannot_be_made_is_named() {
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
fn folder_without_a_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let message = Run::open(folder.path()).unwrap_err().to_string();
    assert!(message.starts_with("this folder is not a training run: it has no run.json: "), "{message}");
    std::fs::write(folder.path().join("run.json"), "{\"format_version\": 9}").unwrap();
    let message = Run::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("has format version 9, this program knows 2"), "{message}");
}
