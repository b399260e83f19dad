//! `sulcus export`: a run's network as one file.

use sulcus_runtime::OrtLibrary;

use crate::args::ExportArgs;
use crate::error::CliError;
use crate::exporting;
use crate::ui::Ui;
use crate::values::Precision;

pub(crate) fn run(args: &ExportArgs, library: &OrtLibrary, ui: Ui) -> Result<(), CliError> {
    if !args.output.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        return Err(CliError::usage(format_args!(
            "the model is an ONNX file, so -o must end in .onnx: {}",
            args.output.display()
        )));
    }
    match args.precision {
        Precision::Fp32 => exporting::write(&args.run, args.checkpoint.into(), &args.output, library, ui),
    }
}
