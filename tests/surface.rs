//! Surface distances of real masks compared with the results of DeepMind's `surface-distance` 0.1, which
//! tests/peers/surface_distances.py wrote.

use serde_json::Value;
use sulcus_io::read_labels;
use sulcus_metrics::surface_distances;
use sulcus_tests::root;
use sulcus_volume::{Geometry, Label, LabelMap, OrientationSource, RasFromVoxel, Spacing, Volume};

/// The order of summation differs from numpy's.
const TOLERANCE: f64 = 1e-9;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Computes each voxel from the mask and its position; outside of the mask is background.
fn made(mask: &LabelMap, make: impl Fn(&dyn Fn([i64; 3]) -> Label, [i64; 3]) -> Label) -> LabelMap {
    let grid = *mask.geometry();
    let shape = grid.shape().map(|n| n as i64);
    let get = |at: [i64; 3]| {
        let inside = (0..3).all(|axis| (0..shape[axis]).contains(&at[axis]));
        let offset = (at[2] * shape[1] + at[1]) * shape[0] + at[0];
        if inside { mask.data()[offset as usize] } else { 0 }
    };
    let place = |i: i64| [i % shape[0], i / shape[0] % shape[1], i / shape[0] / shape[1]];
    let data = (0..grid.voxels()).map(|i| make(&get, place(i as i64))).collect();
    Volume::new(grid, data).unwrap()
}

fn shifted(mask: &LabelMap, by: &[f64]) -> LabelMap {
    made(mask, |get, at| get(std::array::from_fn(|axis| at[axis] - by[axis] as i64)))
}

fn eroded(mask: &LabelMap) -> LabelMap {
    made(mask, |get, at| {
        let own = get(at);
        let steps = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
        let alike = |d: &[i64; 3], sign: i64| get(std::array::from_fn(|axis| at[axis] + sign * d[axis])) == own;
        if steps.iter().all(|d| alike(d, 1) && alike(d, -1)) { own } else { 0 }
    })
}

#[test]
fn results_on_the_bundled_cases_equal_those_of_the_package() {
    let figures: Value = serde_json::from_str(include_str!("peers/surface_distances.json")).unwrap();
    let tolerances = numbers(&figures["tolerances_mm"]);
    let cases = figures["real"].as_array().unwrap();
    assert!(cases.len() >= 12);
    for case in cases {
        let name = case["case"].as_str().unwrap();
        let label = case["label"].as_u64().unwrap() as Label;
        let file = root().join(format!("examples/data/hippocampus/labelsTr/{name}.nii.gz"));
        let (mask, _) = read_labels(&file).unwrap();
        let [x, y, z] = Spacing::new(numbers(&case["spacing_mm"]).try_into().unwrap()).unwrap().mm();
        let map = RasFromVoxel::new([[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0]]).unwrap();
        let grid = Geometry::new(mask.geometry().shape(), map, OrientationSource::Sform).unwrap();
        let reference = Volume::new(grid, mask.into_parts().1).unwrap();
        let mut prediction = shifted(&reference, &numbers(&case["shift"]));
        for _ in 0..case["erode"].as_u64().unwrap() {
            prediction = eroded(&prediction);
        }
        let voxels = [&prediction, &reference].map(|m| m.data().iter().filter(|v| **v == label).count() as f64);
        assert_eq!(voxels.to_vec(), numbers(&case["voxels"]), "{name}: the same changes give the same masks");

        let found = surface_distances(&prediction, &reference, &[label]).unwrap().remove(0);
        let (hd95, expected) = (found.hd95_mm().unwrap(), case["HD95"].as_f64().unwrap());
        assert!((hd95 - expected).abs() < TOLERANCE, "{name}, label {label}: HD95 {hd95}, {expected}");
        for (mm, expected) in tolerances.iter().zip(numbers(&case["NSD"])) {
            let nsd = found.surface_dice(*mm).unwrap();
            assert!((nsd - expected).abs() < TOLERANCE, "{name}, label {label}: NSD at {mm} mm {nsd}, {expected}");
        }
    }
}
