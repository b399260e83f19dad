//! A case and the files that are written for it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::reading::{Announced, announced};
use crate::args::PredictArgs;
use crate::error::CliError;
use crate::files;
use crate::input::cases::{self, Case};
use crate::input::scans;

/// What follows the name of a case in the file of its probabilities.
pub(crate) const PROBABILITIES_SUFFIX: &str = "_probabilities";

/// A case and its output files.
pub(super) struct Job {
    pub(super) case: Case,
    pub(super) mask: PathBuf,
    pub(super) probabilities: Option<PathBuf>,
    announced: OnceLock<Announced>,
}

impl Job {
    /// What its headers announce. They are read once.
    pub(super) fn announced(&self, series: Option<&str>) -> Announced {
        *self.announced.get_or_init(|| announced(&self.case.files, series))
    }

    /// The first file of the case, by which the user knows it.
    pub(super) fn input(&self) -> &Path {
        self.case.files.first().map_or(Path::new(""), PathBuf::as_path)
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.mask).chain(&self.probabilities)
    }
}

/// Whether OUT names a mask file instead of a folder.
pub(super) fn is_file(output: &Path) -> bool {
    !output.is_dir() && (cases::case_name(output).is_some() || scans::is_dicom_name(output))
}

/// The output files of each case.
///
/// # Errors
/// Wrong usage when OUT is a file and there are several cases (of which `bad` cannot be read), or an output would overwrite an
/// input or another output.
pub(super) fn plan_outputs(args: &PredictArgs, cases: Vec<Case>, bad: usize) -> Result<Vec<Job>, CliError> {
    let single = is_file(&args.output);
    if single && cases.len() + bad > 1 {
        return Err(CliError::usage(format_args!(
            "-o names one file, but there are {} scans: {}",
            cases.len() + bad,
            args.output.display()
        ))
        .hint("give a folder with -o; each mask then has the name of its scan"));
    }
    let jobs: Vec<Job> = cases
        .into_iter()
        .map(|case| {
            let ending = case.files.first().map_or(".nii.gz", |file| sulcus_io::mask_ending(file));
            let mask =
                if single { args.output.clone() } else { args.output.join(format!("{}{ending}", case.name)) };
            let beside = || {
                let stem = cases::case_name(&mask).unwrap_or_else(|| case.name.clone());
                mask.with_file_name(format!("{stem}{PROBABILITIES_SUFFIX}.nii.gz"))
            };
            Job { probabilities: args.probabilities.then(beside), mask, case, announced: OnceLock::new() }
        })
        .collect();
    if single {
        check_picture(&args.output, &jobs, args.series.as_deref())?;
    }
    // -o may name either file of a volume of two files.
    let written: Vec<PathBuf> =
        jobs.iter().flat_map(Job::outputs).flat_map(|output| sulcus_io::output_files(output)).collect();
    let inputs = jobs.iter().flat_map(|job| &job.case.files).flat_map(|input| sulcus_io::input_files(input));
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
        .hint("rename the scan, or predict the two scans separately into two output folders"));
    }
    Ok(jobs)
}

/// Refuses a picture as the mask file where it cannot hold the mask, before anything is predicted.
fn check_picture(output: &Path, jobs: &[Job], series: Option<&str>) -> Result<(), CliError> {
    let ending = output.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if matches!(ending.as_str(), "jpg" | "jpeg") {
        return Err(CliError::usage(format_args!(
            "a JPEG cannot hold a mask, whose values it changes: {}",
            output.display()
        ))
        .hint("name the mask .png, .tif or .nii.gz"));
    }
    let slices = |job: &Job| job.announced(series).geometry.map_or(1, |geometry| geometry.shape()[2]);
    match jobs.first().map(slices) {
        Some(slices @ 2..) if ending == "png" => Err(CliError::usage(format_args!(
            "a PNG holds one slice, the scan has {slices}: {}",
            output.display()
        ))
        .hint("name the mask .nii.gz, or .tif for a stack of pictures")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_volume_names_are_files() {
        assert!(is_file(Path::new("x/mask.nii.gz")) && is_file(Path::new("mask.NII")));
        assert!(!is_file(Path::new("masks")) && !is_file(Path::new("masks.out")));
        assert!(is_file(Path::new("mask.hdr")) && is_file(Path::new("mask.dcm")));
    }
}
