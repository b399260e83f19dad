//! 3D Slicer's segments: `Segment0_Name:=…` and so on in the header of a `.seg.nrrd`.

use std::collections::{BTreeMap, BTreeSet};

use sulcus_volume::{Label, LabelEntry, LabelTable, Rgb};

use crate::error::Problem;
use crate::text;

/// What the header says of its segments, by number. Nothing is checked before the voxels are there.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Segments(BTreeMap<u16, Segment>);

#[derive(Debug, Default, Clone, PartialEq)]
struct Segment {
    name: Option<String>,
    color: Option<Rgb>,
    value: Option<String>,
    layer: Option<String>,
}

/// The names, and what becomes of the values of each layer: where two layers use a value for different structures, the
/// structures are numbered anew.
#[derive(Debug, PartialEq)]
pub(super) struct Meaning {
    pub(super) table: LabelTable,
    /// How many layers the file has, which may be more than have segments.
    layers: usize,
    /// Of each layer and value the label that it becomes.
    labels: BTreeMap<(usize, Label), Label>,
}

impl Segments {
    /// Takes `Segment7_Color` and the like; any other key is none of ours.
    pub(super) fn add(&mut self, key: &str, value: &str) {
        let Some((number, field)) = key.strip_prefix("Segment").and_then(|k| k.split_once('_')) else { return };
        if !matches!(field, "Name" | "Color" | "LabelValue" | "Layer") {
            return;
        }
        let Ok(number) = number.parse() else { return };
        let segment = self.0.entry(number).or_default();
        match field {
            "Name" => segment.name = Some(unescaped(value)),
            "Color" => segment.color = text::exactly(value).map(color),
            "LabelValue" => segment.value = Some(value.trim().chars().take(20).collect()),
            _ => segment.layer = Some(value.trim().chars().take(20).collect()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The table of names, and what the values of so many layers mean.
    pub(super) fn meaning(&self, layers: usize) -> Result<Meaning, Problem> {
        // Before 3D Slicer 4.11 each segment had a layer of its own, and in it the value 1.
        let old = layers > 1 && self.0.values().all(|s| s.value.is_none() && s.layer.is_none());
        let mut found: Vec<(usize, Label, &Segment)> = Vec::new();
        let mut used = BTreeSet::new();
        for (order, (number, segment)) in self.0.iter().enumerate() {
            let layer = match &segment.layer {
                _ if old => order,
                None => 0,
                Some(text) => text.parse().unwrap_or(usize::MAX),
            };
            let value = segment.value.as_deref().map_or(Ok(1), str::parse::<Label>);
            let value = value.ok().filter(|v| *v > 0).ok_or_else(|| {
                let text = segment.value.as_deref().unwrap_or_default();
                damaged(format!(
                    "expected a label value from 1 to {} of segment {number}, found {}",
                    Label::MAX,
                    text::excerpt(text)
                ))
            })?;
            if layer >= layers {
                return Err(damaged(format!("segment {number} is in layer {layer}, but the file has {layers}")));
            }
            if !used.insert((layer, value)) {
                return Err(damaged(format!("two segments have label value {value} in layer {layer}")));
            }
            found.push((layer, value, segment));
        }
        let distinct = found.iter().map(|(_, value, _)| *value).collect::<BTreeSet<_>>().len() == found.len();
        let mut entries = Vec::new();
        let mut labels = BTreeMap::new();
        for (order, (layer, value, segment)) in (1..=Label::MAX).zip(&found) {
            let label = if distinct { *value } else { order };
            entries.push((label, *segment));
            labels.insert((*layer, *value), label);
        }
        Ok(Meaning { table: table(&entries)?, layers, labels })
    }
}

impl Meaning {
    /// One label map of all layers, each of which has `voxels` values in `stored`.
    ///
    /// A layer's value without a segment stays what it is where there is one layer.
    pub(super) fn merge(&self, stored: Vec<Label>, voxels: usize) -> Result<Vec<Label>, Problem> {
        if self.layers == 1 {
            return Ok(stored);
        }
        let mut labels = stored;
        for layer in 0..self.layers {
            let (first, rest) = labels.split_at_mut(voxels);
            // The first layer is merged into itself.
            let own = layer.checked_sub(1).map(|at| rest.get(at * voxels..(at + 1) * voxels).unwrap_or_default());
            for at in 0..voxels {
                let Some(value) = own.map_or(first.get(at), |own| own.get(at)).copied().filter(|v| *v != 0) else {
                    continue;
                };
                let label = self.labels.get(&(layer, value)).copied().ok_or_else(|| {
                    damaged(format!("value {value} occurs in layer {layer}, but no segment has it"))
                })?;
                let Some(slot) = first.get_mut(at) else { continue };
                if own.is_some() && *slot != 0 {
                    return Err(self.overlap(*slot, label));
                }
                *slot = label;
            }
        }
        labels.truncate(voxels);
        labels.shrink_to_fit();
        Ok(labels)
    }

    fn overlap(&self, one: Label, other: Label) -> Problem {
        let name = |label| self.table.get(label).map_or_else(|| label.to_string(), |e| text::excerpt(&e.name));
        Problem::Segments {
            reason: format!(
                "segments {} and {} overlap, and a mask has one label a voxel",
                name(one),
                name(other)
            ),
            hint: "in 3D Slicer, export the segments to a labelmap, or to one file each",
        }
    }
}

fn damaged(reason: String) -> Problem {
    Problem::Segments { reason, hint: "save the segmentation again in 3D Slicer" }
}

/// A table whose names are unique: a name that occurs again gets its value behind it.
fn table(entries: &[(Label, &Segment)]) -> Result<LabelTable, Problem> {
    let mut used = BTreeSet::new();
    let plain = LabelTable::from_names(entries.iter().map(|(value, _)| (*value, value.to_string())))
        .map_err(|e| damaged(e.to_string()))?;
    let named = entries.iter().map(|(value, segment)| {
        let mut name = segment.name.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| format!("label {value}"));
        while !used.insert(name.clone()) {
            name = format!("{name} ({value})");
        }
        let palette = plain.get(*value).map_or(Rgb([128; 3]), |entry| entry.color);
        LabelEntry { value: *value, name, color: segment.color.unwrap_or(palette) }
    });
    LabelTable::new(named.collect()).map_err(|e| damaged(e.to_string()))
}

/// Shares of 1, as 3D Slicer writes them.
fn color(shares: [f64; 3]) -> Rgb {
    Rgb(shares.map(|share| (share.clamp(0.0, 1.0) * 255.0).round() as u8))
}

/// The two escapes that the format has.
fn unescaped(value: &str) -> String {
    let mut out = String::new();
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match (letter, letters.clone().next()) {
            ('\\', Some('n')) => {
                out.push(' ');
                letters.next();
            }
            ('\\', Some('\\')) => {
                out.push('\\');
                letters.next();
            }
            _ => out.push(letter),
        }
    }
    out.trim().to_owned()
}

/// The lines that say of a mask what its labels are; `extents` are the first and last voxel with a label, axis by axis.
pub(super) fn lines(table: &LabelTable, extents: &BTreeMap<Label, [[usize; 2]; 3]>) -> String {
    const EMPTY: [[i64; 2]; 3] = [[0, -1]; 3];
    let mut out = String::new();
    for (i, entry) in table.entries().iter().enumerate() {
        let name = entry.name.replace('\\', "\\\\").replace(['\n', '\r'], " ");
        let color = entry.color.0.map(|c| text::exact(f64::from(c) / 255.0)).join(" ");
        let extent = extents.get(&entry.value).map_or(EMPTY, |extent| extent.map(|ends| ends.map(|v| v as i64)));
        let extent = extent.as_flattened().iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
        let value = entry.value;
        for (field, text) in [
            ("ID", format!("Segment_{value}")),
            ("Name", name),
            ("NameAutoGenerated", "0".into()),
            ("Color", color),
            ("ColorAutoGenerated", "0".into()),
            ("LabelValue", value.to_string()),
            ("Layer", "0".into()),
            ("Extent", extent),
        ] {
            out.push_str(&format!("Segment{i}_{field}:={text}\n"));
        }
    }
    out.push_str("Segmentation_ContainedRepresentationNames:=Binary labelmap|\n");
    out.push_str("Segmentation_MasterRepresentation:=Binary labelmap\n");
    out.push_str("Segmentation_ReferenceImageExtentOffset:=0 0 0\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(lines: &[(&str, &str)]) -> Segments {
        let mut out = Segments::default();
        lines.iter().for_each(|(key, value)| out.add(key, value));
        out
    }

    #[test]
    fn names_colours_and_values_are_kept() {
        let found = segments(&[
            ("Segment0_Name", "Left\\\\right"),
            ("Segment0_Color", "1 0.5019607843137255 0"),
            ("Segment0_LabelValue", "7"),
            ("Segment0_Layer", "0"),
            ("Segment1_Name", "Rest"),
            ("Segment1_LabelValue", "3"),
            ("Segment1_Extent", "0 1 2"),
            ("Segmentation_MasterRepresentation", "Binary labelmap"),
        ]);
        let meaning = found.meaning(1).unwrap();
        let entries = meaning.table.entries();
        assert_eq!((entries[0].value, entries[0].name.as_str()), (3, "Rest"));
        assert_eq!((entries[1].value, entries[1].name.as_str()), (7, "Left\\right"));
        assert_eq!(entries[1].color, Rgb([255, 128, 0]));
        assert_eq!(meaning.merge(vec![0, 3, 7, 9], 4).unwrap(), [0, 3, 7, 9]);
    }

    #[test]
    fn layers_that_do_not_overlap_become_one() {
        let found = segments(&[
            ("Segment0_LabelValue", "1"),
            ("Segment0_Layer", "0"),
            ("Segment1_LabelValue", "1"),
            ("Segment1_Layer", "1"),
            ("Segment2_LabelValue", "2"),
            ("Segment2_Layer", "1"),
        ]);
        let meaning = found.meaning(2).unwrap();
        // Value 1 means two things, so all are numbered by their order.
        assert_eq!(meaning.merge(vec![1, 0, 0, 0, 0, 1, 2, 0], 4).unwrap(), [1, 2, 3, 0]);
        let overlap = meaning.merge(vec![1, 0, 0, 0, 1, 0, 0, 0], 4).unwrap_err().to_string();
        assert!(overlap.contains("segments `label 1` and `label 2` overlap"), "{overlap}");
        let unknown = meaning.merge(vec![5, 0, 0, 0, 0, 0, 0, 0], 4).unwrap_err().to_string();
        assert!(unknown.contains("value 5 occurs in layer 0, but no segment has it"), "{unknown}");
    }

    #[test]
    fn values_that_differ_between_layers_stay() {
        let found = segments(&[
            ("Segment0_LabelValue", "4"),
            ("Segment0_Layer", "0"),
            ("Segment1_LabelValue", "2"),
            ("Segment1_Layer", "1"),
        ]);
        assert_eq!(found.meaning(2).unwrap().merge(vec![4, 0, 0, 2], 2).unwrap(), [4, 2]);
    }

    #[test]
    fn segments_of_old_files_have_a_layer_each() {
        let found = segments(&[("Segment0_Name", "a"), ("Segment1_Name", "a")]);
        let meaning = found.meaning(2).unwrap();
        assert_eq!(meaning.merge(vec![1, 0, 0, 1], 2).unwrap(), [1, 2]);
        let names: Vec<&str> = meaning.table.entries().iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["a", "a (2)"]);
    }

    /// Room was once made for each layer that the header announced, before any of them was there.
    #[test]
    fn layers_that_are_announced_cost_nothing() {
        let found = segments(&[("Segment0_Name", "a"), ("Segment0_LabelValue", "4"), ("Segment0_Layer", "7")]);
        let meaning = found.meaning(usize::MAX).unwrap();
        assert_eq!((meaning.table.entries().len(), meaning.labels.len()), (1, 1));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let says = |lines: &[(&str, &str)], layers| segments(lines).meaning(layers).unwrap_err().to_string();
        assert!(says(&[("Segment0_LabelValue", "0")], 1).contains("expected a label value from 1 to 65535"));
        assert!(says(&[("Segment0_LabelValue", "70000")], 1).contains("found `70000`"));
        assert!(says(&[("Segment0_Layer", "3")], 2).contains("is in layer 3, but the file has 2"));
        let twice = [("Segment0_Name", "a"), ("Segment1_Name", "b")];
        assert!(says(&twice, 1).contains("two segments have label value 1 in layer 0"));
    }
}
