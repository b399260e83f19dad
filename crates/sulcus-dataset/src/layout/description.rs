//! Labels and channels of a `dataset.json`, in the Decathlon's form or nnU-Net's.

use std::collections::BTreeMap;

use serde_json::Value;
use sulcus_model::DatasetLabels;
use sulcus_pipeline::PreprocessedLabels;

/// The labels of a description. Fails if there are more than can be trained.
pub(super) fn labels(json: &str) -> Result<DatasetLabels, String> {
    let found = DatasetLabels::from_json(json)?;
    check_count(found.labels.entries().len())?;
    Ok(found)
}

/// Checks that there are not more structures than classes.
pub(super) fn check_count(structures: usize) -> Result<(), String> {
    let max = PreprocessedLabels::MAX_STRUCTURES;
    if structures > max {
        return Err(format!("there are {structures} different labels, at most {max} can be trained"));
    }
    Ok(())
}

/// The names of an object such as `{"0": "MRI", "1": "CT"}`, in the order of the numbers.
pub(super) fn numbered_names(json: &Value, key: &str) -> Result<Vec<String>, String> {
    /// Every case has a file name for each of them.
    const MAX_CHANNELS: usize = 1024;
    let object = json.get(key).and_then(Value::as_object).ok_or(format!("it has no object `{key}`"))?;
    if object.len() > MAX_CHANNELS {
        return Err(format!("`{key}` has {} channels, at most {MAX_CHANNELS} are possible", object.len()));
    }
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
