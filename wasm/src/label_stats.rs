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
}

/// Computes the statistics of the labels that occur in a mask, in a reference, or in both, in ascending order. A value
/// without an entry in `names` is named by its number. If the two are on different grids, there is no Dice.
pub fn label_stats(mask: Option<&LabelMap>, truth: Option<&LabelMap>, names: &[&LabelTable]) -> Vec<LabelStats> {
    let maps = [mask, truth];
    let counts = maps.map(|map| map.map(LabelMap::counts));
    let occurs = |value: &Label| counts.iter().flatten().any(|count| count.contains_key(value));
    let values: Vec<Label> = (1..=Label::MAX).filter(occurs).collect();
    let scores = match maps {
        [Some(mask), Some(truth)] => count_labels(mask, truth, &values).ok(),
        _ => None,
    };
    let fallback = LabelTable::from_names(values.iter().map(|v| (*v, format!("label {v}")))).unwrap_or_default();
    let entry = |value| names.iter().copied().chain([&fallback]).find_map(|table| table.get(value)).cloned();
    let stats = |(index, value): (usize, Label)| {
        let voxels = [0, 1].map(|i| counts[i].as_ref().map(|c| c.get(&value).copied().unwrap_or(0)));
        let ml = [0, 1].map(|i| Some(maps[i]?.geometry().ml(voxels[i]?)));
        let dice = scores.as_ref().and_then(|s| s.get(index)?.dice());
        Some(LabelStats { entry: entry(value)?, voxels, ml, dice })
    };
    values.into_iter().enumerate().filter_map(stats).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    fn map(values: [Label; 6]) -> LabelMap {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([10.0, 5.0, 2.0]).unwrap());
        LabelMap::new(Geometry::new([6, 1, 1], map, OrientationSource::Sform).unwrap(), values.to_vec()).unwrap()
    }

    #[test]
    fn volumes_and_dice_match_manual_computation() {
        let named = LabelTable::from_names([(1, "Anterior".to_owned())]).unwrap();
        let stats = label_stats(Some(&map([0, 1, 1, 2, 0, 0])), Some(&map([0, 1, 0, 0, 0, 7])), &[&named]);
        let found: Vec<_> =
            stats.iter().map(|r| (r.entry.value, r.entry.name.as_str(), r.voxels, r.dice)).collect();
        assert_eq!(found[0], (1, "Anterior", [Some(2), Some(1)], Some(2.0 / 3.0)));
        assert_eq!(found[1], (2, "label 2", [Some(1), Some(0)], Some(0.0)));
        assert_eq!(found[2], (7, "label 7", [Some(0), Some(1)], Some(0.0)));
        assert!((stats[0].ml[0].unwrap() - 0.2).abs() < 1e-12, "two voxels of 0.1 ml");
    }

    #[test]
    fn dice_needs_a_reference() {
        let stats = label_stats(Some(&map([0, 0, 4, 4, 0, 0])), None, &[]);
        assert_eq!((stats[0].voxels, stats[0].ml[1], stats[0].dice), ([Some(2), None], None, None));
    }
}
