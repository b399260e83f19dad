//! Keeps two runs of one cohort out of one output folder. The parts of a cohort (`--part`) may share it.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::job::{self, Job};
use crate::args::PredictArgs;
use crate::error::CliError;
use crate::folder_lock::FolderLock;

/// Locks the output folder against another run of the same cohort: exclusively for the whole cohort; for a part, shared with
/// the other parts and exclusively against the same part. Other cohorts may be written into the same folder.
///
/// # Errors
/// When another process is predicting the same cohort or part into this folder.
pub(super) fn lock(args: &PredictArgs, cohort: &[Job]) -> Result<Vec<FolderLock>, CliError> {
    if job::is_file(&args.output) {
        return Ok(Vec::new());
    }
    let id = cohort_id(cohort);
    let whole = format!(".sulcus-{id}.lock");
    match args.part {
        None => Ok(vec![FolderLock::exclusive(&args.output, &whole)?]),
        Some(part) => {
            let own = format!(".sulcus-{id}-{}-of-{}.lock", part.number, part.of);
            Ok(vec![FolderLock::shared(&args.output, &whole)?, FolderLock::exclusive(&args.output, &own)?])
        }
    }
}

/// The same for every run with the same output files, whatever the order of its inputs.
fn cohort_id(cohort: &[Job]) -> String {
    let mut names: Vec<PathBuf> = cohort.iter().map(|job| job.mask.clone()).collect();
    names.sort();
    let mut hasher = Sha256::new();
    for name in names {
        hasher.update(name.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update([0]);
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
