//! Moves the crosshair and the picture.

use sulcus_volume::{Label, Plane, RasPoint, extract_slice};

use super::Scene;
use crate::display::{Cursor, display_from_voxel, plane_axes, voxel_from_display};

impl Scene {
    /// The number of slices of a plane and the index of the displayed one.
    pub fn slices(&self, plane: Plane) -> Option<[usize; 2]> {
        Some([self.grid?.slices(plane), self.cursor?.slice(plane)])
    }

    /// The letters of the patient directions at the left, right, top and bottom edge of a plane. A picture has none.
    pub fn edges(&self, plane: Plane) -> Option<[char; 4]> {
        self.geometry().filter(|geometry| !geometry.is_picture())?;
        let [left, right, top, bottom] = match plane {
            Plane::Axial => ['R', 'L', 'A', 'P'],
            Plane::Coronal => ['R', 'L', 'S', 'I'],
            Plane::Sagittal => ['A', 'P', 'S', 'I'],
        };
        let flipped = self.settings.camera.neurological && plane != Plane::Sagittal;
        Some(if flipped { [right, left, top, bottom] } else { [left, right, top, bottom] })
    }

    fn move_to(&mut self, cursor: Cursor) {
        (self.cursor, self.cursor_was_moved) = (Some(cursor), true);
    }

    /// Moves the crosshair to a canvas position in a plane.
    pub fn point_at(&mut self, plane: Plane, canvas: [usize; 2], at: [f64; 2]) {
        if let (Some(frame), Some(cursor)) = (self.frame(plane, canvas), self.cursor) {
            self.move_to(cursor.with_pixel(plane, frame.cell_under(at)));
        }
    }

    /// Moves the crosshair by columns to the right on screen, rows down and slices of a plane.
    pub fn step(&mut self, plane: Plane, [columns, rows, slices]: [i32; 3]) {
        let flipped = self.settings.camera.neurological && plane != Plane::Sagittal;
        let columns = if flipped { columns.saturating_neg() } else { columns };
        if let (Some(grid), Some(cursor)) = (self.grid, self.cursor) {
            self.move_to(grid.moved(cursor, plane, [columns, rows, slices]));
        }
    }

    /// Moves the crosshair to a slice of a plane.
    pub fn go_to_slice(&mut self, plane: Plane, slice: usize) {
        if let (Some(grid), Some(cursor)) = (self.grid, self.cursor) {
            let steps = slice.min(grid.slices(plane) - 1) as i64 - cursor.slice(plane) as i64;
            let steps = i32::try_from(steps).unwrap_or(i32::MAX);
            self.move_to(grid.moved(cursor, plane, [0, 0, steps]));
        }
    }

    /// Changes the zoom by a factor; what is at the canvas position stays there.
    pub fn zoom(&mut self, plane: Plane, canvas: [usize; 2], factor: f64, at: [f64; 2]) {
        if let (Some(grid), Some(_)) = (self.grid, self.frame(plane, canvas)) {
            self.settings.camera = grid.zoomed(plane, canvas, &self.settings.camera, factor, at);
        }
    }

    /// Moves the picture by canvas pixels.
    pub fn pan(&mut self, plane: Plane, canvas: [usize; 2], by: [f64; 2]) {
        if let (Some(grid), Some(_)) = (self.grid, self.frame(plane, canvas)) {
            self.settings.camera = grid.panned(plane, canvas, &self.settings.camera, by);
        }
    }

    /// The length of a canvas pixel in millimetres.
    pub fn mm_per_pixel(&self, plane: Plane, canvas: [usize; 2]) -> Option<f64> {
        let (geometry, frame) = (self.geometry()?, self.frame(plane, canvas)?);
        let across = plane_axes(plane)[0];
        let axes = geometry.orientation().axes();
        let axis = axes.iter().position(|direction| direction.ras_axis() == across)?;
        Some(geometry.spacing().mm()[axis] * frame.cells[0] as f64 / frame.size[0] as f64)
    }

    /// The patient position of a canvas position in the middle of the displayed slice.
    pub fn ras_at(&self, plane: Plane, canvas: [usize; 2], at: [f64; 2]) -> Option<RasPoint> {
        Some(self.geometry()?.ras_from_voxel().apply(self.voxel_at(plane, canvas, at)?))
    }

