use prost::Message;

use crate::OnnxError;
use crate::file::graph;
use crate::messages::{DataType, GraphProto, TensorProto};
use crate::precision::HALF_SUFFIX;

/// A constant of a graph as float32, such as a layer's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Its values, last axis fastest.
    pub values: Vec<f32>,
}

/// Reads the constants in single and half precision out of an ONNX file, whoever wrote it. Those of other types are left
/// out. Weights that this kit stores in half precision come under the names that they had before.
///
/// # Errors
/// When the bytes are no ONNX file or a damaged one, or the values of a constant lie outside the file.
pub fn read_constants(bytes: &[u8]) -> Result<Vec<Constant>, OnnxError> {
    let graph = GraphProto::decode(graph(bytes)?)
        .map_err(|e| OnnxError::Damaged { reason: format!("its graph is broken: {e}") })?;
    let width = |tensor: &TensorProto| match tensor.data_type {
        float if float == DataType::Float as i32 => Some(4),
        half if half == DataType::Float16 as i32 => Some(2),
        _ => None,
    };
    let floats = graph.initializer.into_iter().filter_map(|tensor| Some((width(&tensor)?, tensor)));
    floats.map(|(width, tensor)| constant(tensor, width)).collect()
}

/// A constant of `width` bytes a value: single or half precision.
fn constant(tensor: TensorProto, width: usize) -> Result<Constant, OnnxError> {
    let TensorProto { dims, name, raw_data, .. } = tensor;
    let shape: Option<Vec<usize>> = dims.iter().map(|edge| usize::try_from(*edge).ok()).collect();
    let bytes = shape.as_ref().and_then(|shape| shape.iter().try_fold(width, |n, edge| n.checked_mul(*edge)));
    match (shape, bytes) {
        (Some(shape), Some(bytes)) if bytes == raw_data.len() => {
            let name = match name.strip_suffix(HALF_SUFFIX) {
                Some(whole) if width == 2 => whole.to_owned(),
                _ => name,
            };
            let values = match width {
                2 => {
                    raw_data.as_chunks().0.iter().map(|value| half::f16::from_le_bytes(*value).to_f32()).collect()
                }
                _ => raw_data.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect(),
            };
            Ok(Constant { name, shape, values })
        }
        _ => Err(OnnxError::Damaged {
            reason: format!(
                "the constant `{name}` of shape {dims:?} has {} bytes of values in the file",
                raw_data.len()
            ),
        }),
    }
}
