use std::ops::Range;

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

    /// The millimetres of a canvas pixel at zoom 1: a slice fits into the canvas. The scale is the same for all three planes, so
    /// that a structure has the same size on canvases of equal size, or that of the plane alone.
    fn fit(&self, plane: Plane, canvas: [usize; 2], fit: Fit) -> f64 {
        let planes = Plane::ALL.into_iter().filter(|p| fit == Fit::AllPlanes || *p == plane);
        planes
            .flat_map(|p| {
                let [across, down] = self.extent_mm(p);
                [canvas[0] as f64 / across, canvas[1] as f64 / down]
            })
            .fold(f64::INFINITY, f64::min)
    }

    /// The place of a slice on a canvas of width and height `canvas`, with square millimetres.
    pub fn frame(&self, plane: Plane, canvas: [usize; 2], camera: &Camera) -> Frame {
        let scale = self.fit(plane, canvas, camera.fit) * camera.zoom;
        let [across, down, _] = axes(plane);
        let extent = self.extent_mm(plane);
        let size: [usize; 2] = std::array::from_fn(|i| {
            let most = if camera.zoom > 1.0 { usize::MAX } else { canvas[i] };
            ((extent[i] * scale).round() as usize).clamp(1, most)
        });
        let cells = [self.size[across], self.size[down]];
        let flipped = camera.neurological && plane != Plane::Sagittal;
        let start = std::array::from_fn(|i| match camera.center {
            None => (canvas[i] as isize - size[i] as isize).div_euclid(2),
            Some(center) => {
                let at = center[[across, down][i]] / cells[i] as f64;
                let at = if flipped && i == 0 { 1.0 - at } else { at };
                (canvas[i] as f64 / 2.0 - at * size[i] as f64).round() as isize
            }
        });
        Frame { canvas, start, size, cells, flipped }
    }

    /// Changes the zoom by a factor. What is at a canvas position stays there.
    pub fn zoomed(&self, plane: Plane, canvas: [usize; 2], camera: &Camera, factor: f64, at: [f64; 2]) -> Camera {
        let zoom = (camera.zoom * factor).clamp(Camera::MIN_ZOOM, Camera::MAX_ZOOM);
        let fixed = self.frame(plane, canvas, camera).cell_at(at);
        let zoomed = Camera { zoom, center: Some(self.center_of(camera)), ..*camera };
        let moved = self.frame(plane, canvas, &zoomed).cell_at(at);
        self.shifted(plane, &zoomed, [fixed[0] - moved[0], fixed[1] - moved[1]])
    }

    /// Moves the picture by canvas pixels.
    pub fn panned(&self, plane: Plane, canvas: [usize; 2], camera: &Camera, by: [f64; 2]) -> Camera {
        let frame = self.frame(plane, canvas, camera);
        let (from, to) = (frame.cell_at([0.0; 2]), frame.cell_at(by));
        self.shifted(plane, camera, [from[0] - to[0], from[1] - to[1]])
    }

    fn center_of(&self, camera: &Camera) -> [f64; 3] {
        camera.center.unwrap_or(self.size.map(|n| n as f64 / 2.0))
    }

    /// Moves the centre by columns and rows of a plane. It stays in the grid.
    fn shifted(&self, plane: Plane, camera: &Camera, by: [f64; 2]) -> Camera {
        let mut center = self.center_of(camera);
        for (axis, by) in axes(plane).into_iter().zip(by) {
            center[axis] = (center[axis] + by).clamp(0.0, self.size[axis] as f64);
        }
        Camera { center: Some(center), ..*camera }
    }

    /// The distance between the slices of a plane, in millimetres.
    pub fn slice_mm(&self, plane: Plane) -> f64 {
        self.mm[axes(plane)[2]]
    }
}

/// Which slices fit into the canvas at zoom 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// Those of all three planes, with one scale.
    #[default]
    AllPlanes,
    /// Those of the drawn plane.
    OwnPlane,
}

/// The part of the grid that the planes show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    /// The magnification; at 1 the whole slice is shown.
    pub zoom: f64,
    /// The position in the middle of the canvases, in cells of the display grid; `None` for the middle of the grid.
    pub center: Option<[f64; 3]>,
    /// Whether the patient's left is on the left of axial and coronal pictures, instead of on the right.
    pub neurological: bool,
    /// Which slices fit into the canvas at zoom 1.
    pub fit: Fit,
}

