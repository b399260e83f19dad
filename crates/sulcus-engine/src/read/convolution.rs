//! Convolutions and the normalisation that is folded into them.

use sulcus_kernels::inference::Quantization;
use sulcus_onnx::messages::NodeProto;

use super::attributes::{Attributes, attribute_problem};
use super::constant::{Constant, Integers, Values};
use super::{Reader, Symbol, arity, check_inputs, input_name};
use crate::error::NodeProblem;
use crate::layer::{ConvLayer, ConvTransposeLayer, ConvWeights, Operation, ValueId};

/// The largest kernel edge of the kernels.
const MAX_KERNEL: usize = 7;
/// The epsilon of ONNX's normalisations where a node has none.
const DEFAULT_EPSILON: f32 = 1e-5;

impl Reader {
    pub(super) fn conv(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 2..=3)?;
        if let Symbol::Flattened(flattened) = self.symbol(node, 0)? {
            let flattened = flattened.clone();
            return self.flattened_conv(node, attributes, flattened);
        }
        let input = self.value(node, 0)?;
        let axes = self.network.spatial_axes;
        let weight = self.number_constant(node, 1)?;
        let ([outputs, inputs], kernel) = self.kernel(node, attributes, &weight.shape)?;
        self.check_channels(node, &weight.shape, input, [inputs, outputs])?;
        check_kernel(kernel)?;
        let stride = stride(attributes, axes)?;
        check_centred(attributes, kernel)?;
        common_attributes(attributes)?;
        let bias = self.bias(node, outputs)?;
        let input_quantization = self.quantized.get(&input).copied();
        let weights = Weights { weight: weight.values, bias, input: input_quantization }.into_layer(outputs);
        let layer = ConvLayer { weights, inputs, outputs, kernel, stride };
        Ok(self.layer(node, Operation::Conv(layer), vec![input], outputs))
    }

    /// The first two edges of the weights of a node, and its kernel.
    fn kernel(
        &self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
        weights: &[usize],
    ) -> Result<([usize; 2], [usize; 3]), NodeProblem> {
        let axes = self.network.spatial_axes;
        let ([first, second], edges) = match weights {
            [first, second, edges @ ..] if edges.len() == axes => ([*first, *second], edges),
            _ => return Err(self.weight_problem(node, weights)),
        };
        let mut kernel = [1; 3];
        kernel[3 - axes..].copy_from_slice(edges);
        if attributes.spatial("kernel_shape", axes, 1)?.is_some_and(|stated| stated != kernel) {
            return Err(attribute_problem("kernel_shape", "it is not the shape of the weights"));
        }
        Ok(([first, second], kernel))
    }

    fn check_channels(
        &self,
        node: &NodeProto,
        weights: &[usize],
        input: ValueId,
        [inputs, outputs]: [usize; 2],
    ) -> Result<(), NodeProblem> {
        if inputs != self.channels(input) || outputs == 0 || outputs > MAX_CHANNELS {
            return Err(self.weight_problem(node, weights));
        }
        Ok(())
    }

    fn weight_problem(&self, node: &NodeProto, found: &[usize]) -> NodeProblem {
        NodeProblem::Input {
            name: node.input.get(1).cloned().unwrap_or_default(),
            expected: format!(
                "weights for {} spatial axes and the channels of the input",
                self.network.spatial_axes
            ),
            found: format!("of shape {found:?}"),
        }
    }

    /// The third input of a convolution.
    pub(super) fn bias(&mut self, node: &NodeProto, outputs: usize) -> Result<Option<Values>, NodeProblem> {
        if matches!(node.input.get(2).map(String::as_str), None | Some("")) {
            return Ok(None);
        }
        let Constant { shape, values } = self.number_constant(node, 2)?;
        if shape == [outputs] {
            return Ok(Some(values));
        }
        Err(NodeProblem::Input {
            name: input_name(node, 2)?.to_owned(),
            expected: format!("a constant of shape {:?}", [outputs]),
            found: format!("of shape {shape:?}"),
        })
    }

    pub(super) fn conv_transpose(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
    ) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 2..=3)?;
        let input = self.value(node, 0)?;
        let axes = self.network.spatial_axes;
        let weight = self.float_constant(node, 1)?;
        let ([inputs, outputs], kernel) = self.kernel(node, attributes, &weight.shape)?;
        self.check_channels(node, &weight.shape, input, [inputs, outputs])?;
        let stride = stride(attributes, axes)?;
        if stride != kernel {
            return Err(attribute_problem("strides", format!("they are {stride:?} for a kernel of {kernel:?}")));
        }
        attributes.require_ints("pads", 0)?;
        attributes.require_ints("output_padding", 0)?;
        if attributes.ints("output_shape")?.is_some() {
            return Err(attribute_problem("output_shape", "it is not supported"));
        }
        common_attributes(attributes)?;
        let bias = self.bias(node, outputs)?.map_or_else(|| vec![0.0; outputs], Values::into_floats);
        let layer = ConvTransposeLayer { weight: weight.values.into_floats(), bias, inputs, outputs, stride };
        Ok(self.layer(node, Operation::ConvTranspose(layer), vec![input], outputs))
    }

    pub(super) fn instance_norm(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
    ) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 3..=3)?;
        let input = self.value(node, 0)?;
        let channels = self.channels(input);
        let epsilon = epsilon(attributes)?;
        let scale = self.floats(node, 1, &[channels])?;
        let shift = self.floats(node, 2, &[channels])?;
        Ok(self.layer(node, Operation::InstanceNorm { scale, shift, epsilon }, vec![input], channels))
    }

    /// Batch normalisation with fixed statistics: γ (x − μ) / √(σ² + ε) + β. If it follows a convolution that nothing else reads, it
    /// is folded into its weights. It rounds once, at the end.
    pub(super) fn batch_norm(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
    ) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 5..=5)?;
        let input = self.value(node, 0)?;
        let channels = self.channels(input);
        let epsilon = epsilon(attributes)?;
        attributes.float("momentum", 0.9)?;
        attributes.require_int("training_mode", 0)?;
        let [gamma, beta, mean, variance] = [1, 2, 3, 4].map(|index| self.floats(node, index, &[channels]));
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        let mut scale = Vec::with_capacity(channels);
        let mut shift = Vec::with_capacity(channels);
        for (((gamma, beta), mean), variance) in gamma.iter().zip(&beta).zip(&mean).zip(&variance) {
            let factor = f64::from(*gamma) / (f64::from(*variance) + f64::from(epsilon)).sqrt();
            if !factor.is_finite() {
                return Err(NodeProblem::Input {
                    name: input_name(node, 4)?.to_owned(),
                    expected: "variances that are not negative".into(),
                    found: format!("{variance}"),
                });
            }
            scale.push(factor);
            shift.push(f64::from(*beta) - f64::from(*mean) * factor);
        }
        let single_reader = self.readers.get(input_name(node, 0)?) == Some(&1);
        if single_reader && self.fold(input, &scale, &shift) {
            return Ok(Symbol::Value(input));
        }
        let [scale, shift] = [scale, shift].map(|values| values.iter().map(|value| *value as f32).collect());
        Ok(self.layer(node, Operation::Affine { scale, shift }, vec![input], channels))
    }

    /// Multiplies the weights of the layer that computes `value`, if it is a convolution that was not rounded to 8 bits.
    fn fold(&mut self, value: ValueId, scale: &[f64], shift: &[f64]) -> bool {
        let layer = self.network.layers.iter_mut().find(|layer| layer.output == value);
        let Some(Operation::Conv(conv)) = layer.map(|layer| &mut layer.operation) else { return false };
        let ConvWeights::Floats { weight, bias } = &mut conv.weights else { return false };
        let per_output = (weight.len() / conv.outputs).max(1);
        let kernels = weight.chunks_exact_mut(per_output);
        for ((kernel, bias), (scale, shift)) in kernels.zip(bias).zip(scale.iter().zip(shift)) {
            kernel.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
            *bias = (f64::from(*bias) * scale + shift) as f32;
        }
        true
    }

    pub(super) fn add(&mut self, node: &NodeProto) -> Result<Symbol, NodeProblem> {
        let [_, _] = node.input.as_slice() else { return Err(arity(node)) };
        let [a, b] = [self.value(node, 0)?, self.value(node, 1)?];
        let channels = self.channels(a);
        if channels != self.channels(b) {
            return Err(NodeProblem::Input {
                name: input_name(node, 1)?.to_owned(),
                expected: format!("a tensor of {channels} channels"),
                found: format!("one of {}", self.channels(b)),
            });
        }
        Ok(self.layer(node, Operation::Add, vec![a, b], channels))
    }
}

