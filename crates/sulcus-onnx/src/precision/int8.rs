//! Quantization of a network to 8-bit integers.
//!
//! All convolutions except the last are quantized: input, weights and output have 8 bits, the accumulators 32 bits. A ReLU
//! or max pooling after a quantized convolution works on the same 8-bit values. Everything else stays in single precision:
//!
//! - the last convolution, because it determines the labels and takes very little time
//! - transposed convolutions, for which engines have no 8-bit kernel; their weights are stored in half precision
//! - instance normalisation with its activation, additions and concatenations

use std::collections::{BTreeMap, BTreeSet};

use crate::OnnxError;
use crate::builder::attribute;
use crate::messages::{AttributeProto, DataType, NodeProto};
use crate::precision::conv3d_as_conv2d::Conv3d;
use crate::precision::half_weights::store_weights_in_half;
use crate::precision::quantization::{QuantizationParams, QuantizedWeights, ValueRange};
use crate::rewriter::{GraphRewriter, Weights, name_at, unsupported};

/// Quantizes the convolutions of a model to 8-bit integers. `ranges` are the ranges of the values that
/// [`calibration_model`](crate::precision::calibration_model) measures, by their names.
///
/// # Errors
/// [`OnnxError::NotOnnx`], [`OnnxError::Damaged`], and [`OnnxError::Precision`] for a graph that cannot be quantized or a
/// missing range.
pub fn to_int8(onnx_bytes: &[u8], ranges: &BTreeMap<String, ValueRange>) -> Result<Vec<u8>, OnnxError> {
    let (rewriter, nodes) = GraphRewriter::new(onnx_bytes)?;
    let plan = QuantizationPlan::new(&rewriter, &nodes)?;
    let mut params = BTreeMap::new();
    for value in plan.values() {
        let range =
            ranges.get(&value).ok_or_else(|| unsupported(format!("the range of `{value}` was not measured")))?;
        params.insert(value, QuantizationParams::from_range(*range));
    }
    let mut writer = Int8Writer { rewriter, params, quantized: BTreeMap::new() };
    for (index, node) in nodes.iter().enumerate() {
        match plan.layers.get(&index) {
            Some(layer) => writer.write_convolution(node, layer, &plan)?,
            None if plan.fused_relus.contains(&index) => {}
            None => writer.write_other(node, &plan)?,
        }
    }
    Ok(writer.rewriter.finish())
}

/// A quantized convolution.
struct QuantizedConv {
    input: String,
    /// The output, after the ReLU if one follows.
    output: String,
    relu: bool,
}

/// The nodes that are quantized.
pub(super) struct QuantizationPlan {
    /// The quantized convolutions by the index of their node.
    layers: BTreeMap<usize, QuantizedConv>,
    /// The indices of ReLU nodes that are fused with the convolution before them.
    fused_relus: BTreeSet<usize>,
    /// The values that other nodes read in single precision.
    read_as_floats: BTreeSet<String>,
}

impl QuantizationPlan {
    pub(super) fn new(rewriter: &GraphRewriter, nodes: &[NodeProto]) -> Result<Self, OnnxError> {
        let outputs = rewriter.outputs();
        let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            node.input.iter().for_each(|value| readers.entry(value).or_default().push(index));
        }
        let mut plan =
            Self { layers: BTreeMap::new(), fused_relus: BTreeSet::new(), read_as_floats: BTreeSet::new() };
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.op_type == "Conv") {
            let (input, sums) = (name_at(&node.input, 0)?, name_at(&node.output, 0)?);
            if outputs.iter().any(|o| o == sums) || !rewriter.is_constant(name_at(&node.input, 1)?) {
                continue;
            }
            let relu = match readers.get(sums).map(Vec::as_slice) {
                Some([one]) => nodes.get(*one).filter(|n| n.op_type == "Relu").map(|n| (*one, n)),
                _ => None,
            };
            let output = match relu {
                Some((relu_index, relu)) => {
                    plan.fused_relus.insert(relu_index);
                    name_at(&relu.output, 0)?
                }
                None => sums,
            };
            let layer = QuantizedConv { input: input.to_owned(), output: output.to_owned(), relu: relu.is_some() };
            plan.layers.insert(index, layer);
        }
        if plan.layers.is_empty() {
            return Err(unsupported(
                "it has no convolution except the last, so there is nothing to quantize".into(),
            ));
        }
        for (index, node) in nodes.iter().enumerate() {
            let is_quantized =
                plan.layers.contains_key(&index) || plan.fused_relus.contains(&index) || node.op_type == "MaxPool";
            if !is_quantized {
                plan.read_as_floats.extend(node.input.iter().cloned());
            }
        }
        plan.read_as_floats.extend(outputs);
        Ok(plan)
    }

    /// The names of the quantized values in the order of their evaluation.
    pub(super) fn values(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let all = self.layers.values().flat_map(|layer| [&layer.input, &layer.output]);
        all.filter(|value| seen.insert(*value)).cloned().collect()
    }
}

