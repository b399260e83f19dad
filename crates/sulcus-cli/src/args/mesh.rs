//! Arguments of `mesh`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sulcus_mesh::{Smoothing, Space};

#[derive(Debug, Args)]
pub(crate) struct MeshArgs {
    /// The mask: NIfTI, NRRD, MetaImage or a DICOM segmentation
    pub(crate) mask: PathBuf,
    /// The surfaces: F.stl for one label, F.ply for all in their colours, or a folder for one STL file per label
    #[arg(short, long, value_name = "F.stl|F.ply|DIR")]
    pub(crate) output: PathBuf,
    /// Name or number of a label; may be given several times [default: all labels of the mask]
    #[arg(long, value_name = "NAME|NUMBER")]
    pub(crate) label: Vec<String>,
    /// Names and colours of the labels, in the forms that `evaluate` reads [default: from the mask]
    #[arg(long, value_name = "F")]
    pub(crate) labels: Option<PathBuf>,
    /// Passes of smoothing, from 0 (the faces of the voxels) to 100
    #[arg(long, value_name = "N", default_value_t = Smoothing::default().passes(), value_parser = passes())]
    pub(crate) smooth: u32,
    /// Axes of the coordinates, in millimetres; the files say which
    #[arg(long, value_name = "SPACE", default_value = "ras")]
    pub(crate) space: SpaceName,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SpaceName {
    /// Right, anterior, superior: NIfTI, NiiVue
    Ras,
    /// Left, posterior, superior: DICOM, ITK
    Lps,
}

impl From<SpaceName> for Space {
    fn from(name: SpaceName) -> Self {
        match name {
            SpaceName::Ras => Self::Ras,
            SpaceName::Lps => Self::Lps,
        }
    }
}

fn passes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=i64::from(Smoothing::MAX_PASSES))
}
