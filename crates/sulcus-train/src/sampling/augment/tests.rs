//! Spatial transforms of image and mask, and each intensity transform.

use sulcus_plan::{Augmentation, Flips};

use super::draw::{IntensityTransform, PatchTransform, SpatialTransform};
use super::*;

const IDENTITY: SpatialTransform =
    SpatialTransform { degrees: [0.0; 3], scale: 1.0, shift: [0.0; 3], mirror: [false; 3] };

/// A case whose image equals its mask: two boxes side by side.
struct TestCase {
    image: Vec<f32>,
    classes: Vec<u8>,
    shape: [usize; 3],
}

impl TestCase {
    fn new(shape: [usize; 3]) -> Self {
        let [nz, ny, nx] = shape;
        let share = |v: usize, n: usize| (v as f64 + 0.5) / n as f64;
        let class = |i: usize| {
            let [z, y, x] = [share(i / nx / ny, nz), share(i / nx % ny, ny), share(i % nx, nx)];
            let inside = |v: f64, low: f64, high: f64| (low..high).contains(&v);
            match () {
                () if !(inside(z, 0.2, 0.8) || nz == 1) || !inside(y, 0.2, 0.7) => 0,
                () if inside(x, 0.15, 0.5) => 1,
                () if inside(x, 0.5, 0.8) => 2,
                () => 0,
            }
        };
        let classes: Vec<u8> = (0..nz * ny * nx).map(class).collect();
        Self { image: classes.iter().map(|c| f32::from(*c)).collect(), classes, shape }
    }

    fn source(&self) -> SourceCase<'_> {
        SourceCase { image: &self.image, classes: &self.classes, shape: self.shape }
    }

    fn location(&self) -> PatchLocation {
        PatchLocation { patch: self.shape, corner: [0; 3], anchor: None, spacing_mm: [1.0; 3] }
    }

    fn cut(&self, spatial: SpatialTransform, location: &PatchLocation) -> (Vec<f32>, Vec<u8>) {
        let voxels = location.patch.iter().product();
        let (mut image, mut classes) = (vec![f32::NAN; voxels], vec![9; voxels]);
        let variation = PatchTransform { spatial, intensities: vec![IntensityTransform::default()] };
        variation.cut(&self.source(), location, &mut image, &mut classes);
        (image, classes)
    }
}

const SLICE: [usize; 3] = [1, 40, 48];
const VOLUME: [usize; 3] = [24, 28, 32];

#[test]
fn patch_without_spatial_transform_is_a_copy_padded_with_zeros() {
    let drawn = TestCase::new(VOLUME);
    assert_eq!(drawn.cut(IDENTITY, &drawn.location()), (drawn.image.clone(), drawn.classes.clone()));
    let beyond = PatchLocation { patch: [30, 20, 40], corner: [-3, 4, -5], ..drawn.location() };
    let (image, classes) = drawn.cut(IDENTITY, &beyond);
    for (i, (value, class)) in image.iter().zip(&classes).enumerate() {
        let [z, y, x] = [i / 800, i / 40 % 20, i % 40];
        let inside = (3..27).contains(&z) && (5..37).contains(&x);
        let expected = if inside { drawn.classes[((z - 3) * 28 + y + 4) * 32 + x - 5] } else { 0 };
        assert_eq!((*value, *class), (f32::from(expected), expected));
    }
    // Completely outside.
    let away = PatchLocation { corner: [0, 0, 32], ..drawn.location() };
    assert!(drawn.cut(IDENTITY, &away).0.iter().all(|v| *v == 0.0));
    let away = PatchLocation { corner: [-24, 0, 0], ..drawn.location() };
    assert!(drawn.cut(IDENTITY, &away).1.iter().all(|c| *c == 0));
}

