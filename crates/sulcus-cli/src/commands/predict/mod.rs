//! `sulcus predict`: scans in, masks out.

mod cohort;
mod line;
mod reading;
mod record;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sulcus_runtime::ort::OrtLibrary;

use crate::args::PredictArgs;
use crate::cases::{self, Case};
use crate::environment::Environment;
use crate::error::{CliError, Context, with_causes};
use crate::ui::Ui;
use crate::{computing, files, scans};
use cohort::Cohort;
use record::{Records, outputs};

/// What follows the case's name in the file of its probabilities.
pub(crate) const PROBABILITIES_SUFFIX: &str = "_probabilities";

pub(crate) fn run(
    args: &PredictArgs,
    library: OrtLibrary,
    environment: &Environment,
    ui: Ui,
) -> Result<(), CliError> {
    computing::check(&args.compute)?;
    let channels = channels_of(&args.models)?;
    let (cases, bad) = cases::find(&args.inputs, channels)?;
    let mut jobs = plan_outputs(args, cases, bad.len())?;
    // Parts share out the cases; whoever works on the first one reports what is none.
    let bad = if args.part.is_none_or(|part| part.number == 1) { bad } else { Vec::new() };
    if let Some(part) = args.part {
        jobs = part.of(jobs, |job| job.case.name.clone());
    }
    let single = to_file(&args.output);
    let writable = if single { files::folder_of(&args.output) } else { args.output.clone() };
    files::ensure_writable(&writable)?;
    if single && args.resume {
        return Err(CliError::usage("--resume goes on with a folder of masks, and -o names one file")
            .hint("leave --resume out, or give a folder with -o"));
    }
    let records = args.resume.then(|| Records::new(args));
    let cohort = Cohort { args, jobs: &jobs, bad: &bad, channels, records: records.as_ref(), ui };
    cohort.run(|| computing::load(&args.models, &args.compute, args.max_memory, library, environment, ui))
}

/// A case and where its mask goes.
struct Job {
    case: Case,
    mask: PathBuf,
    probabilities: Option<PathBuf>,
}

impl Job {
    /// What the user knows the case by.
    fn input(&self) -> &Path {
        self.case.files.first().map_or(Path::new(""), PathBuf::as_path)
    }
}

/// Channels of the (first) model: file names are grouped by them, before an engine is started.
fn channels_of(models: &[PathBuf]) -> Result<usize, CliError> {
    let Some(path) = models.first() else { return Ok(1) };
    let bytes = std::fs::read(path).context(format_args!("reading the model {}", path.display()))?;
    let spec = sulcus_onnx::read_spec(&bytes).map_err(|error| {
        CliError::failed(format_args!("the model cannot be used: {}: {}", with_causes(&error), path.display()))
    })?;
    Ok(spec.channels.len())
}

/// Whether OUT names a mask file rather than a folder.
fn to_file(output: &Path) -> bool {
    !output.is_dir() && (cases::case_name(output).is_some() || scans::is_dicom_name(output))
}

fn plan_outputs(args: &PredictArgs, cases: Vec<Case>, bad: usize) -> Result<Vec<Job>, CliError> {
    let single = to_file(&args.output);
    if single && cases.len() + bad > 1 {
        return Err(CliError::usage(format_args!(
            "-o names one file, but there are {} scans: {}",
            cases.len() + bad,
            args.output.display()
        ))
        .hint("give a folder with -o; each mask keeps its scan's name"));
    }
    let jobs: Vec<Job> = cases
        .into_iter()
        .map(|case| {
            let mask =
                if single { args.output.clone() } else { args.output.join(format!("{}.nii.gz", case.name)) };
            let beside = || {
                let stem = cases::case_name(&mask).unwrap_or_else(|| case.name.clone());
                mask.with_file_name(format!("{stem}{PROBABILITIES_SUFFIX}.nii.gz"))
            };
            Job { probabilities: args.probabilities.then(beside), mask, case }
        })
        .collect();
    // Of a pair either name may be the one in -o.
    let written: Vec<PathBuf> =
        jobs.iter().flat_map(outputs).flat_map(|output| sulcus_io::written_files(output)).collect();
    let inputs = jobs.iter().flat_map(|job| &job.case.files).flat_map(|input| sulcus_io::read_files(input));
    let read: HashSet<PathBuf> = inputs.filter_map(|input| files::resolved(&input)).collect();
    if let Some(out) = written.iter().find(|out| files::resolved(out).is_some_and(|out| read.contains(&out))) {
        return Err(CliError::usage(format_args!("the mask would overwrite the scan itself: {}", out.display()))
            .hint("choose another file or folder with -o"));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = written.iter().find(|out| !seen.insert(*out)) {
        return Err(CliError::usage(format_args!(
            "two outputs would have the same name, the probabilities of one case and the mask of another: {}",
            twice.display()
        ))
        .hint("rename the scan, or predict the two in two runs with two output folders"));
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_volumes_are_files() {
        assert!(to_file(Path::new("x/mask.nii.gz")) && to_file(Path::new("mask.NII")));
        assert!(!to_file(Path::new("masks")) && !to_file(Path::new("masks.out")));
        assert!(to_file(Path::new("mask.hdr")) && to_file(Path::new("mask.dcm")));
    }
}
