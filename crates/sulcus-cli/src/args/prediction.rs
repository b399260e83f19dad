//! Arguments of the commands that run models: `predict`, `serve`, `doctor` and `runtime install`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sulcus_pipeline::Numerics;
use sulcus_runtime::{Device, Engine};

use super::precision::PrecisionArgs;
use super::values::{Part, at_least_one, bytes, duration, host, part, window_step};
use crate::ort_package::Hash;

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// A model file; several models are averaged
    #[arg(short, long = "model", value_name = "M.onnx", required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// NIfTI files (.nii, .nii.gz, .hdr/.img), pictures (.png, .jpg, .tif), DICOM series (one folder of slices each), or folders
    /// of them
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// A mask file for one scan (.nii, .nii.gz; .png or .tif; .dcm for a DICOM segmentation of a DICOM series), or a folder in
    /// which each mask has the name of its scan: .nii.gz, for PNG and JPEG pictures .png, for TIFF .tif
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// SeriesInstanceUID of the series to take from a DICOM folder [default: the largest that is not a localizer]
    #[arg(long, value_name = "UID")]
    pub(crate) series: Option<String>,
    /// Copy the patient's name, ID, birth date and sex and the study's dates into a DICOM segmentation [default: they stay
    /// empty]
    #[arg(long)]
    pub(crate) keep_patient: bool,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Memory limit of the program, such as 2GB; enforced by processing scans in chunks, which gives the same masks
    /// [default: the memory of the machine or its container]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_memory: Option<u64>,
    /// Process the K-th of N equal parts of the cases, sorted by name, such as 2/8, to share a cohort among N machines
    #[arg(long, value_name = "K/N", value_parser = part)]
    pub(crate) part: Option<Part>,
    /// Record finished cases in OUT/.sulcus, and skip cases that were finished by the same models with the same options and
    /// whose scan and mask are unchanged; after an interruption, run the same command again
    #[arg(long)]
    pub(crate) resume: bool,
    /// Also write the probability of each class (float32, 4-D) beside the mask
    #[arg(long)]
    pub(crate) probabilities: bool,
    /// Print one line of JSON per case
    #[arg(long)]
    pub(crate) json: bool,
}

/// What runs a model, where and how.
#[derive(Debug, Args)]
pub(crate) struct ComputeArgs {
    /// Where to compute
    #[arg(
        long,
        value_name = "D",
        default_value = "auto",
        help = "Where to compute: auto, cpu, openvino, cuda[:N] or tensorrt[:N]"
    )]
    pub(crate) device: Device,
    /// Accept models that did not pass their check when they were exported; their masks may be wrong
    #[arg(long)]
    pub(crate) allow_unchecked: bool,
    /// Refuse scans that differ from those that the model was trained on (voxel size, field of view, intensities), instead of
    /// warning
    #[arg(long)]
    pub(crate) strict: bool,
    /// Accept scans with a channel that has the same value in every voxel; they are refused by default
    #[arg(long, conflicts_with = "strict")]
    pub(crate) allow_constant: bool,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
    /// A folder that stores what ONNX Runtime compiles from a model, so that the next run starts sooner [default: the user's
    /// cache folder for TensorRT, none for other devices]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// The inference engine: auto, native (built in), ort (ONNX Runtime) or tract (built in, any graph)
    #[arg(long, value_name = "E", default_value = "auto")]
    pub(crate) engine: Engine,
    /// Threads of the engine [default: all processors]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Also predict mirrored copies, along the axes that were mirrored in training, and average
    #[arg(long)]
    pub(crate) mirror: bool,
    /// Compute as nnU-Net's own predictor does, so that masks are equal to its masks; only for models imported from nnU-Net. It
    /// mirrors by default: add --mirror
    #[arg(long)]
    pub(crate) exact: bool,
    /// Step of the sliding window as a fraction of the tile size [default: from the model]
    #[arg(long, value_name = "STEP", value_parser = window_step)]
    pub(crate) step: Option<f64>,
}

impl ComputeArgs {
    /// How predictions are computed.
    pub(crate) fn numerics(&self) -> Numerics {
        if self.exact { Numerics::Nnunet } else { Numerics::Float32 }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A model file; several models are averaged
    #[arg(short, long = "model", value_name = "M.onnx", required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// The address to listen on; an address that other machines can reach needs a token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = host)]
    pub(crate) host: IpAddr,
    /// The port; 0 selects a free one, which is printed on standard output
    #[arg(long, value_name = "P", default_value_t = 8080)]
    pub(crate) port: u16,
    /// A file with the token that clients send as `Authorization: Bearer TOKEN` [default: $SULCUS_TOKEN; without a token,
    /// only programs on this machine are served]
    #[arg(long, value_name = "F")]
    pub(crate) token_file: Option<PathBuf>,
    /// Allow every client that reaches the address, without a token. Connections to a loopback address must still name this
    /// machine in `Host` and `Origin`, as the browser of a local user opens them for any web page
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) allow_anyone: bool,
    /// Maximum number of waiting scans; further requests are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) queue: usize,
    /// Scans that are processed at the same time by the same engine; more than one keeps a GPU busy
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) workers: usize,
    /// Maximum size of an upload; a decompressed scan may take nine times as much memory
    #[arg(long, value_name = "SIZE", default_value = "512MB", value_parser = bytes)]
    pub(crate) max_body: u64,
    /// Time limit of a request, from upload to answer
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Memory limit of the program, such as 2GB, divided among workers and waiting scans; a scan that needs more is refused
    /// [default: three quarters of the memory of the machine or its container]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_memory: Option<u64>,
    /// Print address, models, engine and device as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The model to check [default: a tiny model inside this program]
    #[arg(short, long, value_name = "M.onnx")]
    pub(crate) model: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Fetch the package with NVIDIA's providers (CUDA and TensorRT), which is ten times as large
    #[arg(long)]
    pub(crate) gpu: bool,
    /// Fetch the package with Intel's OpenVINO provider (Linux on x86-64), for `predict --device openvino`
    #[arg(long, conflicts_with = "gpu")]
    pub(crate) openvino: bool,
    /// The package index
    #[arg(long, value_name = "URL", default_value = "https://pypi.org/simple")]
    pub(crate) index: String,
    /// Also fetch from addresses without encryption
    #[arg(long)]
    pub(crate) allow_http: bool,
    /// The version to fetch, with the SHA-256 of its wheel for this system [default: a version whose hash this program knows]
    #[arg(long, value_name = "VERSION", requires = "sha256")]
    pub(crate) ort_version: Option<String>,
    /// Install from this wheel instead of fetching one; a wheel that this program does not know needs its SHA-256
    #[arg(long, value_name = "FILE.whl", conflicts_with_all = ["gpu", "openvino", "index", "allow_http", "ort_version"])]
    pub(crate) from: Option<PathBuf>,
    /// The SHA-256 that the wheel must have, as 64 hexadecimal digits
    #[arg(long, value_name = "HASH")]
    pub(crate) sha256: Option<Hash>,
}
