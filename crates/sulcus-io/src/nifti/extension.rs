//! Label names inside a NIfTI file.
//!
//! A mask that Sulcus writes has one header extension of code 6 (`NIFTI_ECODE_COMMENT`, plain text, which every
//! reader must skip or may show) that holds
//! `{"format":"sulcus.labels","format_version":1,"labels":[{"value":1,"name":"Anterior","color":[230,159,0]}]}`,
//! padded with zero bytes to a multiple of 16 as the standard asks.

use ::nifti::{Endianness, Extension};
use serde::{Deserialize, Serialize};
use sulcus_volume::LabelTable;

/// `NIFTI_ECODE_COMMENT`.
const COMMENT: i32 = 6;
const FORMAT: &str = "sulcus.labels";
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Content {
    format: String,
    format_version: u32,
    labels: LabelTable,
}

/// The extension that carries a table, with the four bytes that announce it; none for an empty table.
pub(crate) fn encode(table: &LabelTable) -> Vec<u8> {
    let content = Content { format: FORMAT.into(), format_version: FORMAT_VERSION, labels: table.clone() };
    let text = if table.entries().is_empty() { None } else { serde_json::to_string(&content).ok() };
    let Some(text) = text else { return vec![0; 4] };
    let extension = Extension::from_str(COMMENT, &text);
    let mut out = vec![1, 0, 0, 0];
    out.extend(extension.size().to_le_bytes());
    out.extend(extension.code().to_le_bytes());
    out.extend(extension.data());
    out
}

/// The text of the label table in what follows a header: `after` starts with the four bytes that say whether
/// extensions follow, and ends where the voxels begin. Extensions of others are none of ours.
pub(crate) fn label_text(after: &[u8], endianness: Endianness) -> Option<&str> {
    let (extender, mut rest) = after.split_first_chunk::<4>()?;
    if extender[0] == 0 {
        return None;
    }
    let int = |bytes: [u8; 4]| match endianness {
        Endianness::Little => i32::from_le_bytes(bytes),
        Endianness::Big => i32::from_be_bytes(bytes),
    };
    while let Some((head, _)) = rest.split_first_chunk::<8>() {
        let [s0, s1, s2, s3, c0, c1, c2, c3] = *head;
        let size = usize::try_from(int([s0, s1, s2, s3])).ok().filter(|size| *size >= 8)?;
        let data = rest.get(8..size)?;
        if int([c0, c1, c2, c3]) == COMMENT
            && let Some(text) = text_in(data)
        {
            return Some(text);
        }
        rest = rest.get(size..)?;
    }
    None
}

fn text_in(data: &[u8]) -> Option<&str> {
    let end = data.iter().rposition(|b| *b != 0)?;
    std::str::from_utf8(data.get(..=end)?).ok().filter(|text| text.contains(FORMAT))
}

/// The table in such a text; a broken one, or one of a later version, is none.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn table(text: &str) -> Option<LabelTable> {
    let content: Content = serde_json::from_str(text).ok()?;
    (content.format == FORMAT && content.format_version == FORMAT_VERSION).then_some(content.labels)
}
