use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, TensorData};
use burn_store::bridge;
use burn_store::pytorch_reader::PytorchReader;
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive};

use super::error::InitError;
use super::names::{is_duplicate, map_names, strip_wrappers};
use super::safetensors::Safetensors;
use crate::network::tensors::network_tensors;
use crate::run::checkpoint::Checkpoint;
use crate::run::files::hex;
use crate::run::manifest::Manifest;
use crate::run::weights::Weights;

/// Pretrained weights that were read from a file.
#[derive(Debug)]
pub struct InitSource {
    pub(super) path: PathBuf,
    pub(super) sha256: String,
    /// Whether the file is a model, which has batch normalisation folded into its convolutions.
    pub(super) is_model: bool,
    pub(super) tensors: Vec<FileTensor>,
}

/// A tensor of a file.
#[derive(Debug)]
pub(super) struct FileTensor {
    /// The name in the file.
    pub(super) file_name: String,
    /// The name without the prefixes of wrappers.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Last axis fastest, finite.
    pub(super) values: Vec<f32>,
}

impl InitSource {
    /// Reads weights:
    ///
    /// - a model of Sulcus (`.onnx`),
    /// - a checkpoint of Sulcus (`.ckpt`), or the folder of a run for its best checkpoint,
    /// - PyTorch's `.pt` and `.pth`, whose pickles are read as data and never executed,
    /// - `.safetensors`.
    ///
    /// # Errors
    /// When the file has another format, is damaged, or holds weights that are not finite.
    pub fn read(path: &Path) -> Result<Self, InitError> {
        let file = match path.is_dir() {
            true if path.join(Manifest::FILE).is_file() => Weights::Best.file(path),
            true => return Err(InitError::NotARun { path: path.to_path_buf() }),
            false => path.to_path_buf(),
        };
        let unreadable = |source| InitError::Read { path: file.clone(), source };
        let bytes = std::fs::read(&file).map_err(unreadable)?;
        let sha256 = hex(&Sha256::digest(&bytes));
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let tensors = match extension.as_str() {
            "onnx" => model(&bytes, &file)?,
            "ckpt" => checkpoint(&file)?,
            "pt" | "pth" => pytorch(bytes, &file)?,
            "safetensors" => safetensors(&bytes, &file)?,
            _ => return Err(InitError::Unknown { path: file }),
        };
        for FileTensor { file_name, values, .. } in &tensors {
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(InitError::NotFinite { tensor: file_name.clone(), value: *value, path: file });
            }
        }
        Ok(Self { path: file, sha256, is_model: extension == "onnx", tensors })
    }

    /// The tensors by their name in our network, and the file names of the rest. Of two tensors with the same mapped name the
    /// first is used.
    pub(super) fn by_mapped_name(
        self,
        decoder_stages: usize,
    ) -> (BTreeMap<String, (FileTensor, bool)>, Vec<String>) {
        let names: Vec<&str> = self.tensors.iter().map(|found| found.name.as_str()).collect();
        let mapped = map_names(&names, decoder_stages);
        let (mut known, mut rest) = (BTreeMap::new(), Vec::new());
        for (found, mapped) in self.tensors.into_iter().zip(mapped) {
            match mapped {
                Some(mapped) if !known.contains_key(&mapped.name) => {
                    known.insert(mapped.name, (found, mapped.upsampled_first));
                }
                _ => rest.push(found.file_name),
            }
        }
        (known, rest)
    }
}

fn model(bytes: &[u8], path: &Path) -> Result<Vec<FileTensor>, InitError> {
    let constants = sulcus_onnx::read_constants(bytes)
        .map_err(|source| InitError::Model { source: Box::new(source), path: path.to_path_buf() })?;
    let found = |constant: sulcus_onnx::Constant| {
        let sulcus_onnx::Constant { name, shape, values } = constant;
        FileTensor { file_name: name.clone(), name, shape, values }
    };
    Ok(constants.into_iter().map(found).collect())
}

fn checkpoint(path: &Path) -> Result<Vec<FileTensor>, InitError> {
    let device = Device::flex();
    let mut network = Checkpoint::load(path)?.trained_network(&device)?;
    let mut tensors = Vec::new();
    for (name, tensor) in network_tensors(&mut network) {
        let values = tensor.values().map_err(|reason| InitError::Broken {
            what: "checkpoint",
            reason: format!("`{name}` could not be read: {reason}"),
            path: path.to_path_buf(),
        })?;
        tensors.push(FileTensor { file_name: name.clone(), name, shape: tensor.shape(), values });
    }
    Ok(tensors)
}

fn pytorch(bytes: Vec<u8>, path: &Path) -> Result<Vec<FileTensor>, InitError> {
    /// A file of weights holds each of them once. Views of the same values, and several names of a tensor, are read several times.
    const MAX_VIEWS: u64 = 4;
    let broken = |reason: String| InitError::Broken { what: "PyTorch file", reason, path: path.to_path_buf() };
    let file_bytes = bytes.len() as u64;
    check_archive(&bytes).map_err(broken)?;
    drop(bytes);
    let mut tensors = PytorchReader::new(path).map_err(|e| broken(e.to_string()))?.into_tensors();
    if tensors.is_empty() {
        return Err(broken("it holds no tensor; save the network's state_dict()".into()));
    }
    let all_bytes = tensors.values().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.byte_len() as u64));
    if all_bytes > file_bytes.saturating_mul(MAX_VIEWS) {
        return Err(broken(format!("its tensors would take {all_bytes} bytes, the file has {file_bytes}")));
    }
    let mut names: Vec<String> = tensors.keys().cloned().collect();
    names.sort();
    let mut take = |name: &str| {
        let tensor = tensors.remove(name).map(bridge::from_pytorch).filter(|tensor| is_float(tensor.dtype));
        tensor.map(bridge::into_data).transpose().map_err(|e| e.to_string())
    };
    float_tensors(names, &mut take).map_err(broken)
}

/// Checks that no entry of a zip archive is compressed. PyTorch never writes such entries, and two megabytes of them inflate to
/// gigabytes. Other formats pass.
fn check_archive(bytes: &[u8]) -> Result<(), String> {
    let Ok(mut archive) = ZipArchive::new(Cursor::new(bytes)) else { return Ok(()) };
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|e| e.to_string())?;
        if entry.compression() != CompressionMethod::Stored || entry.size() > bytes.len() as u64 {
            return Err("its archive is compressed, expected one that torch.save() has written".into());
        }
    }
    Ok(())
}

fn safetensors(bytes: &[u8], path: &Path) -> Result<Vec<FileTensor>, InitError> {
    let broken = |reason: String| InitError::Broken { what: "safetensors file", reason, path: path.to_path_buf() };
    let tensors = Safetensors::parse(bytes).map_err(broken)?;
    float_tensors(tensors.names(), |name| Ok(tensors.data(name))).map_err(broken)
}

/// Counters and similar values are no weights.
fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}

/// The floating-point tensors, in single precision.
fn float_tensors(
    names: Vec<String>,
    mut take: impl FnMut(&str) -> Result<Option<TensorData>, String>,
) -> Result<Vec<FileTensor>, String> {
    let mut all = Vec::new();
    for (name, file_name) in strip_wrappers(names) {
        if is_duplicate(&name) {
            continue;
        }
        let Some(data) = take(&file_name)? else { continue };
        if !is_float(data.dtype()) {
            continue;
        }
        let shape = data.shape().to_vec();
        let values = data.try_into_vec_as::<f32>().map_err(|e| format!("`{file_name}`: {e:?}"))?;
        all.push(FileTensor { file_name, name, shape, values });
    }
    Ok(all)
}