/// The weights of a convolution as the graph has them.
pub(super) struct Weights {
    pub(super) weight: Values,
    pub(super) bias: Option<Values>,
    /// The quantization of the input, if it has one.
    pub(super) input: Option<Quantization>,
}

impl Weights {
    /// Integers if weights, biases and input are integers whose units fit together, and single precision otherwise.
    pub(super) fn into_layer(self, outputs: usize) -> ConvWeights {
        match self {
            Self {
                weight: Values::Scaled { integers: Integers::Int8(weight), scales: scale },
                bias: Some(Values::Scaled { integers: Integers::Int32(bias), scales: units }),
                input: Some(input),
            } if scale.iter().map(|scale| scale * input.scale).eq(units.iter().copied())
                && scale.iter().all(|scale| scale.is_normal() && *scale > 0.0) =>
            {
                ConvWeights::Integers { weight, scale, bias, input }
            }
            Self { weight, bias, .. } => ConvWeights::Floats {
                weight: weight.into_floats(),
                bias: bias.map_or_else(|| vec![0.0; outputs], Values::into_floats),
            },
        }
    }
}

/// No layer has more channels.
pub(super) const MAX_CHANNELS: usize = 1 << 14;

pub(super) fn check_kernel(kernel: [usize; 3]) -> Result<(), NodeProblem> {
    if kernel.iter().all(|edge| edge % 2 == 1 && *edge <= MAX_KERNEL) {
        return Ok(());
    }
    Err(attribute_problem("kernel_shape", format!("it is {kernel:?}, supported are odd edges up to {MAX_KERNEL}")))
}

