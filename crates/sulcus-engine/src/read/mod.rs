//! Reads an ONNX graph as a [`Network`].
//!
//! The nodes are followed in their order. Each name stands for a [`Symbol`]: a value of the network, a constant, or an intermediate form
//! that only exists between the nodes of one layer. Whatever is not known is refused by name.

mod attributes;
mod constant;
mod convolution;
mod elementwise;
mod quantized;

use std::cell::Cell;
use std::collections::HashMap;

use sulcus_kernels::inference::Quantization;
use sulcus_onnx::messages::{DataType, DimensionValue, GraphProto, NodeProto, TypeValue, ValueInfoProto};

use crate::error::{EngineError, GraphProblem, NodeProblem};
use crate::layer::{Layer, Network, Operation, ValueId, scaled_values};
use attributes::Attributes;
use constant::{Constant, Integers, Values};
use quantized::Flattened;

/// The versions of ONNX's operators whose definitions this module follows.
const OPERATOR_SETS: std::ops::RangeInclusive<i64> = 13..=24;

/// A graph of more nodes is refused: planning takes time in proportion to the square of their number.
const MAX_NODES: usize = 1 << 15;

/// The values that constants may have in memory besides those that the file stores: this many times the size of the file, and at least
/// the second number of bytes. A network in 8-bit integers needs four times its size.
const MAX_COPIES: [usize; 2] = [8, 64 << 20];

/// What the name of a value in the graph stands for.
#[derive(Debug, Clone)]
enum Symbol {
    Value(ValueId),
    Constant(Constant),
    /// The 8-bit form of a value that is rounded to it.
    Bytes(ValueId, Quantization),
    /// A step between a 3-D value and the tall 2-D image that it is for an 8-bit convolution.
    Flattened(Flattened),
}

impl Symbol {
    fn describe(&self) -> String {
        match self {
            Self::Value(_) => "a float32 tensor".into(),
            Self::Constant(constant) => {
                format!("a constant of type {} and shape {:?}", constant.values.type_name(), constant.shape)
            }
            Self::Bytes(..) => "a tensor of 8-bit integers".into(),
            Self::Flattened(_) => "a part of an 8-bit convolution".into(),
        }
    }
}

/// Decodes a model file and reads its graph.
pub(crate) fn read_network(model: &[u8]) -> Result<Network, EngineError> {
    let file_bytes = model.len();
    let model = sulcus_onnx::read_model(model)?;
    let version = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    let version = version.map_or(0, |set| set.version);
    if !OPERATOR_SETS.contains(&version) {
        let (first, last) = OPERATOR_SETS.into_inner();
        return Err(EngineError::Graph(GraphProblem::OperatorSet { found: version, first, last }));
    }
    let mut graph = model.graph.unwrap_or_default();
    let nodes = std::mem::take(&mut graph.node);
    if nodes.len() > MAX_NODES {
        return Err(EngineError::Graph(GraphProblem::Nodes { found: nodes.len(), most: MAX_NODES }));
    }
    let mut reader = Reader::new(graph, &nodes, file_bytes)?;
    for node in &nodes {
        reader.node(node).map_err(|reason| EngineError::Node {
            node: node_name(node),
            operator: node.op_type.clone(),
            reason: Box::new(reason),
        })?;
    }
    reader.finish()
}

fn node_name(node: &NodeProto) -> String {
    let output = node.output.first().map_or("", String::as_str);
    if node.name.is_empty() { output.to_owned() } else { node.name.clone() }
}

struct Reader {
    network: Network,
    symbols: HashMap<String, Symbol>,
    /// How often each name is read by a node or is the output of the graph.
    readers: HashMap<String, usize>,
    /// Values that are rounded to 8 bits already.
    quantized: HashMap<ValueId, Quantization>,
    /// The bytes of constants that may still be copied or converted.
    copies_left: Cell<usize>,
    output: String,
}

