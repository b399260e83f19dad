//! The command line: which words it takes. What they stand for is in [`values`](crate::values).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use sulcus_runtime::{Device, Engine};
use sulcus_train::DeviceList;
use sulcus_volume::Orientation;

use crate::exporting::triton::model_name;
use crate::values::{
    CheckpointName, FoldChoice, InterpolationName, LossName, NormalisationName, OptimizerName, Part,
    PrecisionName, TritonDevice, at_least_one, bytes, duration, fold, host, minutes, number, part, positive,
    preset_name, window_step,
};

/// Segments brain scans: trains a network on scans with masks, exports it as one file, predicts, scores and shows.
#[derive(Debug, Parser)]
#[command(
    name = "sulcus",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 all done, 1 something failed (each failure is named), 2 wrong usage.\n\
                  Start with `sulcus demo`, which needs nothing but this program."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalArgs {
    /// Say more; twice: say everything
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
    /// Say nothing but warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// The ONNX Runtime library to use (a file, or the folder that holds it)
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    pub(crate) ort_lib: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train on the bundled scans, predict held-out ones, score them and draw a figure: all in under 3 minutes
    #[command(after_help = "Example:\n  sulcus demo -o sulcus-demo")]
    Demo(DemoArgs),
    /// Say what a data set is like and how it would be trained on, with the reasons
    #[command(after_help = "Example:\n  sulcus plan Task04_Hippocampus -o plan.json")]
    Plan(PlanArgs),
    /// Train a network on a data set
    #[command(after_help = "Example:\n  sulcus train Task04_Hippocampus -o run --fold 0 --time-budget 15m")]
    Train(Box<TrainArgs>),
    /// Write a run's network as one ONNX file, after a check that it computes the same
    #[command(after_help = "Example:\n  sulcus export run -o model.onnx --checkpoint best")]
    Export(ExportArgs),
    /// Segment scans
    #[command(after_help = "Example:\n  sulcus predict -m model.onnx scan.nii.gz -o mask.nii.gz")]
    Predict(PredictArgs),
    /// Score masks against their truths
    #[command(
        after_help = "Example:\n  sulcus evaluate -p masks -t labelsTr --labels dataset.json --report scores.html"
    )]
    Evaluate(EvaluateArgs),
    /// Draw image, truth and prediction over the same slices
    #[command(
        after_help = "Example:\n  sulcus figure -i scan.nii.gz -t truth.nii.gz -p mask.nii.gz -o figure.png"
    )]
    Figure(FigureArgs),
    /// Describe a volume, a DICOM folder, a model, a run or a data set
    #[command(after_help = "Example:\n  sulcus info scan.nii.gz --json")]
    Info(InfoArgs),
    /// Write a volume in another format, orientation or grid
    #[command(
        after_help = "Example:\n  sulcus convert scan.nii.gz scan_1mm.nii.gz --orient RAS --spacing 1,1,1\n  \
                            sulcus convert mask.nii.gz named.seg.nrrd --names labels.ctbl\n  \
                            sulcus convert model.onnx labels.txt\n\n\
                            The names and colours of a mask's, a model's or a dataset.json's labels become a label table where\n\
                            OUT ends as one: .txt or .label (ITK-SNAP), .ctbl or .csv (3D Slicer), .json (NiiVue).\n\n\
                            Turning axes moves voxels and keeps values and type as they are stored. Between voxels, label\n\
                            maps take the nearest value and images are interpolated linearly and written as float32.\n\
                            Nothing is smoothed before a coarser grid is sampled."
    )]
    Convert(ConvertArgs),
    /// Show a scan and its masks in the browser, from this machine alone
    #[command(after_help = "Example:\n  sulcus view scan.nii.gz --mask mask.nii.gz --truth truth.nii.gz")]
    View(ViewArgs),
    /// Segment scans that other programs send over HTTP, with a model that is held
    #[command(
        after_help = "Example:\n  sulcus serve -m model.onnx\n  curl --data-binary @scan.nii.gz -H 'Content-Type: \
                      application/gzip' http://127.0.0.1:8080/v1/segment -o mask.nii.gz\n\n\
                      Ctrl-C or SIGTERM ends it when the scans that it has accepted are done; a second one at once.\n\
                      There is no TLS: for other machines put a proxy in front of it that has it."
    )]
    Serve(ServeArgs),
    /// Say which engines, devices and libraries there are, and whether they compute what they should
    #[command(after_help = "Example:\n  sulcus doctor -m model.onnx")]
    Doctor(DoctorArgs),
    /// Manage ONNX Runtime, the faster engine
    #[command(subcommand, after_help = "Example:\n  sulcus runtime install")]
    Runtime(RuntimeCommand),
    /// Print a script that completes commands and options in a shell
    #[command(
        after_help = "Example:\n  sulcus completions bash > ~/.local/share/bash-completion/completions/sulcus"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Fetch ONNX Runtime into your data folder and check it
    #[command(after_help = "Example:\n  sulcus runtime install")]
    Install(InstallArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where everything goes
    #[arg(short, long, value_name = "DIR", default_value = "sulcus-demo")]
    pub(crate) output: PathBuf,
    /// How many minutes training and its scoring may take
    #[arg(long, value_name = "M", default_value_t = 2.25, value_parser = minutes)]
    pub(crate) minutes: f64,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// A Medical Segmentation Decathlon task, an nnU-Net raw folder, or a folder with images/ and labels/
    pub(crate) dataset: PathBuf,
    /// Also keep the plan in this file; any value in it may be changed before `sulcus train --plan`
    #[arg(short, long, value_name = "plan.json")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: PlanChoices,
    #[command(flatten)]
    pub(crate) split: SplitArgs,
    /// The plan's file as JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a plan leaves to no rule.
#[derive(Debug, Args)]
pub(crate) struct PlanChoices {
    /// The network: auto (used unless said) decides by data and device; nnunet-3d, nnunet-2d, resenc-3d and
    /// unet3d-lite decide by the data; unet2d-classic (31.0 M parameters) and unet2d-lite (1.9 M) are fixed
    #[arg(long, value_name = "NAME", value_parser = preset_name)]
    pub(crate) preset: Option<String>,
    /// Where to train
    #[arg(
        long,
        value_name = "D",
        help = "Where to train: auto (used unless said), cpu, cuda[:N] or vulkan[:N]; \
        several of one kind, such as cuda:0,1, share each batch"
    )]
    pub(crate) device: Option<DeviceList>,
    /// Memory that a step may take, such as 8GB; otherwise half of the machine's on a processor, 8GB on a GPU
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) memory: Option<u64>,
    /// Patches a step
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) batch_size: Option<usize>,
    /// How intensities are brought to a common scale
    #[arg(long, value_name = "NAME")]
    pub(crate) normalisation: Option<NormalisationName>,
    /// How the scans are turned; slices lie across the third axis. Such as RAS (axial slices) or SAR (sagittal)
    #[arg(long, value_name = "CODE")]
    pub(crate) orientation: Option<Orientation>,
    /// Height and width of the training patches, such as 56,40; of blocks the depth first, such as 40,56,40
    #[arg(long, value_name = "D,H,W", value_delimiter = ',', value_parser = at_least_one)]
    pub(crate) patch: Option<Vec<usize>>,
}

