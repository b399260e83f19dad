//! Records of finished cases, so that an interrupted cohort can continue.
//!
//! The record of a case is a file in a hidden folder beside the masks. It is valid if everything that determines the mask is
//! unchanged and the mask is the file that was written.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::job::Job;
use super::line::Line;
use crate::args::PredictArgs;
use crate::error::CliError;
use crate::files;

const FOLDER: &str = ".sulcus";
const FORMAT_VERSION: u32 = 1;

/// The records of one output folder.
pub(super) struct Records<'a> {
    args: &'a PredictArgs,
    settings: OnceLock<Option<MaskSettings>>,
}

/// Models and options that determine a mask, besides the scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaskSettings {
    /// Version of sulcus.
    version: String,
    models_sha256: Vec<String>,
    engine: String,
    device: String,
    /// Whether the device computes in half precision instead of the model's.
    #[serde(default)]
    half: bool,
    mirror: bool,
    /// Whether nnU-Net's computation was repeated.
    #[serde(default)]
    exact: bool,
    step: Option<f64>,
    probabilities: bool,
    /// Whether implausible scans were refused.
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    allow_constant: bool,
}

/// The state of a file when it was read.
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
    #[serde(rename = "recipe")]
    settings: MaskSettings,
    inputs: Vec<Input>,
    outputs_sha256: Vec<String>,
    /// The output of `--json`.
    line: Value,
}

impl<'a> Records<'a> {
    pub(super) fn new(args: &'a PredictArgs) -> Self {
        Self { args, settings: OnceLock::new() }
    }

    /// The settings of this run. The models are hashed at the first case; `None` if one cannot be read, which loading reports.
    fn settings(&self) -> Option<&MaskSettings> {
        let args = self.args;
        let make = || {
            let models = args.models.iter().map(|path| sha256(path)).collect::<Option<_>>()?;
            Some(MaskSettings {
                version: env!("CARGO_PKG_VERSION").into(),
                models_sha256: models,
                engine: args.compute.engine.to_string(),
                device: args.compute.device.to_string(),
                half: args
                    .compute
                    .precision
                    .requested(args.compute.device, args.compute.engine)
                    .ok()?
                    .is_some_and(|precision| args.compute.device.half_precision() == Some(precision)),
                mirror: args.compute.mirror,
                exact: args.compute.exact,
                step: args.compute.step,
                probabilities: args.probabilities,
                strict: args.compute.strict,
                allow_constant: args.compute.allow_constant,
            })
        };
        self.settings.get_or_init(make).as_ref()
    }

    fn path(job: &Job) -> PathBuf {
        files::folder_of(&job.mask).join(FOLDER).join(format!("{}.json", job.case.name))
    }

    /// The output of `--json` for a finished case: its mask is unchanged and on the grid of the scan, and was made from the
    /// same files by the same models with the same options.
    pub(super) fn finished(&self, job: &Job) -> Option<Value> {
        let record: Record = serde_json::from_slice(&std::fs::read(Self::path(job)).ok()?).ok()?;
        let outputs = job.outputs().map(|path| sha256(path)).collect::<Option<Vec<_>>>()?;
        let same = record.format_version == FORMAT_VERSION
            && Some(&record.settings) == self.settings()
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

    /// Records a finished case. Without a record the case is predicted again.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub(super) fn keep(&self, job: &Job, line: &Line) -> Result<(), CliError> {
        let (Some(settings), Some(inputs)) = (self.settings(), inputs(job)) else { return Ok(()) };
        let Some(outputs_sha256) = job.outputs().map(|path| sha256(path)).collect() else { return Ok(()) };
        let line = serde_json::to_value(line).map_err(CliError::failed)?;
        let record =
            Record { format_version: FORMAT_VERSION, settings: settings.clone(), inputs, outputs_sha256, line };
        let text = serde_json::to_vec(&record).map_err(CliError::failed)?;
        let path = Self::path(job);
        files::ensure_writable(&files::folder_of(&path))?;
        files::write(&path, &text)
    }
}

fn inputs(job: &Job) -> Option<Vec<Input>> {
    let input = |path: PathBuf| {
        let path = path.canonicalize().ok()?;
        // The time of a folder does not change when a file in it is changed, so that DICOM series are predicted again.
        let metadata = path.metadata().ok().filter(|metadata| metadata.is_file())?;
        let modified_nanos = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Input { bytes: metadata.len(), modified_nanos, path })
    };
    // Some formats have the voxels in a second file.
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
