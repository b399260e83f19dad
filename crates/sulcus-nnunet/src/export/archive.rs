//! The zip archive of `torch.save`.

use std::io::{Cursor, Write};

use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::ExportError;
use super::pickle::PickleWriter;
use super::state_dict::{StateDict, Values};

/// The folder inside the archive, which PyTorch names after the file.
const FOLDER: &str = "checkpoint_final";
/// PyTorch aligns storages, so that they can be mapped into memory.
const ALIGNMENT: u16 = 64;

/// A checkpoint: the weights, further entries, and the axes along which prediction may mirror.
pub(super) fn write(
    weights: &StateDict,
    rest: &[(&str, Value)],
    mirror_axes: &[usize],
) -> Result<Vec<u8>, ExportError> {
    let mut pickle = PickleWriter::new();
    pickle.begin_dict();
    pickle.text("network_weights");
    pickle.begin_ordered_dict();
    for (name, key) in &weights.names {
        let Some(tensor) = weights.tensors.get(*key) else { continue };
        pickle.text(name);
        pickle.tensor(*key, tensor.values.storage(), &tensor.shape);
    }
    pickle.end_items();
    for (key, value) in rest {
        pickle.text(key);
        pickle.json(value);
    }
    pickle.text("inference_allowed_mirroring_axes");
    match mirror_axes {
        // nnU-Net's predictor fails with an empty tuple.
        [] => pickle.json(&Value::Null),
        axes => pickle.ints(axes.iter().copied()),
    }
    pickle.end_items();

    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
    let mut add = |name: &str, bytes: &[u8]| -> Result<(), ExportError> {
        let failed = |e: &dyn std::fmt::Display| ExportError::Archive(format!("its checkpoint: {e}"));
        zip.start_file(format!("{FOLDER}/{name}"), options.large_file(bytes.len() > u32::MAX as usize))
            .map_err(|e| failed(&e))?;
        zip.write_all(bytes).map_err(|e| failed(&e))
    };
    add("data.pkl", &pickle.finish())?;
    add("byteorder", b"little")?;
    for (key, tensor) in weights.tensors.iter().enumerate() {
        add(&format!("data/{key}"), &tensor.values.bytes())?;
    }
    add("version", b"3\n")?;
    let written = zip.finish().map_err(|e| ExportError::Archive(format!("its checkpoint: {e}")))?;
    Ok(written.into_inner())
}

impl Values {
    fn storage(&self) -> &'static str {
        match self {
            Self::Floats(_) => "FloatStorage",
            Self::Counter => "LongStorage",
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Floats(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Counter => 0_i64.to_le_bytes().to_vec(),
        }
    }
}
