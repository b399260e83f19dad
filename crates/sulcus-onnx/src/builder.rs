use prost::Message;
use sulcus_model::{ModelSpec, SPEC_KEY};

use crate::OnnxError;
use crate::messages::{
    AttributeProto, DataType, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    TypeValue, ValueInfoProto,
};

/// The IR version of written files: the first one that supports operator set 17.
const IR_VERSION: i64 = 8;
/// The ONNX operator set of written files.
const OPERATOR_SET: i64 = 17;

/// The length of one axis of an input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis<'a> {
    /// A fixed length.
    Fixed(usize),
    /// A length that the input determines at run time. Axes with the same name have the same length.
    Dynamic(&'a str),
}

/// Builds an ONNX graph. Nodes are added in the order of their evaluation.
#[derive(Debug, Clone, Default)]
pub struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: name.to_owned(), ..GraphProto::default() } }
    }

    /// Declares a float32 input.
    pub fn input(&mut self, name: &str, axes: &[Axis<'_>], doc: &str) {
        self.graph.input.push(value_info(name, axes, doc));
    }

    /// Declares a float32 output. A node must compute a value with this name.
    pub fn output(&mut self, name: &str, axes: &[Axis<'_>], doc: &str) {
        self.graph.output.push(value_info(name, axes, doc));
    }

    /// Adds a float32 constant; `values` is row-major.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|edge| *edge as i64).collect(),
            data_type: DataType::Float as i32,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
    }

    /// Adds a node that computes one value. The node has the name of its output.
    pub fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: operator.to_owned(),
            attribute: attributes,
            domain: String::new(),
        });
    }

    /// Serialises the graph as a model file with the specification `spec`.
    ///
    /// # Errors
    /// [`OnnxError::Spec`] for a specification that cannot be serialised.
    pub fn finish(self, spec: &ModelSpec, doc: &str, producer_version: &str) -> Result<Vec<u8>, OnnxError> {
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "sulcus".to_owned(),
            producer_version: producer_version.to_owned(),
            domain: String::new(),
            model_version: 0,
            doc_string: doc.to_owned(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
            metadata_props: vec![StringStringEntryProto { key: SPEC_KEY.to_owned(), value: spec.to_json()? }],
        };
        Ok(model.encode_to_vec())
    }
}

pub(crate) fn value_info(name: &str, axes: &[Axis<'_>], doc: &str) -> ValueInfoProto {
    let dimension = |axis: &Axis<'_>| DimensionProto {
        value: Some(match axis {
            Axis::Fixed(length) => DimensionValue::Value(*length as i64),
            Axis::Dynamic(name) => DimensionValue::Param((*name).to_owned()),
        }),
    };
    let shape = TensorShapeProto { dim: axes.iter().map(dimension).collect() };
    let tensor = TensorTypeProto { elem_type: DataType::Float as i32, shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }),
        doc_string: doc.to_owned(),
    }
}

/// Attributes of nodes.
pub mod attribute {
    use crate::messages::{AttributeProto, AttributeType};

    /// An `INT` attribute.
    pub fn int(name: &str, value: i64) -> AttributeProto {
        AttributeProto { i: value, ..empty(name, AttributeType::Int) }
    }

    /// An `INTS` attribute.
    pub fn ints(name: &str, values: &[usize]) -> AttributeProto {
        AttributeProto {
            ints: values.iter().map(|value| *value as i64).collect(),
            ..empty(name, AttributeType::Ints)
        }
    }

    /// A `FLOAT` attribute.
    pub fn float(name: &str, value: f32) -> AttributeProto {
        AttributeProto { f: value, ..empty(name, AttributeType::Float) }
    }

    fn empty(name: &str, kind: AttributeType) -> AttributeProto {
        AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
    }
}
