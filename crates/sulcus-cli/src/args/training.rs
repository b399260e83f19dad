//! Arguments of `demo`, `plan`, `train` and `export`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sulcus_dataset::PatientChoice;
use sulcus_model::{GridAxes, Precision};
use sulcus_plan::DeviceList;

use super::precision::{file_precision, training_precision};
use super::values::{
    CheckpointName, FoldChoice, LossName, NormalisationName, OptimizerName, TritonDevice, at_least_one, bytes,
    duration, fold, minutes, patients, positive, preset_name, triton_name,
};

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The folder for all results
    #[arg(short, long, value_name = "DIR", default_value = "sulcus-demo")]
    pub(crate) output: PathBuf,
    /// Time limit of training and scoring, in minutes
    #[arg(long, value_name = "M", default_value_t = 2.25, value_parser = minutes)]
    pub(crate) minutes: f64,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// A Medical Segmentation Decathlon task, an nnU-Net raw folder, or a folder with images/ and labels/ (or masks/)
    pub(crate) dataset: PathBuf,
    /// Also write the plan to this file, which can be edited before `sulcus train --plan`
    #[arg(short, long, value_name = "plan.json")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: PlanChoices,
    #[command(flatten)]
    pub(crate) split: SplitArgs,
    /// Time limit of the training, such as 15m or 1h30m: the speed of this machine is measured, and patch and batch are made
    /// small enough for 1000 steps (presets auto and unet3d-lite) [default: none; patch and batch as the data and the memory
    /// allow]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) time_budget: Option<Duration>,
    /// Print the plan file as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Settings that replace what the planning rules would choose.
#[derive(Debug, Args)]
pub(crate) struct PlanChoices {
    /// The network: auto selects by data and device; nnunet-3d, nnunet-2d, resenc-3d and unet3d-lite adapt to the data;
    /// unet2d-classic (31.0 M parameters) and unet2d-lite (1.9 M) are fixed [default: auto]
    #[arg(long, value_name = "NAME", value_parser = preset_name)]
    pub(crate) preset: Option<String>,
    /// Where to train
    #[arg(
        long,
        value_name = "D",
        help = "Where to train: auto, cpu, cuda[:N] or vulkan[:N]; several devices of one kind, such as cuda:0,1, share \
                each batch [default: auto]"
    )]
    pub(crate) device: Option<DeviceList>,
    /// Memory limit of a training step, such as 8GB [default: half of the machine's memory on a CPU, 8GB on a GPU]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) memory: Option<u64>,
    /// Patches per step [default: from the plan]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) batch_size: Option<usize>,
    /// Intensity normalisation [default: from the plan]
    #[arg(long, value_name = "NAME")]
    pub(crate) normalisation: Option<NormalisationName>,
    /// Axes of the prepared scans: a code, or `acquired` for slices as they were acquired, whichever patient axis they are
    /// normal to. 2-D networks see slices across the third axis, so RAS gives axial and SAR sagittal slices [default: from
    /// the plan]
    #[arg(long, value_name = "CODE")]
    pub(crate) orientation: Option<GridAxes>,
    /// Size of the training patches: height and width, such as 56,40, or for 3-D networks depth, height and width, such as
    /// 40,56,40 [default: from the plan]
    #[arg(long, value_name = "D,H,W", value_delimiter = ',', value_parser = at_least_one)]
    pub(crate) patch: Option<Vec<usize>>,
}

