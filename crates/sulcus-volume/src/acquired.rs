use crate::geometry::{cross, norm};
use crate::{Geometry, Orientation};

/// Voxels are longer along one axis if their edge exceeds both others by this factor.
const LONGER: f64 = 1.2;
/// Weights of left, posterior and inferior in the direction that axes are made to follow. No axis that is parallel to a
/// patient axis, or lies halfway between two of them, is near a change of its sign.
const LEFT_POSTERIOR_INFERIOR: [f64; 3] = [4.0, 2.0, 1.0];

impl Geometry {
    /// The orientation closest to the one in which the scan was acquired, for grids that are oblique to the patient.
    ///
    /// z is the slice axis: the axis with the longest voxel edge, or the third of the file if no edge is clearly longer. x and
    /// y are the other axes, in the order of the file. Each axis is reversed if needed, so that it points to the left, or if
    /// it is perpendicular to that, to posterior, or else to inferior. A flip of the stored axes, as some converters make,
    /// therefore does not change the result.
    ///
    /// The letters are those of the nearest patient axes. Unlike a fixed code, they differ between scans whose slices are
    /// normal to different patient axes.
    pub fn acquired_orientation(&self) -> Orientation {
        let mm = self.spacing().mm();
        let longest = (0..3).rev().max_by(|a, b| mm[*a].total_cmp(&mm[*b])).unwrap_or(2);
        let is_longer = (0..3).all(|axis| axis == longest || mm[longest] > LONGER * mm[axis]);
        let slice_axis = if is_longer { longest } else { 2 };
        let order = match slice_axis {
            0 => [1, 2, 0],
            1 => [0, 2, 1],
            _ => [0, 1, 2],
        };
        let rows = self.ras_from_voxel().rows();
        let is_reversed =
            |axis: usize| (0..3).map(|ras| rows[ras][axis] * LEFT_POSTERIOR_INFERIOR[ras]).sum::<f64>() > 0.0;
        self.orientation().rearranged(order.map(|axis| (axis, is_reversed(axis))))
    }

    /// The largest angle between an axis of the grid and the patient axis nearest to it, in degrees: 0 for an aligned grid, at
    /// most 54.7.
    pub fn obliquity_degrees(&self) -> f64 {
        (0..3).map(|axis| degrees_to_nearest_axis(self.ras_from_voxel().column(axis))).fold(0.0, f64::max)
    }

    /// The angle between the normal of the slices (the planes of x and y) and the nearest axis of the patient, in degrees:
    /// 0 for axial, coronal and sagittal slices, at most 54.7.
    pub fn slice_obliquity_degrees(&self) -> f64 {
        let [x, y] = [0, 1].map(|axis| self.ras_from_voxel().column(axis));
        degrees_to_nearest_axis(cross(x, y))
    }
}

