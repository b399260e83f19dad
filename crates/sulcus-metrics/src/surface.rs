use sulcus_volume::{Geometry, Label, LabelMap, Volume};

use crate::{distance, surfels};
use sulcus_volume::VolumeError;

/// Default tolerance of the normalised surface Dice, in millimetres.
pub const DEFAULT_NSD_MM: f64 = 1.0;

/// Distances between the surfaces of one label in a prediction and a reference.
///
/// The definitions are those of DeepMind's `surface-distance` (Nikolov et al. 2021, doi:10.2196/26151). The surface
/// consists of elements, one in each cube of eight neighbouring voxel centres that are partly inside and partly outside;
/// voxels outside the grid are background. The area of an element is given by marching cubes, and its position is the
/// centre of its cube. Its distance is that to the nearest element of the other surface, in millimetres.
///
/// A grid of a single slice has a contour instead of a surface: squares of four pixel centres replace the cubes, and
/// lengths replace areas, as in the two-dimensional variant of the package. The slice thickness has no effect.
#[derive(Debug, Clone, PartialEq)]
pub struct SurfaceDistances {
    from_prediction: Vec<Element>,
    from_reference: Vec<Element>,
}

/// An element of a surface.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Element {
    /// Distance to the other surface; infinite if there is none.
    distance_mm: f64,
    /// Area in mm², or length in mm for a single slice.
    area: f64,
}

/// The distances of each of `labels`, in their order.
///
/// # Errors
/// If the masks lie on different grids, or the distances do not fit in memory.
pub fn surface_distances(
    prediction: &LabelMap,
    reference: &LabelMap,
    labels: &[Label],
) -> Result<Vec<SurfaceDistances>, VolumeError> {
    let grid = prediction.geometry();
    grid.check_same_grid(reference.geometry())?;
    let cells = Cells::of(grid);
    let boxes = boxes(prediction, reference, labels);
    let of_label = |(label, found): (&Label, &Option<Bounds>)| match found {
        Some(bounds) => cells.distances(prediction, reference, *label, bounds),
        None => Ok(SurfaceDistances { from_prediction: Vec::new(), from_reference: Vec::new() }),
    };
    labels.iter().zip(&boxes).map(of_label).collect()
}

impl SurfaceDistances {
    /// Header fields are in single precision, so a voxel of 1 mm may have a size of 1.00000006 mm. Distances may
    /// therefore exceed the tolerance by this fraction of it.
    const TOLERANCE_SLACK: f64 = 1e-6;

    /// The larger of the two directed 95th percentiles of the distances, each weighted by area, in millimetres: the
    /// smallest distance within which 95 % of the surface lie. Infinite if one mask is empty, `None` if both are.
    pub fn hd95_mm(&self) -> Option<f64> {
        self.percentile_mm(0.95)
    }

    /// The larger of the two directed Hausdorff distances after removing the farthest `1 - share` of each surface, in
    /// millimetres. Infinite if one mask is empty, `None` if both are.
    pub fn percentile_mm(&self, share: f64) -> Option<f64> {
        let directed = |elements: &[Element]| {
            let enough = share * area(elements);
            let mut reached = 0.0;
            let found = elements.iter().find(|element| {
                reached += element.area;
                reached >= enough
            });
            found.or(elements.last()).map_or(f64::INFINITY, |element| element.distance_mm)
        };
        self.is_defined().then(|| directed(&self.from_prediction).max(directed(&self.from_reference)))
    }

    /// The normalised surface Dice: the fraction of both surfaces within `tolerance_mm` of the other one. 0 if one mask
    /// is empty, `None` if both are.
    pub fn surface_dice(&self, tolerance_mm: f64) -> Option<f64> {
        let limit = tolerance_mm * (1.0 + Self::TOLERANCE_SLACK);
        let near = |elements: &[Element]| area(elements.iter().filter(|e| e.distance_mm <= limit));
        let all = area(&self.from_prediction) + area(&self.from_reference);
        self.is_defined().then(|| (near(&self.from_prediction) + near(&self.from_reference)) / all)
    }

    /// Whether there is a surface.
    fn is_defined(&self) -> bool {
        !(self.from_prediction.is_empty() && self.from_reference.is_empty())
    }
}

fn area<'a>(elements: impl IntoIterator<Item = &'a Element>) -> f64 {
    // `sum` of an empty iterator is -0.
    elements.into_iter().fold(0.0, |sum, element| sum + element.area)
}

/// First and last voxel along each axis.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    first: [usize; 3],
    last: [usize; 3],
}