/// A value in 8 bits. The fields of type `String` are names in the graph.
#[derive(Clone)]
struct QuantizedValue {
    quantized: String,
    params: QuantizationParams,
    scale: String,
    zero: String,
}

/// Writes the quantized graph.
struct Int8Writer {
    rewriter: GraphRewriter,
    params: BTreeMap<String, QuantizationParams>,
    /// The values that exist in 8 bits so far.
    quantized: BTreeMap<String, QuantizedValue>,
}

impl Int8Writer {
    /// Adds the constants for the scale and the zero point of a value; returns their names.
    fn param_constants(&mut self, value: &str, params: QuantizationParams) -> (String, String) {
        let scale = self.rewriter.floats(format!("{value}.step"), &[], &[params.scale]);
        let zero = self.rewriter.constant(format!("{value}.zero"), &[], DataType::Uint8, vec![params.zero_point]);
        (scale, zero)
    }

    fn params_of(&self, value: &str) -> Result<QuantizationParams, OnnxError> {
        self.params
            .get(value)
            .copied()
            .ok_or_else(|| unsupported(format!("the range of `{value}` was not measured")))
    }

    /// A value in 8 bits. It is quantized here if it exists only in single precision.
    fn quantized(&mut self, value: &str) -> Result<QuantizedValue, OnnxError> {
        if let Some(existing) = self.quantized.get(value) {
            return Ok(existing.clone());
        }
        let params = self.params_of(value)?;
        let (scale, zero) = self.param_constants(value, params);
        let quantized =
            self.rewriter.node("QuantizeLinear", &[value, &scale, &zero], format!("{value}.bytes"), vec![]);
        let result = QuantizedValue { quantized, params, scale, zero };
        self.quantized.insert(value.to_owned(), result.clone());
        Ok(result)
    }

    fn dequantize(&mut self, quantized: &str, params: &QuantizedValue, output: String) -> String {
        self.rewriter.node("DequantizeLinear", &[quantized, &params.scale, &params.zero], output, vec![])
    }

    /// Registers a value that was computed in 8 bits. If other nodes read it in single precision, it is also dequantized
    /// under its own name.
    fn define(&mut self, value: &str, quantized: QuantizedValue, plan: &QuantizationPlan) {
        if plan.read_as_floats.contains(value) {
            self.dequantize(&quantized.quantized, &quantized, value.to_owned());
        }
        self.quantized.insert(value.to_owned(), quantized);
    }

    fn write_convolution(
        &mut self,
        node: &NodeProto,
        layer: &QuantizedConv,
        plan: &QuantizationPlan,
    ) -> Result<(), OnnxError> {
        let name = name_at(&node.output, 0)?;
        let (weight_name, bias_name) = (name_at(&node.input, 1)?, name_at(&node.input, 2)?);
        let (mut weights, biases) = (self.rewriter.weights(weight_name)?, self.rewriter.weights(bias_name)?);
        let input = self.quantized(&layer.input)?;
        let conv3d = Conv3d::from_node(node);
        if let Some(conv3d) = &conv3d {
            weights = conv3d.flatten_weights(&weights);
        }
        let flat = match &conv3d {
            Some(conv3d) => Some(conv3d.flatten_input(&mut self.rewriter, &input.quantized, &input.zero, name)?),
            None => None,
        };
        let (image, attributes) = match &flat {
            Some(flat) => (flat.value.clone(), flat.attributes.clone()),
            None => (input.quantized.clone(), node.attribute.clone()),
        };
        let image = self.dequantize(&image, &input, format!("{name}.image"));
        let quantized = QuantizedWeights::quantize(&weights.values, &biases.values, input.params.scale);
        let kernel = self.kernel_constants(weight_name, &weights, &quantized);
        let bias = self.bias_constants(bias_name, &quantized, input.params.scale);
        let mut sums = self.rewriter.node("Conv", &[&image, &kernel, &bias], format!("{name}.sums"), attributes);
        if layer.relu {
            sums = self.rewriter.node("Relu", &[&sums], format!("{name}.positive"), vec![]);
        }
        let params = self.params_of(&layer.output)?;
        let (scale, zero) = self.param_constants(&layer.output, params);
        let output =
            self.rewriter.node("QuantizeLinear", &[&sums, &scale, &zero], format!("{name}.bytes"), vec![]);
        let quantized = match flat {
            Some(flat) => flat.unflatten_output(&mut self.rewriter, &output, name),
            None => output,
        };
        self.define(&layer.output, QuantizedValue { quantized, params, scale, zero }, plan);
        Ok(())
    }

