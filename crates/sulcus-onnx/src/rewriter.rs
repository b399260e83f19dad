//! Copies a graph node by node and replaces some of its nodes.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::OnnxError;
use crate::messages::{AttributeProto, DataType, GraphProto, ModelProto, NodeProto, TensorProto};

/// A float32 constant of the source graph.
pub(crate) struct Weights {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Writes a new graph for a model, node by node.
pub(crate) struct GraphRewriter {
    model: ModelProto,
    constants: BTreeMap<String, TensorProto>,
    graph: GraphProto,
    written: BTreeSet<String>,
}

impl GraphRewriter {
    /// Decodes a model. Also returns its nodes in the order of their evaluation.
    pub(crate) fn new(onnx_bytes: &[u8]) -> Result<(Self, Vec<NodeProto>), OnnxError> {
        let mut model = decode(onnx_bytes)?;
        let old = model.graph.take().unwrap_or_default();
        let constants = old.initializer.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        let graph = GraphProto { node: Vec::new(), initializer: Vec::new(), ..old_head(old.name, old.doc_string) };
        let graph = GraphProto { input: old.input, output: old.output, ..graph };
        Ok((Self { model, constants, graph, written: BTreeSet::new() }, old.node))
    }

    /// Encodes the model with the new graph.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.model.graph = Some(self.graph);
        self.model.encode_to_vec()
    }

    /// The names of the graph's outputs.
    pub(crate) fn outputs(&self) -> Vec<String> {
        self.graph.output.iter().map(|o| o.name.clone()).collect()
    }

    pub(crate) fn set_outputs(&mut self, outputs: Vec<crate::messages::ValueInfoProto>) {
        self.graph.output = outputs;
    }

    pub(crate) fn is_constant(&self, name: &str) -> bool {
        self.constants.contains_key(name)
    }

    /// The values of a float32 constant of the source graph.
    pub(crate) fn weights(&self, name: &str) -> Result<Weights, OnnxError> {
        let tensor = self.constants.get(name).filter(|t| t.data_type == DataType::Float as i32);
        let tensor =
            tensor.ok_or_else(|| unsupported(format!("`{name}` is not a constant in single precision")))?;
        let shape: Option<Vec<usize>> = tensor.dims.iter().map(|edge| usize::try_from(*edge).ok()).collect();
        let (values, rest) = tensor.raw_data.as_chunks::<4>();
        match shape {
            Some(shape) if shape.iter().product::<usize>() == values.len() && rest.is_empty() => {
                Ok(Weights { shape, values: values.iter().map(|b| f32::from_le_bytes(*b)).collect() })
            }
            _ => Err(unsupported(format!("the constant `{name}` does not have as many values as its shape"))),
        }
    }

    /// Adds a constant, unless one with this name was added before; returns the name.
    pub(crate) fn constant(&mut self, name: String, dims: &[usize], kind: DataType, raw_data: Vec<u8>) -> String {
        if self.written.insert(name.clone()) {
            let dims = dims.iter().map(|edge| *edge as i64).collect();
            self.graph.initializer.push(TensorProto {
                dims,
                data_type: kind as i32,
                name: name.clone(),
                raw_data,
            });
        }
        name
    }

    /// Adds a float32 constant, likewise.
    pub(crate) fn floats(&mut self, name: String, dims: &[usize], values: &[f32]) -> String {
        self.constant(name, dims, DataType::Float, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// Adds a list of int64 numbers, likewise.
    pub(crate) fn integers(&mut self, name: String, values: &[i64]) -> String {
        self.constant(
            name,
            &[values.len()],
            DataType::Int64,
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    /// Adds a node that computes one value; returns the name of the value.
    pub(crate) fn node(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: String,
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.clone()],
            name: output.clone(),
            op_type: operator.to_owned(),
            attribute,
            domain: String::new(),
        });
        output
    }

    /// Copies a node of the source graph together with the constants that it reads.
    pub(crate) fn copy_node(&mut self, node: NodeProto) {
        for name in &node.input {
            if let Some(tensor) = self.constants.get(name)
                && self.written.insert(name.clone())
            {
                self.graph.initializer.push(tensor.clone());
            }
        }
        self.graph.node.push(node);
    }
}

fn old_head(name: String, doc_string: String) -> GraphProto {
    GraphProto { name, doc_string, ..GraphProto::default() }
}

fn decode(onnx_bytes: &[u8]) -> Result<ModelProto, OnnxError> {
    crate::read_model(onnx_bytes)
}

/// The error for a graph that cannot be converted.
pub(crate) fn unsupported(reason: String) -> OnnxError {
    OnnxError::Precision { reason }
}

/// The value of a node's `INTS` attribute; empty if the node does not have it.
pub(crate) fn ints_attribute(node: &NodeProto, name: &str) -> Vec<usize> {
    let found = node.attribute.iter().find(|a| a.name == name).map(|a| a.ints.as_slice()).unwrap_or_default();
    found.iter().map(|v| usize::try_from(*v).unwrap_or_default()).collect()
}

/// The name of a node's input or output.
pub(crate) fn name_at(names: &[String], index: usize) -> Result<&str, OnnxError> {
    names.get(index).map(String::as_str).ok_or_else(|| unsupported("a node lacks an input or output".into()))
}
