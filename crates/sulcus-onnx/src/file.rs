use std::fmt::Display;

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{WireType, encode_key, encode_varint};
use sulcus_model::{FileSpec, ModelSpec, PackSpec, SPEC_KEY};

use crate::OnnxError;
use crate::external::{MessageKind, refuse_external_data};
use crate::messages::{ModelProto, StringStringEntryProto};
use crate::wire::next_field;

/// Field numbers of `ModelProto`.
mod tag {
    pub(super) const IR_VERSION: u32 = 1;
    pub(super) const PRODUCER_NAME: u32 = 2;
    pub(super) const GRAPH: u32 = 7;
    pub(super) const METADATA: u32 = 14;
    pub(super) const TRAINING: u32 = 20;
    pub(super) const FUNCTION: u32 = 25;
}

/// The most that the networks of a file may take. Files of 2 GiB or more are no valid protobuf messages, and a part is left for the
/// specification.
pub const MAX_NETWORK_BYTES: u64 = (2 << 30) - (64 << 20);

/// What a file says to those who open it with another program: what the model is, and where the rest of it is.
pub fn doc_string(model: impl Display) -> String {
    format!("{model}. Everything that prediction needs besides this graph is in the metadata entry {SPEC_KEY}.")
}

/// Reads the specification of a file with one model. The graph is skipped, not decoded.
///
/// # Errors
/// [`OnnxError::NotOnnx`], [`OnnxError::Damaged`], [`OnnxError::ExternalData`] for a file with tensors in other files,
/// [`OnnxError::NoSpec`] for a file without a specification, and [`OnnxError::Spec`] for a specification that is invalid, of a newer
/// version, or of a pack.
pub fn read_spec(bytes: &[u8]) -> Result<ModelSpec, OnnxError> {
    Ok(ModelSpec::from_json(&spec_json(bytes)?)?)
}

/// As [`read_spec`], for a file with one model or with a pack.
///
/// # Errors
/// As [`read_spec`].
pub fn read_file_spec(bytes: &[u8]) -> Result<FileSpec, OnnxError> {
    Ok(FileSpec::from_json(&spec_json(bytes)?)?)
}

fn spec_json(bytes: &[u8]) -> Result<String, OnnxError> {
    let ModelFields { fields, producer, .. } = ModelFields::read(bytes)?;
    fields.into_iter().find_map(|field| field.spec).ok_or(OnnxError::NoSpec { producer })
}

/// The model file with its specification replaced, or added if it had none. All other fields, including those that this
/// crate does not know, are kept byte for byte.
///
/// # Errors
/// [`OnnxError::NotOnnx`], [`OnnxError::Damaged`], and [`OnnxError::Spec`] for a specification that cannot be serialised.
pub fn with_spec(onnx_bytes: &[u8], spec: &ModelSpec) -> Result<Vec<u8>, OnnxError> {
    with_json(onnx_bytes, spec.to_json()?)
}

/// As [`with_spec`], for a pack.
///
/// # Errors
/// As [`with_spec`].
pub fn with_pack_spec(onnx_bytes: &[u8], pack: &PackSpec) -> Result<Vec<u8>, OnnxError> {
    with_json(onnx_bytes, pack.to_json()?)
}

fn with_json(onnx_bytes: &[u8], json: String) -> Result<Vec<u8>, OnnxError> {
    let model = ModelFields::read(onnx_bytes)?;
    let entry = StringStringEntryProto { key: SPEC_KEY.to_owned(), value: json }.encode_to_vec();
    let mut changed = Vec::with_capacity(onnx_bytes.len() + entry.len() + 16);
    for field in model.fields.iter().filter(|field| field.spec.is_none()) {
        changed.extend_from_slice(field.bytes);
    }
    encode_key(tag::METADATA, WireType::LengthDelimited, &mut changed);
    encode_varint(entry.len() as u64, &mut changed);
    changed.extend_from_slice(&entry);
    Ok(changed)
}