    /// Adds the 8-bit weights and a node that dequantizes them; returns the name of its output.
    fn kernel_constants(&mut self, name: &str, weights: &Weights, quantized: &QuantizedWeights) -> String {
        let bytes = quantized.weights.iter().map(|w| w.cast_unsigned()).collect();
        let stored = self.rewriter.constant(format!("{name}.bytes"), &weights.shape, DataType::Int8, bytes);
        let zeros = vec![0; quantized.scales.len()];
        self.dequantize_per_channel(name, &stored, &quantized.scales, DataType::Int8, zeros)
    }

    /// Adds the 32-bit biases and a node that dequantizes them, likewise.
    fn bias_constants(&mut self, name: &str, quantized: &QuantizedWeights, input_scale: f32) -> String {
        let bytes = quantized.biases.iter().flat_map(|b| b.to_le_bytes()).collect();
        let stored =
            self.rewriter.constant(format!("{name}.units"), &[quantized.biases.len()], DataType::Int32, bytes);
        let scales: Vec<f32> = quantized.scales.iter().map(|scale| scale * input_scale).collect();
        let zeros = vec![0; 4 * scales.len()];
        self.dequantize_per_channel(name, &stored, &scales, DataType::Int32, zeros)
    }

    /// Adds a node that dequantizes `stored` with one scale per output channel.
    fn dequantize_per_channel(
        &mut self,
        name: &str,
        stored: &str,
        scales: &[f32],
        kind: DataType,
        zeros: Vec<u8>,
    ) -> String {
        let scale = self.rewriter.floats(format!("{name}.steps"), &[scales.len()], scales);
        let zero = self.rewriter.constant(format!("{name}.zeros"), &[scales.len()], kind, zeros);
        let axis: Vec<AttributeProto> = vec![attribute::int("axis", 0)];
        self.rewriter.node("DequantizeLinear", &[stored, &scale, &zero], format!("{name}.single"), axis)
    }

    fn write_other(&mut self, node: &NodeProto, plan: &QuantizationPlan) -> Result<(), OnnxError> {
        let input = node.input.first().and_then(|value| self.quantized.get(value)).cloned();
        match (node.op_type.as_str(), input) {
            ("MaxPool", Some(input)) => self.write_pooling(node, &input, plan),
            ("Conv" | "ConvTranspose", _) => {
                let mut node = node.clone();
                store_weights_in_half(&mut self.rewriter, &mut node)?;
                self.rewriter.copy_node(node);
                Ok(())
            }
            _ => {
                self.rewriter.copy_node(node.clone());
                Ok(())
            }
        }
    }

    /// Max pooling of a quantized value. The maximum is one of the inputs, so nothing is rounded a second time.
    fn write_pooling(
        &mut self,
        node: &NodeProto,
        input: &QuantizedValue,
        plan: &QuantizationPlan,
    ) -> Result<(), OnnxError> {
        let output = name_at(&node.output, 0)?;
        let image = self.dequantize(&input.quantized, input, format!("{output}.image"));
        let max = self.rewriter.node("MaxPool", &[&image], format!("{output}.greatest"), node.attribute.clone());
        let inputs = [max.as_str(), &input.scale, &input.zero];
        let quantized = self.rewriter.node("QuantizeLinear", &inputs, format!("{output}.bytes"), vec![]);
        self.define(output, QuantizedValue { quantized, ..input.clone() }, plan);
        Ok(())
    }
}
