use crate::{AxisDirection, Geometry, Orientation, Reorientation, VoxelIndex};

/// An anatomical plane. Slices are cut along the axes of the grid, in the plane that is closest to the anatomical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// Viewed from the feet: the patient's left is on the right of the picture, anterior is up.
    Axial,
    /// Viewed from the front: the patient's left is on the right of the picture, superior is up.
    Coronal,
    /// Viewed from the patient's left: anterior is on the left of the picture, superior is up.
    Sagittal,
}

/// The radiological display grid: the first axis runs to the patient's left, the second to posterior, the third to
/// inferior.
const DISPLAY: [char; 3] = ['L', 'P', 'I'];

impl Plane {
    /// All three planes in display order.
    pub const ALL: [Self; 3] = [Self::Axial, Self::Coronal, Self::Sagittal];

    /// The axes of the display grid along the columns (to the right), the rows (down) and the slices.
    fn display_axes(self) -> [usize; 3] {
        match self {
            Self::Axial => [0, 1, 2],
            Self::Coronal => [0, 2, 1],
            Self::Sagittal => [1, 2, 0],
        }
    }
}

/// One slice in display orientation: rows from the top, columns from the left.
///
/// # Shapes
/// `data` is `[height, width]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceView<T> {
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
    /// Pixel size in millimetres along the columns and along the rows.
    pub pixel_mm: [f64; 2],
    /// The letters of the patient directions at the left, right, top and bottom edge.
    pub edges: [char; 4],
    /// The values, `[height, width]`.
    pub data: Vec<T>,
}

/// The slices of a plane in a grid. Each array holds one value for the columns, the rows and the slices.
#[derive(Debug, Clone, Copy)]
struct SliceLayout {
    source_axis: [usize; 3],
    size: [usize; 3],
    start: isize,
    stride: [isize; 3],
    mm: [f64; 3],
    directions: [AxisDirection; 3],
}

impl SliceLayout {
    fn new(geometry: &Geometry, plane: Plane) -> Self {
        let display: Orientation = DISPLAY.iter().collect::<String>().parse().unwrap_or(Orientation::RAS);
        let reorientation = Reorientation::between(geometry.orientation(), display);
        let (start, strides) = reorientation.strides(geometry.shape());
        let axes = plane.display_axes();
        let (shape, mm) = (reorientation.shape(geometry.shape()), reorientation.permute(geometry.spacing().mm()));
        Self {
            source_axis: axes.map(|a| reorientation.source_axis(a)),
            size: axes.map(|a| shape[a]),
            start,
            stride: axes.map(|a| strides[a]),
            mm: axes.map(|a| mm[a]),
            directions: axes.map(|a| display.axes()[a]),
        }
    }
}

impl Geometry {
    /// The number of slices of a plane.
    pub fn slices(&self, plane: Plane) -> usize {
        SliceLayout::new(self, plane).size[2]
    }

    /// The voxel at a pixel of a slice, or `None` outside the grid.
    pub fn voxel_at(&self, plane: Plane, slice: usize, column: usize, row: usize) -> Option<VoxelIndex> {
        let layout = SliceLayout::new(self, plane);
        let at = [column, row, slice];
        if (0..3).any(|i| at[i] >= layout.size[i]) {
            return None;
        }
        let offset = layout.start + (0..3).map(|i| at[i] as isize * layout.stride[i]).sum::<isize>();
        let [nx, ny, _] = self.shape();
        let offset = usize::try_from(offset).ok()?;
        Some(VoxelIndex([offset % nx, offset / nx % ny, offset / nx / ny]))
    }

    /// The `[slice, column, row]` of a voxel in a plane: the inverse of [`Geometry::voxel_at`].
    pub fn pixel_of(&self, plane: Plane, voxel: VoxelIndex) -> [usize; 3] {
        let layout = SliceLayout::new(self, plane);
        let [column, row, slice] = std::array::from_fn(|i| {
            let index = voxel.0[layout.source_axis[i]];
            if layout.stride[i] < 0 { layout.size[i].saturating_sub(1 + index) } else { index }
        });
        [slice, column, row]
    }
}

/// Extracts one slice in radiological display orientation. Slices are numbered from the patient's head (axial), front
/// (coronal) or right side (sagittal).
///
/// Returns `None` when there is no such slice, or when `data` does not have one value per voxel.
///
/// # Shapes
/// `data` is `[z, y, x]` on `geometry`; the slice is `[height, width]`.
pub fn extract_slice<T: Copy>(
    geometry: &Geometry,
    data: &[T],
    plane: Plane,
    slice: usize,
) -> Option<SliceView<T>> {
    let layout = SliceLayout::new(geometry, plane);
    let [width, height, slices] = layout.size;
    if slice >= slices || data.len() != geometry.voxels() {
        return None;
    }
    let mut out = Vec::with_capacity(width * height);
    for row in 0..height as isize {
        let first = layout.start + slice as isize * layout.stride[2] + row * layout.stride[1];
        out.extend((0..width as isize).map(|column| data[(first + column * layout.stride[0]) as usize]));
    }
    let [right, down, _] = layout.directions;
    Some(SliceView {
        width,
        height,
        pixel_mm: [layout.mm[0], layout.mm[1]],
        edges: [right.opposite().letter(), right.letter(), down.opposite().letter(), down.letter()],
        data: out,
    })
}

