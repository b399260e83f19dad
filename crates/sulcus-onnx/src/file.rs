use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};
use sulcus_model::{ModelSpec, SPEC_KEY};

use crate::OnnxError;
use crate::messages::StringStringEntryProto;

/// Field numbers of `ModelProto`.
mod tag {
    pub(super) const IR_VERSION: u32 = 1;
    pub(super) const PRODUCER_NAME: u32 = 2;
    pub(super) const GRAPH: u32 = 7;
    pub(super) const METADATA: u32 = 14;
}

/// Reads the specification out of a model file. The graph is passed over, not decoded.
///
/// # Errors
/// When the bytes are no ONNX file, a damaged one, one without a specification, or one whose specification is broken
/// or of a newer version.
pub fn read_spec(bytes: &[u8]) -> Result<ModelSpec, OnnxError> {
    let outer = Outer::read(bytes)?;
    let spec = outer.fields.iter().find_map(|field| field.spec.as_deref());
    match spec {
        Some(json) => Ok(ModelSpec::from_json(json)?),
        None => Err(OnnxError::NoSpec { producer: outer.producer }),
    }
}

/// The same model file with another specification, or with a first one. Everything else in it, known to this crate
/// or not, is kept byte for byte.
///
/// # Errors
/// When the bytes are no ONNX file or a damaged one, or the specification can't be written.
pub fn with_spec(onnx_bytes: &[u8], spec: &ModelSpec) -> Result<Vec<u8>, OnnxError> {
    let outer = Outer::read(onnx_bytes)?;
    let entry = StringStringEntryProto { key: SPEC_KEY.to_owned(), value: spec.to_json()? }.encode_to_vec();
    let mut changed = Vec::with_capacity(onnx_bytes.len() + entry.len() + 16);
    for field in outer.fields.iter().filter(|field| field.spec.is_none()) {
        changed.extend_from_slice(field.bytes);
    }
    encode_key(tag::METADATA, WireType::LengthDelimited, &mut changed);
    encode_varint(entry.len() as u64, &mut changed);
    changed.extend_from_slice(&entry);
    Ok(changed)
}

/// The encoded graph of a model file.
pub(crate) fn graph(bytes: &[u8]) -> Result<&[u8], OnnxError> {
    Ok(Outer::read(bytes)?.graph)
}

/// A model file split into its outermost fields.
struct Outer<'a> {
    fields: Vec<Field<'a>>,
    producer: String,
    graph: &'a [u8],
}

/// One outermost field.
struct Field<'a> {
    /// All of it, key included.
    bytes: &'a [u8],
    /// The JSON, when it is our metadata entry.
    spec: Option<String>,
}

impl<'a> Outer<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, OnnxError> {
        if let Some(found) = recognise(bytes) {
            return Err(OnnxError::NotOnnx { found });
        }
        let mut outer = Self { fields: Vec::new(), producer: String::new(), graph: &[] };
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
                (tag::GRAPH, Some(graph)) => (has_graph, outer.graph) = (true, graph),
                (tag::PRODUCER_NAME, Some(name)) => outer.producer = String::from_utf8_lossy(name).into_owned(),
                (tag::METADATA, Some(entry)) => {
                    let entry = StringStringEntryProto::decode(entry)
                        .map_err(|e| OnnxError::Damaged { reason: format!("a metadata entry is broken: {e}") })?;
                    spec = (entry.key == SPEC_KEY).then_some(entry.value);
                }
                _ => {}
            }
            outer.fields.push(Field { bytes: whole, spec });
        }
        match (has_version, has_graph) {
            (true, true) => Ok(outer),
            (true, false) => Err(OnnxError::Damaged { reason: "it has no graph".to_owned() }),
            (false, _) => Err(OnnxError::NotOnnx { found: "a file of another kind" }),
        }
    }
}

/// Steps over one field; gives its number and, if it has a length, its content.
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Option<&'a [u8]>), String> {
    let (number, wire_type) = decode_key(rest).map_err(|e| e.to_string())?;
    if wire_type != WireType::LengthDelimited {
        skip_field(wire_type, number, rest, DecodeContext::default()).map_err(|e| e.to_string())?;
        return Ok((number, None));
    }
    let length = decode_varint(rest).map_err(|e| e.to_string())?;
    let split = usize::try_from(length).ok().and_then(|n| rest.split_at_checked(n));
    let (content, left) =
        split.ok_or_else(|| format!("a part of {length} bytes is announced and {} are left", rest.len()))?;
    *rest = left;
    Ok((number, Some(content)))
}

/// Names what a file is that people hand over by mistake.
fn recognise(bytes: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 8] = [
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"\x1f\x8b", "a gzip file, perhaps a scan (.nii.gz)"),
        (b"PK\x03\x04", "a zip file, perhaps a PyTorch checkpoint"),
        (b"\x80\x02", "a Python pickle"),
        (b"SULCUSCK", "a training checkpoint of sulcus; `sulcus export` makes a model of its run"),
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
