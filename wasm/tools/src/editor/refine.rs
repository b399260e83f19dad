//! Corrections of a whole label: interpolation between slices, removal of islands.

use sulcus_volume::{Label, VoxelIndex};

use super::{Change, Editor};

impl Editor {
    /// Gives `label` to background voxels in slices without it that lie between two slices with it, along an axis of the grid. The
    /// outline changes linearly from one slice to the other: signed distances to it are interpolated (Raya & Udupa, IEEE
    /// Transactions on Medical Imaging 1990). Returns what changed.
    pub fn interpolate(&mut self, label: Label, axis: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        let (shape, mm) = (self.geometry.shape(), self.geometry.spacing().mm());
        let (Some(slices), [u, v]) = (shape.get(axis).copied(), [(axis + 1) % 3, (axis + 2) % 3]) else {
            return changes;
        };
        let offset = |slice: usize, x: usize, y: usize| {
            let mut voxel = [0; 3];
            (voxel[axis], voxel[u], voxel[v]) = (slice, x, y);
            self.geometry.offset(VoxelIndex(voxel)).unwrap_or_default()
        };
        let marks = |slice: usize| -> Vec<bool> {
            let rows = (0..shape[v]).flat_map(|y| (0..shape[u]).map(move |x| (x, y)));
            rows.map(|(x, y)| self.data[offset(slice, x, y)] == label).collect()
        };
        let marked: Vec<(usize, Vec<bool>)> =
            (0..slices).map(|slice| (slice, marks(slice))).filter(|(_, marks)| marks.contains(&true)).collect();
        let mut found = Vec::new();
        for pair in marked.windows(2) {
            let [(first, before), (last, after)] = pair else { continue };
            if last - first < 2 {
                continue;
            }
            let size = [shape[u], shape[v]];
            let [before, after] = [before, after].map(|marks| signed_distances(marks, size, [mm[u], mm[v]]));
            for slice in first + 1..*last {
                let weight = (slice - first) as f64 / (last - first) as f64;
                for (at, (a, b)) in before.iter().zip(&after).enumerate() {
                    let offset = offset(slice, at % size[0], at / size[0]);
                    if a * (1.0 - weight) + b * weight > 0.0 && self.data[offset] == 0 {
                        found.push(offset);
                    }
                }
            }
        }
        found.into_iter().for_each(|offset| self.set(offset, label, &mut changes));
        self.record(changes)
    }

    /// Keeps the largest island of a label and makes the others background; of islands with equal size the first in the grid.
    /// Voxels that touch with a face, an edge or a corner are connected, as in nnU-Net. Returns what changed.
    pub fn keep_largest(&mut self, label: Label) -> Vec<Change> {
        let shape = self.geometry.shape();
        let mut island_of = vec![0_u32; self.data.len()];
        let mut sizes = vec![0_usize];
        let mut waiting = Vec::new();
        for start in 0..self.data.len() {
            if self.data[start] != label || island_of[start] != 0 {
                continue;
            }
            let island = sizes.len() as u32;
            sizes.push(0);
            island_of[start] = island;
            waiting.push(start);
            while let Some(at) = waiting.pop() {
                sizes[island as usize] += 1;
                let voxel = [at % shape[0], at / shape[0] % shape[1], at / shape[0] / shape[1]];
                let around: [_; 3] =
                    std::array::from_fn(|axis| voxel[axis].saturating_sub(1)..(voxel[axis] + 2).min(shape[axis]));
                for z in around[2].clone() {
                    for y in around[1].clone() {
                        for next in around[0].clone().map(|x| (z * shape[1] + y) * shape[0] + x) {
                            if self.data[next] == label && island_of[next] == 0 {
                                island_of[next] = island;
                                waiting.push(next);
                            }
                        }
                    }
                }
            }
        }
        let largest = (1..sizes.len()).rev().max_by_key(|island| sizes[*island]).unwrap_or(0) as u32;
        let mut changes = Vec::new();
        for (offset, island) in island_of.into_iter().enumerate() {
            if island != 0 && island != largest {
                self.set(offset, 0, &mut changes);
            }
        }
        self.record(changes)
    }
}

/// For each pixel the distance in millimetres to the nearest pixel of the other kind, negative outside the region.
fn signed_distances(inside: &[bool], size: [usize; 2], mm: [f64; 2]) -> Vec<f64> {
    let to = |kind: bool| squared_distances(inside.iter().map(|is| *is == kind), size, mm);
    let pairs = to(false).into_iter().zip(to(true));
    pairs.map(|(outwards, inwards)| outwards.min(FAR).sqrt() - inwards.min(FAR).sqrt()).collect()
}

/// More than any squared distance in a grid; for slices without a pixel of one kind.
const FAR: f64 = 1e12;

/// The squared distance of each pixel to the nearest marked one: along rows, then along columns.
fn squared_distances(marked: impl Iterator<Item = bool>, [width, height]: [usize; 2], mm: [f64; 2]) -> Vec<f64> {
    let mut out: Vec<f64> = marked.map(|is| if is { 0.0 } else { FAR }).collect();
    for row in out.chunks_exact_mut(width) {
        let line = nearest_parabola(row, mm[0]);
        row.copy_from_slice(&line);
    }
    for x in 0..width {
        let column: Vec<f64> = (0..height).map(|y| out[y * width + x]).collect();
        for (y, value) in nearest_parabola(&column, mm[1]).into_iter().enumerate() {
            out[y * width + x] = value;
        }
    }
    out
}

