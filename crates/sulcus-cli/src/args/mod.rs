//! The command line: commands, options and their help. [`values`] parses the values of options.

mod import;
mod mesh;
mod pack;
mod precision;
mod prediction;
mod scans;
mod training;
pub(crate) mod values;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use import::{ImportCommand, NnunetArgs, TotalsegmentatorArgs};
pub(crate) use mesh::MeshArgs;
pub(crate) use pack::PackArgs;
pub(crate) use prediction::{ComputeArgs, DoctorArgs, InstallArgs, PredictArgs, ServeArgs};
pub(crate) use scans::{ConvertArgs, EvaluateArgs, FigureArgs, InfoArgs, ViewArgs};
pub(crate) use training::{DemoArgs, ExportArgs, PlanArgs, PlanChoices, SplitArgs, TrainArgs};

/// Segment medical scans: train a network on scans with masks, export it as one file, predict, score and view masks.
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

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct GlobalArgs {
    /// Print more messages; twice: print all of them
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub(crate) verbose: u8,
    /// Print only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// The ONNX Runtime library to use: a file, or the folder that contains it
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    pub(crate) ort_lib: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train on the bundled scans, predict held-out ones, score them and draw a figure, in less than 3 minutes
    #[command(after_help = "Example:\n  sulcus demo -o sulcus-demo")]
    Demo(DemoArgs),
    /// Describe a data set and plan a training on it, with the reasons
    #[command(after_help = "Example:\n  sulcus plan Task04_Hippocampus -o plan.json")]
    Plan(PlanArgs),
    /// Train a network on a data set
    #[command(after_help = "Example:\n  sulcus train Task04_Hippocampus -o run --fold 0 --time-budget 15m")]
    Train(Box<TrainArgs>),
    /// Write the network of a run as one ONNX file, after a check that the file gives the same results
    #[command(after_help = "Example:\n  sulcus export run -o model.onnx --checkpoint best")]
    Export(ExportArgs),
    /// Write a trained model of another program as one ONNX file
    #[command(subcommand, after_help = "Example:\n  sulcus import nnunet MODEL_FOLDER -o model.onnx")]
    Import(ImportCommand),
    /// Put two models into one file: a rough one that finds what the other one segments
    #[command(after_help = "Example:\n  sulcus pack rough.onnx model.onnx --margin 20 -o pack.onnx")]
    Pack(PackArgs),
    /// Segment scans
    #[command(after_help = "Example:\n  sulcus predict -m model.onnx scan.nii.gz -o mask.nii.gz")]
    Predict(PredictArgs),
    /// Score masks against reference masks
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
                            If OUT has the extension of a label table, the names and colours of a mask, a model or a\n\
                            dataset.json are written: .txt or .label (ITK-SNAP), .ctbl or .csv (3D Slicer), .json (NiiVue).\n\n\
                            A change of orientation moves voxels and keeps values and type as they are stored. A change of\n\
                            grid takes the nearest value in label maps; images are interpolated linearly and written as\n\
                            float32. Images are not smoothed before they are sampled on a coarser grid."
    )]
    Convert(ConvertArgs),
    /// Write the surfaces of the labels of a mask as STL or PLY, and measure them
    #[command(after_help = "Example:\n  sulcus mesh mask.nii.gz -o surfaces.ply\n  \
                      sulcus mesh mask.nii.gz --label Anterior -o anterior.stl\n\n\
                      Each connected part of a label becomes a closed surface whose normals point outward. It is\n\
                      smoothed, and encloses the volume of its voxels. Coordinates are millimetres in the\n\
                      patient, in RAS or LPS; 3D Slicer reads from the file which. Existing files are replaced.")]
    Mesh(MeshArgs),
    /// Show a scan and its masks, or the cases of a folder, in the browser, on this machine only
    #[command(after_help = "Example:\n  sulcus view scan.nii.gz --mask mask.nii.gz --truth truth.nii.gz\n  \
                      sulcus view imagesTs --mask predictions --truth labelsTs\n  \
                      sulcus view scan.nii.gz --mask mask.nii.gz --save page.html\n\n\
                      A folder of scans is shown as a cohort to review: the worst case first where there is a truth or a\n\
                      map of probabilities, with a verdict and a note for each case, which are saved as CSV.\n\n\
                      A saved page needs no server and no network. It contains the files, so whoever gets it has the scan;\n\
                      an existing file is replaced.")]
    View(ViewArgs),
    /// Segment scans sent over HTTP, with a model that stays loaded
    #[command(
        after_help = "Example:\n  sulcus serve -m model.onnx\n  curl --data-binary @scan.nii.gz -H 'Content-Type: \
                      application/gzip' http://127.0.0.1:8080/v1/segment -o mask.nii.gz\n\n\
                      Ctrl-C or SIGTERM stops the server after the accepted scans are done; a second one stops it at once.\n\
                      The server has no TLS: for other machines, put a proxy with TLS in front of it."
    )]
    Serve(ServeArgs),
    /// Check the engines, devices and libraries of this machine with a golden prediction
    #[command(after_help = "Example:\n  sulcus doctor -m model.onnx")]
    Doctor(DoctorArgs),
    /// Manage ONNX Runtime, the engine for GPUs
    #[command(subcommand, after_help = "Example:\n  sulcus runtime install")]
    Runtime(RuntimeCommand),
    /// Print a completion script for a shell
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
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