#[test]
fn mirroring_reverses_rows_columns_and_planes() {
    let shape = [3, 4, 5];
    let image: Vec<f32> = (0..60).map(|i| i as f32).collect();
    let drawn = TestCase { classes: (0..60).collect(), image, shape };
    for bits in 0..8 {
        let mirror = [0, 1, 2].map(|axis| bits >> axis & 1 == 1);
        for corner in [[0; 3], [1, -2, 3]] {
            let location = PatchLocation { corner, ..drawn.location() };
            let (plain, _) = drawn.cut(IDENTITY, &location);
            let (image, classes) = drawn.cut(SpatialTransform { mirror, ..IDENTITY }, &location);
            for i in 0..60 {
                let at = [i / 20, i / 5 % 4, i % 5];
                let [z, y, x] = std::array::from_fn(|a| if mirror[a] { shape[a] - 1 - at[a] } else { at[a] });
                assert_eq!(image[i], plain[(z * 4 + y) * 5 + x], "{mirror:?} {corner:?}");
                assert_eq!(f32::from(classes[i]), image[i]);
            }
        }
    }
}

/// Where no other class is within a voxel, the interpolated image equals the mask; elsewhere it lies between the
/// classes around.
#[test]
fn image_and_mask_are_transformed_alike() {
    for shape in [SLICE, VOLUME] {
        let drawn = TestCase::new(shape);
        let amounts = [-30.0, -11.0, 0.0, 7.0, 30.0];
        let mut moved = 0;
        for (n, degrees) in amounts.into_iter().enumerate() {
            for (scale, mirror) in [(0.7, false), (1.0, true), (1.4, false)] {
                let spatial = SpatialTransform {
                    degrees: [degrees, amounts[(n + 1) % 5], amounts[(n + 3) % 5]],
                    scale,
                    shift: [0.1, -0.1, 0.2],
                    mirror: [mirror; 3],
                };
                let (image, classes) = drawn.cut(spatial, &drawn.location());
                moved += usize::from(classes != drawn.classes);
                let exact = image.iter().filter(|v| v.fract() == 0.0).count();
                let apart = image.iter().zip(&classes).filter(|(v, c)| (**v - f32::from(**c)).abs() > 0.5 + 1e-4);
                // The image is linear between 0, 1 and 2, so half-way from 0 to 2 it passes 1: such voxels alone may
                // be further than a half from the class that has the greatest share.
                let apart = apart.count();
                assert!(apart * 25 < image.len(), "{apart} of {} differ for {spatial:?}", image.len());
                assert!(exact * 2 > image.len(), "{exact} of {} are inside a class", image.len());
                for (value, class) in image.iter().zip(&classes).filter(|(v, _)| v.fract() == 0.0 && **v != 1.0) {
                    assert_eq!(*value, f32::from(*class), "{spatial:?}");
                }
                let foreground = classes.iter().filter(|c| **c > 0).count() as f64;
                let before = drawn.classes.iter().filter(|c| **c > 0).count() as f64;
                let dimensions = if shape[0] == 1 { 2 } else { 3 };
                let ratio = foreground / before / f64::powi(scale, dimensions);
                assert!(scale > 1.0 || (0.85..1.15).contains(&ratio), "{ratio} for {spatial:?}");
            }
        }
        assert_eq!(moved, 15);
    }
}

#[test]
fn rotation_by_a_right_angle_is_exact() {
    let shape = [1, 5, 5];
    let drawn = TestCase { image: (0..25).map(|i| i as f32).collect(), classes: (0..25).collect(), shape };
    let (image, classes) =
        drawn.cut(SpatialTransform { degrees: [90.0, 0.0, 0.0], ..IDENTITY }, &drawn.location());
    for i in 0..25 {
        let [y, x] = [i / 5, i % 5];
        assert!((image[i] - (5 * (4 - x) + y) as f32).abs() < 1e-4, "{image:?}");
        assert_eq!(usize::from(classes[i]), 5 * (4 - x) + y);
    }
}