    /// The axis of the file across the slices of a plane.
    pub fn axis_across(&self, plane: Plane) -> Option<usize> {
        let axes = self.geometry()?.orientation().axes();
        axes.iter().position(|direction| direction.ras_axis() == plane_axes(plane)[2])
    }

    /// The voxel index, with fractions, of a canvas position in the middle of the displayed slice.
    pub fn voxel_at(&self, plane: Plane, canvas: [usize; 2], at: [f64; 2]) -> Option<[f64; 3]> {
        let (geometry, frame) = (self.geometry()?, self.frame(plane, canvas)?);
        let [column, row] = frame.cell_at(at);
        let [across, down, through] = plane_axes(plane);
        let mut display = [0.0; 3];
        display[across] = column;
        display[down] = row;
        display[through] = self.cursor?.slice(plane) as f64 + 0.5;
        Some(voxel_from_display(geometry, display))
    }

    /// The canvas position of a patient position in a plane, and its distance from the middle of the displayed slice in
    /// slices.
    pub fn canvas_at(&self, plane: Plane, canvas: [usize; 2], at: RasPoint) -> Option<[f64; 3]> {
        let (geometry, frame) = (self.geometry()?, self.frame(plane, canvas)?);
        let display = display_from_voxel(geometry, geometry.ras_from_voxel().inverse().apply(at));
        let [across, down, through] = plane_axes(plane);
        let [x, y] = frame.canvas_at([display[across], display[down]]);
        Some([x, y, display[through] - 0.5 - self.cursor?.slice(plane) as f64])
    }

    /// Moves the crosshair to the voxel nearest to a patient position. Positions outside the grid are ignored.
    pub fn go_to_ras(&mut self, at: RasPoint) {
        let Some((geometry, grid)) = self.geometry().zip(self.grid) else { return };
        let display = display_from_voxel(geometry, geometry.ras_from_voxel().inverse().apply(at));
        let inside = [Plane::Sagittal, Plane::Coronal, Plane::Axial]
            .into_iter()
            .zip(display)
            .all(|(plane, at)| (0.0..grid.slices(plane) as f64).contains(&at));
        if inside {
            self.move_to(Cursor(display.map(|at| at as usize)));
        }
    }

    /// Moves the crosshair into a label.
    pub fn go_to(&mut self, label: Label) {
        if let Some(cursor) = self.voxel_near_centroid(Some(label)) {
            self.move_to(cursor);
        }
    }

    /// Moves the crosshair into the slice of a plane in which a label covers most voxels.
    pub fn go_to_largest(&mut self, plane: Plane, label: Label) {
        let found = [0, 1].into_iter().find_map(|layer| {
            let map = self.labels(layer)?.map();
            self.fullest_slice(plane, &|slice| {
                let view = extract_slice(map.geometry(), map.data(), plane, slice)?;
                Some((view.width, view.data.into_iter().map(|l| l == label).collect()))
            })
        });
        if let Some(cursor) = found {
            self.move_to(cursor);
        }
    }

    /// Moves the crosshair into the slice of a plane in which mask and reference differ in most voxels of the labels that are
    /// shown.
    pub fn go_to_worst(&mut self, plane: Plane) {
        let shown = |label: Label| self.palette.of(label).map(|_| label);
        let differing = self.labels(0).zip(self.labels(1)).and_then(|(mask, truth)| {
            self.fullest_slice(plane, &|slice| {
                let [mask, truth] = [mask.map(), truth.map()].map(|map| {
                    extract_slice(map.geometry(), map.data(), plane, slice).map(|view| (view.width, view.data))
                });
                let ((width, mask), (_, truth)) = mask.zip(truth)?;
                let differ = mask.into_iter().zip(truth).map(|(mask, truth)| shown(mask) != shown(truth));
                Some((width, differ.collect()))
            })
        });
        if let Some(cursor) = differing {
            self.move_to(cursor);
        }
    }

