//! The encoded fields of protobuf messages.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Advances past one field. Returns its number and, for a length-delimited field, its content.
pub(crate) fn next_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Option<&'a [u8]>), String> {
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
