//! `sulcus export`: a run's network as one file, or as a model that Triton serves.

use std::path::Path;

use sulcus_model::Precision;
use sulcus_runtime::ort::OrtLibrary;
use sulcus_train::CrossValidation;

use crate::args::ExportArgs;
use crate::commands::cross_validation;
use crate::error::CliError;
use crate::exporting::triton::{self, Repository};
use crate::exporting::{self, Wanted};
use crate::ui::Ui;
use crate::values::CheckpointName;

pub(crate) fn run(args: &ExportArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let wanted =
        Wanted { weights: args.checkpoint.into(), precision: args.precision.into(), data: args.data.as_deref() };
    if args.run.is_file() {
        return serve_file(args, &wanted, library, ui);
    }
    if wanted.precision == Precision::Fp32 && wanted.data.is_some() {
        return Err(CliError::usage("`--data` goes with `--precision fp16` or `int8`: fp32 needs no data set"));
    }
    if CrossValidation::is_in(&args.run) {
        return export_folds(args, &wanted, library, ui);
    }
    if let Some(output) = args.output.as_deref().filter(|output| !is_onnx(output)) {
        return Err(CliError::usage(format_args!(
            "the model is an ONNX file, so -o must end in .onnx: {}",
            output.display()
        )));
    }
    let repository = repository(args);
    repository.as_ref().map_or(Ok(()), Repository::check)?;
    let exported = exporting::checked(&args.run, &wanted, library, ui)?;
    args.output.as_deref().map_or(Ok(()), |output| exported.write(output, ui))?;
    repository.map_or(Ok(()), |repository| repository.add(&exported.bytes, library, ui))
}

fn repository(args: &ExportArgs) -> Option<Repository<'_>> {
    let folder = args.triton.as_deref()?;
    Some(Repository { folder, name: args.triton_name.as_deref(), device: args.triton_device })
}

fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// A model file that there is already.
fn serve_file(args: &ExportArgs, wanted: &Wanted<'_>, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let model = args.run.display();
    let Some(repository) = repository(args) else {
        return Err(CliError::usage(format_args!(
            "this is a file, and a run is a folder that `sulcus train` made: {model}"
        ))
        .hint("a model file goes into a model repository of Triton with --triton DIR"));
    };
    if args.output.is_some()
        || wanted.data.is_some()
        || wanted.precision != Precision::Fp32
        || args.checkpoint != CheckpointName::Best
    {
        return Err(CliError::usage(format_args!(
            "-o, --precision, --checkpoint and --data make a model of a run, and this is a file: {model}"
        ))
        .hint("leave them out, or name the run's folder"));
    }
    repository.check()?;
    repository.add(&triton::read(&args.run)?, library, ui)
}

fn export_folds(args: &ExportArgs, wanted: &Wanted<'_>, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let first = args.run.join("fold_0");
    if args.triton.is_some() {
        return Err(CliError::usage(format_args!(
            "a cross-validation has a model for each fold, and --triton takes one: {}",
            args.run.display()
        ))
        .hint(format_args!(
            "for one of them: sulcus export {} --triton DIR --triton-name NAME",
            first.display()
        )));
    }
    match args.output.as_deref() {
        Some(output) if !is_onnx(output) => cross_validation::export(&args.run, wanted, output, library, ui),
        output => Err(CliError::usage(format_args!(
            "a cross-validation has a model for each fold, so -o must be a folder: {}",
            output.unwrap_or(&args.run).display()
        ))
        .hint(format_args!("for one of them: sulcus export {} -o model.onnx", first.display()))),
    }
}
