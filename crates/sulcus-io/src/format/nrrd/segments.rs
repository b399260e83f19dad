//! The segments of 3D Slicer: `Segment0_Name:=…` and similar lines in the header of a `.seg.nrrd`.

use std::collections::{BTreeMap, BTreeSet};

use sulcus_volume::{Label, LabelEntry, LabelTable, Rgb};

use crate::error::IoErrorKind;
use crate::format::text_header;
use crate::text::excerpt;

/// The segments in a header, by number. They are checked when the voxels are read.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Segments(BTreeMap<u16, Segment>);

#[derive(Debug, Default, Clone, PartialEq)]
struct Segment {
    name: Option<String>,
    color: Option<Rgb>,
    value: Option<String>,
    layer: Option<String>,
}

/// The names, and the label of each value in each layer. If two layers use a value for different structures, the structures
/// are renumbered.
#[derive(Debug, PartialEq)]
pub(super) struct LabelMapping {
    pub(super) table: LabelTable,
    /// The number of layers in the file; some may have no segments.
    layers: usize,
    /// The label for each layer and value.
    labels: BTreeMap<(usize, Label), Label>,
}

impl Segments {
    /// Adds a key such as `Segment7_Color`; other keys are ignored.
    pub(super) fn add(&mut self, key: &str, value: &str) {
        let Some((number, field)) = key.strip_prefix("Segment").and_then(|k| k.split_once('_')) else { return };
        if !matches!(field, "Name" | "Color" | "LabelValue" | "Layer") {
            return;
        }
        let Ok(number) = number.parse() else { return };
        let segment = self.0.entry(number).or_default();
        match field {
            "Name" => segment.name = Some(unescaped(value)),
            "Color" => segment.color = text_header::exactly(value).map(color),
            "LabelValue" => segment.value = Some(value.trim().chars().take(20).collect()),
            _ => segment.layer = Some(value.trim().chars().take(20).collect()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The table of names, and the labels of the values in this number of layers.
    pub(super) fn label_mapping(&self, layers: usize) -> Result<LabelMapping, IoErrorKind> {
        // Before 3D Slicer 4.11 each segment had its own layer, in which its value was 1.
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
                    excerpt(text)
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
        Ok(LabelMapping { table: table(&entries)?, layers, labels })
    }
}

impl LabelMapping {
    /// Merges all layers, each with `voxels` values in `stored`, into one label map. A single layer is returned unchanged,
    /// including values without a segment.
    pub(super) fn merge(&self, stored: Vec<Label>, voxels: usize) -> Result<Vec<Label>, IoErrorKind> {
        if self.layers == 1 {
            return Ok(stored);
        }
        let mut labels = stored;
        for layer in 0..self.layers {
            let (first, rest) = labels.split_at_mut(voxels);
            // The first layer is merged in place.
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

    fn overlap(&self, one: Label, other: Label) -> IoErrorKind {
        let name = |label| self.table.get(label).map_or_else(|| label.to_string(), |e| excerpt(&e.name));
        IoErrorKind::Segments {
            reason: format!(
                "segments {} and {} overlap, but a mask has one label per voxel",
                name(one),
                name(other)
            ),
            hint: "in 3D Slicer, export the segments to a labelmap, or to one file each",
        }
    }
}

fn damaged(reason: String) -> IoErrorKind {
    IoErrorKind::Segments { reason, hint: "save the segmentation again in 3D Slicer" }
}

/// A table with unique names: the label value is appended to a name that occurs again.
fn table(entries: &[(Label, &Segment)]) -> Result<LabelTable, IoErrorKind> {
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

/// Converts components from 0 to 1, as 3D Slicer writes them.
fn color(components: [f64; 3]) -> Rgb {
    Rgb(components.map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8))
}

/// Replaces the two escape sequences of the format.
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

/// The header lines that describe the labels of a mask. `extents` are the first and the last voxel of each label along each
/// axis.
pub(super) fn lines(table: &LabelTable, extents: &BTreeMap<Label, [[usize; 2]; 3]>) -> String {
    const EMPTY: [[i64; 2]; 3] = [[0, -1]; 3];
    let mut out = String::new();
    for (i, entry) in table.entries().iter().enumerate() {
        let name = entry.name.replace('\\', "\\\\").replace(['\n', '\r'], " ");
        let color = entry.color.0.map(|c| text_header::exact(f64::from(c) / 255.0)).join(" ");
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
    fn names_colours_and_values_are_read() {
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
        let mapping = found.label_mapping(1).unwrap();
        let entries = mapping.table.entries();
        assert_eq!((entries[0].value, entries[0].name.as_str()), (3, "Rest"));
        assert_eq!((entries[1].value, entries[1].name.as_str()), (7, "Left\\right"));
        assert_eq!(entries[1].color, Rgb([255, 128, 0]));
        assert_eq!(mapping.merge(vec![0, 3, 7, 9], 4).unwrap(), [0, 3, 7, 9]);
    }

    #[test]
    fn disjoint_layers_are_merged() {
        let found = segments(&[
            ("Segment0_LabelValue", "1"),
            ("Segment0_Layer", "0"),
            ("Segment1_LabelValue", "1"),
            ("Segment1_Layer", "1"),
            ("Segment2_LabelValue", "2"),
            ("Segment2_Layer", "1"),
        ]);
        let mapping = found.label_mapping(2).unwrap();
        // Value 1 has two meanings, so the segments are numbered by their order.
        assert_eq!(mapping.merge(vec![1, 0, 0, 0, 0, 1, 2, 0], 4).unwrap(), [1, 2, 3, 0]);
        let overlap = mapping.merge(vec![1, 0, 0, 0, 1, 0, 0, 0], 4).unwrap_err().to_string();
        assert!(overlap.contains("segments `label 1` and `label 2` overlap"), "{overlap}");
        let unknown = mapping.merge(vec![5, 0, 0, 0, 0, 0, 0, 0], 4).unwrap_err().to_string();
        assert!(unknown.contains("value 5 occurs in layer 0, but no segment has it"), "{unknown}");
    }

    #[test]
    fn distinct_values_are_not_renumbered() {
        let found = segments(&[
            ("Segment0_LabelValue", "4"),
            ("Segment0_Layer", "0"),
            ("Segment1_LabelValue", "2"),
            ("Segment1_Layer", "1"),
        ]);
        assert_eq!(found.label_mapping(2).unwrap().merge(vec![4, 0, 0, 2], 2).unwrap(), [4, 2]);
    }

    #[test]
    fn each_segment_of_an_old_file_has_its_own_layer() {
        let found = segments(&[("Segment0_Name", "a"), ("Segment1_Name", "a")]);
        let mapping = found.label_mapping(2).unwrap();
        assert_eq!(mapping.merge(vec![1, 0, 0, 1], 2).unwrap(), [1, 2]);
        let names: Vec<&str> = mapping.table.entries().iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["a", "a (2)"]);
    }

    /// Regression test: memory was once allocated for each layer that the header announced.
    #[test]
    fn announced_layers_cost_no_memory() {
        let found = segments(&[("Segment0_Name", "a"), ("Segment0_LabelValue", "4"), ("Segment0_Layer", "7")]);
        let mapping = found.label_mapping(usize::MAX).unwrap();
        assert_eq!((mapping.table.entries().len(), mapping.labels.len()), (1, 1));
    }

    #[test]
    fn invalid_segments_are_named() {
        let message =
            |lines: &[(&str, &str)], layers| segments(lines).label_mapping(layers).unwrap_err().to_string();
        assert!(message(&[("Segment0_LabelValue", "0")], 1).contains("expected a label value from 1 to 65535"));
        assert!(message(&[("Segment0_LabelValue", "70000")], 1).contains("found `70000`"));
        assert!(message(&[("Segment0_Layer", "3")], 2).contains("is in layer 3, but the file has 2"));
        let twice = [("Segment0_Name", "a"), ("Segment1_Name", "b")];
        assert!(message(&twice, 1).contains("two segments have label value 1 in layer 0"));
    }
}
