//! What happens to a scan between the file and the mask, apart from the network itself.
//!
//! The same code prepares volumes for training, for inference and in the browser, so the three cannot drift
//! apart: [`prepare`] turns an [`Image`](sulcus_volume::Image) into a [`Preprocessed`] tensor grid and a [`InverseTransform`]
//! that undoes it, and [`InverseTransform::stream`] moves a window over it, asks a [`Predictor`], and brings the answer back onto
//! the scan's own grid and into a [`LabelAccumulator`], plane by plane as planes are finished. [`predict_logits`] and
//! [`InverseTransform::finish`] do the same in two steps, with all logits between them.

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
pub use described::DatasetLabels;
pub use error::PipelineError;
pub use golden::{GoldenCase, label_hash};
pub use ignore::mask_ignored_voxels;
pub use memory::{MemoryModel, ChunkSize};
pub use metrics::{
    Counts, DEFAULT_NSD_MM, SurfaceDistances, count_labels, count_structures, mean_defined, structure_distances,
    surface_distances,
};
pub use network::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};
pub use normalise::Normalisation;
pub use parity::{Parity, compare_predictors};
pub use postprocess::{Postprocess, PostprocessingChoice, choose_postprocessing, postprocess};
pub use precision::{Calibration, Precision, QuantizationReport, UnknownPrecision};
pub use predictor::{Predictor, PredictorError, Tensor};
pub use prepare::{Preprocessed, PreprocessedLabels, prepare, preprocess_labels, preprocess_owned};
pub use region::Region;
pub use restore::{Outputs, InverseTransform, Prediction};
pub use spec::{
    ChannelSpec, CoarseAxis, FORMAT_VERSION, ModelSpec, Output, SPEC_KEY, SpacingRule, Tiling, Training,
};
pub use stream::{LogitSlab, LabelAccumulator, WeightedGroup, InferenceContext, count_tiles_in_chunks};
pub use structure::Structure;
pub use summary::{CaseScores, LabelScores, MeanScores, Summary};
pub use window::{TileQueue, SyncTileQueue, Logits, Progress, WindowOptions, count_tiles, predict_logits};
