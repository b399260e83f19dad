//! The intensities within an ellipse or a polygon in a slice.

use sulcus_volume::{Geometry, Plane, RasPoint, VoxelIndex};

/// The intensities of a region of a slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Region {
    /// The number of voxels.
    pub(crate) voxels: usize,
    /// The area of these voxels.
    pub(crate) area_mm2: f64,
    /// The mean.
    pub(crate) mean: f64,
    /// The standard deviation, with the number of voxels as the divisor.
    pub(crate) sd: f64,
    /// The smallest value.
    pub(crate) min: f32,
    /// The largest value.
    pub(crate) max: f32,
}

/// The axes of the grid within the slices of a plane, and the one across them.
fn axes(geometry: &Geometry, plane: Plane) -> ([usize; 2], usize) {
    let across = match plane {
        Plane::Sagittal => 0,
        Plane::Coronal => 1,
        Plane::Axial => 2,
    };
    let directions = geometry.orientation().axes();
    let through = (0..3).find(|axis| directions[*axis].ras_axis() == across).unwrap_or(2);
    ([(through + 1) % 3, (through + 2) % 3], through)
}

/// The offsets of the voxels of a slice whose centres lie inside a region. Two points are the corners of a rectangle whose sides an
/// ellipse touches, more are the corners of a polygon. The first point decides on the slice.
pub(crate) fn offsets_inside(geometry: &Geometry, plane: Plane, points: &[RasPoint]) -> Vec<u32> {
    let (within, through) = axes(geometry, plane);
    let from_ras = geometry.ras_from_voxel().inverse();
    let places: Vec<[f64; 3]> = points.iter().map(|at| from_ras.apply(*at)).collect();
    let shape = geometry.shape();
    let slice = places.first().map_or(f64::NAN, |at| at[through].round());
    if !(0.0..shape[through] as f64).contains(&slice) {
        return Vec::new();
    }
    let corners: Vec<[f64; 2]> = places.iter().map(|at| within.map(|axis| at[axis])).collect();
    let inside = |center: [f64; 2]| {
        if let [a, b] = corners[..] { in_ellipse(center, a, b) } else { in_polygon(center, &corners) }
    };
    let mut found = Vec::new();
    for second in 0..shape[within[1]] {
        for first in 0..shape[within[0]] {
            if inside([first as f64, second as f64]) {
                let mut voxel = [slice as usize; 3];
                (voxel[within[0]], voxel[within[1]]) = (first, second);
                found.extend(geometry.offset(VoxelIndex(voxel)).and_then(|offset| u32::try_from(offset).ok()));
            }
        }
    }
    found
}

fn in_ellipse(at: [f64; 2], a: [f64; 2], b: [f64; 2]) -> bool {
    (0..2).map(|i| ((2.0 * at[i] - a[i] - b[i]) / (a[i] - b[i])).powi(2)).sum::<f64>() <= 1.0
}

/// Whether a ray from the position crosses the sides of the polygon an odd number of times.
fn in_polygon([x, y]: [f64; 2], corners: &[[f64; 2]]) -> bool {
    let ends = corners.iter().cycle().skip(1);
    let crossed = |([ax, ay], [bx, by]): &(&[f64; 2], &[f64; 2])| {
        (*ay > y) != (*by > y) && x < ax + (bx - ax) * (y - ay) / (by - ay)
    };
    corners.iter().zip(ends).filter(crossed).count() % 2 == 1
}