/// The bounding box of each label in both masks; `None` for a label in neither mask.
fn boxes(prediction: &LabelMap, reference: &LabelMap, labels: &[Label]) -> Vec<Option<Bounds>> {
    let mut slots: Vec<Option<usize>> = vec![None; usize::from(Label::MAX) + 1];
    for (slot, label) in labels.iter().enumerate() {
        slots[usize::from(*label)] = Some(slot);
    }
    let mut found: Vec<Option<Bounds>> = vec![None; labels.len()];
    let [nx, ny, _] = prediction.geometry().shape();
    for (offset, pair) in prediction.data().iter().zip(reference.data()).enumerate() {
        let (p, r) = (*pair.0, *pair.1);
        if p == 0 && r == 0 {
            continue;
        }
        let at = [offset % nx, offset / nx % ny, offset / nx / ny];
        for label in [Some(p), (r != p).then_some(r)].into_iter().flatten() {
            if let Some(entry) = slots[usize::from(label)].and_then(|slot| found.get_mut(slot)) {
                let bounds = entry.get_or_insert(Bounds { first: at, last: at });
                for ((first, last), at) in bounds.first.iter_mut().zip(&mut bounds.last).zip(at) {
                    *first = at.min(*first);
                    *last = at.max(*last);
                }
            }
        }
    }
    // A label that is requested twice has one slot.
    labels.iter().map(|label| slots[usize::from(*label)].and_then(|slot| found[slot])).collect()
}

/// The cubes between voxel centres, or the squares of a single slice.
struct Cells {
    /// The axes of the grid. The axis across a single slice is the last one.
    axes: [usize; 3],
    flat: bool,
    spacing_mm: [f64; 3],
    /// Areas by the code of a cube.
    areas: Vec<f64>,
}

impl Cells {
    fn of(grid: &Geometry) -> Self {
        let across = grid.shape().iter().rposition(|n| *n == 1);
        let axes = match across {
            Some(0) => [1, 2, 0],
            Some(1) => [0, 2, 1],
            _ => [0, 1, 2],
        };
        let mm = grid.spacing().mm();
        let spacing_mm = axes.map(|axis| mm[axis]);
        let [x, y, _] = spacing_mm;
        let areas = if across.is_some() { surfels::lengths_mm([x, y]) } else { surfels::areas_mm2(spacing_mm) };
        Self { axes, flat: across.is_some(), spacing_mm, areas }
    }

    fn distances(
        &self,
        prediction: &LabelMap,
        reference: &LabelMap,
        label: Label,
        bounds: &Bounds,
    ) -> Result<SurfaceDistances, VolumeError> {
        let of_prediction = self.codes(prediction, label, bounds)?;
        let of_reference = self.codes(reference, label, bounds)?;
        Ok(SurfaceDistances {
            from_prediction: self.elements(&of_prediction, &of_reference, bounds)?,
            from_reference: self.elements(&of_reference, &of_prediction, bounds)?,
        })
    }

    /// Cells along each axis around the voxels within bounds, including cells that are half outside.
    fn shape(&self, bounds: &Bounds) -> [usize; 3] {
        let [x, y, z] = self.axes.map(|axis| bounds.last[axis] - bounds.first[axis] + 2);
        [x, y, if self.flat { 1 } else { z }]
    }

    /// The corners of each cell that have the label, as a bit mask with the bit order of [`surfels`].
    fn codes(&self, mask: &Volume<Label>, label: Label, bounds: &Bounds) -> Result<Vec<u8>, VolumeError> {
        let shape = self.shape(bounds);
        let [nx, ny, nz] = shape;
        let mut codes = distance::filled(0_u8, nx * ny * nz)?;
        let [grid_x, grid_y, _] = mask.geometry().shape();
        let strides = [1, grid_x, grid_x * grid_y];
        let steps = self.axes.map(|axis| strides[axis]);
        let origin: usize = (0..3).map(|axis| bounds.first[axis] * strides[axis]).sum();
        let slices = if self.flat { 1 } else { nz - 1 };
        for z in 0..slices {
            for y in 0..ny - 1 {
                let row = origin + z * steps[2] + y * steps[1];
                let voxels = mask.data().iter().skip(row).step_by(steps[0]).take(nx - 1);
                for (x, _) in voxels.enumerate().filter(|(_, value)| **value == label) {
                    let cell = (z * ny + y) * nx + x;
                    for corner in 0..self.corners() {
                        // A voxel is the last corner of the cell at its position and an earlier corner of the next cell.
                        let step = [corner & 1, corner >> 1 & 1, corner >> 2 & 1];
                        let bit = self.corners() - 1 - corner;
                        codes[cell + step[0] + (step[1] + step[2] * ny) * nx] |= 1 << bit;
                    }
                }
            }
        }
        Ok(codes)
    }

    fn corners(&self) -> usize {
        if self.flat { 4 } else { 8 }
    }

