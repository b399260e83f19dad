//! `sulcus predict`: segments scans.

mod cohort;
mod job;
mod line;
mod lock;
mod reading;
mod record;
mod scheduler;

use std::path::PathBuf;

use sulcus_model::ModelSpec;
use sulcus_runtime::ort::OrtLibrary;

use super::segmenter;
use crate::args::PredictArgs;
use crate::environment::Environment;
use crate::error::{CliError, Context};
use crate::files;
use crate::input::cases;
use crate::output::Ui;
use cohort::Cohort;
pub(crate) use job::PROBABILITIES_SUFFIX;
use record::Records;

pub(crate) fn run(
    args: &PredictArgs,
    library: OrtLibrary,
    environment: &Environment,
    ui: Ui,
) -> Result<(), CliError> {
    segmenter::check(&args.compute)?;
    let spec = first_spec(&args.models)?;
    let (cases, bad) = cases::find(&args.inputs, spec.channels.len())?;
    let jobs = job::plan_outputs(args, cases, bad.len())?;
    let single = job::is_file(&args.output);
    if single && args.resume {
        return Err(CliError::usage("--resume continues a folder of masks, but -o names one file")
            .hint("leave --resume out, or give a folder with -o"));
    }
    let writable = if single { files::folder_of(&args.output) } else { args.output.clone() };
    files::ensure_writable(&writable)?;
    let _locks = lock::lock(args, &jobs)?;
    let jobs = match args.part {
        Some(part) => part.of(jobs, |job| job.case.name.clone()),
        None => jobs,
    };
    // Of several parts, the first one reports the inputs that are no cases.
    let bad = if args.part.is_none_or(|part| part.number == 1) { bad } else { Vec::new() };
    let records = args.resume.then(|| Records::new(args));
    let cohort = Cohort { args, jobs: &jobs, bad: &bad, spec: &spec, records: records.as_ref(), ui };
    cohort.run(|| segmenter::load(&args.models, &args.compute, args.max_memory, library, environment, ui))
}

/// The specification of the first model, or the outline of a pack. It is needed before an engine is started, to group files into cases.
fn first_spec(models: &[PathBuf]) -> Result<ModelSpec, CliError> {
    let path = models.first().ok_or_else(|| CliError::usage("there is no model").hint("name one with -m"))?;
    let doing = || format!("reading the model {}", path.display());
    let bytes = std::fs::read(path).context(doing())?;
    sulcus_onnx::read_file_spec(&bytes).context(doing())?.outline().context(doing())
}
