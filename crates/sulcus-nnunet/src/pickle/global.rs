use super::PickleError;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElementType {
    F64,
    F32,
    F16,
    Bf16,
    /// An integer or boolean of this many bytes; network weights never have one.
    Other(u8),
}

impl ElementType {
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(bytes) => u64::from(bytes),
        }
    }
}

/// A name that a pickle may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    /// A set, a frozen set or a byte array. Its content is not needed.
    Collection,
    /// `torch.FloatStorage` and its kind.
    Storage(ElementType),
    /// `torch.float32` and its kind, as a value.
    DType,
    RebuildTensor,
    RebuildParameter,
    Device,
    Size,
    NumpyScalar,
    NumpyDType,
    NumpyArray,
    NumpyReconstruct,
    /// How protocol 2 writes bytes: as text in Latin-1.
    Encode,
}

impl Global {
    /// # Errors
    /// [`PickleError::ForbiddenName`] for every name that is not on the list.
    pub(super) fn find(module: &str, name: &str) -> Result<Self, PickleError> {
        use ElementType::{Bf16, F16, F32, F64, Other};
        let found = match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("builtins" | "__builtin__", "set" | "frozenset" | "bytearray") => Self::Collection,
            ("torch", "DoubleStorage") => Self::Storage(F64),
            ("torch", "FloatStorage") => Self::Storage(F32),
            ("torch", "HalfStorage") => Self::Storage(F16),
            ("torch", "BFloat16Storage") => Self::Storage(Bf16),
            ("torch", "LongStorage") => Self::Storage(Other(8)),
            ("torch", "IntStorage") => Self::Storage(Other(4)),
            ("torch", "ShortStorage") => Self::Storage(Other(2)),
            ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => Self::Storage(Other(1)),
            (
                "torch",
                "float64" | "float32" | "float16" | "bfloat16" | "int64" | "int32" | "int16" | "int8" | "uint8"
                | "bool",
            ) => Self::DType,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "device") => Self::Device,
            ("torch", "Size") => Self::Size,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Self::NumpyScalar,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::NumpyReconstruct,
            ("numpy", "dtype") => Self::NumpyDType,
            ("numpy", "ndarray") => Self::NumpyArray,
            ("_codecs", "encode") => Self::Encode,
            _ => return Err(PickleError::ForbiddenName { name: printable(module, name) }),
        };
        Ok(found)
    }
}

/// A name from a file, short and without control characters.
fn printable(module: &str, name: &str) -> String {
    const MOST: usize = 120;
    let plain =
        |text: &str| text.chars().map(|c| if c.is_control() { '?' } else { c }).take(MOST).collect::<String>();
    format!("{}.{}", plain(module), plain(name))
}
