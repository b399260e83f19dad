use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sulcus_volume::{Label, LabelTable, VolumeError};

/// A structure that is the union of several label values and may overlap with others: nnU-Net's region (Isensee et al.
/// 2018, arXiv:1809.10483). A network with regions has one sigmoid channel for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Values of a mask that belong to it, in ascending order.
    pub values: Vec<Label>,
    /// The value that its voxels get in a predicted mask, unless a later region also contains them.
    pub writes: Label,
}

impl Region {
    /// The loss stores the regions of a voxel as the bits of a 32-bit number.
    pub const MOST: usize = 31;

    /// Whether a value belongs to it.
    pub fn holds(&self, value: Label) -> bool {
        self.values.contains(&value)
    }

    /// Checks regions together. The regions that contain a value must be the same as the regions that contain the value
    /// written in its place; otherwise even a perfect network would give a wrong mask.
    ///
    /// # Errors
    /// A sentence that describes the first problem.
    pub fn check_all(regions: &[Self]) -> Result<(), String> {
        if regions.len() > Self::MOST {
            return Err(format!("there are {} regions, at most {} are possible", regions.len(), Self::MOST));
        }
        for (index, region) in regions.iter().enumerate() {
            let Self { name, values, writes } = region;
            if values.is_empty() {
                return Err(format!("region `{name}` has no value"));
            }
            if values.contains(&0) || *writes == 0 {
                return Err(format!("region `{name}` has value 0, which is the background"));
            }
            if values.windows(2).any(|pair| pair[0] >= pair[1]) {
                return Err(format!(
                    "the values of region `{name}` must be distinct and in ascending order, found {values:?}"
                ));
            }
            if regions.iter().take(index).any(|other| other.name == *name) {
                return Err(format!("two regions are named `{name}`"));
            }
            if let Some(other) = regions.iter().take(index).find(|other| other.values == *values) {
                return Err(format!("regions `{}` and `{name}` have the same values {values:?}", other.name));
            }
        }
        for value in all_values(regions) {
            let written = regions.iter().rfind(|region| region.holds(value)).map_or(0, |region| region.writes);
            let holding = |value: Label| regions.iter().filter(move |region| region.holds(value));
            if !holding(value).eq(holding(written)) {
                let names = |value| {
                    let names: Vec<String> = holding(value).map(|region| format!("`{}`", region.name)).collect();
                    if names.is_empty() { "none".to_owned() } else { names.join(" and ") }
                };
                return Err(format!(
                    "a voxel of value {value} belongs to region {}, but the last of these writes {written}, which belongs to \
                     {}; list each region before the regions inside it, and let it write a value that these do not \
                     have",
                    names(value),
                    names(written)
                ));
            }
        }
        Ok(())
    }

    /// The values that masks may have. The name of each value is the smallest region that contains it, and the part of
    /// that region.
    ///
    /// # Errors
    /// If a region contains value 0.
    pub fn label_table(regions: &[Self]) -> Result<LabelTable, VolumeError> {
        let mut names: Vec<(Label, String)> = Vec::new();
        for value in all_values(regions) {
            let mut name = part_name(regions, value);
            if names.iter().any(|(_, other)| *other == name) {
                name = format!("{name} ({value})");
            }
            names.push((value, name));
        }
        LabelTable::from_names(names)
    }
}

fn all_values(regions: &[Region]) -> BTreeSet<Label> {
    regions.iter().flat_map(|region| region.values.iter().copied()).collect()
}

/// `tumour core`, or `whole tumour without tumour core` for the part of the first region that is not in the second.
fn part_name(regions: &[Region], value: Label) -> String {
    let Some(smallest) = regions.iter().filter(|r| r.holds(value)).min_by_key(|r| r.values.len()) else {
        return format!("label {value}");
    };
    let others: Vec<&Region> = regions
        .iter()
        .filter(|r| !r.holds(value) && r.values.iter().any(|other| smallest.holds(*other)))
        .collect();
    let inside_another = |r: &Region| {
        let wider = |other: &&Region| {
            other.values.len() > r.values.len() && r.values.iter().all(|value| other.holds(*value))
        };
        others.iter().any(wider)
    };
    let widest: Vec<&str> = others.iter().filter(|r| !inside_another(r)).map(|r| r.name.as_str()).collect();
    if widest.is_empty() {
        return smallest.name.clone();
    }
    format!("{} without {}", smallest.name, widest.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str, values: &[Label], writes: Label) -> Region {
        Region { name: name.to_owned(), values: values.to_vec(), writes }
    }

    fn names(regions: &[Region]) -> Vec<String> {
        let table = Region::label_table(regions).unwrap();
        table.entries().iter().map(|e| format!("{} {}", e.value, e.name)).collect()
    }

    #[test]
    fn nested_regions_name_their_parts() {
        let tumour = [region("whole", &[1, 2, 3], 1), region("core", &[2, 3], 2), region("enhancing", &[3], 3)];
        Region::check_all(&tumour).unwrap();
        assert_eq!(names(&tumour), ["1 whole without core", "2 core without enhancing", "3 enhancing"]);
        let both = [region("whole", &[1, 2], 1), region("front", &[1], 1), region("back", &[2], 2)];
        Region::check_all(&both).unwrap();
        assert_eq!(names(&both), ["1 front", "2 back"]);
        let rest = [region("whole", &[1, 2, 3], 1), region("core", &[2], 2)];
        Region::check_all(&rest).unwrap();
        assert_eq!(names(&rest), ["1 whole without core", "2 core", "3 whole without core (3)"]);
    }

    #[test]
    fn regions_that_would_give_wrong_masks_are_refused() {
        let message = |regions: &[Region]| Region::check_all(regions).unwrap_err();
        insta::assert_snapshot!(message(&[region("back", &[2], 2), region("whole", &[1, 2], 1)]), @"a voxel of value 2 belongs to region `back` and `whole`, but the last of these writes 1, which belongs to `whole`; list each region before the regions inside it, and let it write a value that these do not have");
        insta::assert_snapshot!(message(&[region("whole", &[1, 2], 3)]), @"a voxel of value 1 belongs to region `whole`, but the last of these writes 3, which belongs to none; list each region before the regions inside it, and let it write a value that these do not have");
        insta::assert_snapshot!(message(&[region("a", &[1, 1], 1)]), @"the values of region `a` must be distinct and in ascending order, found [1, 1]");
        insta::assert_snapshot!(message(&[region("a", &[], 1)]), @"region `a` has no value");
        insta::assert_snapshot!(message(&[region("a", &[0, 1], 1)]), @"region `a` has value 0, which is the background");
        insta::assert_snapshot!(message(&[region("a", &[1], 1), region("a", &[2], 2)]), @"two regions are named `a`");
        insta::assert_snapshot!(message(&[region("a", &[1], 1), region("b", &[1], 1)]), @"regions `a` and `b` have the same values [1]");
        let many: Vec<Region> = (1..=32).map(|v| region(&v.to_string(), &[v], v)).collect();
        insta::assert_snapshot!(message(&many), @"there are 32 regions, at most 31 are possible");
    }
}
