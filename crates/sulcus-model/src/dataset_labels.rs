use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use sulcus_volume::{Label, LabelTable};

use crate::Region;

/// The labels of a `dataset.json`, in the form of the Decathlon (`"1": "Anterior"`) or of nnU-Net (`"Anterior": 1`).
///
/// Labels with a list of values are nnU-Net's regions. `regions_class_order` gives the value that each label writes to a
/// mask, in the order of the file. If one label has a list, the labels with a single value are regions as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetLabels {
    /// The values that masks may have. If there are regions, the name of a value describes the part of the regions that
    /// it marks.
    pub labels: LabelTable,
    /// Structures that are unions of values, in the order in which they are written to a mask; empty if each value is one
    /// structure.
    pub regions: Vec<Region>,
    /// The value of voxels without a label (nnU-Net's `ignore`).
    pub ignore: Option<Label>,
}

/// nnU-Net's name for the value that is part of no loss and no score.
const IGNORE: &str = "ignore";

#[derive(Deserialize)]
struct Words {
    labels: InOrder,
    regions_class_order: Option<Vec<Label>>,
}

/// The entries of a JSON object in the order of the file. A map would sort them.
struct InOrder(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = InOrder;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object `labels` of names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InOrder, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(InOrder(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl DatasetLabels {
    /// Reads `labels`, and `regions_class_order` if it exists, of a JSON object.
    ///
    /// # Errors
    /// A sentence that describes the problem.
    pub fn from_json(json: &str) -> Result<Self, String> {
        let Words { labels: InOrder(entries), regions_class_order } =
            serde_json::from_str(json).map_err(|e| format!("its labels cannot be read: {e}"))?;
        let mut found: Vec<(String, Vec<Label>)> = Vec::new();
        let mut has_lists = false;
        for (key, value) in entries {
            let number = |v: &Value| v.as_u64().and_then(|v| Label::try_from(v).ok());
            let (name, values) = match &value {
                Value::String(name) => (name.clone(), key.parse().ok().map(|value| vec![value])),
                Value::Number(_) => (key, number(&value).map(|value| vec![value])),
                Value::Array(list) => {
                    has_lists |= list.len() != 1;
                    let values: Option<Vec<Label>> = list.iter().map(number).collect();
                    (key, values.filter(|values| !values.is_empty()))
                }
                other => {
                    return Err(format!("label `{key}` has {other}, expected a whole number, a name or a list"));
                }
            };
            let values =
                values.ok_or_else(|| format!("label `{name}` has no whole number from 0 to {}", Label::MAX))?;
            found.push((name, values));
        }
        let ignore = take_ignored(&mut found)?;
        let is_background = |name: &str| name.trim().eq_ignore_ascii_case("background");
        if let Some((name, values)) = found.iter().find(|(name, values)| is_background(name) && *values != [0]) {
            let zero: Vec<String> = found
                .iter()
                .filter(|(_, values)| *values == [0])
                .map(|(name, _)| format!("`{name}` has it"))
                .collect();
            return Err(format!(
                "label `{name}` has {values:?}, expected 0, the value of all voxels outside the structures{}; exchange the \
                 values, or correct the name",
                if zero.is_empty() { String::new() } else { format!(" ({})", zero.join(", ")) }
            ));
        }
        found.retain(|(_, values)| values.iter().any(|value| *value != 0));
        if found.is_empty() {
            return Err("its `labels` name no structure besides the background".into());
        }
        if has_lists || regions_class_order.is_some() {
            return Self::of_regions(found, regions_class_order, ignore);
        }
        let names = found.into_iter().filter_map(|(name, values)| Some((*values.first()?, name)));
        let labels = LabelTable::from_names(names).map_err(|e| e.to_string())?;
        Ok(Self { labels, regions: Vec::new(), ignore })
    }

    fn of_regions(
        found: Vec<(String, Vec<Label>)>,
        order: Option<Vec<Label>>,
        ignore: Option<Label>,
    ) -> Result<Self, String> {
        let Some(order) = order else {
            let listed: Vec<String> =
                found.iter().filter(|(_, values)| values.len() > 1).map(|(name, _)| format!("`{name}`")).collect();
            return Err(format!(
                "label {} is a region of several values, so `regions_class_order` must say, label by label in their \
                 order, which value each writes to a mask",
                listed.join(", ")
            ));
        };
        if order.len() != found.len() {
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            return Err(format!(
                "`regions_class_order` has {} values, but there are {} regions ({}); it needs one for each, in their \
                 order",
                order.len(),
                found.len(),
                names.join(", ")
            ));
        }
        let region = |((name, mut values), writes): ((String, Vec<Label>), Label)| {
            values.sort_unstable();
            Region { name, values, writes }
        };
        let regions: Vec<Region> = found.into_iter().zip(order).map(region).collect();
        Region::check_all(&regions)?;
        let labels = Region::label_table(&regions).map_err(|e| e.to_string())?;
        Ok(Self { labels, regions, ignore })
    }
}

/// Removes the entry named `ignore` and returns its value, which must be the greatest of all, as in nnU-Net.
fn take_ignored(found: &mut Vec<(String, Vec<Label>)>) -> Result<Option<Label>, String> {
    let Some(at) = found.iter().position(|(name, _)| name == IGNORE) else { return Ok(None) };
    let (_, values) = found.remove(at);
    if found.iter().any(|(name, _)| name == IGNORE) {
        return Err(format!(
            "two labels are named `{IGNORE}`; only one value can mark the voxels without a label"
        ));
    }
    let [ignore] = *values else {
        return Err(format!("the label `{IGNORE}` must have one value, found {values:?}"));
    };
    let greatest = found.iter().flat_map(|(_, values)| values.iter().copied()).max().unwrap_or_default();
    if ignore <= greatest {
        return Err(format!(
            "the label `{IGNORE}` has value {ignore}, but must have the greatest of all, {} for example, as in nnU-Net",
            greatest.saturating_add(1)
        ));
    }
    Ok(Some(ignore))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> DatasetLabels {
        DatasetLabels::from_json(text).unwrap()
    }

    fn refused(text: &str) -> String {
        DatasetLabels::from_json(text).unwrap_err()
    }

    #[test]
    fn decathlon_and_nnunet_forms_are_equivalent() {
        let found = read(r#"{"labels": {"background": 0, "Posterior": 2, "Anterior": 1}, "name": "x"}"#);
        assert_eq!(found, read(r#"{"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}"#));
        assert_eq!(found, read(r#"{"labels": {"background": [0], "Posterior": [2], "Anterior": 1}}"#));
        assert_eq!((found.regions.len(), found.ignore), (0, None));
        assert_eq!(read(r#"{"labels": {"ignore": 3, "b": 2, "a": 1}}"#).ignore, Some(3));
    }

    #[test]
    fn regions_keep_the_order_of_the_file() {
        let text = r#"{"regions_class_order": [1, 2, 3],
            "labels": {"background": 0, "whole": [3, 1, 2], "core": [2, 3], "bright": 3, "ignore": 4}}"#;
        let found = read(text);
        let regions: Vec<_> =
            found.regions.iter().map(|r| (r.name.as_str(), r.values.clone(), r.writes)).collect();
        let expected = [("whole", vec![1, 2, 3], 1), ("core", vec![2, 3], 2), ("bright", vec![3], 3)];
        assert_eq!(regions, expected);
        let names: Vec<&str> = found.labels.entries().iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["whole without core", "core without bright", "bright"]);
        assert_eq!(found.ignore, Some(4));
    }

    #[test]
    fn invalid_labels_are_described() {
        insta::assert_snapshot!(refused(r#"{"labels": {"whole": [1, 2], "core": 2}}"#), @"label `whole` is a region of several values, so `regions_class_order` must say, label by label in their order, which value each writes to a mask");
        insta::assert_snapshot!(refused(r#"{"labels": {"whole": [1, 2], "core": 2}, "regions_class_order": [1]}"#), @"`regions_class_order` has 1 values, but there are 2 regions (whole, core); it needs one for each, in their order");
        insta::assert_snapshot!(refused(r#"{"labels": {"a": 1.5}}"#), @"label `a` has no whole number from 0 to 65535");
        insta::assert_snapshot!(refused(r#"{"labels": {"a": []}}"#), @"label `a` has no whole number from 0 to 65535");
        insta::assert_snapshot!(refused(r#"{"labels": {"a": 1, "ignore": [2, 3]}}"#), @"the label `ignore` must have one value, found [2, 3]");
        insta::assert_snapshot!(refused(r#"{"labels": {"a": 2, "ignore": 1}}"#), @"the label `ignore` has value 1, but must have the greatest of all, 3 for example, as in nnU-Net");
        insta::assert_snapshot!(refused(r#"{"labels": {"Anterior": 0, "background": 1}}"#), @"label `background` has [1], expected 0, the value of all voxels outside the structures (`Anterior` has it); exchange the values, or correct the name");
        insta::assert_snapshot!(refused(r#"{"labels": {"background": 0}}"#), @"its `labels` name no structure besides the background");
        insta::assert_snapshot!(refused(r#"{"labels": {"a": 1, "a": 1}}"#), @"label table: value 1 occurs twice");
    }
}
