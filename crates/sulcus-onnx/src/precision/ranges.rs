use crate::OnnxError;
use crate::builder::{attribute, value_info};
use crate::precision::int8::Plan;
use crate::precision::rewrite::Rewrite;

/// Two outputs of [`with_ranges`]: single numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeOutput {
    /// The value between two layers that they measure.
    pub value: String,
    /// The output with its least number.
    pub low: String,
    /// The output with its greatest number.
    pub high: String,
}

/// The same graph whose outputs are the extremes of those values that [`to_int8`](crate::precision::to_int8) stores in
/// 8 bits. It is run on real input; the ranges are the unions over the runs.
///
/// # Errors
/// When the bytes are no ONNX file, a damaged one, or one whose graph cannot be written in 8 bits.
pub fn with_ranges(onnx_bytes: &[u8]) -> Result<(Vec<u8>, Vec<RangeOutput>), OnnxError> {
    let (mut to, nodes) = Rewrite::begin(onnx_bytes)?;
    let watched = Plan::of(&to, &nodes)?.values();
    for node in nodes {
        to.keep(node);
    }
    let mut found = Vec::with_capacity(watched.len());
    let mut outputs = Vec::with_capacity(2 * watched.len());
    for value in watched {
        let mut extreme = |operator: &str, name: String| {
            outputs.push(value_info(&name, &[], ""));
            to.node(operator, &[&value], name, vec![attribute::int("keepdims", 0)])
        };
        let low = extreme("ReduceMin", format!("{value}.low"));
        let high = extreme("ReduceMax", format!("{value}.high"));
        found.push(RangeOutput { value, low, high });
    }
    to.set_outputs(outputs);
    Ok((to.finish(), found))
}
