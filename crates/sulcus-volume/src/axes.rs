//! Axis order as a type.
//!
//! A volume is indexed x, y, z with x fastest in memory, as in a NIfTI file. A network tensor is row-major and
//! indexed z, y, x (depth, height, width). Both orders address the same memory, so only the order in which three
//! numbers are *written down* differs, which the compiler cannot see in a `[usize; 3]`.

use std::ops::{Index, IndexMut};

/// One axis of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GridAxis {
    /// The fastest axis in memory: columns, the width of a tensor.
    X,
    /// Rows, the height of a tensor.
    Y,
    /// The slowest axis in memory: slices, the depth of a tensor.
    Z,
}

impl GridAxis {
    /// All axes in the order x, y, z.
    pub const ALL: [Self; 3] = [Self::X, Self::Y, Self::Z];

    fn xyz_index(self) -> usize {
        match self {
            Self::X => 0,
            Self::Y => 1,
            Self::Z => 2,
        }
    }
}

/// One value per grid axis in the order x, y, z: the order of a volume's shape, spacing and voxel index.
///
/// ```
/// use sulcus_volume::{GridAxis, Xyz, Zyx};
///
/// let shape = Xyz([320, 256, 40]);
/// assert_eq!(shape[GridAxis::Z], 40);
/// assert_eq!(shape.to_zyx(), Zyx([40, 256, 320]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Xyz<T>(pub [T; 3]);

/// One value per grid axis in the order z, y, x: the order of a row-major tensor's spatial axes (depth, height,
/// width).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Zyx<T>(pub [T; 3]);

impl<T> Xyz<T> {
    /// Applies `f` to each value.
    #[must_use]
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Xyz<U> {
        Xyz(self.0.map(f))
    }

    /// The same values in tensor order.
    #[must_use]
    pub fn to_zyx(self) -> Zyx<T> {
        let [x, y, z] = self.0;
        Zyx([z, y, x])
    }
}

impl<T> Zyx<T> {
    /// Applies `f` to each value.
    #[must_use]
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Zyx<U> {
        Zyx(self.0.map(f))
    }

    /// The same values in volume order.
    #[must_use]
    pub fn to_xyz(self) -> Xyz<T> {
        let [z, y, x] = self.0;
        Xyz([x, y, z])
    }
}

impl<T> From<[T; 3]> for Xyz<T> {
    fn from(values: [T; 3]) -> Self {
        Self(values)
    }
}

impl<T> From<[T; 3]> for Zyx<T> {
    fn from(values: [T; 3]) -> Self {
        Self(values)
    }
}

impl<T> From<Xyz<T>> for [T; 3] {
    fn from(values: Xyz<T>) -> Self {
        values.0
    }
}

impl<T> From<Zyx<T>> for [T; 3] {
    fn from(values: Zyx<T>) -> Self {
        values.0
    }
}

impl<T> From<Xyz<T>> for Zyx<T> {
    fn from(values: Xyz<T>) -> Self {
        values.to_zyx()
    }
}

impl<T> From<Zyx<T>> for Xyz<T> {
    fn from(values: Zyx<T>) -> Self {
        values.to_xyz()
    }
}

impl<T> Index<GridAxis> for Xyz<T> {
    type Output = T;
    fn index(&self, axis: GridAxis) -> &T {
        &self.0[axis.xyz_index()]
    }
}

impl<T> IndexMut<GridAxis> for Xyz<T> {
    fn index_mut(&mut self, axis: GridAxis) -> &mut T {
        &mut self.0[axis.xyz_index()]
    }
}

impl<T> Index<GridAxis> for Zyx<T> {
    type Output = T;
    fn index(&self, axis: GridAxis) -> &T {
        &self.0[2 - axis.xyz_index()]
    }
}

impl<T> IndexMut<GridAxis> for Zyx<T> {
    fn index_mut(&mut self, axis: GridAxis) -> &mut T {
        &mut self.0[2 - axis.xyz_index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_give_the_same_value_for_an_axis() {
        let mut shape = Xyz([7, 8, 9]);
        assert_eq!(GridAxis::ALL.map(|axis| shape[axis]), [7, 8, 9]);
        assert_eq!(GridAxis::ALL.map(|axis| shape.to_zyx()[axis]), [7, 8, 9]);
        shape[GridAxis::Y] = 80;
        let mut tensor = Zyx::from(shape);
        tensor[GridAxis::Z] = 90;
        assert_eq!(tensor, Zyx([90, 80, 7]));
    }

    #[test]
    fn converting_there_and_back_changes_nothing() {
        let shape = Xyz([1, 2, 3]);
        assert_eq!(shape.to_zyx().to_xyz(), shape);
        assert_eq!(Xyz::from(Zyx::from(shape)).map(|n| 2 * n), Xyz([2, 4, 6]));
        assert_eq!(<[usize; 3]>::from(Zyx::from([3, 2, 1])), [3, 2, 1]);
    }
}
