//! What happens to a scan between the file and the mask, apart from the network itself.
//!
//! The same code prepares volumes for training, for inference and in the browser, so the three cannot drift
//! apart: [`prepare`] turns an [`Image`](sulcus_volume::Image) into a [`Prepared`] tensor grid and a [`Restore`]
//! that undoes it, [`predict_logits`] moves a window over it and asks a [`Predictor`], and
//! [`Restore::finish`] brings the answer back onto the scan's own grid.

mod decide;
mod error;
mod golden;
mod ignore;
mod metrics;
mod network;
mod normalise;
mod parity;
mod postprocess;
mod predictor;
mod prepare;
mod restore;
mod spec;
mod summary;
mod window;

pub use error::PipelineError;
pub use golden::{GoldenCase, label_hash};
pub use ignore::leave_out_ignored;
pub use metrics::{Counts, DEFAULT_NSD_MM, SurfaceDistances, count_labels, mean_defined, surface_distances};
pub use network::{Activation, Dimensions, Downsampling, Encoder, NetworkSpec, Norm, StageConfig};
pub use normalise::Normalisation;
pub use parity::{Parity, compare_predictors};
pub use postprocess::{Postprocess, PostprocessingChoice, choose_postprocessing, postprocess};
pub use predictor::{Predictor, PredictorError, Tensor};
pub use prepare::{Prepared, PreparedLabels, prepare, prepare_labels};
pub use restore::{Outputs, Restore, Restored};
pub use spec::{ChannelSpec, FORMAT_VERSION, ModelSpec, Output, SPEC_KEY, SpacingRule, Tiling, Training};
pub use summary::{CaseScores, LabelScores, MeanScores, Summary};
pub use window::{Logits, Progress, WindowOptions, count_tiles, predict_logits};