/// The window of intensities that is mapped linearly to the grey scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowLevel {
    /// The intensity that is shown black.
    pub low: f32,
    /// The intensity that is shown white.
    pub high: f32,
}

impl WindowLevel {
    /// Percentiles are taken of about this many values.
    const MAX_SAMPLES: usize = 200_000;

    /// The window from the 0.5th to the 99.5th percentile of the finite values. Zeros are ignored, since
    /// skull-stripped and padded scans consist mostly of them, unless more than nine in ten values are 0.
    pub fn auto(values: &[f32]) -> Self {
        Self::percentiles(values, [0.5, 99.5])
    }

    /// The window from one percentile to another, each from 0 to 100, of the values that [`WindowLevel::auto`] uses.
    pub fn percentiles(values: &[f32], percents: [f64; 2]) -> Self {
        let step = (values.len() / Self::MAX_SAMPLES).max(1);
        let finite: Vec<f32> = values.iter().step_by(step).copied().filter(|v| v.is_finite()).collect();
        let mut sample: Vec<f32> = finite.iter().copied().filter(|v| *v != 0.0).collect();
        if sample.len() * 10 < finite.len() {
            sample = finite;
        }
        sample.sort_unstable_by(f32::total_cmp);
        let Some(last) = sample.len().checked_sub(1) else {
            return Self { low: 0.0, high: 1.0 };
        };
        let [low, high] =
            percents.map(|percent| sample[((percent / 100.0 * last as f64).round() as usize).min(last)]);
        if high > low { Self { low, high } } else { Self { low: low - 0.5, high: low + 0.5 } }
    }

    /// The grey value of an intensity. NaN is black.
    pub fn grey(self, value: f32) -> u8 {
        let fraction = (value - self.low) / (self.high - self.low);
        (fraction * 255.0).round().clamp(0.0, 255.0) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OrientationSource, RasFromVoxel, Spacing};

    fn grid_of(shape: [usize; 3], orientation: Orientation) -> Geometry {
        let map = RasFromVoxel::aligned(orientation, Spacing::new([1.0, 2.0, 3.0]).unwrap());
        Geometry::new(shape, map, OrientationSource::Sform).unwrap()
    }

    fn grid(orientation: Orientation) -> Geometry {
        grid_of([3, 4, 5], orientation)
    }

    #[test]
    fn edge_letters_match_patient_directions_in_every_orientation() {
        for orientation in Orientation::all() {
            let geometry = grid(orientation);
            // The value of each voxel is its own position in the patient.
            let positions: Vec<[f64; 3]> = (0..60)
                .map(|i| geometry.ras_from_voxel().apply([(i % 3) as f64, (i / 3 % 4) as f64, (i / 12) as f64]).0)
                .collect();
            for (plane, across, down) in [
                (Plane::Axial, (0, -1.0), (1, -1.0)),
                (Plane::Coronal, (0, -1.0), (2, -1.0)),
                (Plane::Sagittal, (1, -1.0), (2, -1.0)),
            ] {
                let view = extract_slice(&geometry, &positions, plane, 1).unwrap();
                let (first, right) = (view.data[0], view.data[view.width - 1]);
                let below = view.data[view.width * (view.height - 1)];
                assert!((right[across.0] - first[across.0]) * across.1 > 0.0, "{orientation} {plane:?}");
                assert!((below[down.0] - first[down.0]) * down.1 > 0.0, "{orientation} {plane:?}");
                let head = extract_slice(&geometry, &positions, plane, 0).unwrap().data[0];
                let through = 3 - across.0 - down.0;
                let step = first[through] - head[through];
                assert!(step < 0.0, "{orientation} {plane:?}");
            }
        }
    }

    #[test]
    fn voxel_at_inverts_pixel_of() {
        for orientation in Orientation::all() {
            // The second grid has axes of one voxel, which have the same strides as their neighbours.
            for (shape, voxels) in
                [([3, 4, 5], [[0, 0, 0], [2, 1, 4], [1, 3, 2]]), ([1, 4, 1], [[0, 0, 0], [0, 3, 0], [0, 1, 0]])]
            {
                let geometry = grid_of(shape, orientation);
                for (plane, voxel) in Plane::ALL.into_iter().flat_map(|p| voxels.map(|v| (p, VoxelIndex(v)))) {
                    let [slice, column, row] = geometry.pixel_of(plane, voxel);
                    assert_eq!(
                        geometry.voxel_at(plane, slice, column, row),
                        Some(voxel),
                        "{orientation} {plane:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn auto_window_ignores_nan_and_infinity() {
        let values = [f32::NAN, f32::INFINITY, 10.0, 20.0, 30.0];
        let window = WindowLevel::auto(&values);
        assert_eq!((window.low, window.high), (10.0, 30.0));
        assert_eq!((window.grey(f32::NAN), window.grey(10.0), window.grey(40.0)), (0, 0, 255));
        let quartiles = WindowLevel::percentiles(&[5.0, 1.0, 3.0, 2.0, 4.0], [25.0, 75.0]);
        assert_eq!((quartiles.low, quartiles.high), (2.0, 4.0));
        assert!(WindowLevel::auto(&[]).high > WindowLevel::auto(&[]).low);
    }
}
