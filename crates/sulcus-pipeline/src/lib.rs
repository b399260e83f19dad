//! Everything between a scan and its mask except the network itself.
//!
//! Training and inference call the same functions, so both process a scan in the same way. Inference has two steps:
//!
//! 1. [`plan_inference`] decides from the models and the scan's geometry which models share work, how large the chunks
//!    are in which the scan is processed under a memory limit, and how many sessions are used. The [`InferencePlan`] is data
//!    that can be printed.
//! 2. [`execute`] executes the plan: [`preprocess`] crops, reorients, normalises and resamples the scan; a sliding window
//!    requests the logits of each tile from a [`TileQueue`] of networks; every plane of logits that the window has passed is
//!    resampled to the scan's voxel size by the [`InverseTransform`], and a [`LabelAccumulator`] chooses its labels;
//!    [`postprocess`] works on the whole mask.
//!
//! The recipe of a pack ([`PackSpec`](sulcus_model::PackSpec)) does this for several networks; [`locate`], [`PackGrid`], [`Thirds`] and
//! [`merge`] are what it does besides.
//!
//! A volume of logits is never kept in memory. [`predict_logits`] and [`InverseTransform::finish`] do the same with all
//! logits in memory; the trainer uses them to score one case after the other.
//!
//! The crate contains no engine: a network is any type that implements [`Predictor`]. `sulcus-runtime` combines it with ONNX
//! Runtime and tract; `examples/embed-burn` uses it with a network that is compiled into the program.
//!
//! # Shapes
//! Volumes are stored x fastest and described as x, y, z; arrays for networks are `[N, C, (D,) H, W]` with D = z, H = y,
//! W = x.
//!
//! ```
//! use sulcus_model::Dimensions;
//! use sulcus_pipeline::{Tensor, tiles_in_flight};
//!
//! // Two calls of the engine at a time with one tile each: two tiles are computed while one waits.
//! assert_eq!(tiles_in_flight(1, 2), 3);
//! // The input of a 2-D network is `[N, C, H, W]`.
//! assert_eq!(Dimensions::Two.count() + 2, Tensor::new(vec![1, 1, 4, 4], vec![0.0; 16])?.shape().len());
//! # Ok::<(), sulcus_pipeline::PipelineError>(())
//! ```

mod error;
mod inference;
mod nnunet;
#[cfg(test)]
mod nnunet_functions;
mod pack;
mod parity;
mod plausibility;
mod postprocess;
mod prediction;
mod predictor;
mod preprocess;
mod quantile;
mod rounding;

pub use error::{PipelineError, PredictorError};
pub use inference::{
    Average, ChunkSize, EngineMemory, Execution, GridGroup, InferenceContext, InferencePlan, InferenceSettings,
    LabelAccumulator, LogitSlab, Logits, ModelInput, Numerics, PlannedModel, PreprocessingGroup, Progress,
    ScanInput, ScanOwnership, StageSeconds, SyncTileQueue, TileQueue, WeightedGroup, WindowGroup, WindowOptions,
    check_memory, count_tiles, count_tiles_in_chunks, decide, execute, min_memory_bytes, plan_inference,
    predict_logits, tile_edges, tiles_in_flight, workspace_bytes,
};
pub use pack::{PackGrid, Thirds, locate, merge};
pub use parity::{Parity, compare_predictors};
pub use plausibility::{ChannelMeasures, ScanChecks, ScanWarning, add_warnings, check_scan, measure_channels};
pub use postprocess::{PostprocessingChoice, choose_postprocessing, postprocess};
pub use prediction::{Outputs, Prediction};
pub use predictor::{Predictor, Tensor};
pub use preprocess::{
    Crop, InverseTransform, Preprocessed, PreprocessedLabels, Resampling, nonzero_box, preprocess,
    preprocess_labels, preprocess_owned, preprocess_with_mask, preprocessing_bytes,
};
pub use quantile::quantile;
pub use rounding::RoundingTolerance;
