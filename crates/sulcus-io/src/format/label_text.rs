//! The names and colours of labels as text, for formats that have a place for a text but none for names:
//! `{"format":"sulcus.labels","format_version":1,"labels":[{"value":1,"name":"Anterior","color":[230,159,0]}]}`.

use serde::{Deserialize, Serialize};
use sulcus_volume::LabelTable;

/// The name of the format, which every such text contains.
pub(super) const FORMAT: &str = "sulcus.labels";
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Content {
    format: String,
    format_version: u32,
    labels: LabelTable,
}

/// The text of a label table; `None` if it is empty.
pub(super) fn of_table(table: &LabelTable) -> Option<String> {
    let content = Content { format: FORMAT.into(), format_version: FORMAT_VERSION, labels: table.clone() };
    if table.entries().is_empty() { None } else { serde_json::to_string(&content).ok() }
}

/// Parses a label table; `None` if it is damaged or has a later version.
#[cfg(feature = "label-tables")]
pub(super) fn parse(text: &str) -> Option<LabelTable> {
    let content: Content = serde_json::from_str(text).ok()?;
    (content.format == FORMAT && content.format_version == FORMAT_VERSION).then_some(content.labels)
}

/// Without a JSON parser there is no label table.
#[cfg(not(feature = "label-tables"))]
pub(super) fn parse(_text: &str) -> Option<LabelTable> {
    None
}
