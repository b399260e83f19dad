//! Surfaces against values that are known: shapes with a formula, and properties that every closed surface has.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::HashMap;
use std::f64::consts::PI;

use proptest::prelude::*;
use sulcus_mesh::{MemoryLimit, MeshError, Smoothing, Surface, surface, survey};
use sulcus_volume::{Geometry, GridUnit, Label, LabelMap, OrientationSource, RasFromVoxel, Spacing, VoxelIndex};

fn grid(shape: [usize; 3], rows: [[f64; 4]; 3]) -> Geometry {
    Geometry::new(shape, RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap()
}

fn with_spacing(shape: [usize; 3], [x, y, z]: [f64; 3]) -> Geometry {
    grid(shape, [[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0]])
}

/// Label 1 where the position in RAS+ millimetres satisfies a condition.
fn filled(grid: Geometry, inside: impl Fn([f64; 3]) -> bool) -> LabelMap {
    let [nx, ny, nz] = grid.shape();
    let mut data = Vec::with_capacity(grid.voxels());
    for z in 0..nz {
        for y in 0..ny {
            for x in 0..nx {
                let at = grid.ras_from_voxel().apply([x, y, z].map(|i| i as f64)).0;
                data.push(Label::from(inside(at)));
            }
        }
    }
    LabelMap::new(grid, data).unwrap()
}

fn of_voxels(grid: Geometry, voxels: &[[usize; 3]]) -> LabelMap {
    let mut data = vec![0; grid.voxels()];
    voxels.iter().for_each(|v| data[grid.offset(VoxelIndex(*v)).unwrap()] = 1);
    LabelMap::new(grid, data).unwrap()
}

fn made(map: &LabelMap, label: Label, smoothing: Smoothing) -> Surface {
    surface(map, &survey(map)[&label], smoothing, MemoryLimit::NONE).unwrap()
}

/// Checks that every edge belongs to two triangles, in opposite directions, and that the triangles around each vertex form one fan.
/// Returns the Euler characteristic.
fn euler_characteristic(surface: &Surface) -> i64 {
    let mut edges: HashMap<[u32; 2], [usize; 2]> = HashMap::new();
    let mut fans: HashMap<u32, HashMap<u32, u32>> = HashMap::new();
    for [a, b, c] in surface.triangles() {
        assert!(a != b && b != c && c != a, "a triangle has a vertex twice");
        for [from, to, third] in [[*a, *b, *c], [*b, *c, *a], [*c, *a, *b]] {
            edges.entry([from.min(to), from.max(to)]).or_default()[usize::from(from > to)] += 1;
            assert_eq!(fans.entry(from).or_default().insert(to, third), None, "an edge occurs twice");
        }
    }
    assert!(edges.values().all(|uses| *uses == [1, 1]), "an edge does not belong to two triangles");
    assert_eq!(fans.len(), surface.vertices().len(), "a vertex is in no triangle");
    for fan in fans.values() {
        let start = *fan.keys().next().unwrap();
        let (mut at, mut steps) = (start, 0);
        loop {
            at = fan[&at];
            steps += 1;
            if at == start {
                break;
            }
        }
        assert_eq!(steps, fan.len(), "the triangles around a vertex form more than one fan");
    }
    surface.vertices().len() as i64 - edges.len() as i64 + surface.triangles().len() as i64
}

/// The relative difference.
fn off(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected
}

#[test]
fn sphere_has_the_volume_and_area_of_the_formula() {
    for (spacing, radius) in [([1.0, 1.0, 1.0], 12.0), ([0.5, 0.5, 0.5], 12.0), ([0.7, 0.9, 2.0], 20.0)] {
        let shape = spacing.map(|mm| (2.0 * radius / mm) as usize + 6);
        let centre: [f64; 3] = std::array::from_fn(|i| shape[i] as f64 * spacing[i] / 2.0 - 0.2 - 0.1 * i as f64);
        let distance = |at: [f64; 3]| at.iter().zip(centre).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let map = filled(with_spacing(shape, spacing), |at| distance(at) <= radius * radius);
        let surface = made(&map, 1, Smoothing::default());
        assert_eq!(euler_characteristic(&surface), 2);
        assert_eq!((surface.components(), surface.cavities()), (1, 0));
        let found = surface.measure();
        let volume = off(found.volume_ml, 4.0 / 3.0 * PI * radius.powi(3) / 1000.0);
        let area = off(found.area_mm2, 4.0 * PI * radius.powi(2));
        assert!(volume < 0.01, "{spacing:?}: volume off by {volume}");
        assert!(area < 0.03, "{spacing:?}: area off by {area}");
        // Each vertex is near the sphere: within half of the diagonal of a voxel.
        let near = spacing.iter().map(|mm| mm * mm).sum::<f64>().sqrt() / 2.0;
        for vertex in surface.vertices() {
            let away = distance(vertex.map(f64::from)).sqrt() - radius;
            assert!(away.abs() < near, "{spacing:?}: a vertex is {away} mm from the sphere");
        }
    }
}

#[test]
fn torus_has_the_volume_area_and_genus_of_the_formula() {
    let (ring, tube) = (16.0_f64, 6.0_f64);
    let map = filled(with_spacing([50, 50, 20], [1.0; 3]), |[x, y, z]| {
        let around = (x - 24.3).hypot(y - 24.6) - ring;
        around.hypot(z - 9.4) <= tube
    });
    let surface = made(&map, 1, Smoothing::default());
    assert_eq!(euler_characteristic(&surface), 0);
    assert_eq!((surface.components(), surface.cavities()), (1, 0));
    let found = surface.measure();
    assert!(off(found.volume_ml, 2.0 * PI * PI * ring * tube * tube / 1000.0) < 0.01, "{found:?}");
    assert!(off(found.area_mm2, 4.0 * PI * PI * ring * tube) < 0.03, "{found:?}");
}

/// Rotated about two axes, voxels of 0.8 × 1.1 × 1.6 mm, far from the origin; optionally with one axis reversed.
fn oblique(shape: [usize; 3], reversed: bool) -> Geometry {
    let ((sin_a, cos_a), (sin_b, cos_b)) = (0.4_f64.sin_cos(), (-0.7_f64).sin_cos());
    let x = [cos_a, sin_a, 0.0].map(|v| v * 0.8);
    let y = [-sin_a * cos_b, cos_a * cos_b, sin_b].map(|v| v * 1.1);
    let z = [sin_a * sin_b, -cos_a * sin_b, cos_b].map(|v| v * if reversed { -1.6 } else { 1.6 });
    grid(shape, std::array::from_fn(|row| [x[row], y[row], z[row], [-110.0, 75.0, 900.0][row]]))
}

#[test]
fn surfaces_on_oblique_grids_lie_in_the_patient_and_point_outward() {
    for reversed in [false, true] {
        let grid = oblique([44, 36, 26], reversed);
        let centre = grid.ras_from_voxel().apply([21.3, 17.6, 12.4]).0;
        let distance = |at: [f64; 3]| at.iter().zip(centre).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let map = filled(grid, |at| distance(at) <= 13.0);
        let surface = made(&map, 1, Smoothing::default());
        assert_eq!(euler_characteristic(&surface), 2);
        let found = surface.measure();
        assert!(off(found.volume_ml, 4.0 / 3.0 * PI * 13.0_f64.powi(3) / 1000.0) < 0.01, "{reversed}: {found:?}");
        assert!(off(found.area_mm2, 4.0 * PI * 169.0) < 0.03, "{reversed}: {found:?}");
        for triangle in surface.triangles() {
            let [a, b, c] = triangle.map(|i| surface.vertices()[i as usize].map(f64::from));
            let [u, v]: [[f64; 3]; 2] = [b, c].map(|p| std::array::from_fn(|i| p[i] - a[i]));
            let normal = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
            let outward: f64 = (0..3).map(|i| normal[i] * (a[i] - centre[i])).sum();
            assert!(outward > 0.0, "{reversed}: a normal points inward");
        }
    }
}

#[test]
fn one_voxel_has_its_exact_volume_also_at_the_border() {
    for voxel in [[1, 1, 1], [0, 0, 0], [2, 0, 2]] {
        let map = of_voxels(with_spacing([3, 3, 3], [2.0, 3.0, 5.0]), &[voxel]);
        let surface = made(&map, 1, Smoothing::NONE);
        assert_eq!((surface.vertices().len(), surface.triangles().len()), (8, 12));
        assert_eq!(euler_characteristic(&surface), 2);
        let found = surface.measure();
        assert_eq!((found.area_mm2, found.volume_ml), (62.0, 0.03));
        assert_eq!((surface.voxels(), surface.voxel_ml()), (1, 0.03));
        let low = voxel.map(|i| i as f32 - 0.5);
        let extremes = [0, 1, 2].map(|axis| {
            let along = surface.vertices().iter().map(|v| v[axis]);
            [along.clone().fold(f32::MAX, f32::min), along.fold(f32::MIN, f32::max)]
        });
        let expected: [[f32; 2]; 3] = std::array::from_fn(|axis| {
            let mm = [2.0, 3.0, 5.0][axis];
            [low[axis] * mm, (low[axis] + 1.0) * mm]
        });
        assert_eq!(extremes, expected);
        // The filter alone would shrink it to a point.
        for passes in [1, 20, Smoothing::MAX_PASSES] {
            let smooth = made(&map, 1, Smoothing::of_passes(passes));
            assert_eq!(euler_characteristic(&smooth), 2);
            assert!(off(smooth.measure().volume_ml, 0.03) < 0.01, "{passes} passes: {:?}", smooth.measure());
        }
    }
}

#[test]
fn label_that_fills_the_grid_is_closed() {
    let map = filled(with_spacing([5, 4, 3], [1.0, 2.0, 3.0]), |_| true);
    let surface = made(&map, 1, Smoothing::NONE);
    assert_eq!(euler_characteristic(&surface), 2);
    let found = surface.measure();
    assert!(
        off(found.volume_ml, 0.36) < 1e-6 && off(found.area_mm2, 2.0 * (40.0 + 72.0 + 45.0)) < 1e-6,
        "{found:?}"
    );
    let smooth = made(&map, 1, Smoothing::default());
    assert!(off(smooth.measure().volume_ml, 0.36) < 0.001, "{:?}", smooth.measure());
}

#[test]
fn voxels_that_touch_at_an_edge_or_a_corner_are_separate_closed_parts() {
    for (second, smoothing) in [([2, 2, 1], 0), ([2, 2, 2], 0), ([2, 2, 1], 20), ([2, 2, 2], 20)] {
        let map = of_voxels(with_spacing([4, 4, 4], [1.0; 3]), &[[1, 1, 1], second]);
        let surface = made(&map, 1, Smoothing::of_passes(smoothing));
        assert_eq!(euler_characteristic(&surface), 4, "{second:?}");
        assert_eq!((surface.components(), surface.cavities()), (2, 0));
        assert!(off(surface.measure().volume_ml, 0.002) < 0.01, "{second:?}");
    }
    let joined = made(&of_voxels(with_spacing([4, 4, 4], [1.0; 3]), &[[1, 1, 1], [2, 1, 1]]), 1, Smoothing::NONE);
    assert_eq!((joined.components(), euler_characteristic(&joined)), (1, 2));
}

/// Two empty voxels in a solid block that touch at an edge: without care, this edge would belong to four triangles.
#[test]
fn cavities_that_touch_at_an_edge_are_closed() {
    let map = filled(with_spacing([6, 6, 5], [1.0; 3]), |at| at != [2.0, 2.0, 2.0] && at != [3.0, 3.0, 2.0]);
    for smoothing in [Smoothing::NONE, Smoothing::default()] {
        let surface = made(&map, 1, smoothing);
        assert_eq!((surface.components(), surface.cavities()), (1, 2));
        assert_eq!(euler_characteristic(&surface), 6);
        assert!(off(surface.measure().volume_ml, 0.178) < 0.01, "{:?}", surface.measure());
    }
}

#[test]
fn cavity_is_subtracted_from_the_volume() {
    let map = filled(with_spacing([30, 30, 30], [1.0; 3]), |at| {
        let r = at.iter().zip([14.3, 14.6, 14.4]).map(|(v, c)| (v - c).powi(2)).sum::<f64>().sqrt();
        (6.0..=13.0).contains(&r)
    });
    let surface = made(&map, 1, Smoothing::default());
    assert_eq!((surface.components(), surface.cavities(), euler_characteristic(&surface)), (1, 1, 4));
    let expected = 4.0 / 3.0 * PI * (13.0_f64.powi(3) - 6.0_f64.powi(3)) / 1000.0;
    assert!(off(surface.measure().volume_ml, expected) < 0.01, "{:?} of {expected}", surface.measure());
    assert!(off(surface.measure().volume_ml, surface.voxel_ml()) < 0.001, "{:?}", surface.measure());
}

#[test]
fn labels_are_independent_of_each_other() {
    let grid = with_spacing([20, 20, 20], [1.0; 3]);
    let half = |at: [f64; 3]| at.iter().map(|v| (v - 9.5).powi(2)).sum::<f64>() <= 64.0;
    let both = filled(grid, half).into_parts().1;
    let data: Vec<Label> = both.iter().enumerate().map(|(i, v)| if i % 20 < 10 { v * 3 } else { v * 8 }).collect();
    let map = LabelMap::new(grid, data.clone()).unwrap();
    for label in [3, 8] {
        let alone = data.iter().map(|v| if *v == label { label } else { 0 }).collect();
        let alone = LabelMap::new(grid, alone).unwrap();
        assert_eq!(made(&map, label, Smoothing::default()), made(&alone, label, Smoothing::default()));
    }
}

#[test]
fn memory_is_limited_before_it_is_taken() {
    let map = filled(with_spacing([30, 30, 30], [1.0; 3]), |_| true);
    let extent = survey(&map)[&1];
    let limit = MemoryLimit(extent.memory_bytes() - 1);
    let refused = surface(&map, &extent, Smoothing::default(), limit).unwrap_err();
    assert!(matches!(refused, MeshError::Memory { label: 1, faces: 5400, .. }), "{refused}");
    assert!(surface(&map, &extent, Smoothing::default(), MemoryLimit(extent.memory_bytes())).is_ok());
    let small = of_voxels(with_spacing([2, 2, 2], [1.0; 3]), &[[0, 0, 0]]);
    let refused = surface(&small, &extent, Smoothing::default(), MemoryLimit::NONE).unwrap_err();
    assert!(matches!(refused, MeshError::OtherMap { label: 1 }), "{refused}");
}

#[test]
fn pictures_have_no_surface() {
    let grid = Geometry::of_picture([4, 4, 1], Spacing::new([1.0; 3]).unwrap(), GridUnit::Pixel).unwrap();
    let map = LabelMap::new(grid, vec![1; 16]).unwrap();
    let refused = surface(&map, &survey(&map)[&1], Smoothing::NONE, MemoryLimit::NONE).unwrap_err();
    assert!(matches!(refused, MeshError::Picture(GridUnit::Pixel)), "{refused}");
}

/// The number of parts that are connected through faces.
fn connected_parts(map: &LabelMap) -> usize {
    let grid = map.geometry();
    let [nx, ny, nz] = grid.shape();
    let mut seen = vec![false; grid.voxels()];
    let mut count = 0;
    for start in 0..grid.voxels() {
        if seen[start] || map.data()[start] == 0 {
            continue;
        }
        count += 1;
        let mut waiting = vec![start];
        seen[start] = true;
        while let Some(at) = waiting.pop() {
            let [x, y, z] = [at % nx, at / nx % ny, at / nx / ny];
            let beside = [
                (x > 0).then(|| at - 1),
                (x + 1 < nx).then(|| at + 1),
                (y > 0).then(|| at - nx),
                (y + 1 < ny).then(|| at + nx),
                (z > 0).then(|| at - nx * ny),
                (z + 1 < nz).then(|| at + nx * ny),
            ];
            for next in beside.into_iter().flatten() {
                if map.data()[next] != 0 && !seen[next] {
                    seen[next] = true;
                    waiting.push(next);
                }
            }
        }
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random voxels have every configuration of neighbours.
    #[test]
    fn every_surface_is_a_closed_manifold_around_its_voxels(
        shape in [1_usize..7, 1_usize..7, 1_usize..7],
        share in 0.05_f64..0.95,
        values in proptest::collection::vec(0.0_f64..1.0, 216),
        passes in prop_oneof![Just(0_u32), Just(3), Just(20)],
    ) {
        let grid = with_spacing(shape, [1.0, 1.5, 2.5]);
        let data: Vec<Label> = values[..grid.voxels()].iter().map(|v| Label::from(*v < share)).collect();
        let map = LabelMap::new(grid, data).unwrap();
        let voxels = map.data().iter().filter(|v| **v == 1).count();
        prop_assume!(voxels > 0);
        let surface = made(&map, 1, Smoothing::of_passes(passes));
        let characteristic = euler_characteristic(&surface);
        prop_assert!(characteristic <= 2 * (surface.components() + surface.cavities()) as i64);
        prop_assert_eq!(surface.components(), connected_parts(&map));
        prop_assert_eq!(surface.triangles().len(), 2 * survey(&map)[&1].faces);
        let found = surface.measure().volume_ml;
        prop_assert!(off(found, voxels as f64 * 3.75 / 1000.0) < 0.01, "{} ml of {} voxels", found, voxels);
    }
}
