//! Whether the values of a volume are labels or intensities.

use sulcus_io::StoredVolume;
use sulcus_volume::{Label, LabelMap};

use crate::args::ConvertArgs;

/// Whether the values are labels or intensities, and how that was decided.
pub(super) struct ContentKind {
    pub(super) labels: bool,
    pub(super) why: String,
}

pub(super) fn content_kind(args: &ConvertArgs, volume: &StoredVolume<'_>) -> ContentKind {
    let labels = |why: &str| ContentKind { labels: true, why: why.to_owned() };
    if args.labels {
        return labels("as --labels says");
    }
    if args.names.is_some() {
        return labels("as --names says");
    }
    if volume.metadata().is_label_map() {
        return labels("as the file says");
    }
    match volume.clone().into_labels() {
        Ok((map, _)) if has_regions(&map) => labels("its values are whole numbers that form regions"),
        _ => ContentKind { labels: false, why: "it is not a label map".to_owned() },
    }
}

/// Whether neighbouring voxels outside the background often have the same value. In a mask most neighbours belong to the same
/// structure, however many structures there are; in a scan noise makes most neighbours differ. Measured: 94 to 100 % equal in
/// masks, 0 to 23 % in scans of 8 bits. A mask of single voxels has no neighbours to compare.
fn has_regions(map: &LabelMap) -> bool {
    const MIN_EQUAL: f64 = 0.4;
    let [nx, ny, nz] = map.geometry().shape();
    let (mut pairs, mut equal) = (0_u64, 0_u64);
    let mut compare = |one: &[Label], other: &[Label]| {
        for (a, b) in one.iter().zip(other).filter(|(a, b)| **a != 0 && **b != 0) {
            pairs += 1;
            equal += u64::from(a == b);
        }
    };
    let data = map.data();
    for (index, row) in data.chunks_exact(nx).enumerate() {
        compare(row, row.get(1..).unwrap_or_default());
        let next = |rows: usize| data.chunks_exact(nx).nth(index + rows).unwrap_or_default();
        if index % ny + 1 < ny {
            compare(row, next(1));
        }
        if index / ny + 1 < nz {
            compare(row, next(ny));
        }
    }
    equal as f64 >= MIN_EQUAL * pairs as f64
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    fn map(value: impl Fn([usize; 3]) -> usize) -> LabelMap {
        const SHAPE: [usize; 3] = [24, 20, 16];
        let ras_from_voxel = RasFromVoxel::aligned("RAS".parse().unwrap(), Spacing::new([1.0; 3]).unwrap());
        let grid = Geometry::new(SHAPE, ras_from_voxel, OrientationSource::Sform).unwrap();
        let [nx, ny, _] = SHAPE;
        let values = (0..grid.voxels()).map(|i| value([i % nx, i / nx % ny, i / nx / ny]) as Label);
        LabelMap::new(grid, values.collect()).unwrap()
    }

    #[test]
    fn regions_of_any_number_of_labels_are_labels() {
        assert!(has_regions(&map(|[x, y, z]| 1 + x / 4 + 6 * (y / 4 + 5 * (z / 4)))), "120 labels");
        assert!(has_regions(&map(|[x, y, z]| usize::from((x + y + z) % 5 == 0))), "thin structures");
        assert!(has_regions(&map(|_| 0)), "an empty mask");
    }

    #[test]
    fn whole_numbers_without_regions_are_intensities() {
        assert!(!has_regions(&map(|[x, y, z]| 1 + (x * 37 + y * 91 + z * 53) % 29)), "29 grey values");
        assert!(!has_regions(&map(|[x, y, z]| 100 + x + y + z)), "a slope");
    }
}
