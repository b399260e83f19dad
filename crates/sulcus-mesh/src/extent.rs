use std::collections::BTreeMap;

use sulcus_volume::{Label, LabelMap};

/// Where a label lies in a label map, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The label.
    pub label: Label,
    /// The number of its voxels.
    pub voxels: usize,
    /// The number of faces between its voxels and voxels with other labels or the outside of the grid.
    pub faces: usize,
    /// The smallest index of its voxels along x, y and z.
    pub first: [usize; 3],
    /// The largest index of its voxels along x, y and z.
    pub last: [usize; 3],
}

/// The extents of all labels that occur, without the background 0, in one pass over the voxels.
pub fn survey(map: &LabelMap) -> BTreeMap<Label, Extent> {
    let [nx, ny, nz] = map.geometry().shape();
    let data = map.data();
    let mut found: Vec<Option<Extent>> = vec![None; usize::from(Label::MAX) + 1];
    let row = |y: usize, z: usize| data.get((z * ny + y) * nx..(z * ny + y + 1) * nx).unwrap_or_default();
    let mut see = |run: &Run, y: usize, z: usize| {
        let Run { label, start, end, faces } = *run;
        if label == 0 {
            return;
        }
        let new = Extent { label, voxels: 0, faces: 0, first: [start, y, z], last: [end, y, z] };
        let extent = found[usize::from(label)].get_or_insert(new);
        extent.voxels += end + 1 - start;
        extent.faces += faces;
        for (axis, (low, high)) in [(start, end), (y, y), (z, z)].into_iter().enumerate() {
            extent.first[axis] = extent.first[axis].min(low);
            extent.last[axis] = extent.last[axis].max(high);
        }
    };
    for z in 0..nz {
        for y in 0..ny {
            let own = row(y, z);
            let beside = [
                if y > 0 { row(y - 1, z) } else { &[] },
                if y + 1 < ny { row(y + 1, z) } else { &[] },
                if z > 0 { row(y, z - 1) } else { &[] },
                if z + 1 < nz { row(y, z + 1) } else { &[] },
            ];
            runs(own, beside, |run| see(run, y, z));
        }
    }
    found.into_iter().flatten().map(|extent| (extent.label, extent)).collect()
}

/// Neighbouring voxels of a row that have the same label.
struct Run {
    label: Label,
    start: usize,
    end: usize,
    /// The number of their faces to other labels.
    faces: usize,
}

/// The runs of a row; `beside` are the four rows that touch it, empty outside the grid.
fn runs(row: &[Label], beside: [&[Label]; 4], mut see: impl FnMut(&Run)) {
    let mut start = 0;
    for part in row.chunk_by(|a, b| a == b) {
        let Some(label) = part.first().copied() else { continue };
        let end = start + part.len() - 1;
        if label != 0 {
            let differing = |other: &[Label]| match other.get(start..=end) {
                Some(other) => other.iter().filter(|value| **value != label).count(),
                None => part.len(),
            };
            // The ends of a run have a face each.
            let faces = 2 + beside.into_iter().map(differing).sum::<usize>();
            see(&Run { label, start, end, faces });
        }
        start = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    #[test]
    fn extents_match_manual_counting() {
        let map = RasFromVoxel::aligned("RAS".parse().unwrap(), Spacing::new([1.0; 3]).unwrap());
        let grid = Geometry::new([4, 2, 2], map, OrientationSource::Sform).unwrap();
        let data = vec![
            0, 5, 5, 9, //
            0, 5, 0, 9, //
            0, 0, 0, 0, //
            0, 0, 5, 0,
        ];
        let found = survey(&LabelMap::new(grid, data).unwrap());
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [5, 9]);
        assert_eq!(found[&5], Extent { label: 5, voxels: 4, faces: 20, first: [1, 0, 0], last: [2, 1, 1] });
        assert_eq!(found[&9], Extent { label: 9, voxels: 2, faces: 10, first: [3, 0, 0], last: [3, 1, 0] });
    }
}
