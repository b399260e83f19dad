//! A mask on the wrong side of the brain is the worst possible error: a real scan that is rewritten in every orientation
//! must get the same mask in the patient, through files.

use std::path::{Path, PathBuf};

use sulcus_io::{VolumeMetadata, read_labels, read_scan, write_image};
use sulcus_model::{CoarseAxis, ModelSpec, SpacingRule, Tiling};
use sulcus_plan::DeviceChoice;
use sulcus_runtime::{Engine, SegmentOptions, Segmenter};
use sulcus_testing::{test_spec, test_stage};
use sulcus_tests::{builder, held_out_cases, shipped_model};
use sulcus_train::{UNet, export_onnx, find_device};
use sulcus_volume::{Geometry, Image, Interpolation, Orientation, OrientationSource, RasFromVoxel, Spacing};

/// A bundled scan.
fn scan() -> Image {
    let (_, image, _) = &held_out_cases().unwrap()[0];
    read_scan(image).unwrap().image
}

/// The same anatomy with voxels of three different sizes, two of them below a millimetre.
fn anisotropic() -> Image {
    let scan = scan();
    let grid = scan.geometry().respaced(Spacing::new([0.75, 0.9, 2.2]).unwrap()).unwrap();
    scan.resample_to(&grid, Interpolation::Linear, 0.0).unwrap()
}

/// The same voxels on a grid that is rotated by about 20° about each axis of the patient; all its numbers can be
/// represented exactly in the single precision of a header.
fn oblique() -> Image {
    let scan = scan();
    let rows =
        [[0.875, -0.375, 0.3125, -20.5], [0.4375, 0.84375, -0.3125, 11.25], [-0.125, 0.40625, 0.90625, 33.75]];
    let map = RasFromVoxel::new(rows).unwrap();
    let grid = Geometry::new(scan.geometry().shape(), map, OrientationSource::Sform).unwrap();
    Image::new(grid, 1, scan.data().to_vec()).unwrap()
}

fn write(folder: &Path, name: &str, image: &Image) -> PathBuf {
    let file = folder.join(format!("{name}.nii.gz"));
    write_image(&file, image, &VolumeMetadata::from(*image.geometry())).unwrap();
    file
}

/// Segments `scan` in every orientation and compares the masks voxel by voxel at their positions in the patient.
fn same_in_all_48(segmenter: &Segmenter, scan: &Image) {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.nii.gz");
    segmenter.segment_file(write(folder.path(), "scan", scan), &plain).unwrap();
    let (expected, _) = read_labels(&plain).unwrap();
    let foreground = expected.data().iter().filter(|l| **l != 0).count();
    assert!(foreground > 0 && foreground < expected.data().len(), "a mask of one value tests nothing");
    for orientation in Orientation::all() {
        let turned = scan.reoriented(orientation);
        let file = write(folder.path(), &format!("scan_{orientation}"), &turned);
        let mask = folder.path().join(format!("mask_{orientation}.nii.gz"));
        segmenter.segment_file(&file, &mask).unwrap();
        let (found, _) = read_labels(&mask).unwrap();
        assert_eq!(found.geometry().orientation(), orientation);
        let back = found.reoriented(expected.geometry().orientation());
        back.geometry().check_same_grid(expected.geometry()).unwrap();
        assert!(back.data() == expected.data(), "{orientation}");
    }
}

fn shipped() -> Segmenter {
    builder(Engine::Tract).unwrap().model(shipped_model()).build().unwrap()
}

#[test]
fn all_48_orientations_of_a_scan_get_the_same_mask_in_the_patient() {
    same_in_all_48(&shipped(), &scan());
}

#[test]
fn voxels_of_three_sizes_get_the_same_mask_in_all_48_orientations() {
    same_in_all_48(&shipped(), &anisotropic());
}

#[test]
fn an_oblique_scan_gets_the_same_mask_in_all_48_orientations() {
    same_in_all_48(&shipped(), &oblique());
}

/// Random weights are as strict as trained ones: the mask shows every error of orientation.
#[test]
fn a_3d_model_that_resamples_gives_the_same_mask_in_all_48_orientations() {
    // An orientation that differs from those of the scans.
    let mut spec = test_spec(3)
        .strided()
        .stages(vec![test_stage(3, 4, 1), test_stage(3, 6, 2)])
        .labels(&[(1, "Anterior"), (2, "Posterior")])
        .orientation("PIR")
        .patch(&[24; 3], Tiling::Patch)
        .build();
    let mm = Spacing::new([1.25, 1.5, 1.125]).unwrap();
    spec.spacing = SpacingRule::Resample {
        mm,
        interpolation: Interpolation::Linear,
        coarse_axis: CoarseAxis::AsOthers,
        tolerance: 1.0,
    };
    same_in_all_48(&untrained(&spec), &anisotropic());
}

/// A segmenter with random weights.
fn untrained(spec: &ModelSpec) -> Segmenter {
    let (device, _) = find_device(DeviceChoice::Cpu).unwrap();
    let network = UNet::new(&spec.network, spec.channels.len(), spec.classes(), 11, &device).unwrap();
    let file = export_onnx(&network, spec).unwrap();
    builder(Engine::Tract).unwrap().model_bytes(file).build().unwrap()
}

/// The scan in upright slices of 3 mm whose normal is turned from anterior towards right by this angle.
fn upright_stack(degrees: f64) -> Image {
    let scan = scan();
    let grid = scan.geometry().respaced(Spacing::new([1.0, 1.0, 3.0]).unwrap()).unwrap();
    let scan = scan.resample_to(&grid, Interpolation::Linear, 0.0).unwrap();
    let (s, c) = degrees.to_radians().sin_cos();
    let rows = [[c, 0.0, 3.0 * s, 0.0], [-s, 0.0, 3.0 * c, 0.0], [0.0, 1.0, 0.0, 0.0]];
    let map = RasFromVoxel::new(rows).unwrap();
    let geometry = Geometry::new(scan.geometry().shape(), map, OrientationSource::Sform).unwrap();
    Image::new(geometry, 1, scan.data().to_vec()).unwrap()
}

/// Like short-axis stacks of the heart: the patient axis nearest to the slice normal changes between them.
#[test]
fn acquired_axes_give_rotated_copies_of_a_real_scan_the_same_mask() {
    let spec = |axes: &str| {
        let mut spec = test_spec(3)
            .strided()
            .stages(vec![test_stage(3, 4, 1), test_stage(3, 6, 2)])
            .labels(&[(1, "Anterior"), (2, "Posterior")])
            .orientation(axes)
            .patch(&[24; 3], Tiling::Patch)
            .build();
        spec.format_version = spec.min_format_version();
        spec
    };
    let (acquired, anatomical) = (untrained(&spec("acquired")), untrained(&spec("RAS")));
    let mask = |segmenter: &Segmenter, degrees: f64| {
        segmenter.segment(&upright_stack(degrees), SegmentOptions::default()).unwrap().labels.into_parts().1
    };
    let expected = mask(&acquired, 40.0);
    assert!(expected.contains(&1) || expected.contains(&2), "a mask of one value tests nothing");
    let angles = [36.0, 44.0, 46.0, 54.0];
    let slice_axes: Vec<usize> =
        angles.map(|angle| upright_stack(angle).geometry().orientation().axes()[2].ras_axis()).into();
    assert!(slice_axes.iter().any(|axis| *axis != slice_axes[0]), "{slice_axes:?}");
    for angle in angles {
        assert!(mask(&acquired, angle) == expected, "{angle}");
    }
    assert!(angles.iter().any(|angle| mask(&anatomical, *angle) != mask(&anatomical, angles[0])));
}
