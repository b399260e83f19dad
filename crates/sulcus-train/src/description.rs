//! What `dataset.json` says, in the Decathlon's words or nnU-Net's.

use std::collections::BTreeMap;

use serde_json::Value;
use sulcus_pipeline::PreparedLabels;
use sulcus_volume::{Label, LabelTable};

/// The structures of a data set, and the value of voxels that nobody has labelled.
#[derive(Debug, PartialEq)]
pub(crate) struct Structures {
    pub(crate) labels: LabelTable,
    pub(crate) ignore: Option<Label>,
}

/// nnU-Net's name of the value that counts neither in a loss nor in a score.
const IGNORE: &str = "ignore";

/// The Decathlon writes `"1": "Anterior"`, nnU-Net `"Anterior": 1`. A structure named `ignore` is none: it marks
/// voxels that nobody has labelled, and must have the greatest value, as in nnU-Net.
pub(crate) fn structures(json: &Value) -> Result<Structures, String> {
    let labels = json.get("labels").and_then(Value::as_object).ok_or("it has no object `labels`")?;
    let mut names = Vec::new();
    let mut regions = Vec::new();
    for (key, value) in labels {
        let number = |v: &Value| v.as_u64().and_then(|v| Label::try_from(v).ok());
        let (value, name) = match value {
            Value::String(name) => (key.parse().ok(), name.clone()),
            Value::Number(_) => (number(value), key.clone()),
            Value::Array(values) => match values.as_slice() {
                [value] => (number(value), key.clone()),
                _ => {
                    regions.push(format!("`{key}`"));
                    continue;
                }
            },
            other => return Err(format!("label `{key}` has value {other}, expected a whole number")),
        };
        let value: Label = value.ok_or(format!("label `{name}` has no whole number from 0 to {}", Label::MAX))?;
        names.push((value, name));
    }
    if !regions.is_empty() {
        return Err(format!(
            "label {} is a region made of several values, which this program does not train; list each value of the \
             masks with a name of its own instead, and leave `regions_class_order` out",
            regions.join(", ")
        ));
    }
    let ignore = names.iter().position(|(_, name)| name == IGNORE).map(|at| names.swap_remove(at).0);
    if names.iter().any(|(_, name)| name == IGNORE) {
        return Err(format!(
            "two labels are named `{IGNORE}`; one value marks the voxels that nobody has labelled"
        ));
    }
    let greatest = names.iter().map(|(value, _)| *value).max().unwrap_or_default();
    if let Some(ignore) = ignore.filter(|ignore| *ignore <= greatest) {
        return Err(format!(
            "the label `{IGNORE}` has value {ignore}, but must have the greatest of all, {} for example, as in nnU-Net",
            greatest.saturating_add(1)
        ));
    }
    names.retain(|(value, _)| *value != 0);
    if names.is_empty() {
        return Err("its `labels` name no structure besides the background".into());
    }
    check_count(names.len())?;
    let labels = LabelTable::from_names(names).map_err(|e| e.to_string())?;
    Ok(Structures { labels, ignore })
}

/// That classes can tell so many structures apart.
pub(crate) fn check_count(structures: usize) -> Result<(), String> {
    let most = PreparedLabels::MOST_STRUCTURES;
    if structures > most {
        return Err(format!("there are {structures} different labels, at most {most} can be trained"));
    }
    Ok(())
}

/// `{"0": "MRI", "1": "CT"}`, in the order of the numbers.
pub(crate) fn numbered_names(json: &Value, key: &str) -> Result<Vec<String>, String> {
    let object = json.get(key).and_then(Value::as_object).ok_or(format!("it has no object `{key}`"))?;
    let mut names = BTreeMap::new();
    for (number, name) in object {
        let index: usize = number.parse().map_err(|_| format!("`{key}` has key `{number}`, expected 0, 1, …"))?;
        names.insert(index, name.as_str().unwrap_or("unnamed").to_owned());
    }
    if names.is_empty() || names.keys().enumerate().any(|(i, k)| i != *k) {
        return Err(format!(
            "`{key}` must number its channels 0, 1, …, found {:?}",
            names.keys().collect::<Vec<_>>()
        ));
    }
    Ok(names.into_values().collect())
}
