//! Corrects a label map: brush, eraser, fill, interpolation between slices and removal of islands, with undo and redo.

mod refine;

use sulcus_volume::{Geometry, Label, LabelMap, VolumeError, VoxelIndex};

/// The maximum number of steps that can be undone.
const MAX_STEPS: usize = 200;

/// A voxel with its value before and after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The offset of the voxel in the label map.
    pub offset: usize,
    /// The value before.
    pub before: Label,
    /// The value after.
    pub after: Label,
}

/// A round brush.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brush {
    /// The radius in millimetres. The voxel in the middle is always painted.
    pub radius_mm: f64,
    /// The axis of the grid across the slice that is painted; `None` paints a sphere.
    pub across: Option<usize>,
    /// The value of painted voxels; 0 erases.
    pub label: Label,
    /// Paint only voxels with this value, if any.
    pub over: Option<Label>,
}

/// A label map that is being corrected.
#[derive(Debug)]
pub struct Editor {
    geometry: Geometry,
    data: Vec<Label>,
    done: Vec<Vec<Change>>,
    undone: Vec<Vec<Change>>,
}

impl Editor {
    /// Starts from a label map.
    pub fn new(map: LabelMap) -> Self {
        let (geometry, data) = map.into_parts();
        Self { geometry, data, done: Vec::new(), undone: Vec::new() }
    }

    /// The corrected label map.
    ///
    /// # Errors
    /// Never: the grid and the number of voxels do not change.
    pub fn map(&self) -> Result<LabelMap, VolumeError> {
        LabelMap::new(self.geometry, self.data.clone())
    }

    /// Begins a step of undo. What follows until the next step is undone together.
    pub fn begin(&mut self) {
        self.done.retain(|step| !step.is_empty());
        if self.done.len() >= MAX_STEPS {
            self.done.remove(0);
        }
        self.done.push(Vec::new());
        self.undone.clear();
    }

    fn set(&mut self, offset: usize, after: Label, changes: &mut Vec<Change>) {
        if let Some(value) = self.data.get_mut(offset)
            && *value != after
        {
            changes.push(Change { offset, before: *value, after });
            *value = after;
        }
    }

    fn record(&mut self, changes: Vec<Change>) -> Vec<Change> {
        match self.done.last_mut() {
            Some(step) => step.extend(&changes),
            None => self.done.push(changes.clone()),
        }
        changes
    }

    /// Moves a brush along a line between two positions in voxels, with fractions; whole numbers are centres of voxels. Returns
    /// what changed.
    pub fn stroke(&mut self, from: [f64; 3], to: [f64; 3], brush: Brush) -> Vec<Change> {
        let (shape, mm) = (self.geometry.shape(), self.geometry.spacing().mm());
        if !from.iter().chain(&to).all(|v| v.is_finite()) {
            return Vec::new();
        }
        let radius = brush.radius_mm.max(0.0);
        let nearest = |at: f64, axis: usize| (at.round().max(0.0) as usize).min(shape[axis] - 1);
        // The voxels that the line can reach, along each axis.
        let ranges: [std::ops::RangeInclusive<usize>; 3] = std::array::from_fn(|axis| {
            if brush.across == Some(axis) {
                return nearest(from[axis], axis)..=nearest(from[axis], axis);
            }
            let reach = radius / mm[axis];
            let (low, high) = (from[axis].min(to[axis]) - reach, from[axis].max(to[axis]) + reach);
            nearest(low.floor(), axis)..=nearest(high.ceil(), axis)
        });
        let in_mm = |at: [f64; 3]| -> [f64; 3] {
            std::array::from_fn(|axis| if brush.across == Some(axis) { 0.0 } else { at[axis] * mm[axis] })
        };
        let (start, end) = (in_mm(from), in_mm(to));
        let mut changes = Vec::new();
        let ends = [from, to].map(|at| std::array::from_fn(|axis| nearest(at[axis], axis)));
        let inside = |at: [f64; 3]| (0..3).all(|axis| at[axis] > -0.5 && at[axis] < shape[axis] as f64 - 0.5);
        let [x_range, y_range, z_range] = ranges;
        for z in z_range {
            for y in y_range.clone() {
                for x in x_range.clone() {
                    let voxel = [x, y, z];
                    let near = squared_distance(in_mm(voxel.map(|i| i as f64)), start, end) <= radius * radius;
                    let middle = (voxel == ends[0] && inside(from)) || (voxel == ends[1] && inside(to));
                    let Some(offset) = self.geometry.offset(VoxelIndex(voxel)).filter(|_| near || middle) else {
                        continue;
                    };
                    if brush.over.is_none_or(|over| self.data.get(offset) == Some(&over)) {
                        self.set(offset, brush.label, &mut changes);
                    }
                }
            }
        }
        self.record(changes)
    }

