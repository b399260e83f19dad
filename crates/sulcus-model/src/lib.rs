//! The description of a segmentation model: everything that prediction needs besides the network's graph.
//!
//! A [`ModelSpec`] is stored in the `.onnx` file as JSON, under the metadata key [`SPEC_KEY`]. It contains the network as
//! data ([`NetworkSpec`]), the input channels with their normalisation, the labels or regions, orientation, voxel size,
//! patch, postprocessing, the provenance of the weights and a [`GoldenCase`] that every engine must reproduce. This crate
//! contains only data and checks: `sulcus-pipeline` applies them to scans, and `sulcus-onnx` reads and writes the model
//! file.
//!
//! ```
//! use sulcus_model::ModelSpec;
//!
//! // Files of a newer format are refused by their version.
//! let error = ModelSpec::from_json(r#"{"format_version": 99}"#).unwrap_err();
//! assert!(error.to_string().contains("99"));
//! ```

mod crop;
mod dataset_labels;
mod error;
mod golden_case;
mod grid_axes;
mod network;
mod network_name;
mod nnunet;
mod normalisation;
mod pack;
mod pack_version;
mod postprocess;
mod precision;
mod region;
mod spec;
mod structure;
mod training_scans;

pub use crop::CropRule;
pub use dataset_labels::DatasetLabels;
pub use error::SpecError;
pub use golden_case::{GoldenCase, label_hash};
pub use grid_axes::{AxisOrder, GridAxes};
pub use network::{
    Activation, Dimensions, Downsampling, Encoder, ImportedNetwork, NetworkSpec, Norm, StageConfig,
};
pub use nnunet::{NnunetOrigin, NnunetResampling, NnunetSpacing, ResamplingMethod};
pub use normalisation::Normalisation;
pub use pack::{CanonicalGrid, FileSpec, Locate, NothingFound, PackNetwork, PackSpec, Part, Recipe, SplitRule};
pub use pack_version::PACK_VERSION;
pub use postprocess::Postprocess;
pub use precision::{Calibration, Precision, QuantizationReport, UnknownPrecision};
pub use region::Region;
pub use spec::{
    ChannelSpec, CoarseAxis, FORMAT_VERSION, MaskUse, ModelSpec, OutputActivation, PreviousNetwork, SPEC_KEY,
    SpacingRule, Tiling, Training,
};
pub use structure::Structure;
pub use training_scans::{AxisRange, ChannelRange, TrainingScans};
