//! Arguments of `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sulcus_nnunet::{CheckpointChoice, Fold};

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Write a trained nnU-Net v2 model as one file, without Python
    #[command(
        after_help = "Example:\n  sulcus import nnunet Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres -o model.onnx\n\n\
                      Supported: PlainConvUNet and ResidualEncoderUNet, 2-D and 3-D, instance and batch normalisation, any number\n\
                      of stages, kernels and strides; labels, regions and the ignore label; plans of every version of nnU-Net v2;\n\
                      cascades: --configuration 3d_cascade_fullres writes both stages into one file.\n\
                      Checkpoints are read as data: nothing in them is executed. What is not supported is refused by its name."
    )]
    Nnunet(Box<NnunetArgs>),
    /// Write a task of TotalSegmentator, all its networks with its recipe, as one file
    #[command(
        after_help = "Example:\n  sulcus import totalsegmentator ~/.totalsegmentator/nnunet/results --task total -o total.onnx\n\n\
                      The weights must be in the folder: TotalSegmentator fetches them, Sulcus never does. Tasks: total (five\n\
                      networks at 1.5 mm), total_fast (3 mm), total_fastest (6 mm), total_mr, and the other open tasks, where\n\
                      they look for organs first with their rough network. Tasks whose weights need a licence number are refused."
    )]
    Totalsegmentator(TotalsegmentatorArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TotalsegmentatorArgs {
    /// The folder with TotalSegmentator's weights: DatasetNNN_…/TRAINER__nnUNetPlans__3d_fullres
    pub(crate) weights: PathBuf,
    /// The task, such as total, total_fast or lung_vessels
    #[arg(long, value_name = "TASK")]
    pub(crate) task: String,
    /// The model file
    #[arg(short, long, value_name = "M.onnx")]
    pub(crate) output: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NnunetArgs {
    /// The folder of a model (with plans.json, dataset.json and fold_X/), a folder above it, or an archive of
    /// nnUNetv2_export_model_to_zip
    pub(crate) model: PathBuf,
    /// The model file
    #[arg(short, long, value_name = "M.onnx")]
    pub(crate) output: PathBuf,
    /// The configuration, where there are several, such as 3d_fullres
    #[arg(long, value_name = "C")]
    pub(crate) configuration: Option<String>,
    /// The folds, such as 0 or 0,1,2, of both stages of a cascade; their logits are averaged. `all` is the training on all cases [default: every numbered
    /// fold, or else `all`]
    #[arg(long, value_name = "K", value_delimiter = ',', value_parser = nnunet_fold)]
    pub(crate) fold: Vec<Fold>,
    /// Which checkpoint of each fold
    #[arg(long, value_name = "WHICH", default_value = "final")]
    pub(crate) checkpoint: NnunetCheckpointName,
    /// Apply this postprocessing.json, which nnU-Net wrote beside its cross-validation [default: none, as nnUNetv2_predict]
    #[arg(long, value_name = "FILE")]
    pub(crate) postprocessing: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NnunetCheckpointName {
    /// After the last epoch
    Final,
    /// With the best validation score
    Best,
    /// The newest of an unfinished training
    Latest,
}

impl From<NnunetCheckpointName> for CheckpointChoice {
    fn from(name: NnunetCheckpointName) -> Self {
        match name {
            NnunetCheckpointName::Final => Self::Final,
            NnunetCheckpointName::Best => Self::Best,
            NnunetCheckpointName::Latest => Self::Latest,
        }
    }
}

fn nnunet_fold(text: &str) -> Result<Fold, String> {
    match text {
        "all" => Ok(Fold::All),
        number => number.parse().map(Fold::Number).map_err(|_| "expected numbers of folds, or `all`".into()),
    }
}
