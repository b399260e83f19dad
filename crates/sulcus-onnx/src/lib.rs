//! The model file: a plain ONNX graph that carries its own specification.
//!
//! Any ONNX runtime loads the file; sulcus finds everything else that prediction needs in one metadata entry,
//! [`SPEC_KEY`](sulcus_model::SPEC_KEY). [`read_spec`] and [`with_spec`] work on the file's outer layer alone, so
//! they neither copy nor change its graph; [`GraphBuilder`] makes new graphs for the exporter, and [`read_constants`]
//! reads weights back. [`precision`] writes a model in fewer bits.

mod builder;
mod constants;
mod error;
mod file;
pub mod messages;
pub mod precision;

pub use builder::{Axis, GraphBuilder, attribute};
pub use constants::{Constant, read_constants};
pub use error::OnnxError;
pub use file::{read_spec, with_spec};
