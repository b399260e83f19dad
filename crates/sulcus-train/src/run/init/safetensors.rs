//! Reads safetensors files: the length of the header (u64, little-endian), the header as JSON, the values of all tensors.
//!
//! Burn's reader parses the header once for each tensor.

use std::collections::BTreeMap;

use burn::tensor::{DType, TensorData};
use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    _metadata: Option<IgnoredAny>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    /// Of the first byte and of the byte after the last one, from the end of the header.
    data_offsets: [usize; 2],
}

/// The floating-point tensors of a file. Their bytes are slices of it.
pub(super) struct Safetensors<'a>(BTreeMap<String, Tensor<'a>>);

struct Tensor<'a> {
    dtype: DType,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl<'a> Safetensors<'a> {
    /// Parses the header and checks it against the length of the file.
    pub(super) fn parse(file: &'a [u8]) -> Result<Self, String> {
        let short = || "it ends too early".to_owned();
        let (length, rest) = file.split_first_chunk::<8>().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| short())?;
        let (header, data) = rest.split_at_checked(length).ok_or_else(short)?;
        let Header { tensors, .. } =
            serde_json::from_slice(header).map_err(|e| format!("its header is broken: {e}"))?;
        let mut known = BTreeMap::new();
        let mut all_bytes = 0_usize;
        for (name, Entry { dtype, shape, data_offsets: [start, end] }) in tensors {
            let bytes = data.get(start..end).ok_or_else(short)?;
            // Tensors may not share values: a small file could otherwise hold any number of them.
            all_bytes = all_bytes.saturating_add(bytes.len());
            if all_bytes > data.len() {
                return Err("its tensors overlap".into());
            }
            let Some(dtype) = dtype_of(&dtype) else { continue };
            let expected = shape.iter().try_fold(dtype.size(), |product, n| product.checked_mul(*n));
            if expected != Some(bytes.len()) {
                return Err(format!("`{name}` of shape {shape:?} has {} bytes", bytes.len()));
            }
            known.insert(name, Tensor { dtype, shape, bytes });
        }
        Ok(Self(known))
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn data(&self, name: &str) -> Option<TensorData> {
        let Tensor { dtype, shape, bytes } = self.0.get(name)?;
        Some(TensorData::from_bytes_vec(bytes.to_vec(), shape.clone(), *dtype))
    }
}

/// Counters and other whole numbers are no weights.
fn dtype_of(name: &str) -> Option<DType> {
    match name {
        "F64" => Some(DType::F64),
        "F32" => Some(DType::F32),
        "F16" => Some(DType::F16),
        "BF16" => Some(DType::BF16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn values(file: &[u8], name: &str) -> Vec<f32> {
        Safetensors::parse(file).unwrap().data(name).unwrap().try_into_vec_as::<f32>().unwrap()
    }

    #[test]
    fn floating_point_types_are_read_and_others_left_out() {
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"F16","shape":[1,1],"data_offsets":[8,10]},"c":{"dtype":"BF16","shape":[],"data_offsets":[10,12]},
            "d":{"dtype":"F64","shape":[1],"data_offsets":[12,20]},"n":{"dtype":"I64","shape":[1],"data_offsets":[20,28]}}"#;
        let data = [
            &1.5_f32.to_le_bytes()[..],
            &(-2.0_f32).to_le_bytes(),
            &[0x00, 0x3c],
            &[0x80, 0x3f],
            &0.25_f64.to_le_bytes(),
            &7_i64.to_le_bytes(),
        ]
        .concat();
        let file = file(header, &data);
        assert_eq!(Safetensors::parse(&file).unwrap().names(), ["a", "b", "c", "d"]);
        assert_eq!((values(&file, "a"), values(&file, "b")), (vec![1.5, -2.0], vec![1.0]));
        assert_eq!((values(&file, "c"), values(&file, "d")), (vec![1.0], vec![0.25]));
    }

    /// Regression test: 10,000 tensors took two minutes.
    #[test]
    fn many_tensors_are_read_once_each() {
        let entry =
            |i: usize| format!(r#""t{i}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}"#, 4 * i, 4 * i + 4);
        let header = format!("{{{}}}", (0..200_000).map(entry).collect::<Vec<_>>().join(","));
        let file = file(&header, &[0; 800_000]);
        let tensors = Safetensors::parse(&file).unwrap();
        assert!(tensors.names().iter().all(|name| tensors.data(name).is_some()));
    }

    #[test]
    fn headers_that_contradict_the_file_are_refused() {
        let refused = |header: &str| match Safetensors::parse(&file(header, &[0; 8])) {
            Err(reason) => reason,
            Ok(_) => panic!("{header} was read"),
        };
        let entry = |shape: &str, offsets: &str| {
            refused(&format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#))
        };
        assert_eq!(entry("[2]", "[0,9]"), "it ends too early");
        assert_eq!(entry("[2]", "[8,0]"), "it ends too early");
        assert_eq!(entry("[3]", "[0,8]"), "`a` of shape [3] has 8 bytes");
        assert_eq!(entry("[9223372036854775807,4]", "[0,8]"), "`a` of shape [9223372036854775807, 4] has 8 bytes");
        let same = r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
        assert_eq!(refused(&format!(r#"{{"a":{same},"b":{same}}}"#)), "its tensors overlap");
        assert!(refused(&"[".repeat(100_000)).contains("its header is broken"));
        assert!(Safetensors::parse(&u64::MAX.to_le_bytes()).is_err() && Safetensors::parse(b"abc").is_err());
    }
}
