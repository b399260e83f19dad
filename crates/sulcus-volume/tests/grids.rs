//! Grids of every kind: all 48 axis orientations, turned against the patient's axes, left-handed, anisotropic, below a
//! millimetre. What holds for one must hold for all of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use proptest::prelude::*;
use sulcus_volume::{
    Geometry, Image, Interpolation, LabelMap, Orientation, OrientationSource, RasFromVoxel, Regrid, Reorientation,
    Spacing, Volume, VoxelIndex,
};

/// Millimetres; places run up to some hundred of them, reckoned in double precision.
const PLACE_TOLERANCE_MM: f64 = 1e-9;
/// Single precision, of values up to 1200.
const FIELD_TOLERANCE: f64 = 1e-3;

/// Rotation by `angles` (radians about x, then y, then z).
fn rotation([a, b, c]: [f64; 3]) -> [[f64; 3]; 3] {
    let ((sa, ca), (sb, cb), (sc, cc)) = (a.sin_cos(), b.sin_cos(), c.sin_cos());
    [
        [cb * cc, sa * sb * cc - ca * sc, ca * sb * cc + sa * sc],
        [cb * sc, sa * sb * sc + ca * cc, ca * sb * sc - sa * cc],
        [-sb, sa * cb, ca * cb],
    ]
}

