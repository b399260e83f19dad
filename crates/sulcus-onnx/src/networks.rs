//! Files with several networks: those in which one uses the mask of another, and packs.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use sulcus_model::{ModelSpec, PackNetwork, PackSpec, SPEC_KEY};

use crate::OnnxError;
use crate::file::{MAX_NETWORK_BYTES, read_model};
use crate::messages::{
    DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TypeProto, TypeValue,
};

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
    let mut names = vec![NAMES.map(str::to_owned)];
    names.extend(spec.previous_networks().map(|network| [network.input_name(), network.output_name()]));
    split(bytes, &names)
}

/// Each network of a pack as a file of its own, in the order of [`PackSpec::networks`]: for each its files as [`split_networks`] returns
/// them.
///
/// # Errors
/// As [`split_networks`].
pub fn split_pack(bytes: Vec<u8>, pack: &PackSpec) -> Result<Vec<Vec<Vec<u8>>>, OnnxError> {
    let names: Vec<Vec<[String; 2]>> = pack.networks.iter().map(PackNetwork::graph_names).collect();
    let mut files = split(bytes, &names.concat())?.into_iter();
    Ok(names.iter().map(|names| files.by_ref().take(names.len()).collect()).collect())
}

/// The network between each of these inputs and outputs as a file.
fn split(bytes: Vec<u8>, names: &[[String; 2]]) -> Result<Vec<Vec<u8>>, OnnxError> {
    let ModelProto { graph, ir_version, opset_import, .. } = {
        let model = read_whole(&bytes)?;
        drop(bytes);
        model
    };
    let graph = graph.unwrap_or_default();
    check_names("inputs", graph.input.iter().map(|value| &value.name), names.iter().map(|[input, _]| input))?;
    check_names("outputs", graph.output.iter().map(|value| &value.name), names.iter().map(|[_, output]| output))?;
    let mut parts = Parts::new(graph);
    let mut files = Vec::with_capacity(names.len());
    for [input, output] in names {
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

/// A model file without any field that this crate does not know, because such fields would be lost.
fn read_whole(bytes: &[u8]) -> Result<ModelProto, OnnxError> {
    let model = read_model(bytes)?;
    if model.encoded_len() == bytes.len() {
        return Ok(model);
    }
    Err(damaged("its graph has fields that a file with several networks cannot have".to_owned()))
}

/// Puts networks into one file with a pack's specification. The files, each with its name in the pack, are in the order of
/// [`PackSpec::networks`]; each may have previous networks. Every value of a network gets its name before its own.
///
/// # Errors
/// [`OnnxError::Pack`] if the files use different operator sets or are too large together, and those of [`split_networks`].
pub fn join_networks(
    files: &[&[u8]],
    pack: &PackSpec,
    doc: &str,
    producer_version: &str,
) -> Result<Vec<u8>, OnnxError> {
    let refused = |reason: String| Err(OnnxError::Pack { reason });
    let bytes: u64 = files.iter().map(|file| file.len() as u64).sum();
    if bytes > MAX_NETWORK_BYTES {
        return refused(format!("its networks have {bytes} bytes together, and an ONNX file can hold 2 GB"));
    }
    if files.len() != pack.networks.len() {
        return refused(format!("it has {} files for {} networks", files.len(), pack.networks.len()));
    }
    let mut joined: Option<ModelProto> = None;
    for (file, network) in files.iter().zip(&pack.networks) {
        let model = read_whole(file)?;
        let mut graph = model.graph.unwrap_or_default();
        prefix(&mut graph, &network.name);
        let Some(joined) = &mut joined else {
            joined = Some(ModelProto {
                ir_version: model.ir_version,
                producer_name: "sulcus".to_owned(),
                producer_version: producer_version.to_owned(),
                doc_string: doc.to_owned(),
                graph: Some(GraphProto { name: pack.name.clone(), doc_string: String::new(), ..graph }),
                opset_import: model.opset_import,
                ..ModelProto::default()
            });
            continue;
        };
        if joined.opset_import != model.opset_import {
            let versions = |sets: &[OperatorSetIdProto]| {
                sets.iter().map(|set| set.version.to_string()).collect::<Vec<_>>().join(", ")
            };
            return refused(format!(
                "its networks use different operator sets of ONNX ({} and {}), which one file cannot; use files of one precision",
                versions(&joined.opset_import),
                versions(&model.opset_import)
            ));
        }
        joined.ir_version = joined.ir_version.max(model.ir_version);
        let whole = joined.graph.get_or_insert_default();
        whole.node.append(&mut graph.node);
        whole.initializer.append(&mut graph.initializer);
        whole.input.append(&mut graph.input);
        whole.output.append(&mut graph.output);
    }
    let mut joined = joined.unwrap_or_default();
    joined.metadata_props = vec![StringStringEntryProto { key: SPEC_KEY.to_owned(), value: pack.to_json()? }];
    Ok(joined.encode_to_vec())
}

/// Puts a name before every name of a graph. (An empty name stands for an input that an operator may lack.)
fn prefix(graph: &mut GraphProto, name: &str) {
    let rename = |value: &mut String| {
        if !value.is_empty() {
            value.insert(0, '.');
            value.insert_str(0, name);
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().chain(&mut node.output).chain([&mut node.name]).for_each(rename);
    }
    graph.initializer.iter_mut().for_each(|tensor| rename(&mut tensor.name));
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        rename(&mut value.name);
        let Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }) = &mut value.r#type else { continue };
        for axis in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
            if let Some(DimensionValue::Param(length)) = &mut axis.value {
                rename(length);
            }
        }
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
