//! Trains a network from another program and exports it as a model file.
//!
//! `cargo run --release -p sulcus-examples --bin train -- RUN [SECONDS]`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::Path;

use sulcus_dataset::{Dataset, SplitChoice};
use sulcus_model::ModelSpec;
use sulcus_pipeline::{RoundingTolerance, Tensor, compare_predictors};
use sulcus_plan::TrainConfig;
use sulcus_runtime::TractPredictor;
use sulcus_train::{
    Event, NetworkPredictor, Placement, Preflight, PreflightError, Run, TrainObserver, TrainOutcome, Weights,
    export_onnx, train,
};

/// Prints one line per epoch, and checks the model before the first step.
struct Lines;

impl TrainObserver for Lines {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Epoch(epoch) = event {
            println!("epoch {}: loss {:.3}, Dice {:?}", epoch.epoch, epoch.loss, epoch.mean_dice);
        }
    }

    fn preflight(&mut self, model: &Preflight<'_>) -> Result<(), PreflightError> {
        let apart = difference(model.spec(), model.trainer(), model.file(), model.inputs())?;
        println!("before the first step logits differ by {apart:.1e} at most");
        Ok(())
    }
}

/// Maximum difference between the logits of the built-in engine and of the trainer.
fn difference(
    spec: &ModelSpec,
    trainer: &NetworkPredictor,
    file: &[u8],
    inputs: &[Tensor],
) -> Result<f32, PreflightError> {
    let shape = inputs.first().ok_or("the run contains no patch to compare")?.shape().to_vec();
    let engine = TractPredictor::new(file, &shape, None)?;
    let parity = compare_predictors(spec, trainer, &engine, inputs)?;
    let apart = parity.max_abs_difference;
    // The order of summation differs; a wrong graph differs by much more.
    if !RoundingTolerance::of(spec).allows(&parity) {
        return Err(format!("the exported file gives other results: logits differ by {apart:e}").into());
    }
    Ok(apart)
}

fn main() -> Result<(), PreflightError> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("a path is needed: the run's folder")?;
    let seconds = arguments.next().map_or(Ok(60.0), |text| text.parse())?;
    let scans = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/hippocampus");

    let config = TrainConfig::from_preset("unet2d-lite")?.with(|c| c.time_budget_secs = Some(seconds));
    let outcome = train(&Dataset::open(scans)?, &SplitChoice::default(), &config, folder.as_ref(), &mut Lines)?;
    if let TrainOutcome::Finished { validation_dice, .. } = outcome {
        println!("mean Dice over the held-out scans: {validation_dice:?}");
    }

    // The model file is valid only if another engine computes the same logits from it as the trainer.
    let run = Run::open(&folder)?;
    let device = Placement::find(&config.device)?.first()?;
    let network = run.load_network(Weights::Best, &device)?;
    let trainer = NetworkPredictor::new(&network, &device);
    let spec = run.model_spec(Weights::Best, &trainer)?;
    let file = export_onnx(&network, &spec)?;
    let apart = difference(&spec, &trainer, &file, &run.parity_inputs(2)?)?;
    println!("logits differ by {apart:.1e} at most");
    sulcus_io::write_atomically(&Path::new(&folder).join("model.onnx"), |out| out.write_all(&file))?;
    Ok(())
}
