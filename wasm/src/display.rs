use sulcus_volume::{Geometry, Plane, VoxelIndex};

/// A position on the display grid: the indices towards the patient's left, posterior and inferior. It is the position of
/// the crosshair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub [usize; 3]);

/// The axes of the display grid along the columns, rows and slices of a plane.
fn axes(plane: Plane) -> [usize; 3] {
    match plane {
        Plane::Axial => [0, 1, 2],
        Plane::Coronal => [0, 2, 1],
        Plane::Sagittal => [1, 2, 0],
    }
}

impl Cursor {
    /// The column and row of this position in a plane.
    pub fn pixel(self, plane: Plane) -> [usize; 2] {
        let [across, down, _] = axes(plane);
        [self.0[across], self.0[down]]
    }

    /// The index of the slice of a plane that contains this position.
    pub fn slice(self, plane: Plane) -> usize {
        self.0[axes(plane)[2]]
    }

    /// This position with another column and row in a plane.
    pub fn with_pixel(mut self, plane: Plane, [column, row]: [usize; 2]) -> Self {
        let [across, down, _] = axes(plane);
        self.0[across] = column;
        self.0[down] = row;
        self
    }
}

/// The size of a grid along the axes of the display grid, in voxels and in millimetres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DisplayGrid {
    size: [usize; 3],
    mm: [f64; 3],
}

impl DisplayGrid {
    /// The display grid of a volume.
    pub fn new(geometry: &Geometry) -> Self {
        let mut mm = [1.0; 3];
        for (direction, length) in geometry.orientation().axes().into_iter().zip(geometry.spacing().mm()) {
            mm[direction.ras_axis()] = length;
        }
        Self { size: [Plane::Sagittal, Plane::Coronal, Plane::Axial].map(|p| geometry.slices(p)), mm }
    }

    /// The position in the middle of the grid.
    pub fn center(&self) -> Cursor {
        Cursor(self.size.map(|n| n / 2))
    }

    /// The number of slices of a plane.
    pub fn slices(&self, plane: Plane) -> usize {
        self.size[axes(plane)[2]]
    }

    /// The position `steps` columns, rows and slices away in a plane, clamped to the grid.
    pub fn moved(&self, from: Cursor, plane: Plane, steps: [i32; 3]) -> Cursor {
        let mut to = from;
        for (axis, step) in axes(plane).into_iter().zip(steps) {
            let last = self.size[axis] - 1;
            to.0[axis] = from.0[axis].saturating_add_signed(step as isize).min(last);
        }
        to
    }

    /// The width and height of a slice in millimetres.
    fn extent_mm(&self, plane: Plane) -> [f64; 2] {
        let [across, down, _] = axes(plane);
        [across, down].map(|a| self.size[a] as f64 * self.mm[a])
    }

    /// The part of a canvas of width and height `canvas` that a slice covers: centred, with square millimetres. The scale is the
    /// same for all three planes, so a structure has the same size on canvases of equal size.
    pub fn frame(&self, plane: Plane, canvas: [usize; 2]) -> Frame {
        let scale = Plane::ALL
            .into_iter()
            .flat_map(|p| {
                let [across, down] = self.extent_mm(p);
                [canvas[0] as f64 / across, canvas[1] as f64 / down]
            })
            .fold(f64::INFINITY, f64::min);
        let [across, down, _] = axes(plane);
        let extent = self.extent_mm(plane);
        let size: [usize; 2] = std::array::from_fn(|i| ((extent[i] * scale).round() as usize).clamp(1, canvas[i]));
        let start = std::array::from_fn(|i| (canvas[i] - size[i]) / 2);
        Frame { start, size, cells: [self.size[across], self.size[down]] }
    }
}

/// The voxel at a position on the display grid, as an index on the axes of the volume.
pub(crate) fn voxel_at(geometry: &Geometry, cursor: Cursor) -> Option<VoxelIndex> {
    let [column, row] = cursor.pixel(Plane::Axial);
    geometry.voxel_at(Plane::Axial, cursor.slice(Plane::Axial), column, row)
}

/// The part of a canvas that a slice covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The canvas pixel of the top left corner.
    pub start: [usize; 2],
    /// The width and height in canvas pixels; at least 1.
    pub size: [usize; 2],
    /// The number of columns and rows of the slice.
    pub cells: [usize; 2],
}

