//! Label names and colours from a file: a model, a `dataset.json`, or plain JSON.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use sulcus_io::LabelTableFormat;
use sulcus_model::{DatasetLabels, FileSpec, Region, Structure};
use sulcus_volume::{Label, LabelEntry, LabelTable};

use crate::error::{CliError, Context};

/// Reads a label table from a model (`.onnx`), a `dataset.json` of the Decathlon or nnU-Net, a JSON object of names and values
/// in either direction, a JSON list of `{"value", "name", "color"}`, or a label table of ITK-SNAP, 3D Slicer or NiiVue.
///
/// # Errors
/// When the file cannot be read or has none of these forms.
pub(crate) fn read(path: &Path) -> Result<LabelFile, CliError> {
    let bytes = std::fs::read(path).context(format_args!("reading the label table {}", path.display()))?;
    if LabelTableFormat::of_content(&bytes).is_some() {
        let table = sulcus_io::parse_label_table(&bytes)
            .context(format_args!("reading the label table {}", path.display()))?;
        return Ok(LabelFile { table, regions: Vec::new(), ignore: None });
    }
    let is_json = bytes.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| matches!(b, b'{' | b'['));
    if !is_json {
        let spec = sulcus_onnx::read_file_spec(&bytes).map_err(|error| {
            CliError::failed(format_args!(
                "the label table is neither JSON nor a model file ({error}): {}",
                path.display()
            ))
        })?;
        let (table, regions) = match spec {
            FileSpec::Model(spec) => (spec.labels, spec.regions),
            FileSpec::Pack(pack) => (pack.labels, pack.regions),
        };
        return Ok(LabelFile { table, regions, ignore: None });
    }
    let text =
        String::from_utf8(bytes).context(format_args!("the label table is not text: {}", path.display()))?;
    from_json(&text).map_err(|error| {
        CliError::failed(format_args!("the label table cannot be used: {error}: {}", path.display()))
            .hint(r#"write {"labels": {"Anterior": 1, "Posterior": 2}}, or give a dataset.json or a model file"#)
    })
}

/// The label with this name, or else with this value.
pub(crate) fn find<'a>(table: &'a LabelTable, wanted: &str) -> Option<&'a LabelEntry> {
    table.named(wanted).or_else(|| table.get(wanted.trim().parse().ok()?))
}

/// The labels that a file describes.
#[derive(Debug)]
pub(crate) struct LabelFile {
    /// The values that masks may have, with their names.
    pub(crate) table: LabelTable,
    /// The structures, where they are unions of values.
    pub(crate) regions: Vec<Region>,
    /// The value of unlabelled voxels.
    pub(crate) ignore: Option<Label>,
}

impl LabelFile {
    /// The structures that are scored.
    pub(crate) fn structures(&self) -> Vec<Structure> {
        Structure::all(&self.table, &self.regions)
    }
}

fn from_json(text: &str) -> Result<LabelFile, String> {
    let json: Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
    let labels = json.get("labels").unwrap_or(&json);
    if labels.is_array() {
        let entries: Vec<LabelEntry> = serde_json::from_value(labels.clone()).map_err(|e| e.to_string())?;
        let table = LabelTable::new(entries).map_err(|e| e.to_string())?;
        return Ok(LabelFile { table, regions: Vec::new(), ignore: None });
    }
    let wrapped = if json.get("labels").is_none() { format!("{{\"labels\": {text}}}") } else { text.to_owned() };
    let DatasetLabels { labels, regions, ignore } = DatasetLabels::from_json(&wrapped)?;
    Ok(LabelFile { table: labels, regions, ignore })
}

/// A table of the values that occur, with the names of `known` where it has them.
pub(crate) fn named_where_known(
    values: impl IntoIterator<Item = Label>,
    known: Option<&LabelTable>,
) -> LabelTable {
    let values: BTreeSet<Label> = values.into_iter().filter(|value| *value != 0).collect();
    let unnamed = || values.iter().map(|value| (*value, format!("label {value}")));
    let plain = LabelTable::from_names(unnamed()).unwrap_or_default();
    let Some(known) = known else { return plain };
    let entry = |own: &LabelEntry| known.get(own.value).unwrap_or(own).clone();
    // A known name may collide with a generated one: generated names for all values are better than a wrong name.
    LabelTable::new(plain.entries().iter().map(entry).collect()).unwrap_or(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(Label, String)>, String> {
        let table = from_json(text)?.table;
        Ok(table.entries().iter().map(|e| (e.value, e.name.clone())).collect())
    }

    #[test]
    fn every_form_gives_the_same_table() {
        let expected = vec![(1, "Anterior".to_owned()), (2, "Posterior".to_owned())];
        for text in [
            r#"{"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}"#,
            r#"{"labels": {"background": 0, "Posterior": 2, "Anterior": 1}}"#,
            r#"{"Anterior": 1, "Posterior": 2}"#,
            r#"[{"value": 1, "name": "Anterior", "color": [1, 2, 3]}, {"value": 2, "name": "Posterior", "color": [0, 0, 0]}]"#,
        ] {
            assert_eq!(parsed(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn ignore_label_is_not_a_structure() {
        let text = r#"{"labels": {"background": 0, "a": 1, "ignore": 3, "b": 2}}"#;
        let file = from_json(text).unwrap();
        assert_eq!(file.ignore, Some(3));
        assert_eq!(file.table.entries().iter().map(|e| e.value).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn regions_keep_their_order() {
        let text = r#"{"labels": {"background": 0, "whole": [1, 2], "back": 2}, "regions_class_order": [1, 2]}"#;
        let keys: Vec<String> = from_json(text).unwrap().structures().iter().map(Structure::key).collect();
        assert_eq!(keys, ["(1, 2)", "2"]);
    }

    #[test]
    fn known_names_replace_generated_ones() {
        let known = LabelTable::from_names([(2, "Posterior".to_owned())]).unwrap();
        let table = named_where_known([0, 5, 2], Some(&known));
        let names: Vec<&str> = table.entries().iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["Posterior", "label 5"]);
        assert_eq!(table.get(2).unwrap().color, known.entries()[0].color);
    }

    #[test]
    fn invalid_tables_are_refused_with_the_reason() {
        for (text, part) in [
            (r#"{"labels": {"whole": [1, 2]}}"#, "`regions_class_order` must say"),
            ("{", "it is not JSON"),
            (r#"{"labels": {"background": 0}}"#, "no structure"),
            (r#"{"labels": {"a": 70000}}"#, "no whole number from 0 to 65535"),
            (r#"{"labels": 3}"#, "expected an object"),
        ] {
            assert!(parsed(text).unwrap_err().contains(part), "{text}");
        }
    }
}