impl Camera {
    const MIN_ZOOM: f64 = 0.25;
    const MAX_ZOOM: f64 = 40.0;
}

impl Default for Camera {
    fn default() -> Self {
        Self { zoom: 1.0, center: None, neurological: false, fit: Fit::AllPlanes }
    }
}

/// The voxel at a position on the display grid, as an index on the axes of the volume.
pub(crate) fn voxel_at(geometry: &Geometry, cursor: Cursor) -> Option<VoxelIndex> {
    let [column, row] = cursor.pixel(Plane::Axial);
    geometry.voxel_at(Plane::Axial, cursor.slice(Plane::Axial), column, row)
}

/// The voxel index, on the axes of the volume, of a position on the display grid with fractions. Cell `i` spans `i..i + 1`.
pub(crate) fn voxel_from_display(geometry: &Geometry, at: [f64; 3]) -> [f64; 3] {
    let mut voxel = [0.0; 3];
    for (axis, direction) in geometry.orientation().axes().into_iter().enumerate() {
        let from = at[direction.ras_axis()];
        // The display grid runs to the left, posterior and inferior: against the axes of the patient.
        let shape = geometry.shape()[axis] as f64;
        voxel[axis] = if direction.sign() > 0.0 { shape - from } else { from } - 0.5;
    }
    voxel
}

/// The inverse of [`voxel_from_display`].
pub(crate) fn display_from_voxel(geometry: &Geometry, voxel: [f64; 3]) -> [f64; 3] {
    let mut at = [0.0; 3];
    for (axis, direction) in geometry.orientation().axes().into_iter().enumerate() {
        let from = voxel[axis] + 0.5;
        let shape = geometry.shape()[axis] as f64;
        at[direction.ras_axis()] = if direction.sign() > 0.0 { shape - from } else { from };
    }
    at
}

/// The axes of the display grid along the columns, rows and slices of a plane, for positions with fractions.
pub(crate) fn plane_axes(plane: Plane) -> [usize; 3] {
    axes(plane)
}

/// The place of a slice on a canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The width and height of the canvas in pixels.
    pub canvas: [usize; 2],
    /// The canvas pixel of the top left corner of the slice. It may lie outside the canvas.
    pub start: [isize; 2],
    /// The width and height of the slice in canvas pixels; at least 1.
    pub size: [usize; 2],
    /// The number of columns and rows of the slice.
    pub cells: [usize; 2],
    /// Whether the first column is at the right edge.
    pub flipped: bool,
}

impl Frame {
    /// The canvas columns (`axis` 0) or rows (`axis` 1) that the slice covers.
    pub fn visible(&self, axis: usize) -> Range<usize> {
        let inside = |at: isize| at.clamp(0, self.canvas[axis] as isize) as usize;
        inside(self.start[axis])..inside(self.start[axis].saturating_add_unsigned(self.size[axis]))
    }

    /// The fractional column (`axis` 0) or row (`axis` 1) of the slice at a canvas position. Cell `i` spans `i..i + 1`.
    pub fn cell(&self, axis: usize, at: f64) -> f64 {
        let cells = self.cells[axis] as f64;
        let cell = (at - self.start[axis] as f64) * cells / self.size[axis] as f64;
        if self.flipped && axis == 0 { cells - cell } else { cell }
    }

    /// The fractional column and row at a canvas position. They may lie outside the slice.
    pub fn cell_at(&self, at: [f64; 2]) -> [f64; 2] {
        [self.cell(0, at[0]), self.cell(1, at[1])]
    }

