//! Which parts of a network compute in 8 bits, and how that is written down.
//!
//! Every convolution but the last does: its input, its weights and its answer are 8-bit numbers, its sums 32-bit. ReLU
//! and max-pooling behind one work on the same numbers. Everything else stays in single precision: the last
//! convolution, whose answer decides on labels and which takes next to no time; transposed convolutions, which engines
//! have no 8-bit kernel for (their weights are stored in half precision); instance normalisation with the activation
//! behind it, additions and concatenations.

use std::collections::{BTreeMap, BTreeSet};

use crate::OnnxError;
use crate::builder::attribute;
use crate::messages::{AttributeProto, DataType, NodeProto};
use crate::precision::flatten::Blocks;
use crate::precision::half_weights::halve;
use crate::precision::rewrite::{Rewrite, Weights, at, reduce};
use crate::precision::{Affine, PerChannel, ValueRange};

/// The same model whose convolutions compute in 8-bit integers, given the range of every value that
/// [`with_ranges`](crate::precision::with_ranges) measures.
///
/// # Errors
/// When the bytes are no ONNX file, a damaged one, or one whose graph cannot be written in 8 bits, or a range is
/// missing.
pub fn to_int8(onnx_bytes: &[u8], ranges: &BTreeMap<String, ValueRange>) -> Result<Vec<u8>, OnnxError> {
    let (to, nodes) = Rewrite::begin(onnx_bytes)?;
    let plan = Plan::of(&to, &nodes)?;
    let mut affines = BTreeMap::new();
    for value in plan.values() {
        let range =
            ranges.get(&value).ok_or_else(|| reduce(format!("the range of `{value}` was not measured")))?;
        affines.insert(value, Affine::covering(*range));
    }
    let mut writer = Writer { to, affines, held: BTreeMap::new() };
    for (index, node) in nodes.iter().enumerate() {
        match plan.layers.get(&index) {
            Some(layer) => writer.convolution(node, layer, &plan)?,
            None if plan.absorbed.contains(&index) => {}
            None => writer.other(node, &plan)?,
        }
    }
    Ok(writer.to.finish())
}

/// A convolution in 8 bits.
struct Layer {
    input: String,
    /// Its answer, behind the ReLU if one follows.
    output: String,
    relu: bool,
}

/// What is done to which node.
pub(super) struct Plan {
    /// By the index of the convolution's node.
    layers: BTreeMap<usize, Layer>,
    /// ReLUs that belong to a convolution before them.
    absorbed: BTreeSet<usize>,
    /// Values that somebody reads in single precision.
    read_as_floats: BTreeSet<String>,
}

impl Plan {
    pub(super) fn of(to: &Rewrite, nodes: &[NodeProto]) -> Result<Self, OnnxError> {
        let outputs = to.outputs();
        let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            node.input.iter().for_each(|value| readers.entry(value).or_default().push(index));
        }
        let mut plan =
            Self { layers: BTreeMap::new(), absorbed: BTreeSet::new(), read_as_floats: BTreeSet::new() };
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.op_type == "Conv") {
            let (input, sums) = (at(&node.input, 0)?, at(&node.output, 0)?);
            if outputs.iter().any(|o| o == sums) || !to.is_constant(at(&node.input, 1)?) {
                continue;
            }
            let relu = match readers.get(sums).map(Vec::as_slice) {
                Some([one]) => nodes.get(*one).filter(|n| n.op_type == "Relu").map(|n| (*one, n)),
                _ => None,
            };
            let output = match relu {
                Some((at_index, relu)) => {
                    plan.absorbed.insert(at_index);
                    at(&relu.output, 0)?
                }
                None => sums,
            };
            let layer = Layer { input: input.to_owned(), output: output.to_owned(), relu: relu.is_some() };
            plan.layers.insert(index, layer);
        }
        if plan.layers.is_empty() {
            return Err(reduce(
                "it has no convolution besides the last, so there is nothing to compute in 8 bits".into(),
            ));
        }
        for (index, node) in nodes.iter().enumerate() {
            let in_bytes =
                plan.layers.contains_key(&index) || plan.absorbed.contains(&index) || node.op_type == "MaxPool";
            if !in_bytes {
                plan.read_as_floats.extend(node.input.iter().cloned());
            }
        }
        plan.read_as_floats.extend(outputs);
        Ok(plan)
    }

    /// The values that are stored in 8 bits, in the order in which they are made.
    pub(super) fn values(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let all = self.layers.values().flat_map(|layer| [&layer.input, &layer.output]);
        all.filter(|value| seen.insert(*value)).cloned().collect()
    }
}