/// The angle between a direction and the nearest axis of the patient.
fn degrees_to_nearest_axis(direction: [f64; 3]) -> f64 {
    let length = norm(direction);
    let cosine = direction.iter().map(|v| v.abs() / length).fold(0.0, f64::max);
    cosine.min(1.0).acos().to_degrees()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OrientationSource, RasFromVoxel, Reorientation, Spacing};

    /// A stack of axial slices of 8 mm, turned by these angles about S and then about R.
    fn stack(about_s: f64, about_r: f64) -> Geometry {
        let ((s, c), (t, d)) = (about_s.to_radians().sin_cos(), about_r.to_radians().sin_cos());
        let mm = [1.25, 1.25, 8.0];
        let rotation = [[c, -s * d, s * t], [s, c * d, -c * t], [0.0, t, d]];
        let rows = rotation.map(|row| [row[0] * mm[0], row[1] * mm[1], row[2] * mm[2], 0.0]);
        Geometry::new([30, 20, 10], RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap()
    }

    #[test]
    fn slices_near_a_diagonal_stay_slices() {
        // The normal lies between R and A: patient codes name one or the other, the acquired grid does not change.
        let mut nearest = std::collections::BTreeSet::new();
        for angle in [35.0, 40.0, 44.0, 46.0, 50.0, 55.0] {
            let geometry = stack(angle, 80.0);
            nearest.insert(geometry.orientation().axes()[2].ras_axis());
            let to = Reorientation::between(geometry.orientation(), geometry.acquired_orientation());
            assert_eq!(to.shape([30, 20, 10]), [30, 20, 10], "{angle}");
            assert_eq!(
                to,
                Reorientation::between(stack(45.0, 80.0).orientation(), stack(45.0, 80.0).acquired_orientation())
            );
        }
        assert_eq!(nearest.len(), 2);
    }

    #[test]
    fn stored_position_of_the_slice_axis_and_flips_do_not_matter() {
        for [about_s, about_r] in [[0.0, 0.0], [45.0, 80.0], [20.0, 45.0], [-50.0, 10.0]] {
            let geometry = stack(about_s, about_r);
            let acquired = |stored: &Geometry| {
                Reorientation::between(stored.orientation(), stored.acquired_orientation()).geometry(stored)
            };
            let expected = acquired(&geometry);
            assert_eq!(expected.shape(), [30, 20, 10]);
            for order in [[0, 1, 2], [0, 2, 1], [2, 0, 1]] {
                for flips in 0..8_u8 {
                    let code = geometry.orientation().rearranged(order.map(|axis| (axis, flips >> axis & 1 == 1)));
                    let stored = Reorientation::between(geometry.orientation(), code).geometry(&geometry);
                    expected.check_same_grid(&acquired(&stored)).unwrap();
                }
            }
        }
    }

    #[test]
    fn cubic_voxels_keep_the_third_axis_as_slices() {
        let map = RasFromVoxel::aligned("SLA".parse().unwrap(), Spacing::new([1.0, 1.0, 1.1]).unwrap());
        let geometry = Geometry::new([4, 5, 6], map, OrientationSource::Sform).unwrap();
        assert_eq!(geometry.acquired_orientation().to_string(), "ILP");
    }

    #[test]
    fn obliquity_is_the_largest_angle() {
        assert_eq!(stack(0.0, 0.0).obliquity_degrees(), 0.0);
        for angle in [10.0, 30.0, 44.0] {
            assert!((stack(angle, 0.0).obliquity_degrees() - angle).abs() < 1e-9);
        }
        assert!((stack(60.0, 0.0).obliquity_degrees() - 30.0).abs() < 1e-9);
    }

    #[test]
    fn obliquity_of_slices_is_the_angle_to_the_nearest_axis() {
        let degrees = |rows: [[f64; 4]; 3]| {
            let map = RasFromVoxel::new(rows).unwrap();
            Geometry::new([2; 3], map, OrientationSource::Sform).unwrap().slice_obliquity_degrees()
        };
        assert_eq!(degrees([[0.0, 0.0, 2.0, 1.0], [-0.5, 0.0, 0.0, 2.0], [0.0, -0.5, 0.0, 3.0]]), 0.0);
        for (turn, expected) in [(20_f64, 20.0), (40.0, 40.0), (60.0, 30.0)] {
            let (s, c) = turn.to_radians().sin_cos();
            let about_x = [[0.7, 0.0, 0.0, 0.0], [0.0, 0.7 * c, -3.0 * s, 0.0], [0.0, 0.7 * s, 3.0 * c, 0.0]];
            assert!((degrees(about_x) - expected).abs() < 1e-9);
            // A rotation about the normal turns the rows, not the slices.
            let about_z = [[0.7 * c, -0.7 * s, 0.0, 0.0], [0.7 * s, 0.7 * c, 0.0, 0.0], [0.0, 0.0, 3.0, 0.0]];
            assert!(degrees(about_z) < 1e-4);
        }
    }
}
