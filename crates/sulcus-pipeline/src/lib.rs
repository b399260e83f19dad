//! What happens to a scan between the file and the mask, apart from the network itself.
//!
//! The same code prepares volumes for training and for inference, so the two cannot drift apart. (The browser viewer
//! neither prepares nor predicts: it only counts labels with this crate.) [`prepare`] turns an [`Image`](sulcus_volume::Image) into a [`Prepared`] tensor grid and a [`Restore`]
//! that undoes it, and [`Restore::stream`] moves a window over it, asks a [`Predictor`], and brings the answer back onto
//! the scan's own grid and into a [`Decision`], plane by plane as planes are finished. [`predict_logits`] and
//! [`Restore::finish`] do the same in two steps, with all logits between them.

mod crop;
mod decide;
mod described;
mod error;
mod golden;
mod ignore;
mod memory;
mod metrics;
mod network;
mod normalise;
mod parity;
mod postprocess;
mod precision;
mod predictor;
mod prepare;
mod region;
mod restore;
mod spec;
mod stream;
mod structure;
mod summary;
mod window;

pub use crop::{Crop, CropRule, nonzero_box};
pub use decide::decide;
pub use described::LabelDescription;
pub use error::PipelineError;
pub use golden::{GoldenCase, label_hash};
pub use ignore::leave_out_ignored;
pub use memory::{Demand, Pieces};
pub use metrics::{
    Counts, DEFAULT_NSD_MM, SurfaceDistances, count_labels, count_structures, mean_defined, structure_distances,
    surface_distances,
};
pub use network::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};
pub use normalise::Normalisation;
pub use parity::{Parity, compare_predictors};
pub use postprocess::{Postprocess, PostprocessingChoice, choose_postprocessing, postprocess};
pub use precision::{Calibration, Precision, Reduction, UnknownPrecision};
pub use predictor::{Predictor, PredictorError, Tensor};
pub use prepare::{Prepared, PreparedLabels, prepare, prepare_labels, prepare_owned};
pub use region::Region;
pub use restore::{Outputs, Restore, Restored};
pub use spec::{
    ChannelSpec, CoarseAxis, FORMAT_VERSION, ModelSpec, Output, SPEC_KEY, SpacingRule, Tiling, Training,
};
pub use stream::{Block, Decision, Share, Walking, count_tiles_in};
pub use structure::Structure;
pub use summary::{CaseScores, LabelScores, MeanScores, Summary};
pub use window::{Answers, InTurn, Logits, Progress, WindowOptions, count_tiles, predict_logits};
