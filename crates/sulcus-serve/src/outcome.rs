//! What is said of a segmented scan beside its mask: what `sulcus predict --json` says.

use serde::Serialize;
use sulcus_runtime::{LabelVolume, Segmentation, serialize_labels};

/// The result as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) models: Vec<String>,
    engine: String,
    device: String,
    precision: String,
    pub(crate) seconds: Seconds,
    tiles: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    /// What may spoil the mask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
    /// By name; left out where a header has no room for them.
    #[serde(serialize_with = "serialize_labels", skip_serializing_if = "Vec::is_empty")]
    labels: Vec<LabelVolume>,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Seconds {
    /// Waiting for a worker; not in `total`.
    pub(crate) queue: f64,
    pub(crate) read: f64,
    pub(crate) preprocess: f64,
    pub(crate) infer: f64,
    /// The part of `infer` inside the engine.
    pub(crate) engine: f64,
    pub(crate) postprocess: f64,
    pub(crate) write: f64,
    pub(crate) total: f64,
}

impl Seconds {
    /// Each with its name.
    pub(crate) fn stages(&self) -> [(&'static str, f64); 8] {
        [
            ("queue", self.queue),
            ("read", self.read),
            ("preprocess", self.preprocess),
            ("infer", self.infer),
            ("engine", self.engine),
            ("postprocess", self.postprocess),
            ("write", self.write),
            ("total", self.total),
        ]
    }
}

impl Outcome {
    pub(crate) fn new(
        models: Vec<String>,
        found: &Segmentation,
        seconds: Seconds,
        warnings: Vec<&'static str>,
    ) -> Self {
        Self {
            models,
            engine: found.engine.to_string(),
            device: found.device.to_string(),
            precision: found.precision.clone(),
            seconds,
            tiles: found.tiles,
            peak_memory_bytes: found.peak_memory_bytes,
            warnings,
            labels: found.label_volumes(),
        }
    }

    /// As one line of ASCII, which is all that a header takes; without the labels where they are too many, and nothing where
    /// even the rest is too long.
    pub(crate) fn header(mut self) -> Option<String> {
        /// What proxies take of a header by default.
        const LONGEST: usize = 4096;
        let whole = ascii(&serde_json::to_string(&self).ok()?);
        if whole.len() <= LONGEST {
            return Some(whole);
        }
        self.labels.clear();
        Some(ascii(&serde_json::to_string(&self).ok()?)).filter(|rest| rest.len() <= LONGEST)
    }
}

/// JSON whose other characters are escaped.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(labels: usize, name: &str) -> Outcome {
        let label = |i: usize| LabelVolume {
            name: format!("{name} {i}"),
            value: i as u16,
            values: vec![i as u16],
            voxels: 10,
            ml: 0.01,
        };
        Outcome {
            models: vec!["Höhle".into()],
            engine: "tract".into(),
            device: "cpu".into(),
            precision: "fp32".into(),
            seconds: Seconds::default(),
            tiles: 1,
            peak_memory_bytes: None,
            warnings: Vec::new(),
            labels: (1..=labels).map(label).collect(),
        }
    }

    #[test]
    fn a_header_is_ascii_and_says_the_same() {
        let text = outcome(1, "Großhirn 🧠").header().unwrap();
        assert!(text.is_ascii() && text.contains("\\ud83e\\udde0"), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["labels"]["Großhirn 🧠 1"]["voxels"], 10);
        assert_eq!(read["models"][0], "Höhle");
    }

    #[test]
    fn a_header_without_room_leaves_the_labels_out_and_then_itself() {
        let text = outcome(200, "Structure").header().unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(read.get("labels").is_none() && read["tiles"] == 1, "{text}");
        let mut long = outcome(1, "x");
        long.models = vec!["x".repeat(5000)];
        assert_eq!(long.header(), None);
    }
}
