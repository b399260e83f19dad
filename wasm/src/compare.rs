//! Where a mask and a reference agree and where they differ.

use sulcus_volume::{Label, SliceView};

use crate::render::Palette;

/// What mask and reference say about a voxel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Both have the same label.
    Agreement,
    /// Only the mask has a label.
    MaskOnly,
    /// Only the reference has a label.
    TruthOnly,
    /// They have different labels.
    OtherLabel,
}

impl Difference {
    /// The colours, of a palette that is safe for colour-blind readers (Okabe & Ito 2008).
    pub const COLORS: [(Self, [u8; 3]); 4] = [
        (Self::Agreement, [0, 158, 115]),
        (Self::MaskOnly, [230, 159, 0]),
        (Self::TruthOnly, [86, 180, 233]),
        (Self::OtherLabel, [213, 94, 0]),
    ];

    /// The difference at a voxel; `None` where both are background.
    pub fn of(mask: Label, truth: Label) -> Option<Self> {
        match (mask, truth) {
            (0, 0) => None,
            (_, 0) => Some(Self::MaskOnly),
            (0, _) => Some(Self::TruthOnly),
            _ if mask == truth => Some(Self::Agreement),
            _ => Some(Self::OtherLabel),
        }
    }

    /// The colours as a palette of [`differences`].
    pub fn palette() -> Palette {
        Palette::new(Self::COLORS.map(|(difference, color)| (difference as Label + 1, color)))
    }
}

/// The differences of two slices, as labels from 1 in the order of [`Difference`]; 0 where both are background. Labels for
/// which `is_shown` is false count as background.
pub fn differences(
    mask: &SliceView<Label>,
    truth: &SliceView<Label>,
    is_shown: impl Fn(Label) -> bool,
) -> SliceView<Label> {
    let shown = |label: Label| if is_shown(label) { label } else { 0 };
    let pairs = mask.data.iter().zip(&truth.data);
    let data =
        pairs.map(|(mask, truth)| Difference::of(shown(*mask), shown(*truth)).map_or(0, |d| d as Label + 1));
    SliceView { data: data.collect(), ..mask.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_labels_has_its_colour_and_hidden_labels_are_background() {
        let slice = |data: [Label; 6]| SliceView {
            width: 6,
            height: 1,
            pixel_mm: [1.0; 2],
            edges: ['R', 'L', 'A', 'P'],
            data: data.to_vec(),
        };
        let (mask, truth) = (slice([0, 1, 1, 0, 1, 3]), slice([0, 1, 0, 2, 2, 3]));
        assert_eq!(differences(&mask, &truth, |_| true).data, [0, 1, 2, 3, 4, 1]);
        assert_eq!(differences(&mask, &truth, |label| label != 2).data, [0, 1, 2, 0, 2, 1]);
        let palette = Difference::palette();
        let color = |difference: Difference| palette.of(difference as Label + 1);
        assert_eq!(color(Difference::OtherLabel), Some([213, 94, 0]));
        assert_eq!((palette.of(0), palette.of(5)), (None, None));
    }
}