/// A value that exists in 8 bits.
#[derive(Clone)]
struct Held {
    bytes: String,
    affine: Affine,
    /// The constants that say so.
    scale: String,
    zero: String,
}

struct Writer {
    to: Rewrite,
    affines: BTreeMap<String, Affine>,
    held: BTreeMap<String, Held>,
}

impl Writer {
    /// The constants of an affine map, named after a value.
    fn parameters(&mut self, value: &str, affine: Affine) -> (String, String) {
        let scale = self.to.floats(format!("{value}.step"), &[], &[affine.scale]);
        let zero = self.to.constant(format!("{value}.zero"), &[], DataType::Uint8, vec![affine.zero_point]);
        (scale, zero)
    }

    fn affine(&self, value: &str) -> Result<Affine, OnnxError> {
        self.affines.get(value).copied().ok_or_else(|| reduce(format!("the range of `{value}` was not measured")))
    }

    /// A value in 8 bits, made from its single precision where it is not yet.
    fn bytes_of(&mut self, value: &str) -> Result<Held, OnnxError> {
        if let Some(held) = self.held.get(value) {
            return Ok(held.clone());
        }
        let affine = self.affine(value)?;
        let (scale, zero) = self.parameters(value, affine);
        let bytes = self.to.node("QuantizeLinear", &[value, &scale, &zero], format!("{value}.bytes"), vec![]);
        let held = Held { bytes, affine, scale, zero };
        self.held.insert(value.to_owned(), held.clone());
        Ok(held)
    }

    fn dequantise(&mut self, bytes: &str, held: &Held, output: String) -> String {
        self.to.node("DequantizeLinear", &[bytes, &held.scale, &held.zero], output, vec![])
    }

    /// Notes a value that was made in 8 bits, and makes its single precision under its own name if somebody reads it.
    fn made(&mut self, value: &str, held: Held, plan: &Plan) {
        if plan.read_as_floats.contains(value) {
            self.dequantise(&held.bytes.clone(), &held, value.to_owned());
        }
        self.held.insert(value.to_owned(), held);
    }

    fn convolution(&mut self, node: &NodeProto, layer: &Layer, plan: &Plan) -> Result<(), OnnxError> {
        let name = at(&node.output, 0)?;
        let (weight_name, bias_name) = (at(&node.input, 1)?, at(&node.input, 2)?);
        let (mut weights, biases) = (self.to.weights(weight_name)?, self.to.weights(bias_name)?);
        let input = self.bytes_of(&layer.input)?;
        let blocks = Blocks::of(node);
        if let Some(blocks) = &blocks {
            weights = blocks.reorder(&weights);
        }
        let flat = match &blocks {
            Some(blocks) => Some(blocks.flatten(&mut self.to, &input.bytes, &input.zero, name)?),
            None => None,
        };
        let (bytes, attributes) = match &flat {
            Some(flat) => (flat.value.clone(), flat.attributes.clone()),
            None => (input.bytes.clone(), node.attribute.clone()),
        };
        let image = self.dequantise(&bytes, &input, format!("{name}.image"));
        let quantised = PerChannel::of(&weights.values, &biases.values, input.affine.scale);
        let kernel = self.kernel(weight_name, &weights, &quantised);
        let bias = self.bias(bias_name, &quantised, input.affine.scale);
        let mut sums = self.to.node("Conv", &[&image, &kernel, &bias], format!("{name}.sums"), attributes);
        if layer.relu {
            sums = self.to.node("Relu", &[&sums], format!("{name}.positive"), vec![]);
        }
        let affine = self.affine(&layer.output)?;
        let (scale, zero) = self.parameters(&layer.output, affine);
        let bytes = self.to.node("QuantizeLinear", &[&sums, &scale, &zero], format!("{name}.bytes"), vec![]);
        let bytes = match flat {
            Some(flat) => flat.unflatten(&mut self.to, &bytes, name),
            None => bytes,
        };
        self.made(&layer.output, Held { bytes, affine, scale, zero }, plan);
        Ok(())
    }

