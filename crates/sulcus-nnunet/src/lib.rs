//! Imports trained models of nnU-Net v2 (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z) without Python.
//!
//! [`import`] reads a model's folder, or the archive that nnU-Net exports, and returns a model file: the networks of the chosen folds
//! as one ONNX graph, with a specification that has everything about pre- and postprocessing. Checkpoints are pickles, which may
//! contain programs; they are read as data by a reader that executes nothing. What cannot be imported is refused by its name.
//!
//! [`import_totalsegmentator`] imports the networks of a task of TotalSegmentator together with its recipe.
//!
//! [`NnunetModel`] is the other way: a network that Sulcus has trained as a folder that nnU-Net's own predictor loads.

mod checkpoint;
mod error;
mod export;
mod folder;
mod import;
mod network;
mod pickle;
mod plans;
mod spec;
mod task_error;
mod totalsegmentator;

pub use checkpoint::CheckpointError;
pub use error::ImportError;
pub use export::{ExportError, NamedTensor, NnunetModel};
pub use folder::{CheckpointChoice, Fold};
pub use import::{ImportOptions, ImportedModel, import};
pub use pickle::PickleError;
pub use plans::PlansError;
pub use task_error::TaskError;
pub use totalsegmentator::{ImportedTask, import_totalsegmentator, totalsegmentator_tasks};
