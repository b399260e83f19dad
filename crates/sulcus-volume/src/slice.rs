use crate::{AxisDirection, Geometry, Orientation, Reorientation, VoxelIndex};

/// One of the three anatomical planes, nearest to the grid's own axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// Seen from the feet: the patient's left on the right of the picture, anterior up.
    Axial,
    /// Seen from the front: the patient's left on the right of the picture, superior up.
    Coronal,
    /// Seen from the patient's left: anterior on the left of the picture, superior up.
    Sagittal,
}

/// The radiological display grid: first axis to the left, second to posterior, third to inferior.
const DISPLAY: [char; 3] = ['L', 'P', 'I'];

impl Plane {
    /// All three, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Axial, Self::Coronal, Self::Sagittal];

    /// Axes of the display grid that run along columns (to the right), along rows (down) and through the slices.
    fn display_axes(self) -> [usize; 3] {
        match self {
            Self::Axial => [0, 1, 2],
            Self::Coronal => [0, 2, 1],
            Self::Sagittal => [1, 2, 0],
        }
    }
}

/// One slice, ready to be drawn: rows from the top, columns from the left.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceView<T> {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Size of a pixel in millimetres, across and down.
    pub pixel_mm: [f64; 2],
    /// Letters of the patient directions at the left, right, top and bottom edges.
    pub edges: [char; 4],
    /// `[height, width]` values.
    pub data: Vec<T>,
}

/// How a plane cuts a grid: sizes, and where the pixels of a slice lie in the data.
#[derive(Debug, Clone, Copy)]
struct Cut {
    source_axis: [usize; 3],
    size: [usize; 3],
    start: isize,
    stride: [isize; 3],
    mm: [f64; 3],
    directions: [AxisDirection; 3],
}

impl Cut {
    fn new(geometry: &Geometry, plane: Plane) -> Self {
        let display: Orientation = DISPLAY.iter().collect::<String>().parse().unwrap_or(Orientation::RAS);
        let turn = Reorientation::between(geometry.orientation(), display);
        let (start, strides) = turn.strides(geometry.shape());
        let axes = plane.display_axes();
        let (shape, mm) = (turn.shape(geometry.shape()), turn.triple(geometry.spacing().mm()));
        Self {
            source_axis: axes.map(|a| turn.source_axis(a)),
            size: axes.map(|a| shape[a]),
            start,
            stride: axes.map(|a| strides[a]),
            mm: axes.map(|a| mm[a]),
            directions: axes.map(|a| display.axes()[a]),
        }
    }
}

impl Geometry {
    /// How many slices this plane has.
    pub fn slices(&self, plane: Plane) -> usize {
        Cut::new(self, plane).size[2]
    }

    /// The voxel under a pixel of a slice, or `None` outside.
    pub fn voxel_at(&self, plane: Plane, slice: usize, column: usize, row: usize) -> Option<VoxelIndex> {
        let cut = Cut::new(self, plane);
        let at = [column, row, slice];
        if (0..3).any(|i| at[i] >= cut.size[i]) {
            return None;
        }
        let offset = cut.start + (0..3).map(|i| at[i] as isize * cut.stride[i]).sum::<isize>();
        let [nx, ny, _] = self.shape();
        let offset = usize::try_from(offset).ok()?;
        Some(VoxelIndex([offset % nx, offset / nx % ny, offset / nx / ny]))
    }

    /// The slice, column and row at which this plane shows a voxel: the inverse of [`Geometry::voxel_at`].
    pub fn pixel_of(&self, plane: Plane, voxel: VoxelIndex) -> [usize; 3] {
        let cut = Cut::new(self, plane);
        let [column, row, slice] = std::array::from_fn(|i| {
            let index = voxel.0[cut.source_axis[i]];
            if cut.stride[i] < 0 { cut.size[i].saturating_sub(1 + index) } else { index }
        });
        [slice, column, row]
    }
}

