use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sulcus_volume::{Geometry, Orientation, VolumeError};

/// How the axes of the preprocessed grid lie in the scan or the patient. As text: a code such as `RAS`, `acquired`, or `stored`,
/// where axes in another order than that of the file follow after a colon: `stored:zxy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum GridAxes {
    /// Along the patient's axes: every scan is reoriented to this code.
    Anatomical(Orientation),
    /// As the scan was acquired: its slices lie along z, whichever patient axis is nearest to their normal. See
    /// [`Geometry::acquired_orientation`].
    Acquired,
    /// As the scan's file stores its voxels: axes change places, but none is reversed, whatever the patient axes are. nnU-Net's
    /// readers do this, except for those whose name ends in `WithReorient`.
    Stored(AxisOrder),
}

/// The stored axes of a scan (0 is x, the fastest) along x, y and z of the preprocessed grid. As text: `xyz` for the order of the
/// file, `zxy` for a grid whose x axis is the third axis of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AxisOrder([usize; 3]);

impl AxisOrder {
    /// The order of the file.
    pub const STORED: Self = Self([0, 1, 2]);

    /// The order with these stored axes along x, y and z. `None` if they do not name each axis once.
    pub fn new(stored_axes: [usize; 3]) -> Option<Self> {
        (0..3).all(|axis| stored_axes.contains(&axis)).then_some(Self(stored_axes))
    }

    /// The order of nnU-Net's `transpose_forward`. Its arrays have the axes z, y, x of the file, and the transposed array's axis `i`
    /// is its axis `transpose_forward[i]`; the axes of the transposed array are z, y, x of the preprocessed grid. `None` if it does
    /// not name each axis once.
    ///
    /// ```
    /// use sulcus_model::AxisOrder;
    ///
    /// // Slices are stacked along x of the file.
    /// assert_eq!(AxisOrder::of_transpose_forward([2, 0, 1]).unwrap().to_string(), "yzx");
    /// ```
    pub fn of_transpose_forward(transpose_forward: [usize; 3]) -> Option<Self> {
        let [slices, rows, columns] = transpose_forward;
        let stored = |axis: usize| 2_usize.checked_sub(axis);
        Self::new([stored(columns)?, stored(rows)?, stored(slices)?])
    }

    /// The stored axes along x, y and z.
    pub fn stored_axes(self) -> [usize; 3] {
        self.0
    }
}

impl fmt::Display for AxisOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|axis| f.write_str(["x", "y", "z"][*axis]))
    }
}

impl GridAxes {
    const ACQUIRED: &str = "acquired";
    const STORED: &str = "stored";

    /// The orientation that a scan on this grid is brought to.
    pub fn orientation_for(self, geometry: &Geometry) -> Orientation {
        self.orientation(geometry.orientation(), geometry.acquired_orientation())
    }

    /// As [`Self::orientation_for`], for a scan with this orientation of its file and this
    /// [acquired orientation](Geometry::acquired_orientation).
    pub fn orientation(self, stored: Orientation, acquired: Orientation) -> Orientation {
        match self {
            Self::Anatomical(orientation) => orientation,
            Self::Acquired => acquired,
            // An `AxisOrder` names each axis once.
            Self::Stored(AxisOrder(order)) => stored.permuted(order).unwrap_or(stored),
        }
    }

    /// The orientation of a scan that is not known, such as a golden case: one that [`Self::orientation_for`] leaves as it is, unless the
    /// axes change places.
    pub fn nominal(self) -> Orientation {
        match self {
            Self::Anatomical(orientation) => orientation,
            Self::Acquired | Self::Stored(_) => Orientation::LPI,
        }
    }
}

impl From<Orientation> for GridAxes {
    fn from(orientation: Orientation) -> Self {
        Self::Anatomical(orientation)
    }
}

