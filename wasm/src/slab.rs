//! Slabs: several neighbouring slices in one picture.

use sulcus_volume::{Geometry, Plane, SliceView, extract_slice};

use crate::settings::Projection;

/// The slices of a slab around `slice`: as many as its thickness holds, an odd number, within `slices` in all.
pub fn slab_slices(slice: usize, slices: usize, slab_mm: f64, slice_mm: f64) -> std::ops::Range<usize> {
    let beside = (slab_mm / slice_mm / 2.0).floor().clamp(0.0, slices as f64) as usize;
    slice.saturating_sub(beside)..(slice + beside + 1).min(slices)
}

/// The projection of slices onto one. NaN is left out where another slice has a number.
///
/// # Shapes
/// `data` is `[z, y, x]` on `geometry`; the result is `[height, width]`.
pub fn project(
    geometry: &Geometry,
    data: &[f32],
    plane: Plane,
    mut slices: std::ops::Range<usize>,
    projection: Projection,
) -> Option<SliceView<f32>> {
    let mut out = extract_slice(geometry, data, plane, slices.next()?)?;
    if slices.is_empty() {
        return Some(out);
    }
    let is_mean = projection == Projection::Mean;
    let mut counts: Vec<f32> =
        if is_mean { out.data.iter().map(|v| f32::from(!v.is_nan())).collect() } else { Vec::new() };
    for slice in slices {
        let next = extract_slice(geometry, data, plane, slice)?.data;
        for (at, (sum, value)) in out.data.iter_mut().zip(next).enumerate() {
            match projection {
                Projection::Maximum => *sum = sum.max(value),
                Projection::Minimum => *sum = sum.min(value),
                Projection::Mean if value.is_nan() => {}
                Projection::Mean => {
                    *sum = if sum.is_nan() { value } else { *sum + value };
                    counts[at] += 1.0;
                }
            }
        }
    }
    out.data.iter_mut().zip(counts).for_each(|(sum, n)| *sum /= n);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sulcus_volume::{Orientation, OrientationSource, RasFromVoxel, Spacing};

    #[test]
    fn slab_has_the_slices_that_fit_into_its_thickness() {
        assert_eq!(slab_slices(5, 20, 0.0, 2.0), 5..6);
        assert_eq!(slab_slices(5, 20, 3.9, 2.0), 5..6);
        assert_eq!(slab_slices(5, 20, 4.0, 2.0), 4..7);
        assert_eq!(slab_slices(1, 20, 1e300, 2.0), 0..20);
        assert_eq!(slab_slices(19, 20, 8.0, 2.0), 17..20);
        assert_eq!(slab_slices(3, 20, f64::NAN, 2.0), 3..4);
    }

    #[test]
    fn projections_are_taken_across_the_slices() {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        let geometry = Geometry::new([2, 1, 3], map, OrientationSource::Sform).unwrap();
        // Axial slices are numbered from the head; the first column is the patient's right.
        let data = [1.0, f32::NAN, 2.0, 8.0, 9.0, 4.0];
        let of = |slices, projection| project(&geometry, &data, Plane::Axial, slices, projection).unwrap().data;
        assert_eq!(of(0..3, Projection::Maximum), [8.0, 9.0]);
        assert_eq!(of(0..3, Projection::Minimum), [4.0, 1.0]);
        assert_eq!(of(0..3, Projection::Mean), [6.0, 4.0]);
        assert_eq!(of(1..2, Projection::Mean), [8.0, 2.0]);
        assert!(of(2..3, Projection::Mean)[0].is_nan());
    }
}
