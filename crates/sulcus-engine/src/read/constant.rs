//! The constants of a graph.

use sulcus_onnx::messages::{DataType, TensorProto};

use crate::error::{EngineError, GraphProblem};

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Constant {
    /// The lengths of its axes.
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

/// The values of a constant, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Float(Vec<f32>),
    /// Half precision, converted to single precision, which is exact.
    Half(Vec<f32>),
    Uint8(Vec<u8>),
    Int8(Vec<i8>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    /// Integers that stand for float32 values: each times the scale of its output channel, the first axis.
    Scaled {
        integers: Integers,
        scales: Vec<f32>,
    },
}

/// The integers of scaled values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Integers {
    Int8(Vec<i8>),
    Int32(Vec<i32>),
}

impl Values {
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Float(_) => "float32",
            Self::Half(_) => "float16",
            Self::Uint8(_) => "uint8",
            Self::Int8(_) => "int8",
            Self::Int32(_) => "int32",
            Self::Int64(_) => "int64",
            Self::Scaled { .. } => "float32",
        }
    }
}

impl Constant {
    pub(super) fn decode(tensor: TensorProto) -> Result<(String, Self), EngineError> {
        let TensorProto { dims, data_type, name, raw_data } = tensor;
        let problem = |reason: String| EngineError::Graph(GraphProblem::Constant { name: name.clone(), reason });
        let shape: Vec<usize> = dims
            .iter()
            .map(|edge| usize::try_from(*edge).map_err(|_| problem(format!("its shape is {dims:?}"))))
            .collect::<Result<_, _>>()?;
        let kind = DataType::try_from(data_type).unwrap_or(DataType::Undefined);
        let width = match kind {
            DataType::Float | DataType::Int32 => 4,
            DataType::Float16 => 2,
            DataType::Uint8 | DataType::Int8 => 1,
            DataType::Int64 => 8,
            DataType::Undefined => return Err(problem(format!("its data type is {data_type}"))),
        };
        let bytes = shape.iter().try_fold(width, |product: usize, edge| product.checked_mul(*edge));
        if bytes != Some(raw_data.len()) {
            let found = raw_data.len();
            return Err(problem(format!("its shape is {dims:?}, and it has {found} bytes of raw data")));
        }
        let values = match kind {
            DataType::Float => Values::Float(decoded(&raw_data, f32::from_le_bytes)),
            DataType::Float16 => {
                Values::Half(decoded(&raw_data, |bytes| half::f16::from_le_bytes(bytes).to_f32()))
            }
            DataType::Uint8 => Values::Uint8(raw_data),
            DataType::Int8 => Values::Int8(decoded(&raw_data, i8::from_le_bytes)),
            DataType::Int32 => Values::Int32(decoded(&raw_data, i32::from_le_bytes)),
            DataType::Int64 | DataType::Undefined => Values::Int64(decoded(&raw_data, i64::from_le_bytes)),
        };
        Ok((name, Self { shape, values }))
    }
}

fn decoded<T, const WIDTH: usize>(bytes: &[u8], decode: impl Fn([u8; WIDTH]) -> T) -> Vec<T> {
    bytes.as_chunks::<WIDTH>().0.iter().map(|bytes| decode(*bytes)).collect()
}
