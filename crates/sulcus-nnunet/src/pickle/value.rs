use std::collections::BTreeMap;
use std::ops::Range;

use super::{ElementType, Global};

/// The index of a value in its pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueId(pub(super) u32);

/// A tensor as a view of a storage. Its sizes are values of the pickle that have not been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) storage: ValueId,
    pub(crate) offset: i64,
    pub(crate) size: ValueId,
    pub(crate) stride: ValueId,
}

/// A value of a pickle. Text and bytes are ranges of the pickle.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Range<usize>),
    Bytes(Range<usize>),
    /// The bytes that a text is in Latin-1.
    Latin1(ValueId),
    Tuple(Vec<ValueId>),
    List(Vec<ValueId>),
    /// Later entries replace earlier ones with the same key.
    Dict(Vec<(ValueId, ValueId)>),
    Global(Global),
    /// A storage in the file `data/{key}` of the archive.
    Storage {
        kind: ElementType,
        key: ValueId,
        elements: i64,
    },
    Tensor(Tensor),
    /// A NumPy type by its name, such as `f8`.
    NumpyDType(ValueId),
    /// A value whose content no importer needs: a device, an array, a set.
    Opaque,
}

/// A pickle that has been read.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub(super) bytes: Vec<u8>,
    pub(super) values: Vec<Value>,
    pub(super) top: ValueId,
}

impl Pickle {
    /// The value that the pickle describes.
    pub(crate) fn top(&self) -> ValueId {
        self.top
    }

    pub(crate) fn value(&self, id: ValueId) -> &Value {
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    pub(crate) fn text(&self, id: ValueId) -> Option<&str> {
        let Value::Text(range) = self.value(id) else { return None };
        std::str::from_utf8(self.bytes.get(range.clone())?).ok()
    }

    pub(crate) fn int(&self, id: ValueId) -> Option<i64> {
        match self.value(id) {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements of a list or tuple.
    pub(crate) fn sequence(&self, id: ValueId) -> Option<&[ValueId]> {
        match self.value(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a dictionary whose keys are texts; those with other keys are left out.
    pub(crate) fn entries(&self, id: ValueId) -> Option<BTreeMap<&str, ValueId>> {
        let Value::Dict(entries) = self.value(id) else { return None };
        Some(entries.iter().filter_map(|(key, value)| Some((self.text(*key)?, *value))).collect())
    }

    /// An entry of a dictionary.
    pub(crate) fn entry(&self, id: ValueId, key: &str) -> Option<ValueId> {
        let Value::Dict(entries) = self.value(id) else { return None };
        entries.iter().rev().find(|(found, _)| self.text(*found) == Some(key)).map(|(_, value)| *value)
    }

    /// The number of values and of their references, which is proportional to the memory that they take.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        let references = |value: &Value| match value {
            Value::Tuple(items) | Value::List(items) => items.capacity(),
            Value::Dict(entries) => 2 * entries.capacity(),
            _ => 0,
        };
        self.values.iter().map(|value| 1 + references(value)).sum()
    }
}
