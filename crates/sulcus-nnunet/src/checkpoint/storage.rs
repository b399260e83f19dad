use half::{bf16, f16};

use super::CheckpointError;
use super::archive::Archive;
use crate::pickle::{ElementType, Pickle, Tensor, Value};

/// A tensor whose sizes have been checked: a view of a storage that lies inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) shape: Vec<usize>,
    pub(super) kind: ElementType,
    key: String,
    storage_elements: u64,
    offset: u64,
    stride: Vec<u64>,
}

/// Weights have up to five axes.
const MAX_AXES: usize = 8;

impl View {
    /// # Errors
    /// A sentence that describes the problem.
    pub(super) fn new(pickle: &Pickle, tensor: Tensor) -> Result<Self, String> {
        let Value::Storage { kind, key, elements } = pickle.value(tensor.storage) else {
            return Err("it has no storage".to_owned());
        };
        let key = pickle.text(*key).unwrap_or_default();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("its storage has no number".to_owned());
        }
        let numbers = |id| {
            let items = pickle.sequence(id).filter(|items| items.len() <= MAX_AXES)?;
            items.iter().map(|item| u64::try_from(pickle.int(*item)?).ok()).collect::<Option<Vec<u64>>>()
        };
        let (size, stride) = (numbers(tensor.size), numbers(tensor.stride));
        let (Some(size), Some(stride)) = (size, stride) else {
            return Err("its shape is not a tuple of whole numbers".to_owned());
        };
        if size.len() != stride.len() {
            return Err("its shape and its strides have different lengths".to_owned());
        }
        let storage_elements = u64::try_from(*elements).map_err(|_| "its storage has a negative length")?;
        let offset = u64::try_from(tensor.offset).map_err(|_| "it has a negative offset")?;
        let view = Self {
            shape: size
                .iter()
                .map(|edge| usize::try_from(*edge))
                .collect::<Result<_, _>>()
                .map_err(|_| "it is too large")?,
            kind: *kind,
            key: key.to_owned(),
            storage_elements,
            offset,
            stride,
        };
        view.check(&size)?;
        Ok(view)
    }

    /// Every element lies in the storage, and there are no more elements than the storage has.
    fn check(&self, size: &[u64]) -> Result<(), String> {
        let outside =
            || format!("its shape {size:?} does not fit its storage of {} values", self.storage_elements);
        let count = size.iter().try_fold(1_u64, |product, edge| product.checked_mul(*edge)).ok_or_else(outside)?;
        if count == 0 {
            return Ok(());
        }
        let last = size.iter().zip(&self.stride).try_fold(self.offset, |last, (edge, stride)| {
            edge.checked_sub(1)?.checked_mul(*stride)?.checked_add(last)
        });
        if last.is_none_or(|last| last >= self.storage_elements) || count > self.storage_elements {
            return Err(outside());
        }
        Ok(())
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes that reading takes: of the whole storage, or of the values in single precision.
    pub(super) fn cost(&self) -> u64 {
        let values = (self.len() as u64).saturating_mul(size_of::<f32>() as u64);
        values.max(self.storage_elements.saturating_mul(self.kind.bytes()))
    }

    /// Reads the values in single precision, last axis fastest.
    pub(super) fn read(&self, archive: &mut Archive) -> Result<Vec<f32>, CheckpointError> {
        let width = self.kind.bytes();
        let bytes = self.storage_elements.checked_mul(width);
        let bytes =
            bytes.filter(|bytes| *bytes <= archive.file_bytes()).ok_or_else(|| CheckpointError::Archive {
                reason: format!("storage {} has {} values, the file is smaller", self.key, self.storage_elements),
            })?;
        let storage = archive.storage(&self.key, bytes)?;
        let mut values = Vec::new();
        values.try_reserve_exact(self.len()).map_err(|_| CheckpointError::Archive {
            reason: format!("there is no memory for the {} values of storage {}", self.len(), self.key),
        })?;
        match self.kind {
            ElementType::F64 => self.gather(&storage, &mut values, |raw| f64::from_le_bytes(raw) as f32),
            ElementType::F32 => self.gather(&storage, &mut values, f32::from_le_bytes),
            ElementType::F16 => self.gather(&storage, &mut values, |raw| f16::from_le_bytes(raw).to_f32()),
            ElementType::Bf16 => self.gather(&storage, &mut values, |raw| bf16::from_le_bytes(raw).to_f32()),
            ElementType::Other(_) => {}
        }
        if values.len() != self.len() {
            return Err(CheckpointError::Archive { reason: format!("storage {} is too short", self.key) });
        }
        Ok(values)
    }

    fn gather<const N: usize>(&self, storage: &[u8], values: &mut Vec<f32>, decode: impl Fn([u8; N]) -> f32) {
        let elements = storage.as_chunks::<N>().0;
        let mut index = vec![0_usize; self.shape.len()];
        for _ in 0..self.len() {
            let at = index.iter().zip(&self.stride).fold(self.offset, |at, (i, stride)| at + *i as u64 * stride);
            values.extend(usize::try_from(at).ok().and_then(|at| elements.get(at)).map(|raw| decode(*raw)));
            for (i, edge) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < *edge {
                    break;
                }
                *i = 0;
            }
        }
    }
}
