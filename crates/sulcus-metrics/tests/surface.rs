//! Surface distances compared with the results of DeepMind's `surface-distance` 0.1 (written by
//! tests/peers/surface_distances.py). The masks are generated here by the same rules, so that no Python is needed.
//! `tests/surface.rs` at the root uses real masks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers may fail like the test")]

use serde_json::Value;
use sulcus_metrics::surface_distances;
use sulcus_volume::{Geometry, Label, LabelMap, Orientation, OrientationSource, RasFromVoxel, Spacing, Volume};

/// The order of summation differs from numpy's.
const TOLERANCE: f64 = 1e-9;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn rows(value: &Value) -> Vec<Vec<i64>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
    value.as_array().unwrap().iter().map(row).collect()
}

/// Balls `[x, y, z, squared radius]` and boxes `[first…, last…]`; noise `[seed, percent]` inverts voxels.
fn generated(grid: Geometry, recipe: &Value) -> LabelMap {
    let (balls, boxes) = (rows(&recipe["balls"]), rows(&recipe["boxes"]));
    let noise = numbers(&recipe["noise"]);
    let [nx, ny, _] = grid.shape();
    let inside = |offset: usize| {
        let at = [offset % nx, offset / nx % ny, offset / nx / ny].map(|i| i as i64);
        let in_ball = balls.iter().any(|b| (0..3).map(|a| (at[a] - b[a]).pow(2)).sum::<i64>() <= b[3]);
        let in_box = boxes.iter().any(|b| (0..3).all(|a| (b[a]..=b[a + 3]).contains(&at[a])));
        let [x, y, z] = at.map(|i| i as u64);
        let seed = noise[0] as u64;
        let mixed = (x * 73_856_093) ^ (y * 19_349_663) ^ (z * 83_492_791) ^ (seed * 2_654_435_761);
        let mixed = mixed & 0xFFFF_FFFF;
        let mixed = ((mixed ^ mixed >> 13) * 1_540_483_477) & 0xFFFF_FFFF;
        (in_ball || in_box) ^ (((mixed ^ mixed >> 15) % 100) < noise[1] as u64)
    };
    Volume::new(grid, (0..grid.voxels()).map(|offset| Label::from(inside(offset))).collect()).unwrap()
}

#[test]
fn results_match_the_package() {
    let figures: Value =
        serde_json::from_str(include_str!("../../../tests/peers/surface_distances.json")).unwrap();
    let tolerances = numbers(&figures["tolerances_mm"]);
    let cases = figures["generated"].as_array().unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let shape: Vec<usize> = numbers(&case["shape"]).iter().map(|n| *n as usize).collect();
        let mm = Spacing::new(numbers(&case["spacing_mm"]).try_into().unwrap()).unwrap();
        let map = RasFromVoxel::aligned(Orientation::RAS, mm);
        let grid = Geometry::new(shape.try_into().unwrap(), map, OrientationSource::Sform).unwrap();
        let masks = ["prediction", "reference"].map(|which| generated(grid, &case[which]));
        let voxels = masks.each_ref().map(|m| m.data().iter().filter(|v| **v == 1).count() as f64);
        assert_eq!(voxels.to_vec(), numbers(&case["voxels"]), "{name}: the rules give the same masks");

        let found = surface_distances(&masks[0], &masks[1], &[1]).unwrap().remove(0);
        let hd95 = found.hd95_mm().unwrap();
        match case["HD95"].as_f64() {
            Some(expected) => assert!((hd95 - expected).abs() < TOLERANCE, "{name}: HD95 {hd95}, {expected}"),
            None => assert_eq!(hd95, f64::INFINITY, "{name}"),
        }
        for (mm, expected) in tolerances.iter().zip(numbers(&case["NSD"])) {
            let nsd = found.surface_dice(*mm).unwrap();
            assert!((nsd - expected).abs() < TOLERANCE, "{name}: NSD at {mm} mm {nsd}, {expected}");
        }
    }
}
