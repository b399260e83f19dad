use sulcus_volume::{Label, LabelMap, VolumeError};

use crate::{Counts, SurfaceDistances, count_labels, surface_distances};
use sulcus_model::Structure;

/// Counts each structure, in their order.
///
/// # Errors
/// If the masks lie on different grids.
pub fn count_structures(
    prediction: &LabelMap,
    reference: &LabelMap,
    structures: &[Structure],
) -> Result<Vec<Counts>, VolumeError> {
    each(prediction, reference, structures, count_labels)
}

/// Measures the surface distances of each structure, in their order.
///
/// # Errors
/// If the masks lie on different grids.
pub fn structure_distances(
    prediction: &LabelMap,
    reference: &LabelMap,
    structures: &[Structure],
) -> Result<Vec<SurfaceDistances>, VolumeError> {
    each(prediction, reference, structures, surface_distances)
}

type Measure<T> = fn(&LabelMap, &LabelMap, &[Label]) -> Result<Vec<T>, VolumeError>;

/// Processes single labels together, and each union of labels as label 1 of masks that contain nothing else.
fn each<T>(
    prediction: &LabelMap,
    reference: &LabelMap,
    structures: &[Structure],
    measure: Measure<T>,
) -> Result<Vec<T>, VolumeError> {
    let single = structures.iter().filter_map(|s| if let [value] = *s.values { Some(value) } else { None });
    let mut of_single = measure(prediction, reference, &single.collect::<Vec<_>>())?.into_iter();
    let mut found = Vec::with_capacity(structures.len());
    for structure in structures {
        if structure.values.len() == 1 {
            found.extend(of_single.next());
        } else {
            let inside = |mask: &LabelMap| mask.map(|value| Label::from(structure.holds(*value)));
            found.extend(measure(&inside(prediction), &inside(reference), &[1])?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use sulcus_volume::{Geometry, Orientation, OrientationSource, RasFromVoxel, Spacing};

    use super::*;

    #[test]
    fn union_contains_every_voxel_with_one_of_its_values() {
        let map = RasFromVoxel::aligned(Orientation::RAS, Spacing::new([1.0; 3]).unwrap());
        let grid = Geometry::new([6, 1, 1], map, OrientationSource::Sform).unwrap();
        let mask = |values: [Label; 6]| LabelMap::new(grid, values.to_vec()).unwrap();
        let (prediction, reference) = (mask([1, 2, 2, 0, 0, 1]), mask([2, 1, 0, 1, 3, 3]));
        let whole = Structure { name: "whole".into(), values: vec![1, 2], ..Structure::label(1) };
        let all = [Structure::label(3), whole, Structure::label(2)];
        let counts = count_structures(&prediction, &reference, &all).unwrap();
        assert_eq!(counts[0], Counts { tp: 0, fp: 0, fn_: 2, tn: 4 });
        assert_eq!(counts[1], Counts { tp: 2, fp: 2, fn_: 1, tn: 1 });
        assert_eq!(counts[2], Counts { tp: 0, fp: 2, fn_: 1, tn: 3 });
        assert_eq!(all.each_ref().map(Structure::key), ["3", "(1, 2)", "2"]);
        let distances = structure_distances(&prediction, &reference, &all).unwrap();
        assert_eq!(distances[0].hd95_mm(), Some(f64::INFINITY));
        assert!(distances[1].hd95_mm().unwrap().is_finite());
    }
}