/// The statistics of the finite ones of the values of some voxels in a slice; `None` if there is none.
pub(crate) fn statistics(geometry: &Geometry, plane: Plane, values: &[f32]) -> Option<Region> {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let voxels = finite().count();
    if voxels == 0 {
        return None;
    }
    let mean = finite().map(f64::from).sum::<f64>() / voxels as f64;
    // The squares of distances to the mean do not cancel each other as those of the values would.
    let squares: f64 = finite().map(|value| (f64::from(value) - mean).powi(2)).sum();
    let mm = geometry.spacing().mm();
    let pixel: f64 = axes(geometry, plane).0.map(|axis| mm[axis]).iter().product();
    Some(Region {
        voxels,
        area_mm2: voxels as f64 * pixel,
        mean,
        sd: (squares / voxels as f64).sqrt(),
        min: finite().fold(f32::INFINITY, f32::min),
        max: finite().fold(f32::NEG_INFINITY, f32::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_volume::{OrientationSource, RasFromVoxel, Spacing};

    /// Positions at multiples of 2, 2 and 3 mm, whichever order and direction the axes of the grid have.
    fn grid(orientation: &str) -> Geometry {
        let orientation = orientation.parse().unwrap();
        let ras = RasFromVoxel::aligned("RAS".parse().unwrap(), Spacing::new([2.0, 2.0, 3.0]).unwrap());
        let grid = Geometry::new([8, 10, 12], ras, OrientationSource::Sform).unwrap();
        sulcus_volume::Reorientation::between(grid.orientation(), orientation).geometry(&grid)
    }

    fn inside(grid: &Geometry, plane: Plane, points: &[[f64; 3]]) -> Vec<[f64; 3]> {
        let points: Vec<RasPoint> = points.iter().copied().map(RasPoint).collect();
        let [nx, ny, _] = grid.shape();
        let position = |offset: &u32| {
            let i = *offset as usize;
            grid.ras_from_voxel().apply([i % nx, i / nx % ny, i / nx / ny].map(|i| i as f64)).0
        };
        let mut found: Vec<[f64; 3]> = offsets_inside(grid, plane, &points).iter().map(position).collect();
        found.sort_by(|a, b| a.partial_cmp(b).unwrap());
        found
    }

    #[test]
    fn voxels_inside_match_manual_computation_in_every_orientation() {
        for orientation in ["RAS", "LPS", "PIR", "SAL", "ILA"] {
            let grid = grid(orientation);
            // A triangle above a diagonal that runs 0.2 mm below the centres: 4, 3, 2 and 1 of them.
            let triangle = inside(&grid, Plane::Axial, &[[-1.0, -1.2, 33.0], [7.1, 6.9, 33.0], [-1.0, 7.1, 33.0]]);
            let expected: Vec<[f64; 3]> =
                (0..4).flat_map(|x| (x..4).map(move |y| [2.0 * f64::from(x), 2.0 * f64::from(y), 33.0])).collect();
            assert_eq!(triangle, expected, "{orientation}");
            // An ellipse with radii of a little more than 4 and 6 mm around (6, 9) in y and z.
            let ellipse = inside(&grid, Plane::Sagittal, &[[4.0, 1.9, 2.9], [4.0, 10.1, 15.1]]);
            let expected: Vec<[f64; 3]> =
                [(2.0, 9.0), (4.0, 6.0), (4.0, 9.0), (4.0, 12.0), (6.0, 3.0), (6.0, 6.0)]
                    .into_iter()
                    .chain([
                        (6.0, 9.0),
                        (6.0, 12.0),
                        (6.0, 15.0),
                        (8.0, 6.0),
                        (8.0, 9.0),
                        (8.0, 12.0),
                        (10.0, 9.0),
                    ])
                    .map(|(y, z)| [4.0, y, z])
                    .collect();
            assert_eq!(ellipse, expected, "{orientation}");
            assert!(inside(&grid, Plane::Coronal, &[[500.0; 3], [501.0; 3]]).is_empty());
            assert!(inside(&grid, Plane::Coronal, &[]).is_empty());
        }
    }

    #[test]
    fn statistics_match_manual_computation() {
        let values = [1e6 + 2.0, f32::NAN, 1e6 + 4.0, f32::INFINITY];
        let found = statistics(&grid("SAL"), Plane::Coronal, &values).unwrap();
        let expected =
            Region { voxels: 2, area_mm2: 12.0, mean: 1e6 + 3.0, sd: 1.0, min: values[0], max: values[2] };
        assert_eq!(found, expected);
        assert_eq!(statistics(&grid("RAS"), Plane::Axial, &[f32::NAN]), None);
    }
}
