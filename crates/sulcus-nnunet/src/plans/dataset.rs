use serde_json::Value;
use sulcus_model::DatasetLabels;

use super::PlansError;
use super::json::{Json, parse};

/// What `dataset.json` says about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dataset {
    /// Names of the input channels, in order.
    pub(crate) channels: Vec<String>,
    pub(crate) labels: DatasetLabels,
    pub(crate) training_cases: usize,
}

impl Dataset {
    /// Reads the text of `dataset.json`.
    ///
    /// # Errors
    /// If it is not a description of a data set of nnU-Net v2.
    pub(crate) fn parse(text: &str) -> Result<Self, PlansError> {
        let mut value = parse(text)?;
        let json = Json::new(&value, "");
        let channels = channels(&json)?;
        let training_cases = json.optional("numTraining")?.and_then(|count| count.whole().ok()).unwrap_or(0);
        // nnU-Net has regions as soon as one label is a list of several values, and ignores `regions_class_order` otherwise.
        let labels = json.get("labels")?;
        let has_regions =
            labels.object()?.values().any(|label| label.as_array().is_some_and(|list| list.len() > 1));
        if !has_regions && json.optional("regions_class_order")?.is_some() {
            if let Some(object) = value.as_object_mut() {
                object.remove("regions_class_order");
            }
            let labels = labels_of(&value.to_string())?;
            return Ok(Self { channels, labels, training_cases });
        }
        Ok(Self { channels, labels: labels_of(text.trim_start_matches('\u{feff}'))?, training_cases })
    }
}

fn labels_of(text: &str) -> Result<DatasetLabels, PlansError> {
    let labels = DatasetLabels::from_json(text).map_err(|reason| PlansError::Contradiction { reason })?;
    // The position of a channel is the label's value.
    let values: Vec<usize> = labels.labels.entries().iter().map(|entry| entry.value.into()).collect();
    if labels.regions.is_empty() && values.iter().enumerate().any(|(i, value)| *value != i + 1) {
        return Err(PlansError::Contradiction {
            reason: format!("its labels have the values {values:?}, but nnU-Net needs 1, 2, 3, … without a gap"),
        });
    }
    Ok(labels)
}

fn channels(json: &Json<'_>) -> Result<Vec<String>, PlansError> {
    let named = match json.optional("channel_names")? {
        Some(named) => named,
        None => json.get("modality")?,
    };
    let object = named.object()?;
    let mut channels: Vec<(usize, String)> = Vec::with_capacity(object.len());
    for (key, name) in object {
        let index = key.trim().parse().map_err(|_| named.wrong("names with the numbers 0, 1, … as keys"))?;
        let name = match name {
            Value::String(name) => name.clone(),
            other => other.to_string(),
        };
        channels.push((index, name));
    }
    channels.sort();
    if channels.is_empty() || channels.iter().enumerate().any(|(i, (index, _))| *index != i) {
        return Err(named.wrong("names with the numbers 0, 1, … as keys"));
    }
    Ok(channels.into_iter().map(|(_, name)| name).collect())
}
