//! `sulcus export`: a run's network as one file.

use sulcus_pipeline::Precision;
use sulcus_runtime::OrtLibrary;
use sulcus_train::CrossValidation;

use crate::args::ExportArgs;
use crate::commands::cross_validation;
use crate::error::CliError;
use crate::exporting::{self, Wanted};
use crate::ui::Ui;

pub(crate) fn run(args: &ExportArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    let wanted =
        Wanted { weights: args.checkpoint.into(), precision: args.precision.into(), data: args.data.as_deref() };
    if wanted.precision == Precision::Fp32 && wanted.data.is_some() {
        return Err(CliError::usage("`--data` goes with `--precision fp16` or `int8`: fp32 needs no data set"));
    }
    let is_onnx = args.output.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    if CrossValidation::is_in(&args.run) {
        if is_onnx {
            return Err(CliError::usage(format_args!(
                "a cross-validation has a model for each fold, so -o must be a folder: {}",
                args.output.display()
            ))
            .hint(format_args!(
                "for one of them: sulcus export {} -o model.onnx",
                args.run.join("fold_0").display()
            )));
        }
        return cross_validation::export(&args.run, &wanted, &args.output, library, ui);
    }
    if !is_onnx {
        return Err(CliError::usage(format_args!(
            "the model is an ONNX file, so -o must end in .onnx: {}",
            args.output.display()
        )));
    }
    exporting::write(&args.run, &wanted, &args.output, library, ui)
}
