//! Property tests over grids in all 48 orientations: oblique, left-handed, anisotropic and with voxels below a
//! millimetre.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use proptest::prelude::*;
use sulcus_volume::{
    Geometry, GridResampler, Image, Interpolation, LabelMap, Orientation, OrientationSource, RasFromVoxel,
    Reorientation, Spacing, Volume, VoxelIndex,
};

/// Double precision, for positions of a few hundred millimetres.
const POSITION_TOLERANCE_MM: f64 = 1e-9;
/// Single precision, for values up to 1200.
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

/// A grid along `orientation`, rotated about the patient's axes.
fn grid(
    orientation: Orientation,
    shape: [usize; 3],
    spacing: [f64; 3],
    angles: [f64; 3],
    at: [f64; 3],
) -> Geometry {
    let aligned = RasFromVoxel::aligned(orientation, Spacing::new(spacing).unwrap()).rows();
    let rotation = rotation(angles);
    let rows = std::array::from_fn(|r| {
        let entry = |c: usize| (0..3).map(|k| rotation[r][k] * aligned[k][c]).sum::<f64>();
        [entry(0), entry(1), entry(2), at[r]]
    });
    Geometry::new(shape, RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap()
}

/// Half of them are left-handed.
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

/// A volume whose voxels all have different values.
fn numbered(geometry: Geometry) -> Volume<u32> {
    Volume::new(geometry, (0..geometry.voxels() as u32).collect()).unwrap()
}

fn voxels(shape: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    let [nx, ny, nz] = shape;
    (0..nz).flat_map(move |z| (0..ny).flat_map(move |y| (0..nx).map(move |x| [x, y, z])))
}

fn position(grid: &Geometry, voxel: [usize; 3]) -> [f64; 3] {
    grid.ras_from_voxel().apply(voxel.map(|v| v as f64)).0
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn reorientation_keeps_voxel_positions_and_is_invertible(
        source in grids(),
        to in orientations(),
    ) {
        let volume = numbered(source);
        let reoriented = volume.reoriented(to);
        for voxel in voxels(reoriented.geometry().shape()) {
            let number = *reoriented.get(VoxelIndex(voxel)).unwrap() as usize;
            let [nx, ny, _] = source.shape();
            let there = position(&source, [number % nx, number / nx % ny, number / (nx * ny)]);
            prop_assert!(distance(position(reoriented.geometry(), voxel), there) < POSITION_TOLERANCE_MM);
        }
        prop_assert_eq!(reoriented.geometry().orientation(), to);
        let back = reoriented.reoriented(source.orientation());
        prop_assert_eq!(back.data(), volume.data());
        prop_assert!(back.geometry().check_same_grid(&source).is_ok());
    }

    #[test]
    fn reorientation_keeps_spacing_and_voxel_volume(source in grids(), to in orientations()) {
        let reorientation = Reorientation::between(source.orientation(), to);
        let reoriented = reorientation.geometry(&source);
        prop_assert!(distance(reoriented.spacing().mm(), reorientation.permute(source.spacing().mm())) < POSITION_TOLERANCE_MM);
        prop_assert!((reoriented.ml(1000).unwrap() / source.ml(1000).unwrap() - 1.0).abs() < POSITION_TOLERANCE_MM);
    }

    #[test]
    fn resampling_to_a_reoriented_grid_equals_reorientation(source in grids(), to in orientations()) {
        let volume = numbered(source);
        let reoriented = volume.reoriented(to);
        let resampler = GridResampler::new(&source, reoriented.geometry());
        prop_assert!(resampler.is_voxel_aligned());
        let resampled = volume.resample_to(reoriented.geometry(), u32::MAX).unwrap();
        prop_assert_eq!(resampled.data(), reoriented.data());
        let values: Vec<f32> = volume.data().iter().map(|v| *v as f32).collect();
        let wanted: Vec<f32> = reoriented.data().iter().map(|v| *v as f32).collect();
        prop_assert_eq!(resampler.linear(&values, -1.0).unwrap(), wanted);
        let labels = LabelMap::new(source, volume.data().iter().map(|v| *v as u16).collect()).unwrap();
        let interpolated = labels.resample_linear_to(reoriented.geometry()).unwrap();
        let expected = labels.reoriented(to);
        prop_assert_eq!(interpolated.data(), expected.data());
    }

    #[test]
    fn resampling_to_a_finer_grid_and_back_restores_the_labels(
        source in grids(),
        // With an odd factor, one of the small voxels has the same centre as the original voxel.
        parts in prop::array::uniform3(prop::sample::select(vec![1_usize, 3, 5])),
    ) {
        let shape = std::array::from_fn(|axis| source.shape()[axis] * parts[axis]);
        let volume = numbered(source);
        let fine = volume.resample_to(&source.resized(shape).unwrap(), u32::MAX).unwrap();
        let each = parts.iter().product::<usize>();
        let mut counts = vec![0; volume.data().len()];
        fine.data().iter().for_each(|v| counts[*v as usize] += 1);
        prop_assert!(counts.iter().all(|n| *n == each), "{:?}", counts);
        let back = fine.resample_to(&source, u32::MAX).unwrap();
        prop_assert_eq!(back.data(), volume.data());
    }

    #[test]
    fn respaced_is_exact_keeps_the_axes_and_stays_inside(
        source in grids(),
        mm in prop::array::uniform3(0.3..9.0_f64),
    ) {
        let respaced = source.respaced(Spacing::new(mm).unwrap()).unwrap();
        prop_assert!(distance(respaced.spacing().mm(), mm) < POSITION_TOLERANCE_MM);
        prop_assert_eq!(respaced.orientation(), source.orientation());
        let image = Image::new(source, 1, vec![1.0; source.voxels()]).unwrap();
        let found = image.resample_to(&respaced, Interpolation::Linear, 0.0).unwrap();
        prop_assert!(found.data().iter().all(|v| (*v - 1.0).abs() < 1e-6));
    }

    #[test]
    fn linear_field_is_reproduced_on_any_other_grid(source in grids(), target in grids()) {
        let value = |[r, a, s]: [f64; 3]| 0.5 * r - 1.25 * a + 2.0 * s + 3.0;
        let values: Vec<f32> = voxels(source.shape()).map(|v| value(position(&source, v)) as f32).collect();
        // The target is centred on the source; otherwise the two would rarely overlap.
        let middle = |g: &Geometry| g.ras_from_voxel().apply(g.shape().map(|n| (n as f64 - 1.0) / 2.0)).0;
        let (here, there) = (middle(&source), middle(&target));
        let mut rows = target.ras_from_voxel().rows();
        (0..3).for_each(|r| rows[r][3] += here[r] - there[r]);
        let target =
            Geometry::new(target.shape(), RasFromVoxel::new(rows).unwrap(), OrientationSource::Sform).unwrap();
        let found = GridResampler::new(&source, &target).linear(&values, f32::NAN).unwrap();
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