/// Strides of 1 and 2.
pub(super) fn stride(attributes: &Attributes<'_>, axes: usize) -> Result<[usize; 3], NodeProblem> {
    let stride = attributes.spatial("strides", axes, 1)?.unwrap_or([1; 3]);
    if stride.iter().all(|step| (1..=2).contains(step)) {
        return Ok(stride);
    }
    Err(attribute_problem("strides", format!("they are {stride:?}, supported are 1 and 2")))
}

/// Requires a padding of half the kernel.
fn check_centred(attributes: &Attributes<'_>, kernel: [usize; 3]) -> Result<(), NodeProblem> {
    let found = attributes.ints("pads")?.unwrap_or(&[]);
    let half = |edges: &[i64]| {
        let skipped = 3 - edges.len().min(3);
        edges.len() <= 3 && edges.iter().zip(&kernel[skipped..]).all(|(pad, edge)| *pad == (edge / 2) as i64)
    };
    let (before, after) = found.split_at(found.len() / 2);
    let absent = found.is_empty() && kernel == [1; 3];
    if absent || (!found.is_empty() && before.len() == after.len() && half(before) && half(after)) {
        return Ok(());
    }
    Err(attribute_problem("pads", format!("they are {found:?}, supported is half the kernel on both sides")))
}

/// Attributes with only one supported value.
pub(super) fn common_attributes(attributes: &Attributes<'_>) -> Result<(), NodeProblem> {
    attributes.require_int("group", 1)?;
    attributes.require_ints("dilations", 1)?;
    attributes.require_text("auto_pad", "NOTSET", &["NOTSET"])?;
    Ok(())
}

fn epsilon(attributes: &Attributes<'_>) -> Result<f32, NodeProblem> {
    match attributes.float("epsilon", DEFAULT_EPSILON)? {
        epsilon if epsilon > 0.0 => Ok(epsilon),
        epsilon => Err(attribute_problem("epsilon", format!("it is {epsilon}, expected more than 0"))),
    }
}
