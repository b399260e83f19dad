use prost::Message;

use crate::OnnxError;
use crate::file::graph;
use crate::messages::{DataType, GraphProto, TensorProto};
use crate::precision::HALF_SUFFIX;

/// A constant of a graph, converted to float32: the weights of a layer, for example.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// The name in the graph.
    pub name: String,
    /// The lengths of the axes.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub values: Vec<f32>,
}

/// Reads the float32 and float16 constants of any ONNX file; constants of other types are skipped. Weights that
/// [`to_half`](crate::precision::to_half) stored in half precision have their original names.
///
/// # Errors
/// [`OnnxError::NotOnnx`]; [`OnnxError::Damaged`], also when the values of a constant are stored outside the file.
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

/// Decodes a constant with `width` bytes per value: 4 for float32, 2 for float16.
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
