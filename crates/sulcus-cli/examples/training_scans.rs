//! Describes the training scans of models that were exported before model files had such a description, and with `--write`
//! adds it to them: `training_scans DATASET RUN.json [--write] MODEL.onnx…`. RUN.json is the manifest of the models' run, which
//! names the training cases.
//!
//! `cargo run --release --workspace --example training_scans -- DATASET models/NAME/run.json models/NAME/model.onnx`
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;

use sulcus_dataset::Dataset;
use sulcus_plan::training_scans;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (options, paths): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument == "--write");
    let [dataset, run, models @ ..] = paths.as_slice() else {
        return Err("usage: training_scans DATASET RUN.json [--write] MODEL.onnx…".into());
    };
    let run: serde_json::Value = serde_json::from_slice(&std::fs::read(run)?)?;
    let training: Vec<String> = serde_json::from_value(run["split"]["train"].clone())?;
    let facts = Dataset::open(dataset)?.survey(&training).into_facts()?;
    if facts.len() != training.len() {
        return Err(format!("the data set has {} of {} training cases", facts.len(), training.len()).into());
    }
    for model in models.iter().map(PathBuf::from) {
        let bytes = std::fs::read(&model)?;
        let mut spec = sulcus_onnx::read_spec(&bytes)?;
        spec.training_scans = training_scans(&facts, spec.crop);
        spec.format_version = spec.min_format_version();
        spec.check()?;
        println!("{}", serde_json::to_string(&spec.training_scans)?);
        if !options.is_empty() {
            let changed = sulcus_onnx::with_spec(&bytes, &spec)?;
            sulcus_io::write_atomically(&model, |out| out.write_all(&changed))?;
        }
    }
    Ok(())
}
