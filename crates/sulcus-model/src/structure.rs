use sulcus_volume::{Label, LabelTable, Rgb};

use crate::Region;

/// A unit of measuring and scoring: a label, or a region of several labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// Its name.
    pub name: String,
    /// Values of a mask that belong to it, in ascending order.
    pub values: Vec<Label>,
    /// The value that its voxels have in a predicted mask, unless another structure also contains them.
    pub written: Label,
    /// Its colour in figures and viewers.
    pub color: Rgb,
}

impl Structure {
    /// A structure that is a single label.
    pub fn label(value: Label) -> Self {
        Self { name: format!("label {value}"), values: vec![value], written: value, color: Rgb([128; 3]) }
    }

    /// The regions, or the entries of the table if there are no regions. A region has the colour of the value that it
    /// writes.
    pub fn all(table: &LabelTable, regions: &[Region]) -> Vec<Self> {
        if regions.is_empty() {
            let of_entry = |entry: &sulcus_volume::LabelEntry| Self {
                name: entry.name.clone(),
                values: vec![entry.value],
                written: entry.value,
                color: entry.color,
            };
            return table.entries().iter().map(of_entry).collect();
        }
        let of_region = |region: &Region| Self {
            name: region.name.clone(),
            values: region.values.clone(),
            written: region.writes,
            color: table.get(region.writes).map_or(Rgb([128; 3]), |entry| entry.color),
        };
        regions.iter().map(of_region).collect()
    }

    /// The key in nnU-Net's `summary.json`: `3`, or `(1, 2, 3)` for several values.
    pub fn key(&self) -> String {
        let values: Vec<String> = self.values.iter().map(Label::to_string).collect();
        match values.as_slice() {
            [value] => value.clone(),
            _ => format!("({})", values.join(", ")),
        }
    }

    /// Whether a value belongs to it.
    pub fn holds(&self, value: Label) -> bool {
        self.values.contains(&value)
    }
}
