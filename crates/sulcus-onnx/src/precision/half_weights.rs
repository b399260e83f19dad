use half::f16;

use crate::OnnxError;
use crate::builder::attribute;
use crate::messages::{DataType, NodeProto};
use crate::precision::rewrite::{Rewrite, at, reduce};

/// The same model with the weights of its convolutions stored in half precision: half the file. They are cast once,
/// when an engine loads the file, and all arithmetic stays in single precision: no processor here computes
/// convolutions in half precision, and input, logits and speed are those of the whole model.
///
/// # Errors
/// When the bytes are no ONNX file, a damaged one, or a weight is greater than half precision can hold.
pub fn to_half(onnx_bytes: &[u8]) -> Result<Vec<u8>, OnnxError> {
    let (mut to, nodes) = Rewrite::begin(onnx_bytes)?;
    for mut node in nodes {
        if matches!(node.op_type.as_str(), "Conv" | "ConvTranspose") {
            halve(&mut to, &mut node)?;
        }
        to.keep(node);
    }
    Ok(to.finish())
}

/// What follows the name of weights that are stored in half precision.
pub(crate) const HALF_SUFFIX: &str = ".half";

/// Writes a node's weights in half precision and lets it read them through a cast.
pub(super) fn halve(to: &mut Rewrite, node: &mut NodeProto) -> Result<(), OnnxError> {
    let name = at(&node.input, 1)?.to_owned();
    let weights = to.weights(&name)?;
    let mut bytes = Vec::with_capacity(2 * weights.values.len());
    for value in &weights.values {
        let half = f16::from_f32(*value);
        if !half.is_finite() {
            return Err(reduce(format!(
                "a weight of `{name}` is {value:e}, and half precision ends at {}",
                f16::MAX
            )));
        }
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    let stored = to.constant(format!("{name}{HALF_SUFFIX}"), &weights.shape, DataType::Float16, bytes);
    let single = attribute::int("to", DataType::Float as i64);
    let cast = to.node("Cast", &[&stored], format!("{name}.single"), vec![single]);
    if let Some(input) = node.input.get_mut(1) {
        *input = cast;
    }
    Ok(())
}