    /// Gives `label` to the voxels that are connected with `seed` through faces and have its value: in the slice across an axis,
    /// or in the whole grid. Returns what changed.
    pub fn fill(&mut self, seed: VoxelIndex, across: Option<usize>, label: Label) -> Vec<Change> {
        let shape = self.geometry.shape();
        let mut changes = Vec::new();
        let Some(value) = self.geometry.offset(seed).and_then(|offset| self.data.get(offset).copied()) else {
            return changes;
        };
        if value == label {
            return changes;
        }
        let mut waiting = vec![seed.0];
        while let Some(voxel) = waiting.pop() {
            let Some(offset) = self.geometry.offset(VoxelIndex(voxel)) else { continue };
            if self.data.get(offset) != Some(&value) {
                continue;
            }
            self.set(offset, label, &mut changes);
            for axis in (0..3).filter(|axis| across != Some(*axis)) {
                let beside = [voxel[axis].checked_sub(1), voxel[axis].checked_add(1).filter(|i| *i < shape[axis])];
                waiting.extend(beside.into_iter().flatten().map(|i| {
                    let mut next = voxel;
                    next[axis] = i;
                    next
                }));
            }
        }
        self.record(changes)
    }

    /// Takes back those of the last changes whose image value lies outside a window. `values` belong to the last changes, in their
    /// order. Returns the changes that stay.
    pub fn keep_between(&mut self, values: &[f32], [low, high]: [f32; 2]) -> Vec<Change> {
        let Some(step) = self.done.last_mut() else { return Vec::new() };
        let last = step.split_off(step.len().saturating_sub(values.len()));
        let mut kept = Vec::new();
        for (change, value) in last.into_iter().zip(values) {
            if (low..=high).contains(value) {
                kept.push(change);
            } else if let Some(label) = self.data.get_mut(change.offset) {
                *label = change.before;
            }
        }
        step.extend(&kept);
        kept
    }

    /// Takes the last step back. Returns what changed, in order.
    pub fn undo(&mut self) -> Vec<Change> {
        self.done.retain(|step| !step.is_empty());
        let Some(step) = self.done.pop() else { return Vec::new() };
        let back = |change: &Change| Change { before: change.after, after: change.before, ..*change };
        let changes: Vec<Change> = step.iter().rev().map(back).collect();
        changes.iter().for_each(|change| self.data[change.offset] = change.after);
        self.undone.push(step);
        changes
    }

    /// Repeats the last step that was taken back. Returns what changed, in order.
    pub fn redo(&mut self) -> Vec<Change> {
        let Some(step) = self.undone.pop() else { return Vec::new() };
        step.iter().for_each(|change| self.data[change.offset] = change.after);
        self.done.push(step.clone());
        step
    }

    /// The number of steps that can be taken back and repeated.
    pub fn steps(&self) -> [usize; 2] {
        [self.done.iter().filter(|step| !step.is_empty()).count(), self.undone.len()]
    }
}

