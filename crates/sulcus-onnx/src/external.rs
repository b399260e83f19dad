//! Refuses tensors whose values are in another file: the bytes of a model file alone determine its result, and a model
//! from an unknown source cannot make a program read other files.

use crate::OnnxError;
use crate::wire::next_field;

/// Messages of ONNX below which there may be tensors.
#[derive(Clone, Copy)]
pub(crate) enum MessageKind {
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Function,
    Training,
}

/// Graphs in attributes of nodes can be nested.
const MAX_DEPTH: usize = 64;
/// `external_data` of `TensorProto`: location, offset and length.
const EXTERNAL_DATA: u32 = 13;

impl MessageKind {
    /// The message in a field, by the field numbers of `onnx.proto`.
    fn child(self, field: u32) -> Option<Self> {
        match (self, field) {
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Some(Self::Tensor),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::SparseTensor),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Attribute, 6 | 11) | (Self::Training, 1 | 2) => Some(Self::Graph),
            _ => None,
        }
    }
}

/// Checks that no tensor of a message refers to another file. The values of tensors are skipped.
///
/// # Errors
/// [`OnnxError::ExternalData`], or [`OnnxError::Damaged`] for a message that cannot be parsed.
pub(crate) fn refuse_external_data(message: MessageKind, bytes: &[u8]) -> Result<(), OnnxError> {
    let mut open = vec![(message, bytes, 0)];
    while let Some((message, mut rest, depth)) = open.pop() {
        while !rest.is_empty() {
            let (field, content) = next_field(&mut rest).map_err(|reason| OnnxError::Damaged { reason })?;
            if matches!(message, MessageKind::Tensor) && field == EXTERNAL_DATA {
                return Err(OnnxError::ExternalData);
            }
            if let (Some(child), Some(content)) = (message.child(field), content) {
                if depth == MAX_DEPTH {
                    return Err(OnnxError::Damaged {
                        reason: format!("its graph has more than {MAX_DEPTH} levels"),
                    });
                }
                open.push((child, content, depth + 1));
            }
        }
    }
    Ok(())
}
