//! All checks of a GPU in one program: agreement with the processor, time of a training step, a short training, prediction.
//!
//! Each check runs in a process of its own with a time limit, so that a crash or a hang of one does not hide the others. A
//! check prints one line when it is done, and appends one JSON object to the results file. The checks run in the order of
//! their worth, so that a run that is cut short has the most important results. `README.md` in `tests/gpu` explains how to
//! build, pack and run it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "results are its output")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a check that panics has failed, and its process is observed"
)]

mod agreement;
mod layers;
mod prediction;
mod runner;
mod steps;
mod training;

#[path = "../../../crates/sulcus-train/tests/kinds/mod.rs"]
mod kinds;

use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::Device;
use clap::Parser;
use serde_json::{Value, json};
use sulcus_plan::DeviceChoice;
use sulcus_train::{find_device, supported_precisions};

/// Checks a device for training and prediction.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// The device: cuda, cuda:1, vulkan, vulkan:1 or cpu. With cpu the checks compare the processor with itself.
    #[arg(long, default_value = "cuda")]
    device: DeviceChoice,
    /// The file of results; one JSON object per line is appended.
    #[arg(long, default_value = "gpu-check.jsonl")]
    output: PathBuf,
    /// Only these checks.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Not these checks.
    #[arg(long, value_delimiter = ',')]
    skip: Vec<String>,
    /// Time for all checks in seconds. A check that would start later is not run.
    #[arg(long, default_value_t = 360.0)]
    budget: f64,
    /// Multiplies the time limit of each check, for slow devices.
    #[arg(long, default_value_t = 1.0)]
    patience: f64,
    /// Time of the short training in seconds.
    #[arg(long, default_value_t = 60.0)]
    train_seconds: f64,
    /// Number of timed steps of each network.
    #[arg(long, default_value_t = 9)]
    steps: usize,
    /// A data set for the short training.
    #[arg(long, default_value = "examples/data/hippocampus")]
    data: PathBuf,
    /// Models for the prediction.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "models/hippocampus/model.onnx,models/hippocampus-3d/model.onnx"
    )]
    models: Vec<PathBuf>,
    /// The scan for the prediction [default: the first scan of the data set].
    #[arg(long)]
    scan: Option<PathBuf>,
    /// The library of ONNX Runtime with the device's provider; without it prediction is not checked.
    #[arg(long)]
    ort_library: Option<PathBuf>,
    /// List the checks and exit.
    #[arg(long)]
    list: bool,
    /// Run one check in this process and print its result.
    #[arg(long, hide = true)]
    run: Option<String>,
}

/// Why a check has no result.
enum Failure {
    /// The check does not apply to this device or build.
    Skipped(String),
    Failed(String),
}

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

type Outcome = Result<Value, Failure>;

/// One check.
struct Check {
    name: &'static str,
    /// Time limit in seconds on a GPU.
    limit: f64,
    what: &'static str,
    run: fn(&Args) -> Outcome,
}

/// In the order of their worth.
const CHECKS: [Check; 17] = [
    Check { name: "device", limit: 30.0, what: "the device, its precisions", run: device },
    Check { name: "layers", limit: 60.0, what: "layers by themselves, in every form", run: layers::agree },
    Check { name: "networks", limit: 60.0, what: "logits, loss and gradients, fp32", run: agreement::networks },
    Check {
        name: "optimizers",
        limit: 60.0,
        what: "weights after a step of SGD and AdamW",
        run: agreement::optimizers,
    },
    Check { name: "steps-fp32", limit: 90.0, what: "time of a training step, fp32", run: steps::single },
    Check {
        name: "training",
        limit: 120.0,
        what: "a short training, its Dice and export",
        run: training::train_and_export,
    },
    Check { name: "half", limit: 60.0, what: "logits and gradients in bf16 and fp16", run: agreement::half },
    Check { name: "steps-bf16", limit: 90.0, what: "time of a training step, bf16", run: steps::bf16 },
    Check {
        name: "prediction",
        limit: 60.0,
        what: "ONNX Runtime on the device against the processor",
        run: prediction::agree,
    },
    Check { name: "resume", limit: 60.0, what: "a killed training is resumed", run: training::kill_and_resume },
    Check { name: "forms", limit: 60.0, what: "time of each form of a layer", run: layers::time },
    Check { name: "replicas", limit: 60.0, what: "two replicas on one device", run: agreement::replicas },
    Check { name: "collective", limit: 60.0, what: "all-reduce between two devices", run: agreement::collective },
    Check {
        name: "steps-nnunet",
        limit: 60.0,
        what: "time of a step of nnU-Net's 3d_fullres, patch 128³",
        run: steps::nnunet,
    },
    Check { name: "steps-nnunet-bf16", limit: 60.0, what: "the same in bf16", run: steps::nnunet_bf16 },
    Check {
        name: "no-fallback",
        limit: 30.0,
        what: "a device that is absent is an error",
        run: prediction::no_fallback,
    },
    Check {
        name: "no-collective",
        limit: 30.0,
        what: "an absent collective operation is an error",
        run: agreement::missing_collective,
    },
];

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for check in &CHECKS {
            println!("{:<18} {:>4} s  {}", check.name, check.limit, check.what);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(name) = &args.run {
        return runner::run_here(&CHECKS, name, &args);
    }
    runner::run_all(&CHECKS, &args)
}

/// The device of the checks without autodiff, and its name. Mesa's software renderer is not used: its version in Debian 12
/// crashes under these kernels.
fn open(args: &Args) -> Result<(Device, String), Failure> {
    let mut choice = args.device;
    loop {
        let (device, name) = find_device(choice)?;
        match choice {
            DeviceChoice::Vulkan(index) if name.to_lowercase().contains("llvmpipe") => {
                choice = DeviceChoice::Vulkan(index + 1);
            }
            _ => return Ok((device, name)),
        }
    }
}

fn device(args: &Args) -> Outcome {
    let (device, name) = open(args)?;
    let precisions: Vec<String> = supported_precisions(&device).iter().map(ToString::to_string).collect();
    Ok(json!({ "name": name, "precisions": precisions, "version": env!("CARGO_PKG_VERSION") }))
}