/// Cuts one slice out of `data`, which lies on `geometry`, first axis fastest. Slices count from the patient's
/// head (axial), front (coronal) or right (sagittal). `None` when there is no such slice or the data does not fit.
pub fn extract_slice<T: Copy>(
    geometry: &Geometry,
    data: &[T],
    plane: Plane,
    slice: usize,
) -> Option<SliceView<T>> {
    let cut = Cut::new(geometry, plane);
    let [width, height, slices] = cut.size;
    if slice >= slices || data.len() != geometry.voxels() {
        return None;
    }
    let mut out = Vec::with_capacity(width * height);
    for row in 0..height as isize {
        let first = cut.start + slice as isize * cut.stride[2] + row * cut.stride[1];
        out.extend((0..width as isize).map(|column| data[(first + column * cut.stride[0]) as usize]));
    }
    let [right, down, _] = cut.directions;
    Some(SliceView {
        width,
        height,
        pixel_mm: [cut.mm[0], cut.mm[1]],
        edges: [right.opposite().letter(), right.letter(), down.opposite().letter(), down.letter()],
        data: out,
    })
}

/// The intensity window that is stretched over the grey scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowLevel {
    /// Shown black.
    pub low: f32,
    /// Shown white.
    pub high: f32,
}

impl WindowLevel {
    /// At most this many values are looked at.
    const SAMPLE: usize = 200_000;

    /// From the 0.5th to the 99.5th percentile of the finite values; values of 0 are left out when they are many,
    /// as in skull-stripped or padded scans.
    pub fn auto(values: &[f32]) -> Self {
        let step = (values.len() / Self::SAMPLE).max(1);
        let finite: Vec<f32> = values.iter().step_by(step).copied().filter(|v| v.is_finite()).collect();
        let mut sample: Vec<f32> = finite.iter().copied().filter(|v| *v != 0.0).collect();
        if sample.len() * 10 < finite.len() {
            sample = finite;
        }
        sample.sort_unstable_by(f32::total_cmp);
        let Some(last) = sample.len().checked_sub(1) else {
            return Self { low: 0.0, high: 1.0 };
        };
        let at = |share: f64| sample[(share * last as f64).round() as usize];
        let (low, high) = (at(0.005), at(0.995));
        if high > low { Self { low, high } } else { Self { low: low - 0.5, high: low + 0.5 } }
    }

    /// The grey value of an intensity; NaN is black.
    pub fn grey(self, value: f32) -> u8 {
        let share = (value - self.low) / (self.high - self.low);
        (share * 255.0).round().clamp(0.0, 255.0) as u8
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
    fn edges_are_where_the_letters_say_in_every_orientation() {
        for orientation in Orientation::all() {
            let geometry = grid(orientation);
            // Each voxel holds its own place in the patient.
            let places: Vec<[f64; 3]> = (0..60)
                .map(|i| geometry.ras_from_voxel().apply([(i % 3) as f64, (i / 3 % 4) as f64, (i / 12) as f64]).0)
                .collect();
            for (plane, across, down) in [
                (Plane::Axial, (0, -1.0), (1, -1.0)),
                (Plane::Coronal, (0, -1.0), (2, -1.0)),
                (Plane::Sagittal, (1, -1.0), (2, -1.0)),
            ] {
                let view = extract_slice(&geometry, &places, plane, 1).unwrap();
                let (first, right) = (view.data[0], view.data[view.width - 1]);
                let below = view.data[view.width * (view.height - 1)];
                assert!((right[across.0] - first[across.0]) * across.1 > 0.0, "{orientation} {plane:?}");
                assert!((below[down.0] - first[down.0]) * down.1 > 0.0, "{orientation} {plane:?}");
                let head = extract_slice(&geometry, &places, plane, 0).unwrap().data[0];
                let through = 3 - across.0 - down.0;
                let step = first[through] - head[through];
                assert!(step < 0.0, "{orientation} {plane:?}");
            }
        }
    }

    #[test]
    fn a_pixel_and_its_voxel_find_each_other() {
        for orientation in Orientation::all() {
            // The second grid has axes of one voxel, whose strides are those of their neighbours.
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
    fn the_window_ignores_what_is_not_a_number() {
        let values = [f32::NAN, f32::INFINITY, 10.0, 20.0, 30.0];
        let window = WindowLevel::auto(&values);
        assert_eq!((window.low, window.high), (10.0, 30.0));
        assert_eq!((window.grey(f32::NAN), window.grey(10.0), window.grey(40.0)), (0, 0, 255));
        assert!(WindowLevel::auto(&[]).high > WindowLevel::auto(&[]).low);
    }
}
