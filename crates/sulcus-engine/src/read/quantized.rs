//! Networks in 8-bit integers, in the form that [`sulcus_onnx::precision::to_int8`] writes.
//!
//! `QuantizeLinear` rounds a value to 8 bits, and the `DequantizeLinear` after it gives the rounded value. A 3-D convolution is written as
//! a 2-D one over a tall image (all slices one below the other, the neighbouring slices as channels); the nodes around it are followed
//! here and give the 3-D convolution back.

use sulcus_kernels::inference::Quantization;
use sulcus_onnx::messages::NodeProto;

use super::attributes::{Attributes, attribute_problem};
use super::constant::{Constant, Integers, Values};
use super::convolution::{MAX_CHANNELS, Weights, check_kernel, common_attributes, stride};
use super::{Reader, Symbol, arity, check_inputs, input_name, input_problem};
use crate::error::NodeProblem;
use crate::layer::{ConvLayer, Operation, ValueId};

/// The axes of `[N, C, D, H, W]`.
const DEPTH: i64 = 2;
const HEIGHT: i64 = 3;
const WIDTH: i64 = 4;

/// What a name stands for between a 3-D value in 8 bits and the 3-D output of its convolution.
#[derive(Debug, Clone)]
pub(super) enum Flattened {
    /// Padded along D and H.
    Padded(Stack),
    /// Every `step`-th slice from `start` to `end`, as ONNX's `Slice` counts them.
    Slices { padded: Stack, start: i64, end: i64 },
    /// Neighbouring slices as channels.
    Stacked(Stack),
    /// The length of an axis of the value with this name.
    Length { of: String, axis: i64 },
    /// A shape.
    Shape(Vec<Edge>),
    /// The slices one below the other, in 8 bits; `stacked` is the name of the stack.
    Tall { stack: Stack, stacked: String },
    /// The same as numbers.
    Image { stack: Stack, stacked: String },
    /// The output of the convolution: rounded to 8 bits if it has a quantization.
    Sums { value: ValueId, quantization: Option<Quantization>, stacked: String, surplus_rows: i64 },
    /// The output of the convolution as a volume with surplus rows at the end of each slice.
    Block { value: ValueId, quantization: Quantization, surplus_rows: i64 },
}

/// A value in 8 bits, padded by `padding` along D and H, of which `depth` neighbouring slices are channels at every `step`-th slice.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    value: ValueId,
    quantization: Quantization,
    padding: [usize; 2],
    depth: usize,
    step: i64,
}

/// An edge of a shape.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Edge {
    Number(i64),
    Length { of: String, axis: i64 },
}

