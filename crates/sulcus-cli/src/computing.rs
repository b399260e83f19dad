//! Models with an engine under them, for all commands that segment.

use std::path::PathBuf;

use sulcus_model::ModelSpec;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_runtime::{Device, Engine, Segmenter};

use crate::args::ComputeArgs;
use crate::environment::Environment;
use crate::error::{CliError, Context};
use crate::ui::Ui;

/// Refuses options that mean nothing together, before anything is read.
pub(crate) fn check(args: &ComputeArgs) -> Result<(), CliError> {
    let makes_nothing = match (args.engine, args.device) {
        (Engine::Tract, _) => "the embedded engine (tract)",
        (_, Device::Cuda(_) | Device::OpenVino) => "that device",
        _ => return Ok(()),
    };
    match args.cache {
        Some(_) => Err(CliError::usage(format_args!(
            "--cache keeps what ONNX Runtime makes of a model for the processor and TensorRT for a GPU, but {makes_nothing} \
             keeps nothing"
        ))
        .hint("leave --cache out")),
        None => Ok(()),
    }
}

/// Gets the engine ready, and tells what runs where.
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
        .ort_library(library)
        .mirror(args.mirror)
        .step(args.step);
    if let Some(threads) = args.threads {
        builder = builder.threads(threads);
    }
    if args.half {
        builder = builder.half_precision();
    }
    // Nothing else compiles for so long that it is worth a file unless the user says so.
    let of_user = match args.device {
        Device::TensorRt(_) => environment.cache_dir.as_ref().map(|dir| dir.join("tensorrt")),
        _ => None,
    };
    if let Some(folder) = args.cache.clone().or(of_user) {
        builder = builder.cache_folder(folder);
    }
    if let Some(bytes) = max_memory {
        builder = builder.max_memory(bytes);
    }
    let segmenter = builder.build().context("loading the model")?;
    segmenter.notes().iter().for_each(|note| ui.note(note));
    warn_about_mirroring(models, args, &segmenter, ui);
    ui.note(format_args!("engine {} on {}", segmenter.engine(), segmenter.device()));
    if let [_, _, ..] = models {
        ui.note(format_args!("averaging {} models: {}", models.len(), names(models).join(", ")));
    }
    Ok(segmenter)
}

/// Names the models whose training makes `--mirror` pointless.
fn warn_about_mirroring(models: &[PathBuf], args: &ComputeArgs, segmenter: &Segmenter, ui: Ui) {
    let unmirrored = |(path, spec): (_, &ModelSpec)| spec.mirror_axes.is_empty().then_some(path);
    let without: Vec<&PathBuf> = models.iter().zip(segmenter.specs()).filter_map(unmirrored).collect();
    if !args.mirror || without.is_empty() {
        return;
    }
    if without.len() == models.len() {
        let who = if without.len() == 1 { "the model was" } else { "the models were" };
        ui.warn(format_args!("{who} trained without mirrored slices: --mirror has no effect"));
    } else {
        ui.warn(format_args!(
            "trained without mirrored slices, so --mirror has no effect on: {}",
            names(without).join(", ")
        ));
    }
}

/// Paths as people gave them.
pub(crate) fn names<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
    paths.into_iter().map(|path| path.display().to_string()).collect()
}