impl fmt::Display for GridAxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anatomical(orientation) => orientation.fmt(f),
            Self::Acquired => f.write_str(Self::ACQUIRED),
            Self::Stored(AxisOrder::STORED) => f.write_str(Self::STORED),
            Self::Stored(order) => write!(f, "{}:{order}", Self::STORED),
        }
    }
}

impl FromStr for GridAxes {
    type Err = VolumeError;
    fn from_str(text: &str) -> Result<Self, VolumeError> {
        match text {
            Self::ACQUIRED => return Ok(Self::Acquired),
            Self::STORED => return Ok(Self::Stored(AxisOrder::STORED)),
            _ => {}
        }
        let order = text.strip_prefix(Self::STORED).and_then(|rest| rest.strip_prefix(':'));
        if let Some([x, y, z]) = order.and_then(|letters| <[u8; 3]>::try_from(letters.as_bytes()).ok()) {
            let axes = [x, y, z].map(|letter| usize::from(letter.wrapping_sub(b'x')));
            if let Some(order) = AxisOrder::new(axes) {
                return Ok(Self::Stored(order));
            }
        }
        text.parse().map(Self::Anatomical)
    }
}

impl TryFrom<String> for GridAxes {
    type Error = VolumeError;
    fn try_from(text: String) -> Result<Self, VolumeError> {
        text.parse()
    }
}

impl From<GridAxes> for String {
    fn from(axes: GridAxes) -> Self {
        axes.to_string()
    }
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{OrientationSource, RasFromVoxel, Reorientation, Spacing};

    use super::*;

    #[test]
    fn axes_are_read_from_their_text() {
        for text in ["RAS", "PIR", "acquired", "stored", "stored:zxy"] {
            assert_eq!(text.parse::<GridAxes>().unwrap().to_string(), text);
        }
        for text in ["Acquired", "stored:", "stored:xyy", "stored:xy", "stored:abc", "storedxyz"] {
            assert!(text.parse::<GridAxes>().is_err(), "{text}");
        }
        assert_eq!("stored:xyz".parse::<GridAxes>().unwrap().to_string(), "stored");
    }

    #[test]
    fn nominal_orientation_is_not_changed() {
        for mm in [[1.0; 3], [0.5, 0.7, 3.0], [1.0, 1.0, 1.1]] {
            let spacing = Spacing::new(mm).unwrap();
            for axes in [GridAxes::Acquired, GridAxes::Stored(AxisOrder::STORED), "ASR".parse().unwrap()] {
                let map = RasFromVoxel::aligned(axes.nominal(), spacing);
                let geometry = Geometry::new([3, 4, 5], map, OrientationSource::Sform).unwrap();
                assert_eq!(axes.orientation_for(&geometry), axes.nominal());
            }
        }
    }

    /// For every orientation of the file, numpy's `transpose` of the array z, y, x.
    #[test]
    fn stored_axes_equal_nnunets_transpose() {
        for transpose in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let axes = GridAxes::Stored(AxisOrder::of_transpose_forward(transpose).unwrap());
            let (shape_xyz, shape_zyx) = ([3, 4, 5], [5, 4, 3]);
            for orientation in Orientation::all() {
                let map = RasFromVoxel::aligned(orientation, Spacing::new([1.0, 2.0, 3.0]).unwrap());
                let geometry = Geometry::new(shape_xyz, map, OrientationSource::Sform).unwrap();
                let turn = Reorientation::between(geometry.orientation(), axes.orientation_for(&geometry));
                let [x, y, z] = turn.shape(shape_xyz);
                assert_eq!([z, y, x], transpose.map(|axis| shape_zyx[axis]));
                // The first voxel stays the first voxel, because no axis is reversed.
                let values: Vec<usize> = (0..60).collect();
                assert_eq!(turn.apply(&values, shape_xyz)[0], 0);
            }
        }
        assert_eq!(AxisOrder::of_transpose_forward([0, 1, 3]), None);
        assert_eq!(AxisOrder::of_transpose_forward([0, 1, 1]), None);
    }
}