/// The squared distance of a point from a line segment.
fn squared_distance(point: [f64; 3], start: [f64; 3], end: [f64; 3]) -> f64 {
    let dot = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let minus = |a: [f64; 3], b: [f64; 3]| -> [f64; 3] { std::array::from_fn(|i| a[i] - b[i]) };
    let (along, to_point) = (minus(end, start), minus(point, start));
    let length = dot(along, along);
    let at = if length > 0.0 { (dot(to_point, along) / length).clamp(0.0, 1.0) } else { 0.0 };
    let away: [f64; 3] = std::array::from_fn(|i| to_point[i] - at * along[i]);
    dot(away, away)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_volume::{Orientation, OrientationSource, RasFromVoxel, Spacing};

    const SHAPE: [usize; 3] = [12, 10, 6];

    fn editor() -> Editor {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0, 1.0, 2.0]).unwrap());
        let geometry = Geometry::new(SHAPE, map, OrientationSource::Sform).unwrap();
        Editor::new(LabelMap::new(geometry, vec![0; geometry.voxels()]).unwrap())
    }

    fn painted(editor: &Editor) -> Vec<[usize; 3]> {
        let [nx, ny, _] = SHAPE;
        let set = editor.data.iter().enumerate().filter(|(_, label)| **label != 0);
        set.map(|(i, _)| [i % nx, i / nx % ny, i / nx / ny]).collect()
    }

    fn brush(radius_mm: f64, across: Option<usize>) -> Brush {
        Brush { radius_mm, across, label: 3, over: None }
    }

    #[test]
    fn brush_is_round_in_millimetres_and_flat_in_a_slice() {
        let mut sphere = editor();
        sphere.begin();
        let changes = sphere.stroke([5.0, 5.0, 3.0], [5.0, 5.0, 3.0], brush(2.0, None));
        // In millimetres: 13 voxels in the middle slice, one in each of the neighbours at 2 mm.
        assert_eq!((changes.len(), painted(&sphere).len()), (15, 15));
        let mut disc = editor();
        disc.begin();
        disc.stroke([5.0, 5.0, 3.0], [5.0, 5.0, 3.0], brush(2.0, Some(2)));
        let voxels = painted(&disc);
        assert!(voxels.len() == 13 && voxels.iter().all(|v| v[2] == 3), "{voxels:?}");
        let mut point = editor();
        point.stroke([5.3, 4.6, 3.4], [5.3, 4.6, 3.4], brush(0.0, None));
        assert_eq!(painted(&point), [[5, 5, 3]]);
    }

    #[test]
    fn fast_stroke_leaves_no_gap_and_stays_in_the_grid() {
        let mut line = editor();
        line.stroke([-4.0, 2.0, 1.0], [30.0, 2.0, 1.0], brush(0.5, Some(2)));
        assert_eq!(painted(&line), (0..12).map(|x| [x, 2, 1]).collect::<Vec<_>>());
        let mut outside = editor();
        outside.stroke([-9.0, -9.0, 0.0], [-8.0, -9.0, 0.0], brush(1.0, None));
        outside.stroke([f64::NAN, 0.0, 0.0], [0.0; 3], brush(1.0, None));
        assert!(painted(&outside).is_empty());
    }

    #[test]
    fn brush_can_keep_other_labels() {
        let mut editor = editor();
        editor.stroke([3.0, 3.0, 3.0], [3.0, 3.0, 3.0], brush(0.0, None));
        let over = Brush { label: 5, over: Some(0), ..brush(1.0, Some(2)) };
        editor.stroke([3.0, 3.0, 3.0], [3.0, 3.0, 3.0], over);
        let at = |x| editor.data[editor.geometry.offset(VoxelIndex([x, 3, 3])).unwrap()];
        assert_eq!([at(2), at(3), at(4)], [5, 3, 5]);
    }

    #[test]
    fn changes_outside_a_window_of_intensities_are_taken_back() {
        let mut editor = editor();
        editor.begin();
        editor.stroke([1.0, 5.0, 3.0], [1.0, 5.0, 3.0], brush(0.0, None));
        let changes = editor.stroke([2.0, 2.0, 3.0], [6.0, 2.0, 3.0], brush(0.4, Some(2)));
        assert_eq!(changes.len(), 5);
        let kept = editor.keep_between(&[10.0, 20.0, f32::NAN, 30.0, 31.0], [20.0, 30.0]);
        assert_eq!(kept, [changes[1], changes[3]]);
        assert_eq!(painted(&editor), [[3, 2, 3], [5, 2, 3], [1, 5, 3]]);
        assert_eq!(editor.undo().len(), 3, "what was taken back is no part of the step");
        assert!(painted(&editor).is_empty() && editor.keep_between(&[1.0], [0.0, 2.0]).is_empty());
    }

    #[test]
    fn fill_stops_at_other_labels_and_at_the_slice() {
        let mut editor = editor();
        editor.stroke([6.0, 0.0, 2.0], [6.0, 9.0, 2.0], brush(0.4, Some(2)));
        editor.begin();
        let changes = editor.fill(VoxelIndex([0, 0, 2]), Some(2), 1);
        assert_eq!(changes.len(), 6 * 10, "the wall divides the slice");
        assert!(editor.fill(VoxelIndex([0, 0, 2]), Some(2), 1).is_empty());
        let changes = editor.fill(VoxelIndex([0, 0, 0]), None, 2);
        assert_eq!(changes.len(), 12 * 10 * 5 + 5 * 10, "around the wall through other slices");
        assert!(editor.fill(VoxelIndex([99, 0, 0]), None, 2).is_empty());
    }

    #[test]
    fn undo_and_redo_restore_every_voxel() {
        let mut editor = editor();
        let empty = editor.data.clone();
        editor.begin();
        editor.stroke([2.0, 2.0, 2.0], [8.0, 7.0, 2.0], brush(1.5, Some(2)));
        let first = editor.data.clone();
        editor.begin();
        // Both belong to one step, and the second goes over the first.
        editor.stroke([2.0, 2.0, 2.0], [4.0, 2.0, 2.0], Brush { label: 7, ..brush(1.0, None) });
        editor.stroke([2.0, 2.0, 2.0], [4.0, 2.0, 2.0], Brush { label: 0, ..brush(1.0, None) });
        let second = editor.data.clone();
        assert_eq!(editor.steps(), [2, 0]);
        let changes = editor.undo();
        assert!(changes.iter().all(|change| change.before != change.after));
        assert_eq!(editor.data, first);
        editor.undo();
        assert!(editor.undo().is_empty());
        assert_eq!(editor.data, empty);
        editor.redo();
        editor.redo();
        assert!(editor.redo().is_empty());
        assert_eq!((&editor.data, editor.steps()), (&second, [2, 0]));
        editor.undo();
        editor.begin();
        editor.fill(VoxelIndex([0, 0, 5]), Some(2), 9);
        assert_eq!(editor.steps(), [2, 0], "what was undone cannot be repeated after a new step");
    }
}
