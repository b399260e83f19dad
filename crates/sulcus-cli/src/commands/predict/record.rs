//! What is known of the cases that are done, so that a cohort that was broken off goes on where it stopped.
//!
//! A case's record lies in a hidden folder beside the masks. It counts when everything that made the mask is as it was
//! and the mask is still the file that was written.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Job;
use super::line::Line;
use crate::args::PredictArgs;
use crate::error::CliError;
use crate::files;

const FOLDER: &str = ".sulcus";
const FORMAT_VERSION: u32 = 1;

/// The records of one output folder.
pub(super) struct Records<'a> {
    args: &'a PredictArgs,
    recipe: OnceLock<Option<Recipe>>,
}

/// What masks are made by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    version: String,
    models_sha256: Vec<String>,
    engine: String,
    device: String,
    #[serde(default)]
    half: bool,
    mirror: bool,
    step: Option<f64>,
    probabilities: bool,
}

/// A file as it was when it was read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    path: PathBuf,
    bytes: u64,
    modified_nanos: u128,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format_version: u32,
    recipe: Recipe,
    inputs: Vec<Input>,
    outputs_sha256: Vec<String>,
    /// What `--json` said.
    line: Value,
}

impl<'a> Records<'a> {
    pub(super) fn new(args: &'a PredictArgs) -> Self {
        Self { args, recipe: OnceLock::new() }
    }

    /// Models are hashed once, when the first case is looked at. Nothing where one can't be read, which loading it reports.
    fn recipe(&self) -> Option<&Recipe> {
        let args = self.args;
        let make = || {
            let models = args.models.iter().map(|path| sha256(path)).collect::<Option<_>>()?;
            Some(Recipe {
                version: env!("CARGO_PKG_VERSION").into(),
                models_sha256: models,
                engine: args.compute.engine.to_string(),
                device: args.compute.device.to_string(),
                half: args.compute.half,
                mirror: args.compute.mirror,
                step: args.compute.step,
                probabilities: args.probabilities,
            })
        };
        self.recipe.get_or_init(make).as_ref()
    }

    fn path(job: &Job) -> PathBuf {
        files::folder_of(&job.mask).join(FOLDER).join(format!("{}.json", job.case.name))
    }

    /// What `--json` said of a case that is done: its mask is there and as it was written, lies on the scan's grid, and was
    /// made from these files by these models with these options.
    pub(super) fn done(&self, job: &Job) -> Option<Value> {
        let record: Record = serde_json::from_slice(&std::fs::read(Self::path(job)).ok()?).ok()?;
        let outputs = outputs(job).map(|path| sha256(path)).collect::<Option<Vec<_>>>()?;
        let same = record.format_version == FORMAT_VERSION
            && Some(&record.recipe) == self.recipe()
            && Some(record.inputs) == inputs(job)
            && record.outputs_sha256 == outputs;
        if !same {
            return None;
        }
        let (mask, _) = sulcus_io::read_labels(&job.mask).ok()?;
        let scan = sulcus_io::read_metadata(job.input()).ok()?;
        scan.geometry().check_same_grid(mask.geometry()).ok()?;
        let mut line = record.line;
        line.as_object_mut()?.insert("done_before".into(), Value::Bool(true));
        Some(line)
    }

    /// Keeps what was done. Without it the case is done again, so that a failure here fails nothing.
    pub(super) fn keep(&self, job: &Job, line: &Line) -> Result<(), CliError> {
        let (Some(recipe), Some(inputs)) = (self.recipe(), inputs(job)) else { return Ok(()) };
        let Some(outputs_sha256) = outputs(job).map(|path| sha256(path)).collect() else { return Ok(()) };
        let line = serde_json::to_value(line).map_err(CliError::failed)?;
        let record =
            Record { format_version: FORMAT_VERSION, recipe: recipe.clone(), inputs, outputs_sha256, line };
        let text = serde_json::to_vec(&record).map_err(CliError::failed)?;
        let path = Self::path(job);
        files::ensure_writable(&files::folder_of(&path))?;
        files::write(&path, &text)
    }
}

pub(super) fn outputs(job: &Job) -> impl Iterator<Item = &PathBuf> {
    std::iter::once(&job.mask).chain(&job.probabilities)
}

fn inputs(job: &Job) -> Option<Vec<Input>> {
    let input = |path: PathBuf| {
        let path = path.canonicalize().ok()?;
        // A DICOM folder does not tell when a file in it has changed: such a case is done again.
        let there = path.metadata().ok().filter(|there| there.is_file())?;
        let modified_nanos = there.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Input { bytes: there.len(), modified_nanos, path })
    };
    // The voxels may lie in another file than the one that is named.
    job.case.files.iter().flat_map(|path| sulcus_io::input_files(path)).map(input).collect()
}

fn sha256(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let (mut hasher, mut block) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut block).ok()? {
            0 => break,
            read => hasher.update(block.get(..read)?),
        }
    }
    Some(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}
