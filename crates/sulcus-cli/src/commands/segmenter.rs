//! Loads models with an engine, for all commands that segment.

use std::path::PathBuf;

use sulcus_model::ModelSpec;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, Segmenter};

use crate::args::ComputeArgs;
use crate::environment::Environment;
use crate::error::{CliError, Context};
use crate::output::Ui;

/// Refuses options that contradict each other, before anything is read.
///
/// # Errors
/// Wrong usage.
pub(crate) fn check(args: &ComputeArgs) -> Result<(), CliError> {
    args.precision.requested(args.device, args.engine)?;
    let without_cache = match (args.engine, args.device) {
        (Engine::Native, _) => "the built-in engine (native)",
        (Engine::Tract, _) => "the built-in engine (tract)",
        (_, Device::Cuda(_) | Device::OpenVino) => "that device",
        _ => return Ok(()),
    };
    match args.cache {
        Some(_) => Err(CliError::usage(format_args!(
            "--cache stores what ONNX Runtime compiles from a model for the CPU and what TensorRT compiles for a GPU, but \
             {without_cache} compiles nothing"
        ))
        .hint("leave --cache out")),
        None => Ok(()),
    }
}

/// Loads the models, and prints which engine runs on which device.
///
/// # Errors
/// When a model, the engine or the device cannot be used.
pub(crate) fn load(
    models: &[PathBuf],
    args: &ComputeArgs,
    max_memory: Option<u64>,
    library: OrtLibrary,
    environment: &Environment,
    ui: Ui,
) -> Result<Segmenter, CliError> {
    let mut builder = Segmenter::builder()
        .models(models)
        .engine(args.engine)
        .device(args.device)
        .allow_unchecked(args.allow_unchecked)
        .strict(args.strict)
        .allow_constant(args.allow_constant)
        .ort_library(library)
        .mirror(args.mirror)
        .numerics(args.numerics())
        .step(args.step);
    if let Some(precision) = args.precision.requested(args.device, args.engine)? {
        builder = builder.precision(precision);
    }
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    // TensorRT compiles for minutes; the other devices start fast enough without a cache.
    let default_cache = match args.device {
        Device::TensorRt(_) => environment.cache_dir.as_ref().map(|dir| dir.join("tensorrt")),
        _ => None,
    };
    if let Some(folder) = args.cache.clone().or(default_cache) {
        builder = builder.cache_folder(folder);
    }
    if let Some(bytes) = max_memory {
        builder = builder.max_memory(bytes);
    }
    let segmenter = builder.build().context("loading the model")?;
    segmenter.notes().iter().for_each(|note| ui.note(note));
    advise(args, &segmenter, ui);
    warn_about_mirroring(models, args, &segmenter, ui);
    ui.note(format_args!("engine {} on {}", segmenter.engine(), segmenter.device()));
    if let [_, _, ..] = models {
        ui.note(format_args!("averaging {} models: {}", models.len(), paths(models).join(", ")));
    }
    Ok(segmenter)
}

/// Names the command that helps if `auto` did not find the fastest engine or device.
fn advise(args: &ComputeArgs, segmenter: &Segmenter, ui: Ui) {
    match (args.engine, segmenter.engine(), args.device) {
        (Engine::Auto, Engine::Tract, _) => {
            ui.advice("`sulcus runtime install` fetches ONNX Runtime, which is faster")
        }
        (_, Engine::Ort, Device::Auto) if segmenter.device() == Device::Cpu => {
            ui.advice("`sulcus doctor` shows why no CUDA device can be used");
        }
        _ => {}
    }
}

/// Names the models on which `--mirror` has no effect.
fn warn_about_mirroring(models: &[PathBuf], args: &ComputeArgs, segmenter: &Segmenter, ui: Ui) {
    let unmirrored = |(path, spec): (_, &ModelSpec)| spec.mirror_axes.is_empty().then_some(path);
    let without: Vec<&PathBuf> = match segmenter.pack() {
        Some(_) if segmenter.specs().any(|spec| !spec.mirror_axes.is_empty()) => Vec::new(),
        Some(_) => models.iter().collect(),
        None => models.iter().zip(segmenter.specs()).filter_map(unmirrored).collect(),
    };
    if !args.mirror || without.is_empty() {
        return;
    }
    if without.len() == models.len() {
        let subject = if without.len() == 1 { "the model was" } else { "the models were" };
        ui.warn(format_args!("{subject} trained without mirroring: --mirror has no effect"));
    } else {
        ui.warn(format_args!(
            "trained without mirroring, so --mirror has no effect on: {}",
            paths(without).join(", ")
        ));
    }
}

/// Paths as the user gave them.
pub(crate) fn paths<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| path.display().to_string()).collect()
}
