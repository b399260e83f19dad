//! NiiVue's label colormap: `{"R": [0, …], "G": […], "B": […], "A": […], "I": [0, …], "labels": ["", …]}`. `I` contains the
//! values; without it they are the indices in the lists.

use serde::Deserialize;
use serde_json::json;
use sulcus_volume::{LabelEntry, LabelTable, Rgb};

use crate::error::IoErrorKind;

#[derive(Deserialize)]
struct Colormap {
    #[serde(rename = "R")]
    r: Vec<u8>,
    #[serde(rename = "G")]
    g: Vec<u8>,
    #[serde(rename = "B")]
    b: Vec<u8>,
    #[serde(rename = "I")]
    values: Option<Vec<u16>>,
    labels: Vec<String>,
}

/// Whether the JSON text looks like a colormap, possibly an invalid one.
pub(super) fn is_colormap(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Keys {
        #[serde(rename = "R")]
        r: Option<serde_json::Value>,
        labels: Option<serde_json::Value>,
    }
    serde_json::from_str(text).is_ok_and(|keys: Keys| keys.r.is_some() && keys.labels.is_some())
}

pub(super) fn entries(text: &str) -> Result<Vec<LabelEntry>, IoErrorKind> {
    let fail = |reason: String| IoErrorKind::LabelColormap { reason };
    let map: Colormap = serde_json::from_str(text).map_err(|e| fail(e.to_string()))?;
    let n = map.labels.len();
    let lengths = [map.r.len(), map.g.len(), map.b.len(), map.values.as_ref().map_or(n, Vec::len)];
    if lengths.iter().any(|length| *length != n) {
        return Err(fail(format!("its lists R, G, B, I and labels have {lengths:?} and {n} entries")));
    }
    let colors = map.r.into_iter().zip(map.g).zip(map.b).map(|((r, g), b)| Rgb([r, g, b]));
    let values = map.values.unwrap_or_else(|| (0..=u16::MAX).take(n).collect());
    if values.len() != n {
        return Err(fail(format!("it has {n} labels, at most {} are possible", u16::MAX)));
    }
    let entries = values.into_iter().zip(map.labels).zip(colors);
    // In a list without values, unused indices have empty names.
    let named = entries.filter(|((_, name), _)| !name.is_empty());
    Ok(named.map(|((value, name), color)| LabelEntry { value, name, color }).collect())
}

pub(super) fn write(table: &LabelTable) -> String {
    let channel =
        |i: usize| -> Vec<u8> { std::iter::once(0).chain(table.entries().iter().map(|e| e.color.0[i])).collect() };
    let opacity: Vec<u8> = std::iter::once(0).chain(table.entries().iter().map(|_| 255)).collect();
    let values: Vec<u16> = std::iter::once(0).chain(table.entries().iter().map(|e| e.value)).collect();
    let labels: Vec<&str> = std::iter::once("").chain(table.entries().iter().map(|e| e.name.as_str())).collect();
    let map = json!({
        "R": channel(0), "G": channel(1), "B": channel(2), "A": opacity, "I": values, "labels": labels,
    });
    format!("{map}\n")
}