impl Frame {
    /// The fractional column (`axis` 0) or row (`axis` 1) of the slice at a canvas position. Cell `i` spans `i..i + 1`.
    pub fn cell(&self, axis: usize, at: f64) -> f64 {
        (at - self.start[axis] as f64) * self.cells[axis] as f64 / self.size[axis] as f64
    }

    /// The column and row at a canvas position, clamped to the slice.
    pub fn cell_under(&self, at: [f64; 2]) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let last = self.cells[axis] - 1;
            (self.cell(axis, at[axis]).max(0.0) as usize).min(last)
        })
    }

    /// The canvas position of the centre of a cell.
    pub fn center_of(&self, cell: [usize; 2]) -> [f64; 2] {
        std::array::from_fn(|axis| {
            self.start[axis] as f64 + (cell[axis] as f64 + 0.5) * self.size[axis] as f64 / self.cells[axis] as f64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_volume::{Orientation, OrientationSource, RasFromVoxel, Spacing};

    fn grid(code: &str, shape: [usize; 3], mm: [f64; 3]) -> Geometry {
        let orientation: Orientation = code.parse().unwrap();
        let map = RasFromVoxel::aligned(orientation, Spacing::new(mm).unwrap());
        Geometry::new(shape, map, OrientationSource::Sform).unwrap()
    }

    #[test]
    fn frames_keep_proportions_and_share_one_scale() {
        // 40 x 60 x 80 mm, towards R, A and S.
        let display = DisplayGrid::new(&grid("RAS", [40, 30, 16], [1.0, 2.0, 5.0]));
        let sizes = Plane::ALL.map(|p| display.frame(p, [400, 400]).size);
        assert_eq!(sizes, [[200, 300], [200, 400], [300, 400]]);
        assert_eq!(display.frame(Plane::Axial, [400, 400]).start, [100, 50]);
    }

    #[test]
    fn display_grid_does_not_depend_on_the_order_of_axes_in_the_file() {
        let expected = DisplayGrid::new(&grid("RAS", [3, 4, 5], [1.0, 2.0, 3.0]));
        assert_eq!(DisplayGrid::new(&grid("SLA", [5, 3, 4], [3.0, 1.0, 2.0])), expected);
        assert_eq!(DisplayGrid::new(&grid("PIR", [4, 5, 3], [2.0, 3.0, 1.0])), expected);
    }

    #[test]
    fn cell_under_inverts_center_of() {
        let display = DisplayGrid::new(&grid("LPS", [7, 5, 3], [0.7, 1.9, 4.0]));
        for plane in Plane::ALL {
            let frame = display.frame(plane, [211, 157]);
            for column in 0..frame.cells[0] {
                for row in 0..frame.cells[1] {
                    assert_eq!(frame.cell_under(frame.center_of([column, row])), [column, row], "{plane:?}");
                }
            }
            assert_eq!(frame.cell_under([-50.0, 1e6]), [0, frame.cells[1] - 1]);
        }
    }

    #[test]
    fn steps_go_where_the_patient_directions_say_and_stop_at_the_edge() {
        let display = DisplayGrid::new(&grid("RAS", [10, 20, 30], [1.0; 3]));
        let start = display.center();
        assert_eq!(start, Cursor([5, 10, 15]));
        assert_eq!(display.moved(start, Plane::Coronal, [1, -2, 3]), Cursor([6, 13, 13]));
        assert_eq!(display.moved(start, Plane::Sagittal, [-99, 99, -99]), Cursor([0, 0, 29]));
    }

    #[test]
    fn voxel_at_is_the_voxel_that_the_plane_shows() {
        for orientation in Orientation::all() {
            let mut mm = [0.0; 3];
            let mut shape = [0; 3];
            for (i, axis) in orientation.axes().into_iter().enumerate() {
                mm[i] = [1.0, 2.0, 3.0][axis.ras_axis()];
                shape[i] = [4, 5, 6][axis.ras_axis()];
            }
            let geometry = grid(&orientation.to_string(), shape, mm);
            let values: Vec<usize> = (0..geometry.voxels()).collect();
            let cursor = Cursor([1, 3, 4]);
            let offset = geometry.offset(voxel_at(&geometry, cursor).unwrap()).unwrap();
            for plane in Plane::ALL {
                let view = sulcus_volume::extract_slice(&geometry, &values, plane, cursor.slice(plane)).unwrap();
                let [column, row] = cursor.pixel(plane);
                assert_eq!(view.data[row * view.width + column], offset, "{orientation} {plane:?}");
            }
        }
    }
}
