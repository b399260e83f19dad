//! Labels of two masks that have the same name but not the same number.
//!
//! Programs number structures in different orders: 3D Slicer and DICOM segmentations in the order in which they were made. Where
//! both sides have names, the names decide.

use crate::{Label, LabelEntry, LabelMap, LabelTable, VolumeError};

impl LabelTable {
    /// The entry with this name. Programs differ in upper case and in how they write spaces: without an entry of exactly this
    /// name, one that differs only in these is taken.
    pub fn named(&self, name: &str) -> Option<&LabelEntry> {
        let exactly = || self.entries().iter().find(|entry| entry.name == name);
        exactly().or_else(|| self.entries().iter().find(|entry| comparable(&entry.name) == comparable(name)))
    }

    /// This table with those entries of `other` whose number and whose name it lacks.
    #[must_use]
    pub fn completed_by(&self, other: &Self) -> Self {
        let lacks = |entry: &&LabelEntry| self.get(entry.value).is_none() && self.named(&entry.name).is_none();
        let entries = self.entries().iter().chain(other.entries().iter().filter(lacks)).cloned().collect();
        Self::new(entries).unwrap_or_else(|_| self.clone())
    }

    /// The number in this table for each of `values`, which a mask names by `own`. A value keeps its number if its name is
    /// unknown here, or says nothing about the structure, such as 3D Slicer's `Segment_1`. The result has pairs of a value and
    /// its number, in the order of `values` and without the background.
    ///
    /// # Errors
    /// [`VolumeError::LabelName`] when this table has another name for a number whose own name it does not have, and
    /// [`VolumeError::LabelNumber`] when two values would get the same number.
    pub fn numbers_by_name(
        &self,
        own: &LabelTable,
        values: impl IntoIterator<Item = Label>,
    ) -> Result<Vec<(Label, Label)>, VolumeError> {
        let mut numbers = Vec::new();
        let mut taken = vec![None; usize::from(Label::MAX) + 1];
        for value in values.into_iter().filter(|value| *value != 0) {
            let name = own.get(value).map(|entry| entry.name.as_str()).filter(|name| !is_generic(name));
            let number = match (name, name.and_then(|name| self.named(name)), self.get(value)) {
                (_, Some(entry), _) => entry.value,
                (Some(name), None, Some(expected)) if !is_generic(&expected.name) => {
                    return Err(VolumeError::LabelName {
                        value,
                        name: name.to_owned(),
                        expected: expected.name.clone(),
                    });
                }
                _ => value,
            };
            if let Some(other) = taken[usize::from(number)].replace(value).filter(|other| *other != value) {
                return Err(VolumeError::LabelNumber { values: [other, value], number });
            }
            numbers.push((value, number));
        }
        Ok(numbers)
    }
}

impl LabelMap {
    /// The mask with the numbers that `reference` has for the names that the mask gives its labels in `own`. Without `own` the
    /// mask is returned unchanged.
    ///
    /// # Errors
    /// As [`LabelTable::numbers_by_name`].
    pub fn renumbered(self, own: Option<&LabelTable>, reference: &LabelTable) -> Result<Self, VolumeError> {
        let Some(own) = own else { return Ok(self) };
        let numbers = reference.numbers_by_name(own, self.counts().into_keys())?;
        Ok(self.with_numbers(&numbers).unwrap_or(self))
    }

    /// The mask with other numbers for its labels, such as those of [`LabelTable::numbers_by_name`]. A value that `numbers` lacks
    /// keeps its number. `None` if no number changes.
    pub fn with_numbers(&self, numbers: &[(Label, Label)]) -> Option<Self> {
        if numbers.iter().all(|(from, to)| from == to) {
            return None;
        }
        let mut number_of: Vec<Label> = (0..=Label::MAX).collect();
        for (from, to) in numbers {
            number_of[usize::from(*from)] = *to;
        }
        Some(self.map(|value| number_of[usize::from(*value)]))
    }
}

fn comparable(name: &str) -> String {
    lowercase(name.trim()).replace('_', " ")
}

#[cfg(not(all(target_arch = "wasm32", feature = "browser")))]
fn lowercase(text: &str) -> String {
    text.to_lowercase()
}

/// The browser has Unicode's tables too.
#[cfg(all(target_arch = "wasm32", feature = "browser"))]
#[wasm_bindgen::prelude::wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = ["String", "prototype", "toLowerCase"], js_name = call)]
    fn lowercase(text: &str) -> String;
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
    use crate::{Geometry, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    fn table(names: &[(Label, &str)]) -> LabelTable {
        LabelTable::from_names(names.iter().map(|(value, name)| (*value, (*name).to_owned()))).unwrap()
    }

    fn renumbered(own: &[(Label, &str)], reference: &[(Label, &str)]) -> Result<Vec<Label>, String> {
        let map = RasFromVoxel::aligned("RAS".parse().unwrap(), Spacing::new([1.0; 3]).unwrap());
        let grid = Geometry::new([4, 1, 1], map, OrientationSource::Sform).unwrap();
        let mask = LabelMap::new(grid, vec![0, 1, 2, 1]).unwrap();
        let renumbered = mask.renumbered(Some(&table(own)), &table(reference));
        renumbered.map(|mask| mask.data().to_vec()).map_err(|error| error.to_string())
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
    fn exact_name_takes_precedence_over_a_similar_one() {
        assert_eq!(table(&[(1, "a_B"), (2, "a b")]).named("a b").unwrap().value, 2);
    }

    #[test]
    fn completed_table_has_neither_a_number_nor_a_name_twice() {
        let other = table(&[(1, "Posterior"), (2, "Cyst"), (3, "anterior"), (4, "Tail")]);
        let completed = table(&REFERENCE).completed_by(&other);
        let entries: Vec<_> = completed.entries().iter().map(|e| (e.value, e.name.as_str())).collect();
        assert_eq!(entries, [(1, "Anterior"), (2, "Posterior"), (4, "Tail")]);
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