#[test]
fn rotation_keeps_lengths_in_millimetres() {
    // A bar of 20 voxels of 1 mm along x, turned by a right angle, is 10 voxels of 2 mm long along y.
    let mut drawn = TestCase::new([1, 33, 33]);
    drawn.classes.fill(0);
    (0..20).for_each(|i| (0..4).for_each(|k| drawn.classes[(15 + k) * 33 + 6 + i] = 1));
    let location = PatchLocation { spacing_mm: [1.0, 2.0, 1.0], ..drawn.location() };
    let (_, classes) = drawn.cut(SpatialTransform { degrees: [90.0, 0.0, 0.0], ..IDENTITY }, &location);
    let rows: Vec<usize> = classes.chunks(33).map(|row| row.iter().filter(|c| **c == 1).count()).collect();
    assert_eq!(rows.iter().filter(|n| **n > 0).count(), 10, "{rows:?}");
    assert_eq!(rows.iter().max(), Some(&8));
}

#[test]
fn distant_planes_are_not_mixed() {
    let drawn = TestCase { classes: vec![0; 8 * 40 * 40], image: Vec::new(), shape: [8, 40, 40] };
    let image: Vec<f32> = (0..8 * 1600).map(|i| (i / 1600) as f32).collect();
    let drawn = TestCase { image, ..drawn };
    let spatial = SpatialTransform { degrees: [20.0, 30.0, -30.0], scale: 1.2, ..IDENTITY };
    let thin = drawn.location();
    let (image, _) = drawn.cut(spatial, &thin);
    for (z, plane) in image.chunks(1600).enumerate() {
        assert!((plane[20 * 40 + 20] - z as f32).abs() < 1e-6);
    }
    let coarse = PatchLocation { patch: [8, 20, 20], corner: [0, 10, 10], spacing_mm: [3.5, 1.0, 1.0], ..thin };
    assert!(drawn.cut(spatial, &coarse).0.iter().all(|v| v.fract() == 0.0));
    let deep = PatchLocation { spacing_mm: [1.0; 3], ..coarse };
    assert!(drawn.cut(spatial, &deep).0.iter().any(|v| v.fract() != 0.0));
}

/// Slightly rough values around 0, as after z-score normalisation.
fn channel(shape: [usize; 3]) -> Vec<f32> {
    let n: usize = shape.iter().product();
    let rough = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 9) % 1000) as f32 / 500.0 - 1.0;
    (0..n).map(|i| (i as f32 / 150.0).sin() + 0.6 * rough(i)).collect()
}

fn transformed(intensity: IntensityTransform, shape: [usize; 3]) -> Vec<f32> {
    let mut values = channel(shape);
    intensity.apply(&mut values, shape, shape[0] == 1);
    values
}

struct Facts {
    mean: f64,
    sd: f64,
    low: f32,
    high: f32,
}