impl Reader {
    fn new(graph: GraphProto, nodes: &[NodeProto], file_bytes: usize) -> Result<Self, EngineError> {
        let mut symbols = HashMap::new();
        for tensor in graph.initializer {
            let (name, constant) = Constant::decode(tensor)?;
            if symbols.insert(name.clone(), Symbol::Constant(constant)).is_some() {
                return Err(EngineError::Graph(GraphProblem::DefinedTwice(name)));
            }
        }
        // Old files list their constants among the inputs.
        let inputs: Vec<&ValueInfoProto> =
            graph.input.iter().filter(|input| !symbols.contains_key(&input.name)).collect();
        let [input] = inputs.as_slice() else {
            return Err(EngineError::Graph(GraphProblem::Inputs(inputs.len())));
        };
        let [output] = graph.output.as_slice() else {
            return Err(EngineError::Graph(GraphProblem::Outputs(graph.output.len())));
        };
        let mut readers: HashMap<String, usize> = HashMap::new();
        for name in nodes.iter().flat_map(|node| &node.input).chain([&output.name]) {
            *readers.entry(name.clone()).or_default() += 1;
        }
        let (channels, spatial_axes) =
            input_axes(input).ok_or_else(|| EngineError::Graph(GraphProblem::InputType(input.name.clone())))?;
        symbols.insert(input.name.clone(), Symbol::Value(ValueId(0)));
        let names = [input.name.clone(), output.name.clone()];
        let network =
            Network { names, spatial_axes, channels: vec![channels], layers: Vec::new(), output: ValueId(0) };
        let [factor, least] = MAX_COPIES;
        let copies_left = Cell::new(file_bytes.saturating_mul(factor).max(least));
        Ok(Self { network, symbols, readers, quantized: HashMap::new(), copies_left, output: output.name.clone() })
    }

    fn finish(mut self) -> Result<Network, EngineError> {
        match self.symbols.get(&self.output) {
            Some(Symbol::Value(output)) if *output != ValueId(0) => {
                self.network.output = *output;
                Ok(self.network)
            }
            _ => Err(EngineError::Graph(GraphProblem::NoOutput(self.output))),
        }
    }

    fn node(&mut self, node: &NodeProto) -> Result<(), NodeProblem> {
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Err(NodeProblem::Domain(node.domain.clone()));
        }
        let attributes = Attributes::new(node);
        let symbol = match node.op_type.as_str() {
            "Conv" => self.conv(node, &attributes),
            "ConvTranspose" => self.conv_transpose(node, &attributes),
            "InstanceNormalization" => self.instance_norm(node, &attributes),
            "BatchNormalization" => self.batch_norm(node, &attributes),
            "LeakyRelu" | "Relu" => self.activation(node, &attributes),
            "MaxPool" | "AveragePool" => self.pool(node, &attributes),
            "Add" => self.add(node),
            "Concat" => self.concat(node, &attributes),
            "Resize" => self.resize(node, &attributes),
            "Sigmoid" => self.unary(node, Operation::Sigmoid),
            "Softmax" => self.softmax(node, &attributes),
            "Cast" => self.cast(node, &attributes),
            "QuantizeLinear" => self.quantize(node, &attributes),
            "DequantizeLinear" => self.dequantize(node, &attributes),
            "Pad" => self.pad(node, &attributes),
            "Slice" => self.slice(node),
            "Shape" => self.shape(node, &attributes),
            "Reshape" => self.reshape(node, &attributes),
            _ => return Err(NodeProblem::Operator),
        }?;
        attributes.finish()?;
        let [output] = node.output.as_slice() else { return Err(arity(node)) };
        if self.symbols.insert(output.clone(), symbol).is_some() {
            return Err(NodeProblem::Input {
                name: output.clone(),
                expected: "a new name".into(),
                found: "defined before".into(),
            });
        }
        Ok(())
    }

    /// Adds a layer; returns the symbol of its output.
    fn layer(&mut self, node: &NodeProto, operation: Operation, inputs: Vec<ValueId>, channels: usize) -> Symbol {
        let output = ValueId(self.network.channels.len());
        self.network.channels.push(channels);
        self.network.layers.push(Layer { name: node_name(node), operation, inputs, output });
        Symbol::Value(output)
    }

    fn channels(&self, value: ValueId) -> usize {
        self.network.channels.get(value.0).copied().unwrap_or_default()
    }

    /// The axes of the input and of every value: N, C and the spatial ones.
    fn rank(&self) -> usize {
        self.network.spatial_axes + 2
    }

    fn symbol(&self, node: &NodeProto, index: usize) -> Result<&Symbol, NodeProblem> {
        let name = input_name(node, index)?;
        self.symbols.get(name).ok_or_else(|| NodeProblem::Undefined(name.to_owned()))
    }

    fn value(&self, node: &NodeProto, index: usize) -> Result<ValueId, NodeProblem> {
        match self.symbol(node, index)? {
            Symbol::Value(value) => Ok(*value),
            other => Err(input_problem(node, index, "a float32 tensor that depends on the graph's input", other)),
        }
    }

    /// A constant of float32 values with these axes.
    fn floats(&mut self, node: &NodeProto, index: usize, shape: &[usize]) -> Result<Vec<f32>, NodeProblem> {
        let constant = self.float_constant(node, index)?;
        if constant.shape == shape {
            return Ok(constant.values.into_floats());
        }
        Err(NodeProblem::Input {
            name: input_name(node, index)?.to_owned(),
            expected: format!("a constant of shape {shape:?}"),
            found: Symbol::Constant(constant).describe(),
        })
    }

    /// A constant of float32 values.
    fn float_constant(&mut self, node: &NodeProto, index: usize) -> Result<Constant, NodeProblem> {
        let Constant { shape, values } = self.number_constant(node, index)?;
        Ok(Constant { shape, values: Values::Float(values.into_floats()) })
    }

    /// A constant of float32 values, as numbers or as scaled integers. The last reader of a constant gets its memory.
    fn number_constant(&mut self, node: &NodeProto, index: usize) -> Result<Constant, NodeProblem> {
        let name = input_name(node, index)?;
        let float = match self.symbol(node, index)? {
            Symbol::Constant(Constant {
                values: Values::Float(values) | Values::Scaled { scales: values, .. },
                ..
            }) => values.iter().all(|value| value.is_finite()),
            other => return Err(input_problem(node, index, "a constant of type float32", other)),
        };
        if !float {
            return Err(NodeProblem::Input {
                name: name.to_owned(),
                expected: "a constant of finite numbers".into(),
                found: "one with NaN or infinity".into(),
            });
        }
        let single_reader = self.readers.get(name) == Some(&1);
        if let (false, Some(Symbol::Constant(constant))) = (single_reader, self.symbols.get(name)) {
            self.count_copy(constant)?;
        }
        let found = if single_reader { self.symbols.remove(name) } else { self.symbols.get(name).cloned() };
        match found {
            Some(Symbol::Constant(constant)) => Ok(constant),
            _ => Err(NodeProblem::Undefined(name.to_owned())),
        }
    }

    /// Counts the values that are made of a constant. Without a limit a small file could request any amount of memory.
    fn count_copy(&self, constant: &Constant) -> Result<(), NodeProblem> {
        let bytes = constant.shape.iter().product::<usize>().saturating_mul(size_of::<f32>());
        let left = self.copies_left.get().checked_sub(bytes).ok_or(NodeProblem::Copies)?;
        self.copies_left.set(left);
        Ok(())
    }

    /// A constant of int64 values.
    fn integers(&self, node: &NodeProto, index: usize) -> Result<&[i64], NodeProblem> {
        match self.symbol(node, index)? {
            Symbol::Constant(Constant { values: Values::Int64(values), .. }) => Ok(values),
            other => Err(input_problem(node, index, "a constant of type int64", other)),
        }
    }
}

