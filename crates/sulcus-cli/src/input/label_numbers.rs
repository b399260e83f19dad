//! Renumbers a mask by the names of its labels.
//!
//! Programs number structures in different orders: 3D Slicer and DICOM segmentations in the order in which they were
//! made. If both sides have names, the names decide.

use std::collections::BTreeMap;

use sulcus_volume::{Label, LabelMap, LabelTable};

/// The mask with the numbers of `reference`: each label of `own` gets the number that its name has there.
///
/// # Errors
/// A sentence about names and numbers that contradict each other.
pub(crate) fn renumber(
    mask: LabelMap,
    own: Option<&LabelTable>,
    reference: &LabelTable,
) -> Result<LabelMap, String> {
    let Some(own) = own else { return Ok(mask) };
    let mut numbers: BTreeMap<Label, Label> = BTreeMap::new();
    for value in mask.counts().into_keys().filter(|value| *value != 0) {
        let name = own.get(value).map(|entry| entry.name.as_str()).filter(|name| !is_generic(name));
        let same =
            |name: &str| reference.entries().iter().find(|entry| comparable(&entry.name) == comparable(name));
        let number = match (name, name.and_then(same), reference.get(value)) {
            (_, Some(entry), _) => entry.value,
            (Some(name), None, Some(other)) if !is_generic(&other.name) => {
                return Err(format!(
                    "label {value} is named `{name}`, but `{}` is expected for this number, and `{name}` is not an expected name",
                    other.name
                ));
            }
            _ => value,
        };
        numbers.insert(value, number);
    }
    let mut by_number: BTreeMap<Label, Label> = BTreeMap::new();
    for (from, to) in &numbers {
        if let Some(other) = by_number.insert(*to, *from) {
            return Err(format!("the names of the labels {other} and {from} both stand for label {to}"));
        }
    }
    if numbers.iter().all(|(from, to)| from == to) {
        return Ok(mask);
    }
    Ok(mask.map(|value| numbers.get(value).copied().unwrap_or(*value)))
}

/// Programs differ in upper case and in how they write spaces.
fn comparable(name: &str) -> String {
    name.trim().to_lowercase().replace('_', " ")
}

/// Whether the name is only a number, such as 3D Slicer's `Segment_1`, and says nothing about the structure.
fn is_generic(name: &str) -> bool {
    const WORDS: [&str; 8] = ["", "segment", "label", "region", "class", "structure", "seg", "roi"];
    let name = comparable(name);
    let word = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches([' ', '-', '#']);
    WORDS.contains(&word)
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    fn renumbered(own: &[(Label, &str)], reference: &[(Label, &str)]) -> Result<Vec<Label>, String> {
        let table = |names: &[(Label, &str)]| {
            LabelTable::from_names(names.iter().map(|(value, name)| (*value, (*name).to_owned()))).unwrap()
        };
        let map = RasFromVoxel::aligned("RAS".parse().unwrap(), Spacing::new([1.0; 3]).unwrap());
        let grid = Geometry::new([4, 1, 1], map, OrientationSource::Sform).unwrap();
        let mask = LabelMap::new(grid, vec![0, 1, 2, 1]).unwrap();
        renumber(mask, Some(&table(own)), &table(reference)).map(|mask| mask.data().to_vec())
    }

    const REFERENCE: [(Label, &str); 2] = [(1, "Anterior"), (2, "Posterior")];

    #[test]
    fn names_decide_over_numbers() {
        assert_eq!(renumbered(&[(1, "posterior"), (2, "Anterior")], &REFERENCE), Ok(vec![0, 2, 1, 2]));
        assert_eq!(renumbered(&REFERENCE, &REFERENCE), Ok(vec![0, 1, 2, 1]));
        assert_eq!(
            renumbered(&[(1, "tail_end"), (2, "head")], &[(5, "Tail end"), (7, "Head")]),
            Ok(vec![0, 5, 7, 5])
        );
    }

    #[test]
    fn names_without_meaning_leave_the_numbers() {
        assert_eq!(renumbered(&[(1, "Segment_1"), (2, "label 2")], &REFERENCE), Ok(vec![0, 1, 2, 1]));
        assert_eq!(renumbered(&[(1, "Tail"), (2, "Head")], &[(1, "Label 1"), (2, "2")]), Ok(vec![0, 1, 2, 1]));
    }

    #[test]
    fn contradictions_are_refused() {
        let error = renumbered(&[(1, "Tumour"), (2, "Posterior")], &REFERENCE).unwrap_err();
        assert!(error.contains("label 1 is named `Tumour`, but `Anterior` is expected"), "{error}");
        let error = renumbered(&[(1, "Posterior"), (2, "Segment_2")], &REFERENCE).unwrap_err();
        assert!(error.contains("both stand for label 2"), "{error}");
    }
}