/// A grid along `orientation`, then turned about the patient's axes.
fn grid(
    orientation: Orientation,
    shape: [usize; 3],
    spacing: [f64; 3],
    angles: [f64; 3],
    at: [f64; 3],
) -> Geometry {
    let straight = RasFromVoxel::aligned(orientation, Spacing::new(spacing).unwrap()).rows();
    let turn = rotation(angles);
    let rows = std::array::from_fn(|r| {
        let entry = |c: usize| (0..3).map(|k| turn[r][k] * straight[k][c]).sum::<f64>();
        [entry(0), entry(1), entry(2), at[r]]
    });
    Geometry::new(shape, RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap()
}

/// Every second of them is left-handed.
fn orientations() -> impl Strategy<Value = Orientation> {
    (0..48_usize).prop_map(|i| Orientation::all().nth(i).unwrap())
}

fn grids() -> impl Strategy<Value = Geometry> {
    let spacing = prop::array::uniform3(0.2..6.0_f64);
    let at = prop::array::uniform3(-300.0..300.0_f64);
    let angles = prop_oneof![Just([0.0; 3]), prop::array::uniform3(-0.6..0.6_f64)];
    (orientations(), prop::array::uniform3(1..9_usize), spacing, angles, at)
        .prop_map(|(orientation, shape, spacing, angles, at)| grid(orientation, shape, spacing, angles, at))
}

/// A value a voxel that no other has.
fn numbered(geometry: Geometry) -> Volume<u32> {
    Volume::new(geometry, (0..geometry.voxels() as u32).collect()).unwrap()
}

fn voxels(shape: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    let [nx, ny, nz] = shape;
    (0..nz).flat_map(move |z| (0..ny).flat_map(move |y| (0..nx).map(move |x| [x, y, z])))
}

fn place(grid: &Geometry, voxel: [usize; 3]) -> [f64; 3] {
    grid.ras_from_voxel().apply(voxel.map(|v| v as f64)).0
}

fn apart(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn turning_moves_no_voxel_in_the_patient_and_turning_back_restores_it(
        source in grids(),
        to in orientations(),
    ) {
        let volume = numbered(source);
        let turned = volume.reoriented(to);
        for voxel in voxels(turned.geometry().shape()) {
            let number = *turned.get(VoxelIndex(voxel)).unwrap() as usize;
            let [nx, ny, _] = source.shape();
            let there = place(&source, [number % nx, number / nx % ny, number / (nx * ny)]);
            prop_assert!(apart(place(turned.geometry(), voxel), there) < PLACE_TOLERANCE_MM);
        }
        prop_assert_eq!(turned.geometry().orientation(), to);
        let back = turned.reoriented(source.orientation());
        prop_assert_eq!(back.data(), volume.data());
        prop_assert!(back.geometry().check_same_grid(&source).is_ok());
    }

    #[test]
    fn spacing_and_volume_survive_turning(source in grids(), to in orientations()) {
        let turn = Reorientation::between(source.orientation(), to);
        let turned = turn.geometry(&source);
        prop_assert!(apart(turned.spacing().mm(), turn.triple(source.spacing().mm())) < PLACE_TOLERANCE_MM);
        prop_assert!((turned.ml(1000) / source.ml(1000) - 1.0).abs() < PLACE_TOLERANCE_MM);
    }

    #[test]
    fn pulling_onto_a_turned_grid_is_turning(source in grids(), to in orientations()) {
        let volume = numbered(source);
        let turned = volume.reoriented(to);
        let regrid = Regrid::new(&source, turned.geometry());
        prop_assert!(regrid.moves_whole_voxels());
        let pulled = volume.onto(turned.geometry(), u32::MAX).unwrap();
        prop_assert_eq!(pulled.data(), turned.data());
        let values: Vec<f32> = volume.data().iter().map(|v| *v as f32).collect();
        let wanted: Vec<f32> = turned.data().iter().map(|v| *v as f32).collect();
        prop_assert_eq!(regrid.linear(&values, -1.0).unwrap(), wanted);
        let labels = LabelMap::new(source, volume.data().iter().map(|v| *v as u16).collect()).unwrap();
        let smooth = labels.onto_smoothly(turned.geometry()).unwrap();
        let expected = labels.reoriented(to);
        prop_assert_eq!(smooth.data(), expected.data());
    }

    #[test]
    fn refining_a_grid_and_coming_back_restores_the_labels(
        source in grids(),
        // An odd number of parts has one at the voxel's own centre.
        parts in prop::array::uniform3(prop::sample::select(vec![1_usize, 3, 5])),
    ) {
        let shape = std::array::from_fn(|axis| source.shape()[axis] * parts[axis]);
        let volume = numbered(source);
        let fine = volume.onto(&source.resized(shape).unwrap(), u32::MAX).unwrap();
        let each = parts.iter().product::<usize>();
        let mut counts = vec![0; volume.data().len()];
        fine.data().iter().for_each(|v| counts[*v as usize] += 1);
        prop_assert!(counts.iter().all(|n| *n == each), "{:?}", counts);
        let back = fine.onto(&source, u32::MAX).unwrap();
        prop_assert_eq!(back.data(), volume.data());
    }

    #[test]
    fn a_new_spacing_is_exact_keeps_the_axes_and_stays_inside(
        source in grids(),
        mm in prop::array::uniform3(0.3..9.0_f64),
    ) {
        let respaced = source.respaced(Spacing::new(mm).unwrap()).unwrap();
        prop_assert!(apart(respaced.spacing().mm(), mm) < PLACE_TOLERANCE_MM);
        prop_assert_eq!(respaced.orientation(), source.orientation());
        let image = Image::new(source, 1, vec![1.0; source.voxels()]).unwrap();
        let found = image.onto(&respaced, Interpolation::Linear, 0.0).unwrap();
        prop_assert!(found.data().iter().all(|v| (*v - 1.0).abs() < 1e-6));
    }

    #[test]
    fn a_linear_field_over_the_patient_is_found_on_any_other_grid(source in grids(), target in grids()) {
        let value = |[r, a, s]: [f64; 3]| 0.5 * r - 1.25 * a + 2.0 * s + 3.0;
        let values: Vec<f32> = voxels(source.shape()).map(|v| value(place(&source, v)) as f32).collect();
        // Around the source's own middle, or the two would hardly ever meet.
        let middle = |g: &Geometry| g.ras_from_voxel().apply(g.shape().map(|n| (n as f64 - 1.0) / 2.0)).0;
        let (here, there) = (middle(&source), middle(&target));
        let mut rows = target.ras_from_voxel().rows();
        (0..3).for_each(|r| rows[r][3] += here[r] - there[r]);
        let target =
            Geometry::new(target.shape(), RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap();
        let found = Regrid::new(&source, &target).linear(&values, f32::NAN).unwrap();
        let to_source = source.ras_from_voxel().inverse();
        for (found, voxel) in found.iter().zip(voxels(target.shape())) {
            let ras = target.ras_from_voxel().apply(voxel.map(|v| v as f64));
            let at = to_source.apply(ras);
            let within = |beyond: f64| {
                (0..3).all(|axis| (-beyond..=source.shape()[axis] as f64 - 1.0 + beyond).contains(&at[axis]))
            };
            if within(0.0) {
                prop_assert!((f64::from(*found) - value(ras.0)).abs() < FIELD_TOLERANCE);
            }
            prop_assert!(!within(0.499) || found.is_finite());
            prop_assert!(within(0.501) || found.is_nan());
        }
    }
}
