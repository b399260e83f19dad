//! Series in their own numbers: whole ones stay whole, and mean what they mean as an image.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test stops where it cannot go on")]

mod slices;

use dicom_core::{Tag, VR};
use dicom_object::InMemDicomObject;
use sulcus_io::dicom::read_series;
use sulcus_io::{StoredVolume, Texts, VoxelType, read_scan, read_stored, write_stored};
use sulcus_volume::Image;

use slices::*;

const UNSIGNED: Stored = Stored { allocated: 16, stored: 12, signed: false };

/// The bundled scan as a series whose pixels are its values, under a slope and an intercept for each slice.
fn scaled(stored: Stored, scale: impl Fn(usize) -> (&'static str, &'static str)) -> tempfile::TempDir {
    let image: Image = turned(&bundled(), "LPS".parse().unwrap(), true);
    let object = |z| -> InMemDicomObject {
        let mut object = slice_object(&image, z, stored);
        let (slope, intercept) = scale(z);
        put(&mut object, Tag(0x0028, 0x1053), VR::DS, text(slope));
        put(&mut object, Tag(0x0028, 0x1052), VR::DS, text(intercept));
        object
    };
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), (0..image.geometry().shape()[2]).map(object).collect(), EXPLICIT);
    folder
}

/// How far values may lie apart that a slope in single precision scales, relative to the largest.
const SLOPE_ROUNDING: f32 = 2.0 * f32::EPSILON;

/// Reads the series as stored and as an image, and sees that every format that it is written to gives the same values.
fn check(folder: &tempfile::TempDir, rounding: f32) -> StoredVolume<'static> {
    let image = read_series(folder.path(), None).unwrap().image;
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
fn whole_values_stay_whole_in_the_least_type_of_the_files_size() {
    let kind = |stored: &StoredVolume<'_>| (stored.source().voxel_type(), stored.slope_and_intercept());
    assert_eq!(kind(&check(&scaled(PLAIN, |_| ("1", "0")), 0.0)), (VoxelType::Int16, None));
    assert_eq!(kind(&check(&scaled(UNSIGNED, |_| ("1", "0")), 0.0)), (VoxelType::Uint16, None));
    // Hounsfield units.
    assert_eq!(kind(&check(&scaled(UNSIGNED, |_| ("1", "-1024")), 0.0)), (VoxelType::Int16, None));
    // Too large for 16 bits: as stored, with what they mean.
    assert_eq!(kind(&check(&scaled(PLAIN, |_| ("100", "-7")), 0.0)), (VoxelType::Int16, Some((100.0, -7.0))));
    // Each slice has its own, and all are whole.
    let each = |z: usize| if z.is_multiple_of(2) { ("2", "1") } else { ("1", "-3") };
    assert_eq!(kind(&check(&scaled(PLAIN, each), 0.0)), (VoxelType::Int16, None));
}

#[test]
fn fractions_keep_slope_and_intercept_where_all_slices_share_them() {
    let half = check(&scaled(UNSIGNED, |_| ("0.5", "-3.25")), 0.0);
    assert_eq!((half.source().voxel_type(), half.slope_and_intercept()), (VoxelType::Uint16, Some((0.5, -3.25))));
    let third = check(&scaled(PLAIN, |_| ("0.333333333", "1.1")), SLOPE_ROUNDING);
    assert_eq!(third.source().voxel_type(), VoxelType::Int16);
    let each = check(&scaled(PLAIN, |z| if z == 2 { ("0.3", "0") } else { ("0.7", "0") }), 0.0);
    assert_eq!((each.source().voxel_type(), each.slope_and_intercept()), (VoxelType::Float32, None));
}