    /// Writes weights in 8 bits and what makes them single precision again.
    fn kernel(&mut self, name: &str, weights: &Weights, quantised: &PerChannel) -> String {
        let bytes = quantised.weights.iter().map(|w| w.cast_unsigned()).collect();
        let stored = self.to.constant(format!("{name}.bytes"), &weights.shape, DataType::Int8, bytes);
        let zeros = vec![0; quantised.scales.len()];
        self.per_channel(name, &stored, &quantised.scales, DataType::Int8, zeros)
    }

    /// The same for biases, in 32 bits.
    fn bias(&mut self, name: &str, quantised: &PerChannel, input_scale: f32) -> String {
        let bytes = quantised.biases.iter().flat_map(|b| b.to_le_bytes()).collect();
        let stored = self.to.constant(format!("{name}.units"), &[quantised.biases.len()], DataType::Int32, bytes);
        let scales: Vec<f32> = quantised.scales.iter().map(|scale| scale * input_scale).collect();
        let zeros = vec![0; 4 * scales.len()];
        self.per_channel(name, &stored, &scales, DataType::Int32, zeros)
    }

    fn per_channel(&mut self, name: &str, stored: &str, scales: &[f32], kind: DataType, zeros: Vec<u8>) -> String {
        let scale = self.to.floats(format!("{name}.steps"), &[scales.len()], scales);
        let zero = self.to.constant(format!("{name}.zeros"), &[scales.len()], kind, zeros);
        let axis: Vec<AttributeProto> = vec![attribute::int("axis", 0)];
        self.to.node("DequantizeLinear", &[stored, &scale, &zero], format!("{name}.single"), axis)
    }

    fn other(&mut self, node: &NodeProto, plan: &Plan) -> Result<(), OnnxError> {
        let held = node.input.first().and_then(|value| self.held.get(value)).cloned();
        match (node.op_type.as_str(), held) {
            ("MaxPool", Some(held)) => self.pool(node, &held, plan),
            ("MaxPool", None) => {
                self.to.keep(node.clone());
                Ok(())
            }
            ("Conv" | "ConvTranspose", _) => {
                let mut node = node.clone();
                halve(&mut self.to, &mut node)?;
                self.to.keep(node);
                Ok(())
            }
            _ => {
                self.to.keep(node.clone());
                Ok(())
            }
        }
    }

    /// The greatest of some numbers is one of them: nothing is rounded again.
    fn pool(&mut self, node: &NodeProto, input: &Held, plan: &Plan) -> Result<(), OnnxError> {
        let output = at(&node.output, 0)?;
        let image = self.dequantise(&input.bytes, input, format!("{output}.image"));
        let greatest = self.to.node("MaxPool", &[&image], format!("{output}.greatest"), node.attribute.clone());
        let inputs = [greatest.as_str(), &input.scale, &input.zero];
        let bytes = self.to.node("QuantizeLinear", &inputs, format!("{output}.bytes"), vec![]);
        self.made(output, Held { bytes, ..input.clone() }, plan);
        Ok(())
    }
}