/// The lower envelope of parabolas at each position (Felzenszwalb & Huttenlocher, Theory of Computing 2012): the minimum over
/// `j` of `values[j] + (step · (i - j))²`.
fn nearest_parabola(values: &[f64], step: f64) -> Vec<f64> {
    let at = |i: usize| i as f64 * step;
    // The parabolas of the envelope, each with the position from which on it is the lowest.
    let mut envelope: Vec<(usize, f64)> = Vec::new();
    for (j, value) in values.iter().enumerate() {
        let mut from = f64::NEG_INFINITY;
        while let Some((other, start)) = envelope.last().copied() {
            let meet =
                ((value + at(j).powi(2)) - (values[other] + at(other).powi(2))) / (2.0 * (at(j) - at(other)));
            if meet > start {
                from = meet;
                break;
            }
            envelope.pop();
        }
        envelope.push((j, from));
    }
    let mut lowest = 0;
    let value = |i: usize| {
        while envelope.get(lowest + 1).is_some_and(|(_, from)| *from <= at(i)) {
            lowest += 1;
        }
        envelope.get(lowest).map_or(FAR, |(j, _)| values[*j] + (at(i) - at(*j)).powi(2))
    };
    (0..values.len()).map(value).collect()
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, LabelMap, Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    const SHAPE: [usize; 3] = [16, 14, 9];

    fn editor(label_at: impl Fn([usize; 3]) -> Label) -> Editor {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0, 2.0, 3.0]).unwrap());
        let geometry = Geometry::new(SHAPE, map, OrientationSource::Sform).unwrap();
        let [nx, ny, _] = SHAPE;
        let data = (0..geometry.voxels()).map(|i| label_at([i % nx, i / nx % ny, i / nx / ny]));
        Editor::new(LabelMap::new(geometry, data.collect()).unwrap())
    }

    fn at(editor: &Editor, voxel: [usize; 3]) -> Label {
        editor.data[editor.geometry.offset(VoxelIndex(voxel)).unwrap()]
    }

    #[test]
    fn distances_match_a_search_over_all_pixels() {
        let size = [7, 5];
        let marked = |i: usize| (i * 7919).is_multiple_of(6) && i != 0;
        let found = squared_distances((0..35).map(marked), size, [0.5, 2.0]);
        for (i, found) in found.iter().enumerate() {
            let distance = |j: usize| {
                let [dx, dy] = [(i % 7) as f64 - (j % 7) as f64, (i / 7) as f64 - (j / 7) as f64];
                (0.5 * dx).powi(2) + (2.0 * dy).powi(2)
            };
            let expected = (0..35).filter(|j| marked(*j)).map(distance).fold(FAR, f64::min);
            assert!((found - expected).abs() < 1e-9, "{i}: {found} {expected}");
        }
    }

    #[test]
    fn interpolated_outline_is_halfway_between_two_slices() {
        // A square of 10 columns becomes one of 4 columns within four slices.
        let square = |[x, y, z]: [usize; 3]| {
            let columns = match z {
                2 => 3..13,
                6 => 6..10,
                _ => return 0,
            };
            u16::from(columns.contains(&x) && (2..12).contains(&y)) * 5
        };
        let mut editor = editor(square);
        editor.begin();
        assert!(!editor.interpolate(5, 2).is_empty());
        let widths: Vec<usize> =
            (0..9).map(|z| (0..16).filter(|x| at(&editor, [*x, 6, z]) == 5).count()).collect();
        assert_eq!(widths[2..7], [10, widths[3], widths[4], widths[5], 4]);
        assert!(widths[2..7].is_sorted_by(|a, b| a >= b) && (6..=8).contains(&widths[4]), "{widths:?}");
        assert_eq!([widths[0], widths[1], widths[7], widths[8]], [0; 4], "nothing outside");
        assert!(editor.interpolate(5, 2).is_empty(), "no slice is missing any more");
        editor.undo();
        assert_eq!(at(&editor, [8, 6, 4]), 0);
    }

    #[test]
    fn interpolation_keeps_other_labels_and_follows_the_axis() {
        let mut editor = editor(|voxel| match voxel {
            [2 | 8, 4..9, 3..6] => 1,
            [5, 6, 4] => 2,
            _ => 0,
        });
        assert!(editor.interpolate(1, 2).is_empty(), "along z no slice is missing");
        assert!(editor.interpolate(7, 0).is_empty() && editor.interpolate(1, 3).is_empty());
        editor.interpolate(1, 0);
        assert_eq!((at(&editor, [5, 6, 4]), at(&editor, [4, 6, 4]), at(&editor, [9, 6, 4])), (2, 1, 0));
    }

    #[test]
    fn only_the_largest_island_of_a_label_stays() {
        let mut editor = editor(|[x, y, z]| match (x, y, z) {
            (1..4, 1, 1) => 1,
            // Connected through a corner.
            (4, 2, 2) => 1,
            (10..13, 8, 8) => 1,
            (15, 13, 8) => 2,
            _ => 0,
        });
        editor.begin();
        assert_eq!(editor.keep_largest(1).len(), 3);
        assert_eq!((at(&editor, [4, 2, 2]), at(&editor, [11, 8, 8]), at(&editor, [15, 13, 8])), (1, 0, 2));
        assert!(editor.keep_largest(1).is_empty() && editor.keep_largest(9).is_empty());
        editor.undo();
        assert_eq!(at(&editor, [11, 8, 8]), 1);
    }
}
