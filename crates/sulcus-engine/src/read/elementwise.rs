//! Activations, pooling, concatenation, resizing and heads.

use sulcus_onnx::messages::{DataType, NodeProto};

use super::attributes::{Attributes, attribute_problem};
use super::constant::{Constant, Values};
use super::convolution::MAX_CHANNELS;
use super::{Reader, Symbol, check_inputs, input_name, input_problem};
use crate::error::NodeProblem;
use crate::layer::{Operation, PoolKind, ResizeKind, ValueId};

/// The slope of ONNX's leaky ReLU where a node has none.
const DEFAULT_SLOPE: f32 = 0.01;
/// The largest number of values that one node concatenates: a skip connection has two, the networks of an ensemble a few.
const MAX_CONCATENATED: usize = 64;
/// The largest factor of a resizing.
const MAX_FACTOR: f32 = 16.0;

impl Reader {
    pub(super) fn unary(&mut self, node: &NodeProto, operation: Operation) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 1..=1)?;
        let input = self.value(node, 0)?;
        let channels = self.channels(input);
        Ok(self.layer(node, operation, vec![input], channels))
    }

    pub(super) fn activation(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
    ) -> Result<Symbol, NodeProblem> {
        let slope = if node.op_type == "Relu" { 0.0 } else { attributes.float("alpha", DEFAULT_SLOPE)? };
        if let Symbol::Flattened(flattened) = self.symbol(node, 0)? {
            let flattened = flattened.clone();
            return self.flattened_activation(node, flattened, slope);
        }
        self.unary(node, Operation::Activation { slope })
    }

    pub(super) fn pool(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 1..=1)?;
        let axes = self.network.spatial_axes;
        let window = attributes
            .spatial("kernel_shape", axes, 1)?
            .ok_or_else(|| attribute_problem("kernel_shape", "it is missing"))?;
        if !window.iter().all(|edge| (1..=2).contains(edge)) {
            return Err(attribute_problem("kernel_shape", format!("it is {window:?}, supported are 1 and 2")));
        }
        let strides = attributes.spatial("strides", axes, 1)?.unwrap_or([1; 3]);
        if strides != window {
            return Err(attribute_problem("strides", format!("they are {strides:?} for a window of {window:?}")));
        }
        attributes.require_ints("pads", 0)?;
        attributes.require_ints("dilations", 1)?;
        attributes.require_int("ceil_mode", 0)?;
        attributes.require_text("auto_pad", "NOTSET", &["NOTSET", "VALID"])?;
        let kind = if node.op_type == "MaxPool" {
            attributes.require_int("storage_order", 0)?;
            PoolKind::Max
        } else {
            // Without padding there is nothing to include.
            attributes.int("count_include_pad", 0)?;
            PoolKind::Average
        };
        let input = self.value(node, 0)?;
        let quantization = self.quantized.get(&input).copied();
        let symbol = self.unary(node, Operation::Pool { kind, window })?;
        // A maximum of rounded values is one of them.
        if let (PoolKind::Max, Some(quantization), Symbol::Value(output)) = (kind, quantization, &symbol) {
            self.quantized.insert(*output, quantization);
        }
        Ok(symbol)
    }

    pub(super) fn concat(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Result<Symbol, NodeProblem> {
        let axis = attributes.int("axis", i64::MIN)?;
        let rank = self.rank() as i64;
        if !matches!(self.symbol(node, 0)?, Symbol::Value(_)) {
            return self.flattened_concat(node, axis);
        }
        if axis != 1 && axis != 1 - rank {
            return Err(attribute_problem("axis", format!("it is {axis}, supported are the channels, 1")));
        }
        check_inputs(node, 1..=MAX_CONCATENATED)?;
        let inputs: Vec<ValueId> =
            (0..node.input.len()).map(|index| self.value(node, index)).collect::<Result<_, _>>()?;
        let channels = inputs.iter().map(|input| self.channels(*input)).sum();
        if channels > MAX_CHANNELS {
            return Err(attribute_problem("axis", format!("{channels} channels are too many")));
        }
        Ok(self.layer(node, Operation::Concat, inputs, channels))
    }

    pub(super) fn softmax(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
    ) -> Result<Symbol, NodeProblem> {
        let axis = attributes.int("axis", -1)?;
        if axis != 1 && axis != 1 - self.rank() as i64 {
            return Err(attribute_problem("axis", format!("it is {axis}, supported are the channels, 1")));
        }
        self.unary(node, Operation::Softmax)
    }

    /// Resizing by whole factors, which are the third input.
    pub(super) fn resize(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 3..=3)?;
        let input = self.value(node, 0)?;
        let axes = self.network.spatial_axes;
        let mode = attributes.require_text("mode", "nearest", &["nearest", "linear"])?;
        let grid = attributes.require_text(
            "coordinate_transformation_mode",
            "half_pixel",
            &["half_pixel", "pytorch_half_pixel", "asymmetric"],
        )?;
        attributes.require_int("antialias", 0)?;
        attributes.require_int("exclude_outside", 0)?;
        attributes.float("extrapolation_value", 0.0)?;
        attributes.float("cubic_coeff_a", -0.75)?;
        let rounding = attributes.text("nearest_mode", "round_prefer_floor")?;
        let kind = match (mode, grid, rounding) {
            // With whole factors each of these gives every voxel of a block the value of its source.
            ("nearest", "asymmetric", "floor")
            | ("nearest", "half_pixel" | "pytorch_half_pixel", "round_prefer_floor" | "round_prefer_ceil") => {
                ResizeKind::Nearest
            }
            ("linear", "half_pixel" | "pytorch_half_pixel", _) => ResizeKind::Linear,
            _ => {
                return Err(attribute_problem(
                    "coordinate_transformation_mode",
                    format!("`{grid}` with `{mode}` and `{rounding}` is not supported"),
                ));
            }
        };
        let constant = self.float_constant(node, 2)?;
        let factors = constant.values.into_floats();
        let whole = |factor: &f32| factor.fract() == 0.0 && (1.0..=MAX_FACTOR).contains(factor);
        let factor = match factors.as_slice() {
            [1.0, 1.0, space @ ..] if space.len() == axes && space.iter().all(whole) => {
                let mut factor = [1; 3];
                factor[3 - axes..].iter_mut().zip(space).for_each(|(to, from)| *to = *from as usize);
                factor
            }
            _ => {
                return Err(NodeProblem::Input {
                    name: input_name(node, 2)?.to_owned(),
                    expected: "whole factors along the spatial axes".into(),
                    found: format!("{factors:?}"),
                });
            }
        };
        let channels = self.channels(input);
        Ok(self.layer(node, Operation::Resize { kind, factor }, vec![input], channels))
    }

    /// The conversion of weights that are stored in half precision.
    pub(super) fn cast(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 1..=1)?;
        let to = attributes.int("to", 0)?;
        if to != DataType::Float as i64 {
            return Err(attribute_problem("to", format!("it is {to}, supported is float32, 1")));
        }
        match self.symbol(node, 0)? {
            Symbol::Constant(
                constant @ Constant { shape, values: Values::Half(values) | Values::Float(values) },
            ) => {
                self.count_copy(constant)?;
                Ok(Symbol::Constant(Constant { shape: shape.clone(), values: Values::Float(values.clone()) }))
            }
            other => Err(input_problem(node, 0, "a constant of type float16", other)),
        }
    }
}