    /// Elements of one surface, sorted by distance to the other.
    fn elements(&self, own: &[u8], other: &[u8], bounds: &Bounds) -> Result<Vec<Element>, VolumeError> {
        let full = u8::MAX >> (8 - self.corners());
        let holds_surface = |code: u8| code != 0 && code != full;
        if !own.iter().any(|code| holds_surface(*code)) {
            return Ok(Vec::new());
        }
        let squared = distance::squared_mm2(other, holds_surface, self.shape(bounds), self.spacing_mm)?;
        let cells = own.iter().zip(squared).filter(|(code, _)| holds_surface(**code));
        let element = |(code, squared): (&u8, f64)| Element {
            distance_mm: squared.sqrt(),
            area: self.areas.get(usize::from(*code)).copied().unwrap_or_default(),
        };
        let mut elements: Vec<Element> = cells.map(element).collect();
        elements.sort_unstable_by(|a, b| a.distance_mm.total_cmp(&b.distance_mm));
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    fn mask(shape: [usize; 3], mm: [f64; 3], inside: impl Fn([usize; 3]) -> bool) -> LabelMap {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new(mm).unwrap());
        let grid = Geometry::new(shape, map, OrientationSource::Sform).unwrap();
        let [nx, ny, _] = shape;
        let at = |i: usize| [i % nx, i / nx % ny, i / nx / ny];
        Volume::new(grid, (0..grid.voxels()).map(|i| Label::from(inside(at(i)))).collect()).unwrap()
    }

    fn distances(prediction: &LabelMap, reference: &LabelMap) -> SurfaceDistances {
        surface_distances(prediction, reference, &[1]).unwrap().remove(0)
    }

    #[test]
    fn shifted_block_has_the_distance_of_the_shift() {
        let block = |first: usize| {
            mask([40, 20, 20], [0.5, 1.0, 2.0], move |[x, y, z]| {
                (first..first + 10).contains(&x) && (5..15).contains(&y) && (5..15).contains(&z)
            })
        };
        let found = distances(&block(20), &block(6));
        assert_eq!(found.percentile_mm(1.0), Some(7.0));
        assert_eq!(found.surface_dice(7.0), Some(1.0));
        assert_eq!(found.surface_dice(0.0), Some(0.0));
        let same = distances(&block(6), &block(6));
        assert_eq!((same.hd95_mm(), same.surface_dice(0.0)), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn missed_structure_has_infinite_distance_and_scores_zero() {
        let empty = mask([5, 5, 5], [1.0; 3], |_| false);
        let one = mask([5, 5, 5], [1.0; 3], |at| at == [4, 4, 4]);
        for found in [distances(&empty, &one), distances(&one, &empty)] {
            assert_eq!((found.hd95_mm(), found.surface_dice(1.0)), (Some(f64::INFINITY), Some(0.0)));
            assert!(found.surface_dice(1.0).unwrap().is_sign_positive(), "people would read -0");
        }
        let neither = distances(&empty, &empty);
        assert_eq!((neither.hd95_mm(), neither.surface_dice(1.0)), (None, None));
    }

    #[test]
    fn single_slice_has_a_contour_across_any_axis() {
        let square = |[a, b]: [usize; 2], first: usize| (first..first + 4).contains(&a) && (2..6).contains(&b);
        let flat = |across: usize, first: usize| {
            let axes: Vec<usize> = (0..3).filter(|axis| *axis != across).collect();
            let (mut shape, mut mm) = ([1; 3], [9.0; 3]);
            for (axis, (n, size)) in axes.iter().zip([(16, 0.5), (9, 2.0)]) {
                (shape[*axis], mm[*axis]) = (n, size);
            }
            mask(shape, mm, move |at| square([at[axes[0]], at[axes[1]]], first))
        };
        let expected = distances(&flat(2, 6), &flat(2, 2));
        assert_eq!(expected.percentile_mm(1.0), Some(2.0));
        // Each contour has two sides of 3 steps of 2 mm and two of 3 steps of 0.5 mm, and four cut corners.
        let contour = 2.0 * 3.0 * 2.5 + 4.0 * 0.5 * 4.25_f64.sqrt();
        assert!((area(&expected.from_prediction) - contour).abs() < 1e-12);
        for across in [0, 1] {
            assert_eq!(distances(&flat(across, 6), &flat(across, 2)), expected, "{across}");
        }
    }

    #[test]
    fn header_rounding_does_not_exceed_the_tolerance() {
        let mm = f64::from(1.0_f32 + f32::EPSILON);
        let block = |first: usize| mask([9, 9, 9], [mm; 3], move |[x, _, _]| (first..first + 3).contains(&x));
        assert_eq!(distances(&block(3), &block(4)).surface_dice(1.0), Some(1.0));
    }

    #[test]
    fn repeated_labels_have_repeated_results() {
        let one = mask([3, 3, 3], [1.0; 3], |at| at == [1, 1, 1]);
        let found = surface_distances(&one, &one, &[1, 4, 1]).unwrap();
        assert_eq!((found[0].hd95_mm(), found[1].hd95_mm()), (Some(0.0), None));
        assert_eq!(found[0], found[2]);
    }
}
