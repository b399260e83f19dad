use half::f16;

use crate::OnnxError;
use crate::builder::attribute;
use crate::messages::{DataType, NodeProto};
use crate::rewriter::{GraphRewriter, name_at, unsupported};

/// Stores the weights of the convolutions in half precision, which halves the size of the file. An engine converts them to
/// single precision once, when it loads the file. The arithmetic stays in single precision, so the speed does not change.
///
/// # Errors
/// [`OnnxError::NotOnnx`], [`OnnxError::Damaged`], and [`OnnxError::Precision`] for a weight that overflows half precision.
pub fn to_half(onnx_bytes: &[u8]) -> Result<Vec<u8>, OnnxError> {
    let (mut rewriter, nodes) = GraphRewriter::new(onnx_bytes)?;
    for mut node in nodes {
        if matches!(node.op_type.as_str(), "Conv" | "ConvTranspose") {
            store_weights_in_half(&mut rewriter, &mut node)?;
        }
        rewriter.copy_node(node);
    }
    Ok(rewriter.finish())
}

/// The suffix of the names of weights that are stored in half precision.
pub(crate) const HALF_SUFFIX: &str = ".half";

/// Stores the weights of a node in half precision and adds a cast to single precision.
pub(super) fn store_weights_in_half(rewriter: &mut GraphRewriter, node: &mut NodeProto) -> Result<(), OnnxError> {
    let name = name_at(&node.input, 1)?.to_owned();
    let weights = rewriter.weights(&name)?;
    let mut bytes = Vec::with_capacity(2 * weights.values.len());
    for value in &weights.values {
        let half = f16::from_f32(*value);
        if !half.is_finite() {
            return Err(unsupported(format!(
                "a weight of `{name}` is {value:e}, and the largest number in half precision is {}",
                f16::MAX
            )));
        }
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    let stored = rewriter.constant(format!("{name}{HALF_SUFFIX}"), &weights.shape, DataType::Float16, bytes);
    let single = attribute::int("to", DataType::Float as i64);
    let cast = rewriter.node("Cast", &[&stored], format!("{name}.single"), vec![single]);
    if let Some(input) = node.input.get_mut(1) {
        *input = cast;
    }
    Ok(())
}
