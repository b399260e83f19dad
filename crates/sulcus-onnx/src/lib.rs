//! The model file: an ONNX graph that carries its own specification.
//!
//! Any ONNX runtime can load the file. Everything else that prediction needs (preprocessing, labels, tile size) is JSON in
//! one entry of the model's metadata, [`SPEC_KEY`](sulcus_model::SPEC_KEY).
//!
//! - [`read_spec`] and [`with_spec`] read and replace the specification. They work on the outermost protobuf fields, so they
//!   neither decode nor change the graph.
//! - [`GraphBuilder`] builds a graph, as the exporter does.
//! - [`read_constants`] reads the weights of a file, [`read_model`] the whole graph.
//! - [`split_networks`] divides a file in which one network uses the mask of another, [`split_pack`] a file with several networks and a
//!   recipe, which [`join_networks`] writes.
//! - [`conv_transpose_to_conv`] replaces an operator that some engines lack.
//! - [`precision`] converts a model to half-precision weights or to 8-bit integers.
//!
//! ```
//! use sulcus_onnx::{Axis, GraphBuilder, OnnxError, attribute, read_constants, read_spec, with_spec};
//! use sulcus_model::ModelSpec;
//!
//! /// Builds a 1×1 convolution and gives the file back with another name in its specification.
//! fn renamed_model(spec: &ModelSpec) -> Result<Vec<u8>, OnnxError> {
//!     let mut graph = GraphBuilder::new("tiny");
//!     let size = [Axis::Dynamic("height"), Axis::Dynamic("width")];
//!     graph.input("image", &[&[Axis::Dynamic("batch"), Axis::Fixed(1)], &size[..]].concat(), "");
//!     graph.output("logits", &[&[Axis::Dynamic("batch"), Axis::Fixed(2)], &size[..]].concat(), "");
//!     graph.constant("weight", &[2, 1, 1, 1], &[0.5, -2.0]);
//!     graph.node("Conv", &["image", "weight"], "logits", vec![attribute::ints("kernel_shape", &[1, 1])]);
//!     let file = graph.finish(spec, "an example", "0.1.0")?;
//!
//!     assert_eq!(read_constants(&file)?[0].values, [0.5, -2.0]);
//!     let mut spec = read_spec(&file)?;
//!     spec.name = "renamed".into();
//!     with_spec(&file, &spec)
//! }
//!
//! // Files of other kinds are identified.
//! let error = read_spec(b"\x89PNG\r\n").unwrap_err();
//! assert!(error.to_string().contains("a PNG picture"));
//! ```

mod batch_norm;
mod builder;
mod constants;
mod conv_transpose;
mod error;
mod external;
mod file;
pub mod messages;
mod networks;
pub mod precision;
mod rewriter;
mod wire;

pub use batch_norm::BatchNorm;
pub use builder::{Axis, GraphBuilder, attribute};
pub use constants::{Constant, read_constants};
pub use conv_transpose::conv_transpose_to_conv;
pub use error::OnnxError;
pub use file::{MAX_NETWORK_BYTES, doc_string, read_file_spec, read_model, read_spec, with_pack_spec, with_spec};
pub use networks::{join_networks, split_networks, split_pack};
