use sulcus_metrics::count_labels;
use sulcus_volume::{Label, LabelEntry, LabelMap, LabelTable};

/// The statistics of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelStats {
    /// The value, name and colour.
    pub entry: LabelEntry,
    /// The number of voxels in the mask and in the reference; `None` for one that is not shown.
    pub voxels: [Option<usize>; 2],
    /// The volume in millilitres in the mask and in the reference.
    pub ml: [Option<f64>; 2],
    /// The Dice of mask and reference, if both are shown.
    pub dice: Option<f64>,
    /// The IoU of mask and reference, if both are shown.
    pub iou: Option<f64>,
    /// The image within the label of the mask, or of the reference without a mask, if it was computed.
    pub intensity: Option<Intensity>,
}

/// The intensities of a part of the image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intensity {
    /// The mean of the finite values.
    pub mean: f64,
    /// The standard deviation of the finite values, with their number as the divisor.
    pub sd: f64,
}

/// The number of different labels is small, so a table of all possible ones is faster than a map.
const VALUES: usize = 1 << Label::BITS;

/// A label map with the number of voxels of each label.
#[derive(Debug, Clone, PartialEq)]
pub struct CountedLabels {
    map: LabelMap,
    voxels: Vec<usize>,
}

impl CountedLabels {
    /// Counts the voxels of a label map.
    pub fn new(map: LabelMap) -> Self {
        let mut counted = Self::uncounted(map);
        counted.count();
        counted
    }

    /// A label map whose voxels are counted later. Until then every label has no voxel.
    pub(crate) fn uncounted(map: LabelMap) -> Self {
        Self { map, voxels: vec![0; VALUES] }
    }

    pub(crate) fn count(&mut self) {
        self.voxels.fill(0);
        for label in self.map.data() {
            self.voxels[usize::from(*label)] += 1;
        }
    }

    /// The label map.
    pub fn map(&self) -> &LabelMap {
        &self.map
    }

    /// The label map without the counts.
    pub fn into_map(self) -> LabelMap {
        self.map
    }

    /// The labels that occur, in ascending order and with the background.
    pub fn labels(&self) -> impl Iterator<Item = Label> {
        (0..=Label::MAX).zip(&self.voxels).filter(|(_, n)| **n > 0).map(|(label, _)| label)
    }
}

/// Computes the statistics of the labels that occur in a mask, in a reference, or in both, in ascending order. A value
/// without an entry in `names` is named by its number. If the two are on different grids, there is no Dice. The intensities are
/// left out.
pub fn label_stats(
    mask: Option<&CountedLabels>,
    truth: Option<&CountedLabels>,
    names: &[&LabelTable],
) -> Vec<LabelStats> {
    let maps = [mask, truth];
    let occurs = |value: &Label| maps.iter().flatten().any(|map| map.voxels[usize::from(*value)] > 0);
    let values: Vec<Label> = (1..=Label::MAX).filter(occurs).collect();
    let scores = match maps {
        [Some(mask), Some(truth)] => count_labels(&mask.map, &truth.map, &values).ok(),
        _ => None,
    };
    let fallback = LabelTable::from_names(values.iter().map(|v| (*v, format!("label {v}")))).unwrap_or_default();
    let entry = |value| names.iter().copied().chain([&fallback]).find_map(|table| table.get(value)).cloned();
    let stats = |(index, value): (usize, Label)| {
        let voxels = maps.map(|map| map.map(|map| map.voxels[usize::from(value)]));
        let ml = [0, 1].map(|i| maps[i]?.map.geometry().ml(voxels[i]?));
        let score = scores.as_ref().and_then(|s| s.get(index));
        Some(LabelStats {
            entry: entry(value)?,
            voxels,
            ml,
            dice: score.and_then(|s| s.dice()),
            iou: score.and_then(|s| s.iou()),
            intensity: None,
        })
    };
    values.into_iter().enumerate().filter_map(stats).collect()
}

/// The finite intensities within each of `values`; `None` where there are none.
pub fn intensities(image: &[f32], labels: &[Label], values: &[Label]) -> Vec<Option<Intensity>> {
    let mut slots = vec![None; VALUES];
    for (slot, value) in values.iter().enumerate() {
        slots[usize::from(*value)] = Some(slot);
    }
    let mut sums = vec![(0_usize, 0.0_f64, 0.0_f64); values.len()];
    let finite = || {
        let pairs = image.iter().zip(labels).filter(|(value, _)| value.is_finite());
        pairs.filter_map(|(value, label)| Some((slots[usize::from(*label)]?, f64::from(*value))))
    };
    for (slot, value) in finite() {
        sums[slot].0 += 1;
        sums[slot].1 += value;
    }
    // The squares of distances to the mean, in a second pass, do not cancel each other as those of the values would.
    for (slot, value) in finite() {
        let (n, sum, squares) = &mut sums[slot];
        *squares += (value - *sum / *n as f64).powi(2);
    }
    let intensity = |(n, sum, squares): (usize, f64, f64)| {
        (n > 0).then(|| Intensity { mean: sum / n as f64, sd: (squares / n as f64).sqrt() })
    };
    sums.into_iter().map(intensity).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    fn map(values: [Label; 6]) -> CountedLabels {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([10.0, 5.0, 2.0]).unwrap());
        let geometry = Geometry::new([6, 1, 1], map, OrientationSource::Sform).unwrap();
        CountedLabels::new(LabelMap::new(geometry, values.to_vec()).unwrap())
    }

    #[test]
    fn volumes_and_dice_match_manual_computation() {
        let named = LabelTable::from_names([(1, "Anterior".to_owned())]).unwrap();
        let stats = label_stats(Some(&map([0, 1, 1, 2, 0, 0])), Some(&map([0, 1, 0, 0, 0, 7])), &[&named]);
        let found: Vec<_> =
            stats.iter().map(|r| (r.entry.value, r.entry.name.as_str(), r.voxels, r.dice)).collect();
        assert_eq!(found[0], (1, "Anterior", [Some(2), Some(1)], Some(2.0 / 3.0)));
        assert_eq!((stats[0].iou, stats[0].intensity), (Some(0.5), None));
        assert_eq!(found[1], (2, "label 2", [Some(1), Some(0)], Some(0.0)));
        assert_eq!(found[2], (7, "label 7", [Some(0), Some(1)], Some(0.0)));
        assert!((stats[0].ml[0].unwrap() - 0.2).abs() < 1e-12, "two voxels of 0.1 ml");
    }

    #[test]
    fn dice_needs_a_reference() {
        let stats = label_stats(Some(&map([0, 0, 4, 4, 0, 0])), None, &[]);
        assert_eq!((stats[0].voxels, stats[0].ml[1], stats[0].dice), ([Some(2), None], None, None));
    }

    #[test]
    fn intensities_of_a_label_match_manual_computation() {
        let image = [9.0, 1e6 + 2.0, 1e6 + 4.0, f32::NAN, f32::INFINITY, 5.0];
        let found = intensities(&image, &[0, 1, 1, 1, 2, 3], &[1, 2, 3]);
        let expected = |mean, sd| Some(Intensity { mean, sd });
        assert_eq!(found, [expected(1e6 + 3.0, 1.0), None, expected(5.0, 0.0)]);
    }
}
