//! The networks of a file in which one uses the mask of another.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use sulcus_model::ModelSpec;

use crate::OnnxError;
use crate::file::read_model;
use crate::messages::{GraphProto, ModelProto, NodeProto, TensorProto};

/// Input and output of the last network of a file, and of every file that has one network.
const NAMES: [&str; 2] = ["image", "logits"];

/// Each network of a file as a file of its own, whose input is `image` and whose output is `logits`: the last network first, then the one
/// before it, and so on. A file with one network stays as it is. The files have no specification.
///
/// # Errors
/// [`OnnxError::Damaged`] if the graph has other inputs and outputs than its specification says, networks share nodes or constants, or
/// there is a field that this crate does not know.
pub fn split_networks(bytes: Vec<u8>, spec: &ModelSpec) -> Result<Vec<Vec<u8>>, OnnxError> {
    if spec.previous.is_none() {
        return Ok(vec![bytes]);
    }
    let ModelProto { graph, mut metadata_props, ir_version, opset_import, .. } = {
        let model = read_model(&bytes)?;
        // Fields that are not known would be lost in the parts.
        if model.encoded_len() != bytes.len() {
            return Err(damaged("its graph has fields that a file with several networks cannot have".to_owned()));
        }
        drop(bytes);
        model
    };
    metadata_props.clear();
    let graph = graph.unwrap_or_default();
    let mut names = vec![NAMES.map(str::to_owned)];
    names.extend(spec.previous_networks().map(|network| [network.input_name(), network.output_name()]));
    check_names("inputs", graph.input.iter().map(|value| &value.name), names.iter().map(|[input, _]| input))?;
    check_names("outputs", graph.output.iter().map(|value| &value.name), names.iter().map(|[_, output]| output))?;
    let mut parts = Parts::new(graph);
    let mut files = Vec::with_capacity(names.len());
    for [input, output] in &names {
        let graph = parts.take(input, output)?;
        let model = ModelProto {
            ir_version,
            opset_import: opset_import.clone(),
            graph: Some(graph),
            ..ModelProto::default()
        };
        files.push(model.encode_to_vec());
    }
    match parts.nodes.iter().flatten().next() {
        Some(node) => Err(damaged(format!("its node `{}` belongs to no network", node.name))),
        None => Ok(files),
    }
}

fn damaged(reason: String) -> OnnxError {
    OnnxError::Damaged { reason }
}

fn check_names<'a>(
    what: &str,
    found: impl Iterator<Item = &'a String>,
    expected: impl Iterator<Item = &'a String>,
) -> Result<(), OnnxError> {
    let (found, expected): (BTreeSet<_>, BTreeSet<_>) = (found.collect(), expected.collect());
    if found == expected {
        return Ok(());
    }
    Err(damaged(format!("its graph has the {what} {found:?}, its specification says {expected:?}")))
}

/// The nodes and constants of a graph that no network has taken yet.
struct Parts {
    head: GraphProto,
    /// In the order of their evaluation.
    nodes: Vec<Option<NodeProto>>,
    /// The node that computes a value.
    origin: BTreeMap<String, usize>,
    constants: BTreeMap<String, TensorProto>,
}

impl Parts {
    fn new(mut graph: GraphProto) -> Self {
        let nodes: Vec<Option<NodeProto>> = std::mem::take(&mut graph.node).into_iter().map(Some).collect();
        let outputs = nodes.iter().enumerate().flat_map(|(i, node)| {
            node.iter().flat_map(|node| &node.output).map(move |output| (output.clone(), i))
        });
        let origin = outputs.collect();
        let constants = std::mem::take(&mut graph.initializer);
        let constants = constants.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        Self { head: graph, nodes, origin, constants }
    }

    /// The graph that computes `output` from `input`.
    fn take(&mut self, input: &str, output: &str) -> Result<GraphProto, OnnxError> {
        let mut needed: BTreeSet<usize> = BTreeSet::new();
        let mut constants: BTreeMap<String, TensorProto> = BTreeMap::new();
        let mut open = vec![output.to_owned()];
        while let Some(value) = open.pop() {
            if value.is_empty() || value == input || constants.contains_key(&value) {
                continue;
            }
            if let Some(tensor) = self.constants.remove(&value) {
                constants.insert(value, tensor);
                continue;
            }
            let node = self.origin.get(&value).and_then(|at| Some((*at, self.nodes.get(*at)?.as_ref()?)));
            let (at, node) = node.ok_or_else(|| {
                damaged(format!(
                    "its network with the output `{output}` shares the value `{value}` with another one"
                ))
            })?;
            if needed.insert(at) {
                open.extend(node.input.iter().cloned());
            }
        }
        let rename = |name: &mut String| {
            for (from, to) in [input, output].into_iter().zip(NAMES) {
                if name == from {
                    to.clone_into(name);
                }
            }
        };
        let taken = needed.iter().filter_map(|at| self.nodes.get_mut(*at)?.take());
        let node = taken
            .map(|mut node| {
                node.input.iter_mut().chain(&mut node.output).for_each(rename);
                node
            })
            .collect();
        let only = |values: &[crate::messages::ValueInfoProto], wanted: &str| {
            let mut values: Vec<_> = values.iter().filter(|value| value.name == wanted).cloned().collect();
            values.iter_mut().for_each(|value| rename(&mut value.name));
            values
        };
        Ok(GraphProto {
            node,
            name: self.head.name.clone(),
            initializer: constants.into_values().collect(),
            doc_string: String::new(),
            input: only(&self.head.input, input),
            output: only(&self.head.output, output),
        })
    }
}
