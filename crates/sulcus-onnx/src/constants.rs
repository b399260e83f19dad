use prost::Message;

use crate::OnnxError;
use crate::file::graph;
use crate::messages::{DataType, GraphProto, TensorProto};

/// A float32 constant of a graph, such as a layer's weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Its values, last axis fastest.
    pub values: Vec<f32>,
}

/// Reads the float32 constants out of an ONNX file, whoever wrote it. Constants of other types are left out.
///
/// # Errors
/// When the bytes are no ONNX file or a damaged one, or the values of a constant lie outside the file.
pub fn read_constants(bytes: &[u8]) -> Result<Vec<Constant>, OnnxError> {
    let graph = GraphProto::decode(graph(bytes)?)
        .map_err(|e| OnnxError::Damaged { reason: format!("its graph is broken: {e}") })?;
    let floats = graph.initializer.into_iter().filter(|tensor| tensor.data_type == DataType::Float as i32);
    floats.map(constant).collect()
}

fn constant(tensor: TensorProto) -> Result<Constant, OnnxError> {
    let TensorProto { dims, name, raw_data, .. } = tensor;
    let shape: Option<Vec<usize>> = dims.iter().map(|edge| usize::try_from(*edge).ok()).collect();
    let bytes = shape.as_ref().and_then(|shape| shape.iter().try_fold(4_usize, |n, edge| n.checked_mul(*edge)));
    let (values, rest) = raw_data.as_chunks::<4>();
    match (shape, bytes) {
        (Some(shape), Some(bytes)) if bytes == raw_data.len() && rest.is_empty() => {
            Ok(Constant { name, shape, values: values.iter().map(|value| f32::from_le_bytes(*value)).collect() })
        }
        _ => Err(OnnxError::Damaged {
            reason: format!(
                "the constant `{name}` of shape {dims:?} has {} bytes of values in the file",
                raw_data.len()
            ),
        }),
    }
}