impl Values {
    /// The float32 values; none if they have another type.
    fn into_floats(self) -> Vec<f32> {
        match self {
            Self::Float(values) => values,
            Self::Scaled { integers: Integers::Int8(integers), scales } => scaled_values(&integers, &scales),
            Self::Scaled { integers: Integers::Int32(integers), scales } => scaled_values(&integers, &scales),
            _ => Vec::new(),
        }
    }
}

/// The number of channels and of spatial axes of the graph's input.
fn input_axes(input: &ValueInfoProto) -> Option<(usize, usize)> {
    let TypeValue::Tensor(tensor) = input.r#type.as_ref()?.value.as_ref()?;
    if tensor.elem_type != DataType::Float as i32 {
        return None;
    }
    let axes = &tensor.shape.as_ref()?.dim;
    let spatial = axes.len().checked_sub(2).filter(|axes| (2..=3).contains(axes))?;
    match axes.get(1)?.value.as_ref()? {
        DimensionValue::Value(channels) => {
            Some((u16::try_from(*channels).ok().filter(|channels| *channels > 0)?.into(), spatial))
        }
        DimensionValue::Param(_) => None,
    }
}

fn arity(node: &NodeProto) -> NodeProblem {
    NodeProblem::Arity { inputs: node.input.len(), outputs: node.output.len() }
}

fn check_inputs(node: &NodeProto, allowed: std::ops::RangeInclusive<usize>) -> Result<(), NodeProblem> {
    if allowed.contains(&node.input.len()) { Ok(()) } else { Err(arity(node)) }
}

fn input_name(node: &NodeProto, index: usize) -> Result<&str, NodeProblem> {
    node.input.get(index).map(String::as_str).filter(|name| !name.is_empty()).ok_or_else(|| arity(node))
}

fn input_problem(node: &NodeProto, index: usize, expected: impl Into<String>, found: &Symbol) -> NodeProblem {
    let name = node.input.get(index).cloned().unwrap_or_default();
    NodeProblem::Input { name, expected: expected.into(), found: found.describe() }
}