/// Which cases are held out.
#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    /// The fold to hold out for scoring, from 0; with `all`, `train` trains every fold, one after the other, and `plan` makes
    /// one plan from all cases, for `train --fold all --plan` [default: 0]
    #[arg(long, value_name = "K", value_parser = fold)]
    pub(crate) fold: Option<FoldChoice>,
    /// A file of folds in the form of nnU-Net's splits_final.json [default: the data set's own, else five random folds, which
    /// keep the cases of a patient together]
    #[arg(long, value_name = "F")]
    pub(crate) splits: Option<PathBuf>,
    /// The patient of each case: a CSV file with the columns `case` and `patient`; `none` treats each case as a patient of its
    /// own [default: the object `patients` in the data set's dataset.json, or its patients.csv, else a guess from the names of
    /// the cases where they are clear]
    #[arg(long, value_name = "F", value_parser = patients)]
    pub(crate) patients: Option<PatientChoice>,
    /// Train on every case; no case is held out or scored
    #[arg(long, conflicts_with_all = ["fold", "splits", "patients"])]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// A Medical Segmentation Decathlon task, an nnU-Net raw folder, or a folder with images/ and labels/ (or masks/)
    pub(crate) dataset: PathBuf,
    /// The folder of the run
    #[arg(short, long, value_name = "RUN")]
    pub(crate) output: PathBuf,
    /// Train with a plan file of `sulcus plan`, which may be edited; with `--fold all` it is the plan of every fold [default: each
    /// fold is planned from its own training cases]
    #[arg(
        long,
        value_name = "F",
        conflicts_with_all = ["preset", "batch_size", "normalisation", "orientation", "patch", "memory"]
    )]
    pub(crate) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: PlanChoices,
    #[command(flatten)]
    pub(crate) split: SplitArgs,
    /// Number of epochs, of at most 250 steps each [default: 30, without limit if a time budget is given, 1000 for nnU-Net's
    /// presets]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) epochs: Option<usize>,
    /// Time limit of training and scoring together, over all folds, such as 15m or 1h30m. The plan measures the speed of this
    /// machine, and makes patch and batch small enough for 1000 steps (presets auto and unet3d-lite) [default: none; patch and
    /// batch as the data and the memory allow]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) time_budget: Option<Duration>,
    /// Stop after this many epochs without a better score on the held-out cases [default: train all epochs]
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "all")]
    pub(crate) early_stopping: Option<usize>,
    /// Start from trained weights, wherever names and shapes match: a model (.onnx), a checkpoint (.ckpt), the folder of a
    /// run, or PyTorch weights (.pt, .pth, .safetensors), also nnU-Net's [default: random weights]
    #[arg(long, value_name = "F")]
    pub(crate) init: Option<PathBuf>,
    /// Seed of initial weights, patches and augmentation [default: 0]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Continue the run in RUN from its last checkpoint
    #[arg(long)]
    pub(crate) resume: bool,
    /// Maximum learning rate [default: from the preset]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub(crate) learning_rate: Option<f64>,
    /// Precision of convolutions: fp32, bf16 (GPUs, and processors with AMX) or fp16 (GPUs); weights, normalisation layers and
    /// loss stay in fp32 [default: fp32]
    #[arg(long, value_name = "P", value_parser = training_precision(), hide_possible_values = true)]
    pub(crate) precision: Option<Precision>,
    /// Optimizer [default: from the preset]
    #[arg(long, value_name = "NAME")]
    pub(crate) optimizer: Option<OptimizerName>,
    /// Loss function [default: from the preset]
    #[arg(long, value_name = "NAME")]
    pub(crate) loss: Option<LossName>,
    /// Threads that prepare patches during training [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) workers: Option<usize>,
    /// A folder that stores prepared scans for later trainings [default: none]
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A run folder of `sulcus train`; with --triton or --bundle also a model file
    pub(crate) run: PathBuf,
    /// The model file; for a run with `--fold all` a folder, in which each fold becomes fold_K.onnx
    #[arg(short, long, value_name = "M.onnx", required_unless_present_any = ["triton", "nnunet", "bundle"])]
    pub(crate) output: Option<PathBuf>,
    /// Precision of the model file: fp32; fp16 stores weights in half the size and computes in fp32; int8 computes convolutions
    /// in 8-bit integers, has a quarter of the size and is faster on CPUs with instructions for them. fp16 and int8 are written only
    /// if the mean Dice over the held-out cases of the run drops by less than 0.002
    #[arg(long, value_name = "P", default_value = "fp32", value_parser = file_precision(), hide_possible_values = true)]
    pub(crate) precision: Precision,
    /// Write transposed convolutions as 1×1 convolutions and permutations, for engines without ConvTranspose in 3-D, such as the
    /// WebGPU provider of ONNX Runtime Web. The results are the same
    #[arg(long)]
    pub(crate) conv_transpose_to_conv: bool,
    /// Write the model even if an engine gives other results than the trainer. It is marked, and other commands refuse it
    /// without this option
    #[arg(long)]
    pub(crate) allow_unchecked: bool,
    /// Which weights
    #[arg(long, value_name = "WHICH", default_value = "best")]
    pub(crate) checkpoint: CheckpointName,
    /// The data set of the run, if it was moved; fp16 and int8 are measured on it
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Add the model to this NVIDIA Triton model repository, as DIR/NAME/config.pbtxt and DIR/NAME/1/model.onnx, or as the
    /// next version of a model that prepares scans in the same way
    #[arg(long, value_name = "DIR")]
    pub(crate) triton: Option<PathBuf>,
    /// Name of the model in the repository [default: the name of its data set]
    #[arg(long, value_name = "NAME", requires = "triton", value_parser = triton_name)]
    pub(crate) triton_name: Option<String>,
    /// Where Triton runs the model
    #[arg(long, value_name = "D", requires = "triton", default_value = "auto")]
    pub(crate) triton_device: TritonDevice,
    /// Write a model folder of nnU-Net v2: plans.json, dataset.json and the checkpoint of each fold, which nnU-Net's own
    /// predictor loads
    #[arg(long, value_name = "DIR")]
    pub(crate) nnunet: Option<PathBuf>,
    /// Write a MONAI bundle: the model file with configs/metadata.json and configs/inference.json
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
}