impl Reader {
    pub(super) fn quantize(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
    ) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 3..=3)?;
        // The axis of a single scale says nothing.
        attributes.int("axis", 1)?;
        let quantization = self.quantization(node)?;
        match self.symbol(node, 0)?.clone() {
            Symbol::Value(value) => {
                let value = self.rounded(node, value, quantization);
                Ok(Symbol::Bytes(value, quantization))
            }
            Symbol::Flattened(Flattened::Sums { value, quantization: None, stacked, surplus_rows }) => {
                let value = self.rounded(node, value, quantization);
                let quantization = Some(quantization);
                Ok(Symbol::Flattened(Flattened::Sums { value, quantization, stacked, surplus_rows }))
            }
            other => Err(input_problem(node, 0, "a float32 tensor", &other)),
        }
    }

    /// The value rounded to 8 bits.
    fn rounded(&mut self, node: &NodeProto, value: ValueId, quantization: Quantization) -> ValueId {
        if self.quantized.get(&value) == Some(&quantization) {
            return value;
        }
        let channels = self.channels(value);
        match self.layer(node, Operation::Quantize(quantization), vec![value], channels) {
            Symbol::Value(rounded) => {
                self.quantized.insert(rounded, quantization);
                rounded
            }
            _ => value,
        }
    }

    /// The scale and the zero point of a node: single numbers.
    fn quantization(&self, node: &NodeProto) -> Result<Quantization, NodeProblem> {
        let scale = match self.symbol(node, 1)? {
            Symbol::Constant(Constant { values: Values::Float(values), .. }) => match values.as_slice() {
                [scale] if scale.is_normal() && *scale > 0.0 => *scale,
                _ => return Err(input_problem(node, 1, "one positive number", self.symbol(node, 1)?)),
            },
            other => return Err(input_problem(node, 1, "a constant of type float32", other)),
        };
        match self.symbol(node, 2)? {
            Symbol::Constant(Constant { values: Values::Uint8(values), .. }) if values.len() == 1 => {
                Ok(Quantization { scale, zero_point: values.first().copied().unwrap_or_default() })
            }
            other => Err(input_problem(node, 2, "one constant of type uint8", other)),
        }
    }

    pub(super) fn dequantize(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
    ) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 3..=3)?;
        let axis = attributes.int("axis", 1)?;
        let matching = |stored: Quantization| -> Result<(), NodeProblem> {
            if self.quantization(node)? == stored {
                return Ok(());
            }
            Err(NodeProblem::Input {
                name: input_name(node, 1)?.to_owned(),
                expected: "the scale and zero point with which the value was quantized".into(),
                found: "another scale or zero point".into(),
            })
        };
        match self.symbol(node, 0)? {
            Symbol::Constant(constant) => {
                if axis != 0 {
                    return Err(attribute_problem("axis", format!("it is {axis}, supported for weights is 0")));
                }
                self.dequantized_constant(node, constant)
            }
            Symbol::Bytes(value, stored) => {
                matching(*stored)?;
                Ok(Symbol::Value(*value))
            }
            Symbol::Flattened(Flattened::Tall { stack, stacked }) => {
                matching(stack.quantization)?;
                let (stack, stacked) = (stack.clone(), stacked.clone());
                Ok(Symbol::Flattened(Flattened::Image { stack, stacked }))
            }
            other => Err(input_problem(node, 0, "8-bit integers", other)),
        }
    }

    /// Weights or biases with one scale per output channel and the zero point 0.
    fn dequantized_constant(&self, node: &NodeProto, stored: &Constant) -> Result<Symbol, NodeProblem> {
        let scales = match self.symbol(node, 1)? {
            Symbol::Constant(Constant { values: Values::Float(scales), .. }) => scales,
            other => return Err(input_problem(node, 1, "a constant of type float32", other)),
        };
        let zeros = match self.symbol(node, 2)? {
            Symbol::Constant(Constant { values: Values::Int8(zeros), .. }) => zeros.iter().all(|zero| *zero == 0),
            Symbol::Constant(Constant { values: Values::Int32(zeros), .. }) => zeros.iter().all(|zero| *zero == 0),
            _ => false,
        };
        if !zeros {
            return Err(input_problem(node, 2, "zeros of the same type", self.symbol(node, 2)?));
        }
        self.count_copy(stored)?;
        let integers = match &stored.values {
            Values::Int8(values) => Integers::Int8(values.clone()),
            Values::Int32(values) => Integers::Int32(values.clone()),
            _ => return Err(input_problem(node, 0, "a constant of type int8 or int32", self.symbol(node, 0)?)),
        };
        if stored.shape.first() != Some(&scales.len()) || scales.is_empty() {
            return Err(input_problem(node, 1, "one scale per output channel", self.symbol(node, 1)?));
        }
        let values = Values::Scaled { integers, scales: scales.clone() };
        Ok(Symbol::Constant(Constant { shape: stored.shape.clone(), values }))
    }

    /// The 8-bit value of an input, if it can still be padded or stacked.
    fn stack(&self, node: &NodeProto, index: usize) -> Result<Stack, NodeProblem> {
        match self.symbol(node, index)? {
            Symbol::Bytes(value, quantization) => {
                Ok(Stack { value: *value, quantization: *quantization, padding: [0; 2], depth: 1, step: 1 })
            }
            Symbol::Flattened(Flattened::Padded(stack) | Flattened::Stacked(stack)) => Ok(stack.clone()),
            // One copy that starts at the first slice: only the step is left.
            Symbol::Flattened(Flattened::Slices { padded, start: 0, end: i64::MAX }) => Ok(padded.clone()),
            other => Err(input_problem(node, index, "8-bit integers", other)),
        }
    }

    /// Padding along D and H with the zero point.
    pub(super) fn pad(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 3..=3)?;
        attributes.require_text("mode", "constant", &["constant"])?;
        let Symbol::Bytes(..) = self.symbol(node, 0)? else {
            return Err(input_problem(node, 0, "8-bit integers", self.symbol(node, 0)?));
        };
        let mut stack = self.stack(node, 0)?;
        let pads = self.integers(node, 1)?;
        let edge = |pad: i64| u8::try_from(pad).ok().map(usize::from);
        match pads {
            [0, 0, d, h, 0, 0, 0, d_end, h_end, 0] if (d, h) == (d_end, h_end) => {
                let (Some(d), Some(h)) = (edge(*d), edge(*h)) else { return Err(pads_problem(node, pads)) };
                stack.padding = [d, h];
            }
            _ => return Err(pads_problem(node, pads)),
        }
        match self.symbol(node, 2)? {
            Symbol::Constant(Constant { values: Values::Uint8(zero), .. })
                if zero.as_slice() == [stack.quantization.zero_point] => {}
            other => return Err(input_problem(node, 2, "the zero point of the value", other)),
        }
        Ok(Symbol::Flattened(Flattened::Padded(stack)))
    }

    pub(super) fn slice(&mut self, node: &NodeProto) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 4..=5)?;
        let single = |index: usize| match self.integers(node, index)? {
            [number] => Ok(*number),
            _ => Err(input_problem(node, index, "one number", self.symbol(node, index)?)),
        };
        let (start, end, axis) = (single(1)?, single(2)?, single(3)?);
        let step = if node.input.len() == 5 { single(4)? } else { 1 };
        match (self.symbol(node, 0)?, axis) {
            (Symbol::Bytes(..) | Symbol::Flattened(Flattened::Padded(_)), DEPTH) if (1..=2).contains(&step) => {
                let padded = Stack { step, ..self.stack(node, 0)? };
                Ok(Symbol::Flattened(Flattened::Slices { padded, start, end }))
            }
            (Symbol::Flattened(Flattened::Block { value, quantization, surplus_rows }), HEIGHT)
                if step == 1 && start == 0 && *surplus_rows > 0 && end == -surplus_rows =>
            {
                Ok(Symbol::Bytes(*value, *quantization))
            }
            (other, _) => Err(input_problem(node, 0, "slices or surplus rows of an 8-bit convolution", other)),
        }
    }

    /// Stacks shifted copies as channels, or joins the edges of a shape.
    pub(super) fn flattened_concat(&mut self, node: &NodeProto, axis: i64) -> Result<Symbol, NodeProblem> {
        if axis == 0 {
            let mut edges = Vec::new();
            for index in 0..node.input.len() {
                match self.symbol(node, index)? {
                    Symbol::Constant(Constant { values: Values::Int64(numbers), .. }) if numbers.len() <= 8 => {
                        edges.extend(numbers.iter().map(|number| Edge::Number(*number)));
                    }
                    Symbol::Flattened(Flattened::Length { of, axis }) => {
                        edges.push(Edge::Length { of: of.clone(), axis: *axis });
                    }
                    other => return Err(input_problem(node, index, "the edges of a shape", other)),
                }
            }
            return Ok(Symbol::Flattened(Flattened::Shape(edges)));
        }
        let copies = node.input.len();
        let Symbol::Flattened(Flattened::Slices { padded: first, .. }) = self.symbol(node, 0)? else {
            return Err(input_problem(node, 0, "a float32 tensor", self.symbol(node, 0)?));
        };
        let stack = Stack { depth: copies, ..first.clone() };
        for index in 0..copies {
            let missing = (copies - 1 - index) as i64;
            let expected_end = if missing == 0 { i64::MAX } else { -missing };
            match self.symbol(node, index)? {
                Symbol::Flattened(Flattened::Slices { padded, start, end })
                    if axis == 1
                        && *start == index as i64
                        && *end == expected_end
                        && padded.value == stack.value
                        && padded.padding == stack.padding
                        && padded.step == stack.step => {}
                other => return Err(input_problem(node, index, "the next shifted copy", other)),
            }
        }
        Ok(Symbol::Flattened(Flattened::Stacked(stack)))
    }

    /// The length of one axis.
    pub(super) fn shape(&mut self, node: &NodeProto, attributes: &Attributes<'_>) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 1..=1)?;
        let (start, end) = (attributes.int("start", 0)?, attributes.int("end", i64::MAX)?);
        if start.checked_add(1) != Some(end) {
            return Err(attribute_problem("end", "expected the length of one axis"));
        }
        let of = input_name(node, 0)?.to_owned();
        match self.symbol(node, 0)? {
            Symbol::Bytes(..) | Symbol::Flattened(_) => {
                Ok(Symbol::Flattened(Flattened::Length { of, axis: start }))
            }
            other => Err(input_problem(node, 0, "8-bit integers", other)),
        }
    }

    pub(super) fn reshape(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
    ) -> Result<Symbol, NodeProblem> {
        check_inputs(node, 2..=2)?;
        attributes.require_int("allowzero", 0)?;
        let Symbol::Flattened(Flattened::Shape(edges)) = self.symbol(node, 1)? else {
            return Err(input_problem(node, 1, "a shape that depends on the input", self.symbol(node, 1)?));
        };
        let name = input_name(node, 0)?;
        let length = |of: &str, axis: i64| Edge::Length { of: of.to_owned(), axis };
        let number = Edge::Number;
        match self.symbol(node, 0)? {
            Symbol::Flattened(Flattened::Sums {
                value,
                quantization: Some(quantization),
                stacked,
                surplus_rows,
            }) if *edges == [number(0), number(0), length(stacked, DEPTH), number(-1), length(name, HEIGHT)] => {
                let (value, quantization) = (*value, *quantization);
                if *surplus_rows == 0 {
                    return Ok(Symbol::Bytes(value, quantization));
                }
                let surplus_rows = *surplus_rows;
                Ok(Symbol::Flattened(Flattened::Block { value, quantization, surplus_rows }))
            }
            _ if *edges == [number(0), number(0), number(-1), length(name, WIDTH)] => {
                let stack = self.stack(node, 0)?;
                Ok(Symbol::Flattened(Flattened::Tall { stack, stacked: name.to_owned() }))
            }
            other => Err(input_problem(node, 0, "a part of an 8-bit convolution", other)),
        }
    }

    /// The 2-D convolution of a tall image as the 3-D convolution that it stands for.
    pub(super) fn flattened_conv(
        &mut self,
        node: &NodeProto,
        attributes: &Attributes<'_>,
        input: Flattened,
    ) -> Result<Symbol, NodeProblem> {
        let Flattened::Image { stack, stacked } = input else {
            return Err(input_problem(node, 0, "a float32 tensor", &Symbol::Flattened(input)));
        };
        let weight = self.number_constant(node, 1)?;
        let channels = self.channels(stack.value);
        let [outputs, inputs, height, width] = *weight.shape.as_slice() else { return Err(arity(node)) };
        if inputs != channels * stack.depth || outputs == 0 || outputs > MAX_CHANNELS {
            return Err(NodeProblem::Input {
                name: input_name(node, 1)?.to_owned(),
                expected: format!("weights for {} slices of {channels} channels", stack.depth),
                found: format!("of shape {:?}", weight.shape),
            });
        }
        let kernel = [stack.depth, height, width];
        check_kernel(kernel)?;
        if attributes.ints("kernel_shape")?.is_some_and(|found| found != [height as i64, width as i64]) {
            return Err(attribute_problem("kernel_shape", "it is not the shape of the weights"));
        }
        let [_, row_step, column_step] = stride(attributes, 2)?;
        let step = usize::try_from(stack.step).unwrap_or(1);
        let half = kernel.map(|edge| edge / 2);
        let pads = [0, half[2] as i64, 2 * half[1] as i64, half[2] as i64];
        if attributes.ints("pads")? != Some(&pads)
            || stack.padding != [half[0], half[1]]
            || (2 * half[1]) % row_step != 0
        {
            return Err(attribute_problem("pads", "supported is half the kernel of the 3-D convolution"));
        }
        common_attributes(attributes)?;
        let bias = self.bias(node, outputs)?;
        let unflatten = Unflatten { depth: stack.depth, channels, plane: height * width };
        let values = match weight.values {
            Values::Scaled { integers: Integers::Int8(flat), scales } => {
                Values::Scaled { integers: Integers::Int8(unflatten.apply(&flat)), scales }
            }
            other => Values::Float(unflatten.apply(&other.into_floats())),
        };
        let weights = Weights { weight: values, bias, input: Some(stack.quantization) }.into_layer(outputs);
        let stride = [step, row_step, column_step];
        let layer = ConvLayer { weights, inputs: channels, outputs, kernel, stride };
        let Symbol::Value(value) = self.layer(node, Operation::Conv(layer), vec![stack.value], outputs) else {
            return Err(arity(node));
        };
        let surplus_rows = (2 * half[1] / row_step) as i64;
        Ok(Symbol::Flattened(Flattened::Sums { value, quantization: None, stacked, surplus_rows }))
    }

    /// A ReLU between a tall convolution and its rounding.
    pub(super) fn flattened_activation(
        &mut self,
        node: &NodeProto,
        input: Flattened,
        slope: f32,
    ) -> Result<Symbol, NodeProblem> {
        match input {
            Flattened::Sums { value, quantization: None, stacked, surplus_rows } => {
                let channels = self.channels(value);
                match self.layer(node, Operation::Activation { slope }, vec![value], channels) {
                    Symbol::Value(value) => {
                        Ok(Symbol::Flattened(Flattened::Sums { value, quantization: None, stacked, surplus_rows }))
                    }
                    other => Ok(other),
                }
            }
            other => Err(input_problem(node, 0, "a float32 tensor", &Symbol::Flattened(other))),
        }
    }
}

/// From weights `[outputs, depth · channels, h, w]` to `[outputs, channels, depth, h, w]`.
struct Unflatten {
    depth: usize,
    channels: usize,
    /// h · w
    plane: usize,
}

impl Unflatten {
    fn apply<T: Copy>(&self, flat: &[T]) -> Vec<T> {
        let Self { depth, channels, plane } = *self;
        let mut unflattened = Vec::with_capacity(flat.len());
        for kernel in flat.chunks_exact((depth * channels * plane).max(1)) {
            for channel in 0..channels {
                for slice in 0..depth {
                    unflattened.extend(kernel.iter().skip((slice * channels + channel) * plane).take(plane));
                }
            }
        }
        unflattened
    }
}

fn pads_problem(node: &NodeProto, found: &[i64]) -> NodeProblem {
    NodeProblem::Input {
        name: node.input.get(1).cloned().unwrap_or_default(),
        expected: "the same padding on both sides of D and H".into(),
        found: format!("{found:?}"),
    }
}