/// Decodes a model file: its graph with all constants. Any ONNX file can be read; it need not contain a specification.
///
/// # Errors
/// [`OnnxError::NotOnnx`], [`OnnxError::Damaged`], and [`OnnxError::ExternalData`] for a file with tensors in other files.
pub fn read_model(bytes: &[u8]) -> Result<ModelProto, OnnxError> {
    ModelFields::read(bytes)?;
    ModelProto::decode(bytes).map_err(|e| OnnxError::Damaged { reason: format!("its graph is broken: {e}") })
}

/// The encoded graph of a model file.
pub(crate) fn graph(bytes: &[u8]) -> Result<&[u8], OnnxError> {
    Ok(ModelFields::read(bytes)?.graph)
}

/// The outermost fields of a model file.
struct ModelFields<'a> {
    fields: Vec<Field<'a>>,
    producer: String,
    graph: &'a [u8],
}

/// One field of `ModelProto`.
struct Field<'a> {
    /// The encoded field, including its key.
    bytes: &'a [u8],
    /// The JSON, if this is the metadata entry of the specification.
    spec: Option<String>,
}

impl<'a> ModelFields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, OnnxError> {
        if let Some(found) = identify_other_format(bytes) {
            return Err(OnnxError::NotOnnx { found });
        }
        let mut model = Self { fields: Vec::new(), producer: String::new(), graph: &[] };
        let (mut has_version, mut has_graph) = (false, false);
        let mut rest = bytes;
        while rest.has_remaining() {
            let start = rest;
            let (number, content) = next_field(&mut rest).map_err(|reason| match has_version {
                true => {
                    OnnxError::Damaged { reason: format!("after {} bytes, {reason}", bytes.len() - start.len()) }
                }
                false => OnnxError::NotOnnx { found: "a file of another kind" },
            })?;
            let whole = &start[..start.len() - rest.len()];
            let mut spec = None;
            match (number, content) {
                (tag::IR_VERSION, _) => has_version = true,
                (tag::GRAPH, Some(graph)) => {
                    refuse_external_data(MessageKind::Graph, graph)?;
                    (has_graph, model.graph) = (true, graph);
                }
                (tag::TRAINING, Some(training)) => refuse_external_data(MessageKind::Training, training)?,
                (tag::FUNCTION, Some(function)) => refuse_external_data(MessageKind::Function, function)?,
                (tag::PRODUCER_NAME, Some(name)) => model.producer = String::from_utf8_lossy(name).into_owned(),
                (tag::METADATA, Some(entry)) => {
                    let entry = StringStringEntryProto::decode(entry)
                        .map_err(|e| OnnxError::Damaged { reason: format!("a metadata entry is broken: {e}") })?;
                    spec = (entry.key == SPEC_KEY).then_some(entry.value);
                }
                _ => {}
            }
            model.fields.push(Field { bytes: whole, spec });
        }
        match (has_version, has_graph) {
            (true, true) => Ok(model),
            (true, false) => Err(OnnxError::Damaged { reason: "it has no graph".to_owned() }),
            (false, _) => Err(OnnxError::NotOnnx { found: "a file of another kind" }),
        }
    }
}

/// Identifies kinds of files that are passed by mistake.
fn identify_other_format(bytes: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 8] = [
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"\x1f\x8b", "a gzip file, perhaps a scan (.nii.gz)"),
        (b"PK\x03\x04", "a zip file, perhaps a PyTorch checkpoint"),
        (b"\x80\x02", "a Python pickle"),
        (b"SULCUSCK", "a training checkpoint of sulcus, from which a model has yet to be exported"),
        (b"\x5c\x01\x00\x00", "a NIfTI scan"),
        (b"%PDF", "a PDF document"),
    ];
    if bytes.is_empty() {
        return Some("an empty file");
    }
    if let Some((_, name)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(name);
    }
    let head = &bytes[..bytes.len().min(256)];
    let text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    head.iter().all(text).then_some("text")
}
