//! Arguments of the commands for scans and masks: `evaluate`, `figure`, `info`, `convert` and `view`.

use std::path::PathBuf;

use clap::Args;
use sulcus_volume::Orientation;

use super::values::{InterpolationName, number, positive};

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// A predicted mask, or a folder of them
    #[arg(short, long, value_name = "PRED")]
    pub(crate) prediction: PathBuf,
    /// The reference mask, or a folder of reference masks with the same case names
    #[arg(short, long, value_name = "TRUTH")]
    pub(crate) truth: PathBuf,
    /// Names of the labels: a dataset.json, a model, or JSON such as {"labels": {"Anterior": 1}}. Voxels of an ignore label
    /// in this file count in no score [default: every value that occurs is scored]
    #[arg(long, value_name = "F")]
    pub(crate) labels: Option<PathBuf>,
    /// Tolerance of the normalised surface Dice (NSD), in millimetres
    #[arg(long, value_name = "MM", default_value_t = sulcus_metrics::DEFAULT_NSD_MM, value_parser = positive)]
    pub(crate) nsd_mm: f64,
    /// Print nnU-Net's summary.json instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write an HTML report: the scores of all cases, worst first, their distribution, and figures of the worst and the
    /// median case
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
    /// Names and colours of the labels, in the forms that `evaluate` reads [default: from the masks]
    #[arg(long, value_name = "F")]
    pub(crate) labels: Option<PathBuf>,
    /// SeriesInstanceUID of the series to take from a DICOM folder [default: the largest that is not a localizer]
    #[arg(long, value_name = "UID")]
    pub(crate) series: Option<String>,
    /// The picture
    #[arg(short, long, value_name = "F.png")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// A volume, a folder with DICOM, a model file, the folder of a run, or a data set
    pub(crate) path: PathBuf,
    /// SeriesInstanceUID of the series to take from a DICOM folder [default: the largest that is not a localizer]
    #[arg(long, value_name = "UID")]
    pub(crate) series: Option<String>,
    /// Also show the descriptions of the series of a DICOM folder, which may identify the patient
    #[arg(long)]
    pub(crate) descriptions: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// The volume: NIfTI, NRRD, MetaImage, a picture (PNG, JPEG, TIFF), the folder of a DICOM series, or a DICOM segmentation. If OUT is a label
    /// table, IN may also be a model, a dataset.json or another label table
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,
    /// The new file; its extension selects the format
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Reorder and flip the axes to this orientation, such as RAS; every voxel keeps its place in the patient
    #[arg(long, value_name = "CODE")]
    pub(crate) orient: Option<Orientation>,
    /// Resample to these voxel sizes in millimetres, along the axes of the output; the centre of the volume is kept
    #[arg(long, value_name = "X,Y,Z", value_delimiter = ',', value_parser = positive)]
    pub(crate) spacing: Option<Vec<f64>>,
    /// Resample onto the grid of this volume
    #[arg(long, value_name = "REF", conflicts_with_all = ["orient", "spacing"])]
    pub(crate) like: Option<PathBuf>,
    /// Interpolation between voxels; `linear` on a label map interpolates each label separately and takes the greatest
    /// [default: nearest for label maps, linear for images]
    #[arg(long, value_name = "HOW")]
    pub(crate) interpolation: Option<InterpolationName>,
    /// Treat the volume as a label map [default: if the file says so, or its values are whole numbers that form regions]
    #[arg(long)]
    pub(crate) labels: bool,
    /// Names and colours for the labels of the output, in the forms that `evaluate` reads. Where IN has the same names for
    /// other numbers, the labels get the numbers of TABLE; names that contradict each other are refused [default: from IN]
    #[arg(long, value_name = "TABLE")]
    pub(crate) names: Option<PathBuf>,
    /// Keep the numbers of the labels, and replace their names in IN by those of --names
    #[arg(long, requires = "names")]
    pub(crate) rename: bool,
    /// SeriesInstanceUID of the series to take from a DICOM folder, IN or else REF [default: the largest that is not a localizer]
    #[arg(long, value_name = "UID")]
    pub(crate) series: Option<String>,
    /// Value of voxels outside the input [default: 0 for label maps, the minimum for images]
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = number)]
    pub(crate) outside: Option<f64>,
    /// Also keep the texts of the header and other programs' extensions, which may identify the patient
    #[arg(long)]
    pub(crate) keep_texts: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ViewArgs {
    /// The scan, or a folder with the scans of a cohort to review, in it or in its subfolder `images` (`imagesTr`, `imagesTs`)
    pub(crate) image: Option<PathBuf>,
    /// A mask to show over it; for a cohort a folder with masks of the same names [default for a cohort: `masks`, `predictions`]
    #[arg(long, value_name = "F")]
    pub(crate) mask: Option<PathBuf>,
    /// A reference mask to compare with; for a cohort a folder [default for a cohort: `truths`, `labels`, `labelsTr`, `labelsTs`]
    #[arg(long, value_name = "F")]
    pub(crate) truth: Option<PathBuf>,
    /// Values to show over it in colours: probabilities, as `predict --probabilities` writes them, uncertainty, or another
    /// scan on the same grid; for a cohort a folder [default for a cohort: `maps`, `probabilities`, `uncertainty`, `confidence`]
    #[arg(long, value_name = "F")]
    pub(crate) map: Option<PathBuf>,
    /// A model (.onnx), with which the browser segments the scan if there is no mask
    #[arg(short, long, value_name = "F")]
    pub(crate) model: Option<PathBuf>,
    /// SeriesInstanceUID of the series to take from a DICOM folder [default: the largest that is not a localizer]
    #[arg(long, value_name = "UID", requires = "image")]
    pub(crate) series: Option<String>,
    /// A view that the page saved (*Save view*): settings, position and measurements to begin with
    #[arg(long, value_name = "F.json")]
    pub(crate) view: Option<PathBuf>,
    /// Write a page of one file, which contains the viewer and the files that it shows and opens from disk by a double click,
    /// instead of serving them
    #[arg(long, value_name = "F.html", conflicts_with_all = ["port", "no_open"])]
    pub(crate) save: Option<PathBuf>,
    /// The port on 127.0.0.1 [default: any free port]
    #[arg(long, value_name = "P", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,
    /// Print the address without opening a browser
    #[arg(long)]
    pub(crate) no_open: bool,
}
