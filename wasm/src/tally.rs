use sulcus_metrics::count_labels;
use sulcus_volume::{Label, LabelEntry, LabelMap, LabelTable};

/// What is known of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Value, name and colour.
    pub entry: LabelEntry,
    /// Voxels in the mask and in the truth, where these are shown.
    pub voxels: [Option<usize>; 2],
    /// The same in millilitres.
    pub ml: [Option<f64>; 2],
    /// Dice of mask and truth, where both are shown.
    pub dice: Option<f64>,
}

/// Counts the labels that occur in a mask, a truth, or both; values without a name in `names` are called by number.
/// Both lie on one grid, or there is no Dice.
pub fn tally(mask: Option<&LabelMap>, truth: Option<&LabelMap>, names: &[&LabelTable]) -> Vec<Row> {
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
    let row = |(at, value): (usize, Label)| {
        let voxels = [0, 1].map(|i| counts[i].as_ref().map(|c| c.get(&value).copied().unwrap_or(0)));
        let ml = [0, 1].map(|i| Some(maps[i]?.geometry().ml(voxels[i]?)));
        let dice = scores.as_ref().and_then(|s| s.get(at)?.dice());
        Some(Row { entry: entry(value)?, voxels, ml, dice })
    };
    values.into_iter().enumerate().filter_map(row).collect()
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
    fn volumes_and_dice_by_hand() {
        let named = LabelTable::from_names([(1, "Anterior".to_owned())]).unwrap();
        let rows = tally(Some(&map([0, 1, 1, 2, 0, 0])), Some(&map([0, 1, 0, 0, 0, 7])), &[&named]);
        let told: Vec<_> = rows.iter().map(|r| (r.entry.value, r.entry.name.as_str(), r.voxels, r.dice)).collect();
        assert_eq!(told[0], (1, "Anterior", [Some(2), Some(1)], Some(2.0 / 3.0)));
        assert_eq!(told[1], (2, "label 2", [Some(1), Some(0)], Some(0.0)));
        assert_eq!(told[2], (7, "label 7", [Some(0), Some(1)], Some(0.0)));
        assert!((rows[0].ml[0].unwrap() - 0.2).abs() < 1e-12, "two voxels of 0.1 ml");
    }

    #[test]
    fn without_a_truth_there_is_no_score() {
        let rows = tally(Some(&map([0, 0, 4, 4, 0, 0])), None, &[]);
        assert_eq!((rows[0].voxels, rows[0].ml[1], rows[0].dice), ([Some(2), None], None, None));
    }
}