    /// The column and row at a canvas position, clamped to the slice.
    pub fn cell_under(&self, at: [f64; 2]) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let last = self.cells[axis] - 1;
            (self.cell(axis, at[axis]).max(0.0) as usize).min(last)
        })
    }

    /// The canvas position of a fractional column and row: the inverse of [`Frame::cell_at`].
    pub fn canvas_at(&self, cell: [f64; 2]) -> [f64; 2] {
        std::array::from_fn(|axis| {
            let cells = self.cells[axis] as f64;
            let cell = if self.flipped && axis == 0 { cells - cell[axis] } else { cell[axis] };
            self.start[axis] as f64 + cell * self.size[axis] as f64 / cells
        })
    }

    /// The canvas position of the centre of a cell.
    pub fn center_of(&self, cell: [usize; 2]) -> [f64; 2] {
        self.canvas_at(cell.map(|i| i as f64 + 0.5))
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
        let sizes = Plane::ALL.map(|p| display.frame(p, [400, 400], &Camera::default()).size);
        assert_eq!(sizes, [[200, 300], [200, 400], [300, 400]]);
        assert_eq!(display.frame(Plane::Axial, [400, 400], &Camera::default()).start, [100, 50]);
        let own = Camera { fit: Fit::OwnPlane, ..Camera::default() };
        assert_eq!(display.frame(Plane::Axial, [400, 400], &own).size, [267, 400]);
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
            for neurological in [false, true] {
                let camera = Camera { zoom: 1.7, neurological, ..Camera::default() };
                let frame = display.frame(plane, [211, 157], &camera);
                for column in 0..frame.cells[0] {
                    for row in 0..frame.cells[1] {
                        assert_eq!(frame.cell_under(frame.center_of([column, row])), [column, row], "{plane:?}");
                    }
                }
                let left = if frame.flipped { frame.cells[0] - 1 } else { 0 };
                assert_eq!(frame.cell_under([-1e6, 1e6]), [left, frame.cells[1] - 1]);
                assert_eq!(frame.flipped, neurological && plane != Plane::Sagittal);
            }
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

    #[test]
    fn zoom_keeps_what_is_under_the_pointer_and_pan_moves_it_with_the_pointer() {
        let display = DisplayGrid::new(&grid("LPS", [70, 50, 30], [0.7, 1.9, 4.0]));
        let (canvas, at) = ([300, 200], [120.0, 90.0]);
        for (plane, neurological) in Plane::ALL.into_iter().flat_map(|p| [(p, false), (p, true)]) {
            let before = Camera { neurological, ..Camera::default() };
            let cell = display.frame(plane, canvas, &before).cell_at(at);
            let zoomed = display.zoomed(plane, canvas, &before, 3.0, at);
            assert_eq!(zoomed.zoom, 3.0);
            let after = display.frame(plane, canvas, &zoomed);
            // A canvas pixel is the unit of positions on screen.
            let found = after.canvas_at(cell);
            assert!((0..2).all(|i| (found[i] - at[i]).abs() <= 1.0), "{plane:?} {found:?}");
            let panned = display.panned(plane, canvas, &zoomed, [17.0, -9.0]);
            let moved = display.frame(plane, canvas, &panned).canvas_at(cell);
            let by = [moved[0] - found[0], moved[1] - found[1]];
            assert!((by[0] - 17.0).abs() <= 1.0 && (by[1] + 9.0).abs() <= 1.0, "{plane:?} {by:?}");
            let away = display.panned(plane, canvas, &zoomed, [1e9, 1e9]);
            let frame = display.frame(plane, canvas, &away);
            assert!((0..2).all(|i| !frame.visible(i).is_empty()), "a part of the slice stays on the canvas");
        }
        let most = display.zoomed(Plane::Axial, canvas, &Camera::default(), 1e9, at);
        assert_eq!(most.zoom, Camera::MAX_ZOOM);
    }

    #[test]
    fn positions_with_fractions_round_trip_and_agree_with_voxels() {
        for orientation in Orientation::all() {
            let geometry = grid(&orientation.to_string(), [4, 5, 6], [1.0, 2.0, 3.0]);
            for cursor in [Cursor([0, 0, 0]), Cursor([1, 3, 2]), Cursor([3, 3, 3])] {
                let voxel = voxel_at(&geometry, cursor).unwrap().0.map(|i| i as f64);
                assert_eq!(
                    voxel_from_display(&geometry, cursor.0.map(|i| i as f64 + 0.5)),
                    voxel,
                    "{orientation}"
                );
            }
            let at = [0.25, 1.5, 3.75];
            assert_eq!(display_from_voxel(&geometry, voxel_from_display(&geometry, at)), at);
        }
    }
}