fn facts(values: &[f32]) -> Facts {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let sd = (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    Facts { mean, sd, low, high: values.iter().copied().fold(f32::NEG_INFINITY, f32::max) }
}

/// Mean absolute difference of neighbours along x.
fn roughness(values: &[f32]) -> f64 {
    values.windows(2).map(|pair| f64::from((pair[1] - pair[0]).abs())).sum::<f64>() / values.len() as f64
}

#[test]
fn default_transform_changes_nothing() {
    assert_eq!(transformed(IntensityTransform::default(), VOLUME), channel(VOLUME));
}

#[test]
fn noise_has_the_drawn_standard_deviation() {
    let noisy = transformed(IntensityTransform { noise: Some((0.1, 7)), ..IntensityTransform::default() }, VOLUME);
    let noise: Vec<f32> = noisy.iter().zip(channel(VOLUME)).map(|(a, b)| a - b).collect();
    let Facts { mean, sd, low, high } = facts(&noise);
    assert!(mean.abs() < 0.003 && (sd - 0.1).abs() < 0.003, "{mean} ± {sd}");
    assert!(low < -0.3 && high > 0.3 && low > -0.7 && high < 0.7);
    let within = noise.iter().filter(|v| v.abs() < 0.1).count() as f64 / noise.len() as f64;
    assert!((within - 0.6827).abs() < 0.015, "{within} within one standard deviation");
    assert_ne!(
        noisy,
        transformed(IntensityTransform { noise: Some((0.1, 8)), ..IntensityTransform::default() }, VOLUME)
    );
}

#[test]
fn blur_is_a_gaussian() {
    let shape = [9, 15, 15];
    let centre = (4 * 15 + 7) * 15 + 7;
    let sigma = [0.5, 1.0, 0.7];
    for flat in [false, true] {
        let mut values = vec![0.0; 9 * 225];
        values[centre] = 1.0;
        IntensityTransform { blur: Some(sigma), ..IntensityTransform::default() }.apply(&mut values, shape, flat);
        assert!((facts(&values).mean * values.len() as f64 - 1.0).abs() < 1e-5, "a blur adds nothing");
        for (axis, stride) in [225, 15, 1].into_iter().enumerate() {
            let ratio = values[centre + stride] / values[centre];
            let expected = if flat && axis == 0 { 0.0 } else { (-0.5 / (sigma[axis] * sigma[axis])).exp() };
            assert!((f64::from(ratio) - expected).abs() < 1e-5, "axis {axis}: {ratio}, expected {expected}");
        }
    }
    let blurred =
        transformed(IntensityTransform { blur: Some([0.8; 3]), ..IntensityTransform::default() }, VOLUME);
    assert!(roughness(&blurred) < 0.5 * roughness(&channel(VOLUME)));
    let mut constant = vec![3.0; 12];
    IntensityTransform { blur: Some([1.0; 3]), ..IntensityTransform::default() }.apply(
        &mut constant,
        [1, 3, 4],
        true,
    );
    assert!(constant.iter().all(|v| (v - 3.0).abs() < 1e-6), "edges don't darken");
}

#[test]
fn brightness_shift_and_contrast_change_the_moments() {
    let (plain, before) = (channel(VOLUME), facts(&channel(VOLUME)));
    let bright =
        transformed(IntensityTransform { brightness: Some(1.25), ..IntensityTransform::default() }, VOLUME);
    assert!(bright.iter().zip(&plain).all(|(a, b)| *a == b * 1.25));

    let shifted =
        facts(&transformed(IntensityTransform { shift: Some(0.2), ..IntensityTransform::default() }, VOLUME));
    assert!((shifted.mean - before.mean - 0.2 * before.sd).abs() < 1e-4 && (shifted.sd - before.sd).abs() < 1e-4);

    let free = facts(&transformed(
        IntensityTransform { contrast: Some((1.25, false)), ..IntensityTransform::default() },
        VOLUME,
    ));
    assert!((free.mean - before.mean).abs() < 1e-4 && (free.sd - 1.25 * before.sd).abs() < 1e-4);
    assert!(free.high > before.high && free.low < before.low);

    let kept = facts(&transformed(
        IntensityTransform { contrast: Some((1.25, true)), ..IntensityTransform::default() },
        VOLUME,
    ));
    assert_eq!((kept.low, kept.high), (before.low, before.high));
    assert!(kept.sd > 1.1 * before.sd);
    let less = facts(&transformed(
        IntensityTransform { contrast: Some((0.75, true)), ..IntensityTransform::default() },
        VOLUME,
    ));
    assert!((less.sd - 0.75 * before.sd).abs() < 1e-4);
}

#[test]
fn low_resolution_removes_detail_without_a_shift() {
    for shape in [SLICE, VOLUME] {
        let coarse =
            transformed(IntensityTransform { low_resolution: Some(0.5), ..IntensityTransform::default() }, shape);
        assert!(roughness(&coarse) < 0.6 * roughness(&channel(shape)));
        let same =
            transformed(IntensityTransform { low_resolution: Some(1.0), ..IntensityTransform::default() }, shape);
        assert_eq!(same, channel(shape));
    }
    // A ramp stays where it is: no half-voxel shift.
    let mut ramp: Vec<f32> = (0..24).map(|i| i as f32).collect();
    IntensityTransform { low_resolution: Some(1.0 / 3.0), ..IntensityTransform::default() }.apply(
        &mut ramp,
        [1, 1, 24],
        true,
    );
    assert!((2..22).all(|i| (ramp[i] - i as f32).abs() < 1e-4), "{ramp:?}");
}

#[test]
fn gamma_keeps_mean_and_standard_deviation() {
    let (plain, before) = (channel(VOLUME), facts(&channel(VOLUME)));
    let skew = |values: &[f32]| {
        let f = facts(values);
        values.iter().map(|v| ((f64::from(*v) - f.mean) / f.sd).powi(3)).sum::<f64>() / values.len() as f64
    };
    for gamma in [0.7, 1.5] {
        let bent = transformed(IntensityTransform { gamma: Some(gamma), ..IntensityTransform::default() }, VOLUME);
        let inverted = transformed(
            IntensityTransform { inverted_gamma: Some(gamma), ..IntensityTransform::default() },
            VOLUME,
        );
        for values in [&bent, &inverted] {
            let after = facts(values);
            assert!((after.mean - before.mean).abs() < 1e-4 && (after.sd - before.sd).abs() < 1e-4);
            // The order of values is kept.
            let mut order: Vec<usize> = (0..plain.len()).collect();
            order.sort_by(|a, b| plain[*a].total_cmp(&plain[*b]));
            assert!(order.windows(2).all(|pair| values[pair[0]] <= values[pair[1]] + 1e-5));
        }
        assert_eq!(skew(&bent) > skew(&plain), gamma > 1.0);
        assert_eq!(skew(&inverted) < skew(&plain), gamma > 1.0);
    }
    let mut constant = vec![2.0; 8];
    IntensityTransform { gamma: Some(1.5), inverted_gamma: Some(0.7), ..IntensityTransform::default() }.apply(
        &mut constant,
        [2; 3],
        false,
    );
    assert_eq!(constant, [2.0; 8]);
}

#[test]
fn intensity_transforms_change_each_channel_and_no_mask() {
    let drawn = TestCase::new(VOLUME);
    let voxels = drawn.image.len();
    let stacked = [drawn.image.as_slice(), &drawn.image].concat();
    let source = SourceCase { image: &stacked, ..drawn.source() };
    let (mut image, mut classes) = (vec![0.0; 2 * voxels], vec![0; voxels]);
    let intensities = vec![
        IntensityTransform::default(),
        IntensityTransform { brightness: Some(0.75), gamma: Some(1.5), ..IntensityTransform::default() },
    ];
    PatchTransform { spatial: IDENTITY, intensities }.cut(&source, &drawn.location(), &mut image, &mut classes);
    assert_eq!(image[..voxels], drawn.image);
    assert_ne!(image[voxels..], drawn.image);
    assert_eq!(classes, drawn.classes);
}

#[test]
fn grids_of_one_voxel_are_supported() {
    let everything = Augmentation::nnunet().with(|a| a.flips = Flips::all(3));
    let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(1);
    for shape in [[1, 1, 1], [1, 1, 5], [2, 1, 1], [3, 2, 1]] {
        let drawn = TestCase { image: vec![1.0; 12], classes: vec![1; 12], shape };
        let voxels: usize = shape.iter().product();
        let source = SourceCase { image: &drawn.image[..voxels], classes: &drawn.classes[..voxels], shape };
        for patch in [[1, 1, 1], [4, 5, 6], [1, 7, 2]] {
            let location = PatchLocation { patch, corner: [0; 3], anchor: Some([0; 3]), spacing_mm: [1.0; 3] };
            let n: usize = patch.iter().product();
            for _ in 0..50 {
                let (mut image, mut classes) = (vec![f32::NAN; n], vec![9; n]);
                PatchTransform::draw(&everything, 1, &mut rng).cut(&source, &location, &mut image, &mut classes);
                assert!(image.iter().all(|v| v.is_finite()));
                assert!(classes.contains(&1) && classes.iter().all(|c| *c < 2));
            }
        }
    }
}
