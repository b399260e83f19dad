use crate::OnnxError;
use crate::builder::{attribute, value_info};
use crate::precision::int8::QuantizationPlan;
use crate::rewriter::GraphRewriter;

/// The names of two scalar outputs of [`calibration_model`]: the range of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeOutput {
    /// The name of the value between two layers.
    pub value: String,
    /// The name of the output with its minimum.
    pub low: String,
    /// The name of the output with its maximum.
    pub high: String,
}

/// The model for calibration: the same graph, whose outputs are the minimum and maximum of each value that
/// [`to_int8`](crate::precision::to_int8) quantizes. Run it on representative inputs and take the union of the ranges.
///
/// # Errors
/// [`OnnxError::NotOnnx`], [`OnnxError::Damaged`], and [`OnnxError::Precision`] for a graph that cannot be quantized.
pub fn calibration_model(onnx_bytes: &[u8]) -> Result<(Vec<u8>, Vec<RangeOutput>), OnnxError> {
    let (mut rewriter, nodes) = GraphRewriter::new(onnx_bytes)?;
    let values = QuantizationPlan::new(&rewriter, &nodes)?.values();
    for node in nodes {
        rewriter.copy_node(node);
    }
    let mut ranges = Vec::with_capacity(values.len());
    let mut outputs = Vec::with_capacity(2 * values.len());
    for value in values {
        let mut extreme = |operator: &str, name: String| {
            outputs.push(value_info(&name, &[], ""));
            rewriter.node(operator, &[&value], name, vec![attribute::int("keepdims", 0)])
        };
        let low = extreme("ReduceMin", format!("{value}.low"));
        let high = extreme("ReduceMax", format!("{value}.high"));
        ranges.push(RangeOutput { value, low, high });
    }
    rewriter.set_outputs(outputs);
    Ok((rewriter.finish(), ranges))
}
