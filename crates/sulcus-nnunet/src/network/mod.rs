//! Networks of `dynamic-network-architectures` as ONNX graphs.

mod graph;
mod layers;

pub(crate) use graph::{FoldWriter, Folds, GraphWriter};
