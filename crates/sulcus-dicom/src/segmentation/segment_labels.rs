//! The label values of segments. Segments are numbered from 1 without gaps (PS3.3, C.8.20.2), label values may have gaps.
//! Our files therefore store the label value in the description of the segment, which is free text.

use std::collections::{BTreeMap, BTreeSet};

use sulcus_volume::Label;

use crate::dataset::Dataset;
use crate::tags;

const PREFIX: &str = "Label value ";

/// The description of a segment with this label value.
pub(super) fn description(label: Label) -> String {
    format!("{PREFIX}{label}")
}

/// The label values of a file's segments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentLabels {
    /// By segment number; empty if the segment numbers are the label values.
    by_segment: BTreeMap<u16, Label>,
}

impl SegmentLabels {
    /// Reads the label values from the descriptions. They are used only if every segment has one and all differ;
    /// otherwise the segment numbers are the label values.
    pub(super) fn read(set: &Dataset<'_>) -> Self {
        let segments = set.items(tags::SEGMENTS);
        let mut by_segment = BTreeMap::new();
        for segment in segments {
            let text = segment.text(tags::SEGMENT_DESCRIPTION);
            let label = text.as_deref().and_then(|text| text.strip_prefix(PREFIX)?.parse::<Label>().ok());
            let number = segment.short(tags::SEGMENT_NUMBER);
            let (Some(number), Some(label)) = (number, label.filter(|label| *label > 0)) else {
                return Self::default();
            };
            by_segment.insert(number, label);
        }
        let different: BTreeSet<Label> = by_segment.values().copied().collect();
        if different.len() == segments.len() && by_segment.len() == segments.len() {
            Self { by_segment }
        } else {
            Self::default()
        }
    }

    /// The label value of a segment; `None` when the file does not describe the segment.
    pub(super) fn of(&self, segment: u16) -> Option<Label> {
        if self.by_segment.is_empty() || segment == 0 {
            return Some(segment);
        }
        self.by_segment.get(&segment).copied()
    }
}
