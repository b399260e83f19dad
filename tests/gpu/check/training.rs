//! A short training on real scans, its export, and a training that is killed and resumed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::json;
use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_pipeline::Predictor;
use sulcus_plan::TrainConfig;
use sulcus_runtime::TractPredictor;
use sulcus_train::{
    Event, NetworkPredictor, ResumeOptions, Run, Status, TrainObserver, TrainOutcome, Weights, export_onnx,
    resume, train,
};

use crate::{Args, Failure, Outcome, open, runner};

/// Maximum difference of a logit, relative to the greatest one, between the device and an engine on the processor.
const LOGITS: f32 = 1e-3;
/// Mean Dice that a training of 20 seconds or more reaches on a GPU; random weights have about 0.05.
const MIN_DICE: f64 = 0.5;
/// The check that is run by [`kill_and_resume`] in a process of its own.
pub(crate) const KILLED: &str = "killed-training";
/// Names the run folder of that process.
const FOLDER: &str = "SULCUS_CHECK_FOLDER";
/// Epochs of the training that is killed, which happens in the second one.
const EPOCHS: usize = 3;

/// Counts steps.
#[derive(Default)]
struct Steps(usize);

impl TrainObserver for Steps {
    fn event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Step { .. }) {
            self.0 += 1;
        }
    }
}

fn config(args: &Args) -> Result<TrainConfig, Failure> {
    Ok(TrainConfig::from_preset("unet2d-lite")?.with(|config| config.device = args.device.into()))
}

pub(crate) fn train_and_export(args: &Args) -> Outcome {
    let dataset = Dataset::open(&args.data)?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path().join("run");
    let seconds = args.train_seconds;
    let config = config(args)?.with(|config| config.time_budget_secs = Some(seconds));
    let mut steps = Steps::default();
    let outcome = train(&dataset, &SplitChoice::default(), &config, &folder, &mut steps)?;
    let TrainOutcome::Finished { epochs, validation_dice, seconds, .. } = outcome else {
        return Err(Failure::Failed(format!("the training ended with {outcome:?}")));
    };
    let dice = validation_dice.unwrap_or(f64::NAN);
    let logits = export(args, &folder)?;
    let details = json!({
        "summary": format!("Dice {dice:.4} after {seconds:.0} s, {} steps; exported logits {logits:.1e} apart", steps.0),
        "dice": dice, "epochs": epochs, "steps": steps.0, "seconds": seconds, "exported_logits": logits,
    });
    if logits.is_nan() || logits > LOGITS {
        return Err(Failure::Failed(format!("the exported model computes other logits: {details}")));
    }
    if args.train_seconds >= 20.0 && (dice.is_nan() || dice < MIN_DICE) {
        return Err(Failure::Failed(format!("the network did not learn: {details}")));
    }
    Ok(details)
}

/// Exports the best weights; the maximum difference of the device's logits to those of the file in tract, relative to the
/// greatest one.
fn export(args: &Args, folder: &Path) -> Result<f32, Failure> {
    let (device, _) = open(args)?;
    let run = Run::open(folder)?;
    let network = run.load_network(Weights::Best, &device)?;
    let on_device = NetworkPredictor::new(&network, &device);
    let spec = run.model_spec(Weights::Best, &on_device)?;
    let file = export_onnx(&network, &spec)?;
    let mut greatest = 0.0_f32;
    for input in run.parity_inputs(2)? {
        let engine = TractPredictor::new(&file, input.shape(), None)?;
        let (found, expected) = (on_device.logits(input.clone())?, engine.logits(input)?);
        greatest = greatest.max(crate::agreement::relative(found.data(), expected.data()));
    }
    Ok(greatest)
}

/// Aborts the process in the second epoch.
struct Abort;

impl TrainObserver for Abort {
    fn event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Step { epoch: 2, step: 2, .. }) {
            std::process::abort();
        }
    }
}

fn short(args: &Args) -> Result<TrainConfig, Failure> {
    Ok(config(args)?.with(|config| {
        config.epochs = Some(EPOCHS);
        config.steps_per_epoch = Some(4);
        config.cases_scored_per_epoch = 1;
    }))
}

/// The training that [`kill_and_resume`] starts: it does not return.
pub(crate) fn killed(args: &Args) -> Outcome {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from);
    let folder = folder.ok_or_else(|| format!("{FOLDER} names no folder"))?;
    let dataset = Dataset::open(&args.data)?;
    train(&dataset, &SplitChoice::default(), &short(args)?, &folder, &mut Abort)?;
    Err(Failure::Failed("the training was not killed".into()))
}

pub(crate) fn kill_and_resume(args: &Args) -> Outcome {
    let dataset = Dataset::open(&args.data)?;
    let home = tempfile::tempdir()?;
    let folder = home.path().join("run");
    let start = Instant::now();
    let mut command: Command = runner::command(KILLED, args)?;
    let output = command.env(FOLDER, &folder).stdin(Stdio::null()).output()?;
    if output.status.success() || Run::open(&folder)?.manifest().progress.status == Status::Finished {
        let message = String::from_utf8_lossy(&output.stdout).into_owned();
        return Err(Failure::Failed(format!("the training was not killed: {message}")));
    }
    let killed = start.elapsed().as_secs_f64();
    let outcome = resume(&dataset, &folder, &ResumeOptions::default(), &mut ())?;
    let TrainOutcome::Finished { epochs: EPOCHS, validation_dice, .. } = outcome else {
        return Err(Failure::Failed(format!("the resumed training ended with {outcome:?}")));
    };
    Ok(json!({
        "summary": format!("killed after {killed:.0} s in epoch 2 and resumed to the end of epoch {EPOCHS}"),
        "dice": validation_dice,
    }))
}
