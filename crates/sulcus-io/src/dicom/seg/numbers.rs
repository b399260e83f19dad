//! Segments are numbered from 1 without gaps (PS3.3, C.8.20.2), labels are not. The label of a segment stands in its
//! description, which is free text that other programs show or leave alone.

use std::collections::{BTreeMap, BTreeSet};

use sulcus_volume::Label;

use crate::dicom::dataset::Dataset;
use crate::dicom::tags;

const PREFIX: &str = "Label value ";

/// What a segment's description says of its label.
pub(super) fn description(label: Label) -> String {
    format!("{PREFIX}{label}")
}

/// The labels of a file's segments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    /// By segment number; empty where the numbers are the labels.
    by_segment: BTreeMap<u16, Label>,
}

impl Labels {
    /// Reads them. They count only if each segment has one and no two the same; otherwise they are another program's
    /// words, and the numbers are the labels.
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

    /// The label of a segment; `None` where the file has no such segment.
    pub(super) fn of(&self, segment: u16) -> Option<Label> {
        if self.by_segment.is_empty() || segment == 0 {
            return Some(segment);
        }
        self.by_segment.get(&segment).copied()
    }
}
