//! `sulcus export`: writes the network of a run as one file, adds it to a model repository of Triton, or writes it as a MONAI bundle or
//! as a model of nnU-Net.

mod bundle;
mod checked;
pub(super) mod engines;
mod new_folder;
mod nnunet;
pub(crate) mod preflight;
mod reduced;
mod request;
#[cfg(test)]
mod tests;
mod triton;

use std::path::{Path, PathBuf};

use sulcus_model::Precision;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::CrossValidation;

use crate::args::ExportArgs;
use crate::args::values::CheckpointName;
use crate::error::{CliError, Context};
use crate::output::Ui;
pub(crate) use checked::{write, write_trained};
pub(crate) use request::{ExportRequest, reduction_line};
use triton::Repository;

/// Name of the model file in the folder of a run.
pub(crate) const MODEL: &str = "model.onnx";

pub(crate) fn run(args: &ExportArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let request = ExportRequest {
        weights: args.checkpoint.into(),
        precision: args.precision,
        data: args.data.as_deref(),
        conv_transpose_to_conv: args.conv_transpose_to_conv,
        allow_unchecked: args.allow_unchecked,
    };
    if args.run.is_file() {
        return add_file(args, &request, library, ui);
    }
    if request.precision == Precision::Fp32 && request.data.is_some() {
        return Err(CliError::usage("`--data` applies to `--precision fp16` and `int8`: fp32 needs no data set"));
    }
    if CrossValidation::is_in(&args.run) {
        return export_folds(args, &request, library, ui);
    }
    if let Some(output) = args.output.as_deref().filter(|output| !is_onnx(output)) {
        return Err(CliError::usage(format_args!(
            "the model is an ONNX file, so -o must end in .onnx: {}",
            output.display()
        )));
    }
    let repository = repository(args);
    repository.as_ref().map_or(Ok(()), Repository::check)?;
    args.bundle.as_deref().map_or(Ok(()), bundle::check)?;
    if let Some(target) = &args.nnunet {
        nnunet_folder(args, &request, std::slice::from_ref(&args.run), target, library, ui)?;
    }
    if args.output.is_none() && repository.is_none() && args.bundle.is_none() {
        return Ok(());
    }
    let exported = checked::checked(&args.run, &request, library, ui)?;
    args.output.as_deref().map_or(Ok(()), |output| exported.write(output, ui))?;
    args.bundle.as_deref().map_or(Ok(()), |target| bundle::write(&exported.bytes, target, ui))?;
    repository.map_or(Ok(()), |repository| repository.add(&exported.bytes, library, ui))
}

/// Writes runs for nnU-Net, whose weights are in single precision.
fn nnunet_folder(
    args: &ExportArgs,
    request: &ExportRequest<'_>,
    runs: &[PathBuf],
    target: &Path,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    if request.precision != Precision::Fp32 && args.output.is_none() {
        return Err(CliError::usage(
            "`--precision` applies to model files: a model of nnU-Net has single precision",
        ));
    }
    nnunet::write(runs, request.weights, target, library, ui)
}

fn repository(args: &ExportArgs) -> Option<Repository<'_>> {
    let folder = args.triton.as_deref()?;
    Some(Repository { folder, name: args.triton_name.as_deref(), device: args.triton_device })
}

fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// Adds an existing model file to a repository.
fn add_file(args: &ExportArgs, request: &ExportRequest<'_>, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let model = args.run.display();
    let repository = repository(args);
    if args.nnunet.is_some() || (repository.is_none() && args.bundle.is_none()) {
        return Err(CliError::usage(format_args!(
            "this is a file, but a run is a folder of `sulcus train`: {model}"
        ))
        .hint("--triton DIR adds a model file to a model repository of Triton, --bundle DIR writes it as a MONAI bundle"));
    }
    if args.output.is_some()
        || request.data.is_some()
        || request.precision != Precision::Fp32
        || request.conv_transpose_to_conv
        || args.checkpoint != CheckpointName::Best
    {
        return Err(CliError::usage(format_args!(
            "-o, --precision, --conv-transpose-to-conv, --checkpoint and --data apply to a run, but this is a file: {model}"
        ))
        .hint("leave them out, or give the folder of the run"));
    }
    repository.as_ref().map_or(Ok(()), Repository::check)?;
    args.bundle.as_deref().map_or(Ok(()), bundle::check)?;
    let bytes = triton::read(&args.run)?;
    args.bundle.as_deref().map_or(Ok(()), |target| bundle::write(&bytes, target, ui))?;
    repository.map_or(Ok(()), |repository| repository.add(&bytes, library, ui))
}

fn export_folds(
    args: &ExportArgs,
    request: &ExportRequest<'_>,
    library: &OrtLibrary,
    ui: Ui,
) -> Result<(), CliError> {
    let first = args.run.join("fold_0");
    if args.triton.is_some() || args.bundle.is_some() {
        let (option, example) = match args.triton {
            Some(_) => ("--triton adds", "--triton DIR --triton-name NAME"),
            None => ("--bundle writes", "--bundle DIR"),
        };
        return Err(CliError::usage(format_args!(
            "a cross-validation has a model for each fold, but {option} one model: {}",
            args.run.display()
        ))
        .hint(format_args!("for one fold: sulcus export {} {example}", first.display())));
    }
    if let Some(target) = &args.nnunet {
        let all = CrossValidation::open(&args.run).context("opening the cross-validation")?;
        let runs: Vec<PathBuf> = (0..all.folds().len()).map(|fold| all.fold_folder(fold)).collect();
        nnunet_folder(args, request, &runs, target, library, ui)?;
        if args.output.is_none() {
            return Ok(());
        }
    }
    match args.output.as_deref() {
        Some(output) if !is_onnx(output) => {
            let all = CrossValidation::open(&args.run).context("opening the cross-validation")?;
            (0..all.folds().len()).try_for_each(|fold| {
                let file = output.join(format!("fold_{fold}.onnx"));
                write(&all.fold_folder(fold), request, &file, library, ui)
            })
        }
        output => Err(CliError::usage(format_args!(
            "a cross-validation has a model for each fold, so -o must be a folder: {}",
            output.unwrap_or(&args.run).display()
        ))
        .hint(format_args!("for one fold: sulcus export {} -o model.onnx", first.display()))),
    }
}
