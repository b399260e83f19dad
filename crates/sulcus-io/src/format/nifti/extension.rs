//! Header extensions, which lie between header and voxels.
//!
//! A mask that Sulcus writes has one header extension with code 6 (`NIFTI_ECODE_COMMENT`, plain text, which other readers
//! skip or display). It contains
//! `{"format":"sulcus.labels","format_version":1,"labels":[{"value":1,"name":"Anterior","color":[230,159,0]}]}`,
//! padded with zero bytes to a multiple of 16, as the standard requires.

use sulcus_volume::LabelTable;

use crate::format::label_text;

/// `NIFTI_ECODE_COMMENT`.
const COMMENT: i32 = 6;

/// One extension.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Extension {
    code: i32,
    data: Vec<u8>,
}

/// Encodes the four bytes that state whether extensions follow, and the extensions: those of `others` without a label
/// table, then that of `table` unless it is empty.
pub(crate) fn encode(others: &[Extension], table: &LabelTable) -> Vec<u8> {
    let ours = label_text::of_table(table).map(|text| Extension { code: COMMENT, data: text.into_bytes() });
    let foreign = others.iter().filter(|other| text_of_labels(other).is_none());
    let mut out = vec![0; 4];
    for extension in foreign.chain(&ours) {
        // The first eight bytes contain size and code.
        let size = (extension.data.len() + 8).next_multiple_of(16);
        let Ok(written) = i32::try_from(size) else { continue };
        let end = out.len() + size;
        out.extend(written.to_le_bytes());
        out.extend(extension.code.to_le_bytes());
        out.extend(&extension.data);
        out.resize(end, 0);
        if let Some(follow) = out.first_mut() {
            *follow = 1;
        }
    }
    out
}

/// Reads the extensions after a header. `after` starts with the four bytes that state whether there are any, and ends at
/// the first voxel. Reading stops at a damaged extension.
pub(crate) fn read(after: &[u8], big_endian: bool) -> Vec<Extension> {
    let mut found = Vec::new();
    let Some((extender, mut rest)) = after.split_first_chunk::<4>() else { return found };
    if extender[0] == 0 {
        return found;
    }
    let int = |bytes: [u8; 4]| if big_endian { i32::from_be_bytes(bytes) } else { i32::from_le_bytes(bytes) };
    while let Some((head, _)) = rest.split_first_chunk::<8>() {
        let [s0, s1, s2, s3, c0, c1, c2, c3] = *head;
        let size = usize::try_from(int([s0, s1, s2, s3])).unwrap_or(0);
        let (Some(data), Some(after)) = (rest.get(8..size), rest.get(size..)) else { break };
        found.push(Extension { code: int([c0, c1, c2, c3]), data: data.to_vec() });
        rest = after;
    }
    found
}

/// The text of the label table, if the extension contains one.
pub(crate) fn text_of_labels(extension: &Extension) -> Option<&str> {
    let data = extension.data.as_slice();
    let end = data.iter().rposition(|b| *b != 0).filter(|_| extension.code == COMMENT)?;
    std::str::from_utf8(data.get(..=end)?).ok().filter(|text| text.contains(label_text::FORMAT))
}