/// Which cases are held out.
#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    /// Hold out this fold for scoring, from 0; fold 0 unless said. `all` trains every fold, one after the other
    #[arg(long, value_name = "K", value_parser = fold)]
    pub(crate) fold: Option<FoldChoice>,
    /// A file of folds as nnU-Net's splits_final.json; otherwise the data set's own, or five drawn ones
    #[arg(long, value_name = "F")]
    pub(crate) splits: Option<PathBuf>,
    /// Train on every case; nothing is held out and nothing scored
    #[arg(long, conflicts_with_all = ["fold", "splits"])]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// A Medical Segmentation Decathlon task, an nnU-Net raw folder, or a folder with images/ and labels/
    pub(crate) dataset: PathBuf,
    /// The run's folder
    #[arg(short, long, value_name = "RUN")]
    pub(crate) output: PathBuf,
    /// Train by a plan that `sulcus plan` made, with whatever was changed in it since
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
    /// Epochs, of at most 250 steps each; 30 unless said or a time budget ends it, 1000 for nnU-Net's presets
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) epochs: Option<usize>,
    /// How long training and its scoring may take together, all folds included, such as 15m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) time_budget: Option<Duration>,
    /// End after this many epochs in which the held-out cases' score has not risen; otherwise all epochs are trained
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "all")]
    pub(crate) early_stopping: Option<usize>,
    /// Start from trained weights, wherever they fit: a model (.onnx), a checkpoint (.ckpt), a run's folder, or PyTorch
    /// weights (.pt, .pth, .safetensors), nnU-Net's too
    #[arg(long, value_name = "F")]
    pub(crate) init: Option<PathBuf>,
    /// Decides weights, patches and variations; 0 unless said
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Go on with the run in -o where it stopped
    #[arg(long)]
    pub(crate) resume: bool,
    /// The learning rate at its greatest
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub(crate) learning_rate: Option<f64>,
    /// What convolutions compute in: fp32 (used unless said), bf16 or fp16; the last two on a GPU alone. Weights, norms and
    /// loss stay fp32
    #[arg(long, value_name = "P")]
    pub(crate) precision: Option<sulcus_train::Precision>,
    /// How weights are moved
    #[arg(long, value_name = "NAME")]
    pub(crate) optimizer: Option<OptimizerName>,
    /// What is minimised
    #[arg(long, value_name = "NAME")]
    pub(crate) loss: Option<LossName>,
    /// Threads that prepare patches beside the training
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) workers: Option<usize>,
    /// A folder that keeps prepared scans from one training to the next
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A folder that `sulcus train` made; with --triton also a model file
    pub(crate) run: PathBuf,
    /// The model file; of a run with `--fold all` a folder, for each fold's fold_K.onnx
    #[arg(short, long, value_name = "M.onnx", required_unless_present = "triton")]
    pub(crate) output: Option<PathBuf>,
    /// Numbers that the file computes with; fewer bits are written only if they cost less than 0.002 of the mean Dice
    /// over the run's held-out cases
    #[arg(long, value_name = "P", default_value = "fp32")]
    pub(crate) precision: PrecisionName,
    /// Which weights
    #[arg(long, value_name = "WHICH", default_value = "best")]
    pub(crate) checkpoint: CheckpointName,
    /// Where the run's data set lies now, if it was moved; fp16 and int8 are measured on it
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Add the model to this model repository of NVIDIA Triton: DIR/NAME/config.pbtxt and DIR/NAME/1/model.onnx, or the
    /// next version of a model that treats scans in the same way
    #[arg(long, value_name = "DIR")]
    pub(crate) triton: Option<PathBuf>,
    /// What the model is called there; otherwise as its data set
    #[arg(long, value_name = "NAME", requires = "triton", value_parser = model_name)]
    pub(crate) triton_name: Option<String>,
    /// Where Triton computes
    #[arg(long, value_name = "D", requires = "triton", default_value = "auto")]
    pub(crate) triton_device: TritonDevice,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// A model file; several are averaged
    #[arg(short, long = "model", value_name = "M.onnx", required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// NIfTI files (.nii, .nii.gz, .hdr/.img), DICOM series (a folder of slices each), or folders of them
    #[arg(required = true, value_name = "INPUT")]
    pub(crate) inputs: Vec<PathBuf>,
    /// A mask file for one scan (.nii, .nii.gz; .dcm for a DICOM segmentation of a DICOM series), or a folder in which
    /// masks keep the scans' names
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Which series of a DICOM folder, by its SeriesInstanceUID; otherwise the largest
    #[arg(long, value_name = "UID")]
    pub(crate) series: Option<String>,
    /// Copy the patient's name, number, birth date and sex and the study's dates into a DICOM segmentation; otherwise
    /// they stay empty
    #[arg(long)]
    pub(crate) keep_patient: bool,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Memory that the program may take, such as 2GB; a scan is worked on in as many parts as that needs, the mask is the
    /// same. Otherwise as much as is fastest
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_memory: Option<u64>,
    /// Work on the K-th of N equal parts of the cases, sorted by name, such as 2/8: for as many machines
    #[arg(long, value_name = "K/N", value_parser = part)]
    pub(crate) part: Option<Part>,
    /// Note in OUT/.sulcus which cases are done, and leave those alone that were done by the same models with the same
    /// options, after a check of scan and mask: the same command goes on where it was stopped
    #[arg(long)]
    pub(crate) resume: bool,
    /// Also write each class's probability (float32, 4-D) beside the mask
    #[arg(long)]
    pub(crate) probabilities: bool,
    /// A line of JSON a case on stdout
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
    /// Compute in half precision, where the device has it: bf16 on openvino, fp16 on tensorrt. Faster; voxels at the borders
    /// may change
    #[arg(long)]
    pub(crate) half: bool,
    /// A folder that keeps what ONNX Runtime makes of a model, so that the next run starts sooner; unless
    /// said only TensorRT's is kept, in the user's cache folder
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// What computes: auto, ort (ONNX Runtime) or tract (embedded)
    #[arg(long, value_name = "E", default_value = "auto")]
    pub(crate) engine: Engine,
    /// Threads of the engine; otherwise all processors
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Also predict mirrored along the axes that the model was trained with mirrored, and average
    #[arg(long)]
    pub(crate) mirror: bool,
    /// Share of a tile by which the window advances; otherwise the model's own
    #[arg(long, value_name = "STEP", value_parser = window_step)]
    pub(crate) step: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// A predicted mask, or a folder of them
    #[arg(short, long, value_name = "PRED")]
    pub(crate) prediction: PathBuf,
    /// Its truth, or a folder of truths with the same case names
    #[arg(short, long, value_name = "TRUTH")]
    pub(crate) truth: PathBuf,
    /// Names of the labels: a dataset.json, a model, or JSON such as {"labels": {"Anterior": 1}}; otherwise every
    /// value that occurs is scored. Voxels of an ignore label that this file names count nowhere
    #[arg(long, value_name = "F")]
    pub(crate) labels: Option<PathBuf>,
    /// Distance within which surfaces agree, for the normalised surface Dice (NSD), in millimetres
    #[arg(long, value_name = "MM", default_value_t = sulcus_metrics::DEFAULT_NSD_MM, value_parser = positive)]
    pub(crate) nsd_mm: f64,
    /// nnU-Net's summary.json on stdout instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write an HTML report: scores, worst case first, their distribution, figures of the worst and the median case
    #[arg(long, value_name = "F.html")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FigureArgs {
    /// The scan
    #[arg(short, long, value_name = "IMAGE")]
    pub(crate) image: PathBuf,
    /// The reference mask
    #[arg(short, long, value_name = "TRUTH")]
    pub(crate) truth: Option<PathBuf>,
    /// The predicted mask
    #[arg(short, long, value_name = "PRED")]
    pub(crate) prediction: Option<PathBuf>,
    /// Names and colours of the labels, as in `evaluate`; otherwise those that a mask carries
    #[arg(long, value_name = "F")]
    pub(crate) labels: Option<PathBuf>,
    /// Which series of a DICOM folder, by its SeriesInstanceUID; otherwise the largest
    #[arg(long, value_name = "UID")]
    pub(crate) series: Option<String>,
    /// The picture
    #[arg(short, long, value_name = "F.png")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// A NIfTI file, a folder with DICOM, a model file, a run's folder or a data set
    pub(crate) path: PathBuf,
    /// Which series of a DICOM folder, by its SeriesInstanceUID; otherwise the largest
    #[arg(long, value_name = "UID")]
    pub(crate) series: Option<String>,
    /// Also show what the series of a DICOM folder are called, which may tell of the patient
    #[arg(long)]
    pub(crate) descriptions: bool,
    /// JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// The volume: NIfTI, NRRD, MetaImage, the folder of a DICOM series, a DICOM segmentation; or, where OUT is a label
    /// table, what names labels: a mask, a model, a dataset.json, another table
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,
    /// The new file; its ending says the format
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Turn the axes to run this way, such as RAS; every voxel stays at its place in the patient
    #[arg(long, value_name = "CODE")]
    pub(crate) orient: Option<Orientation>,
    /// Voxel sizes in millimetres along the axes of the output; the middle stays where it is
    #[arg(long, value_name = "X,Y,Z", value_delimiter = ',', value_parser = positive)]
    pub(crate) spacing: Option<Vec<f64>>,
    /// Put the volume on the grid of this one
    #[arg(long, value_name = "REF", conflicts_with_all = ["orient", "spacing"])]
    pub(crate) like: Option<PathBuf>,
    /// How values between voxels are found; otherwise nearest for label maps and linear for images. Linear on a label map
    /// interpolates each label on its own and takes the greatest
    #[arg(long, value_name = "HOW")]
    pub(crate) interpolation: Option<InterpolationName>,
    /// Treat the volume as a label map; otherwise it is one if the file says so or has at most 32 whole values
    #[arg(long)]
    pub(crate) labels: bool,
    /// Names and colours for the labels of the mask that is written, as in `evaluate`; otherwise those that IN carries
    #[arg(long, value_name = "TABLE")]
    pub(crate) names: Option<PathBuf>,
    /// Which series of a DICOM folder, IN or else REF, by its SeriesInstanceUID; otherwise the largest
    #[arg(long, value_name = "UID")]
    pub(crate) series: Option<String>,
    /// The value of voxels beyond the input; otherwise 0 for label maps, the image's least value for images
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = number)]
    pub(crate) outside: Option<f64>,
    /// Also keep the header's texts and other programs' extensions, which may name the patient
    #[arg(long)]
    pub(crate) keep_texts: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ViewArgs {
    /// The scan
    pub(crate) image: Option<PathBuf>,
    /// A mask over it
    #[arg(long, value_name = "F")]
    pub(crate) mask: Option<PathBuf>,
    /// A reference mask to compare with
    #[arg(long, value_name = "F")]
    pub(crate) truth: Option<PathBuf>,
    /// Which series of a DICOM folder, by its SeriesInstanceUID; otherwise the largest
    #[arg(long, value_name = "UID", requires = "image")]
    pub(crate) series: Option<String>,
    /// The port on 127.0.0.1; otherwise any free one
    #[arg(long, value_name = "P", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,
    /// Only print the address
    #[arg(long)]
    pub(crate) no_open: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A model file; several are averaged
    #[arg(short, long = "model", value_name = "M.onnx", required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// The address to listen on; one that other machines reach needs a token
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = host)]
    pub(crate) host: IpAddr,
    /// The port; 0 takes any that is free. What it is, stdout says
    #[arg(long, value_name = "P", default_value_t = 8080)]
    pub(crate) port: u16,
    /// A file with the token that clients send as `Authorization: Bearer TOKEN`; otherwise $SULCUS_TOKEN, and where there is
    /// neither, programs on this machine are answered without one
    #[arg(long, value_name = "F")]
    pub(crate) token_file: Option<PathBuf>,
    /// Answer anyone who reaches the address, without a token
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) allow_anyone: bool,
    /// Scans that may wait; one more is refused with 429
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) queue: usize,
    /// Scans that are worked on at the same time, all with the same engine: more than one keeps a GPU busy
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) workers: usize,
    /// The largest upload that is taken; inflated and as numbers a scan may take nine times as much
    #[arg(long, value_name = "SIZE", default_value = "512MB", value_parser = bytes)]
    pub(crate) max_body: u64,
    /// How long a scan may take from its upload to its answer
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Memory that the program may take, such as 2GB, shared out among workers and scans that wait; a scan that needs more
    /// is refused. Otherwise as much as is fastest
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_memory: Option<u64>,
    /// What is served where as a line of JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// A model to check; otherwise a tiny one inside this program
    #[arg(short, long, value_name = "M.onnx")]
    pub(crate) model: Option<PathBuf>,
    /// JSON on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The package with NVIDIA's providers (CUDA and TensorRT), ten times as large
    #[arg(long)]
    pub(crate) gpu: bool,
    /// The package with Intel's OpenVINO provider (Linux on x86-64), for `predict --device openvino`
    #[arg(long, conflicts_with = "gpu")]
    pub(crate) openvino: bool,
    /// The package index to ask
    #[arg(long, value_name = "URL", default_value = "https://pypi.org/simple")]
    pub(crate) index: String,
    /// Take this wheel instead of fetching one
    #[arg(long, value_name = "FILE.whl", conflicts_with_all = ["gpu", "openvino", "index"])]
    pub(crate) from: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        let check = |command: &clap::Command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example:\n  sulcus "), "{}", command.get_name());
        };
        for command in Arguments::command().get_subcommands() {
            check(command);
            command.get_subcommands().for_each(check);
        }
    }
}