    /// In the slice with most marked pixels, the first of several: the marked pixel that is closest to their centroid. The
    /// function gives the width and the marks of a slice.
    fn fullest_slice(&self, plane: Plane, marks: &dyn Fn(usize) -> Option<(usize, Vec<bool>)>) -> Option<Cursor> {
        let mut fullest: Option<(usize, usize, usize, Vec<bool>)> = None;
        for slice in 0..self.grid?.slices(plane) {
            let (width, marked) = marks(slice)?;
            let n = marked.iter().filter(|marked| **marked).count();
            if n > fullest.as_ref().map_or(0, |(most, ..)| *most) {
                fullest = Some((n, slice, width, marked));
            }
        }
        let (_, slice, width, marked) = fullest?;
        let positions =
            || marked.iter().enumerate().filter(|(_, marked)| **marked).map(|(i, _)| [i % width, i / width]);
        let [column, row] = nearest_to_centroid(positions)?;
        let mut cursor = Cursor([0; 3]).with_pixel(plane, [column, row]);
        cursor.0[plane_axes(plane)[2]] = slice;
        Some(cursor)
    }

    /// The voxel with a label, or with any but the background, that is closest to the centroid of all such voxels, in the first
    /// layer that has any. The result does not depend on the order of axes in the file.
    pub(super) fn voxel_near_centroid(&self, label: Option<Label>) -> Option<Cursor> {
        let wanted = |value: Label| label.map_or(value != 0, |label| value == label);
        [0, 1].into_iter().find_map(|layer| {
            let map = self.labels(layer)?.map();
            let geometry = map.geometry();
            let [width, height, _] = geometry.shape();
            let (mut n, mut sum) = (0_usize, [0_usize; 3]);
            for (row, labels) in map.data().chunks_exact(width).enumerate() {
                let (mut in_row, mut along) = (0, 0);
                for (x, _) in labels.iter().enumerate().filter(|(_, value)| wanted(**value)) {
                    in_row += 1;
                    along += x;
                }
                n += in_row;
                sum = [sum[0] + along, sum[1] + in_row * (row % height), sum[2] + in_row * (row / height)];
            }
            if n == 0 {
                return None;
            }
            // On the display grid in whole numbers, so that rounding does not depend on the order of axes either.
            let mut centroid = [0.0; 3];
            for (axis, direction) in geometry.orientation().axes().into_iter().enumerate() {
                let last = geometry.shape()[axis] - 1;
                let sum = if direction.sign() > 0.0 { n * last - sum[axis] } else { sum[axis] };
                centroid[direction.ras_axis()] = sum as f64 / n as f64;
            }
            // From the slice of the centroid outwards, as far as a slice can have a closer voxel.
            let mut slices: Vec<usize> = (0..geometry.slices(Plane::Axial)).collect();
            let away = |slice: usize| (slice as f64 - centroid[2]).powi(2);
            slices.sort_unstable_by(|a, b| away(*a).total_cmp(&away(*b)));
            let mut nearest: Option<(f64, [usize; 3])> = None;
            for slice in slices {
                if nearest.is_some_and(|(squared, _)| squared < away(slice)) {
                    break;
                }
                let view = extract_slice(geometry, map.data(), Plane::Axial, slice)?;
                for (at, _) in view.data.iter().enumerate().filter(|(_, value)| wanted(**value)) {
                    let [x, y] = [at % view.width, at / view.width];
                    let squared =
                        (x as f64 - centroid[0]).powi(2) + (y as f64 - centroid[1]).powi(2) + away(slice);
                    if nearest.is_none_or(|found| (squared, [x, y, slice]) < found) {
                        nearest = Some((squared, [x, y, slice]));
                    }
                }
            }
            nearest.map(|(_, position)| Cursor(position))
        })
    }
}

/// The pixel that is closest to the centroid of all.
fn nearest_to_centroid<I: Iterator<Item = [usize; 2]>>(positions: impl Fn() -> I) -> Option<[usize; 2]> {
    let (n, sum) = positions().fold((0_usize, [0_usize; 2]), |(n, sum), position| {
        (n + 1, std::array::from_fn(|axis| sum[axis] + position[axis]))
    });
    let squared_distance = |position: &[usize; 2]| -> f64 {
        position.iter().zip(sum).map(|(at, sum)| (*at as f64 - sum as f64 / n as f64).powi(2)).sum()
    };
    positions().min_by(|a, b| squared_distance(a).total_cmp(&squared_distance(b)))
}
