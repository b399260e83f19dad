//! Series as stored volumes: integer values stay integers, and the real values equal those of the image.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use dicom_core::{Tag, VR};
use dicom_object::InMemDicomObject;
use sulcus_io::dicom::read_series;
use sulcus_io::{StoredVolume, Texts, VoxelType, read_scan, read_stored, write_stored};
use sulcus_volume::Image;

use sulcus_testing::dicom::*;

const UNSIGNED: PixelFormat = PixelFormat { allocated: 16, stored: 12, signed: false };

/// The bundled scan as a series with a slope and an intercept for each slice.
fn scaled(stored: PixelFormat, scale: impl Fn(usize) -> (&'static str, &'static str)) -> tempfile::TempDir {
    let image: Image = reoriented(&bundled_image(), "LPS".parse().unwrap(), true);
    let object = |z| -> InMemDicomObject {
        let mut object = slice_elements(&image, z, stored);
        let (slope, intercept) = scale(z);
        put(&mut object, Tag(0x0028, 0x1053), VR::DS, text(slope));
        put(&mut object, Tag(0x0028, 0x1052), VR::DS, text(intercept));
        object
    };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), (0..image.geometry().shape()[2]).map(object).collect(), EXPLICIT);
    folder
}

/// The relative error of values that are scaled by a slope in single precision.
const SLOPE_ROUNDING: f32 = 2.0 * f32::EPSILON;

/// Reads the series as a stored volume, and checks that every output format restores the values of the image.
fn check(folder: &tempfile::TempDir, rounding: f32) -> StoredVolume<'static> {
    let image = read_series(folder.path(), None).unwrap().scan.image;
    let stored = read_stored(folder.path()).unwrap();
    let most = image.data().iter().fold(0.0, |most: f32, v| most.max(v.abs()));
    for name in ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"] {
        let path = folder.path().join(name);
        write_stored(&path, &stored, None, Texts::Drop).unwrap();
        let read = read_scan(&path).unwrap();
        read.image.geometry().check_same_grid(image.geometry()).unwrap();
        let apart = image.data().iter().zip(read.image.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= rounding * most, "{name}: {apart} of {most}");
        std::fs::remove_file(&path).unwrap();
    }
    stored
}

#[test]
fn integer_values_are_stored_in_the_smallest_sufficient_type() {
    let kind = |stored: &StoredVolume<'_>| (stored.metadata().voxel_type(), stored.slope_and_intercept());
    assert_eq!(kind(&check(&scaled(INT16, |_| ("1", "0")), 0.0)), (VoxelType::Int16, None));
    assert_eq!(kind(&check(&scaled(UNSIGNED, |_| ("1", "0")), 0.0)), (VoxelType::Uint16, None));
    // Hounsfield units.
    assert_eq!(kind(&check(&scaled(UNSIGNED, |_| ("1", "-1024")), 0.0)), (VoxelType::Int16, None));
    // Too large for 16 bits: stored values with slope and intercept.
    assert_eq!(kind(&check(&scaled(INT16, |_| ("100", "-7")), 0.0)), (VoxelType::Int16, Some((100.0, -7.0))));
    // The slices have different scales, and all values are integers.
    let each = |z: usize| if z.is_multiple_of(2) { ("2", "1") } else { ("1", "-3") };
    assert_eq!(kind(&check(&scaled(INT16, each), 0.0)), (VoxelType::Int16, None));
}

#[test]
fn shared_fractional_scale_is_kept() {
    let half = check(&scaled(UNSIGNED, |_| ("0.5", "-3.25")), 0.0);
    assert_eq!(
        (half.metadata().voxel_type(), half.slope_and_intercept()),
        (VoxelType::Uint16, Some((0.5, -3.25)))
    );
    let third = check(&scaled(INT16, |_| ("0.333333333", "1.1")), SLOPE_ROUNDING);
    assert_eq!(third.metadata().voxel_type(), VoxelType::Int16);
    let each = check(&scaled(INT16, |z| if z == 2 { ("0.3", "0") } else { ("0.7", "0") }), 0.0);
    assert_eq!((each.metadata().voxel_type(), each.slope_and_intercept()), (VoxelType::Float32, None));
}
