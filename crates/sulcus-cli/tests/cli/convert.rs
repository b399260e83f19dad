use std::path::Path;

use serde_json::Value;
use sulcus_volume::Orientation;

use super::support::{Ended, RAS, ended, file, nifti, predict, run, scan, sulcus, truth};

fn info(home: &Path, path: &Path) -> Value {
    serde_json::from_str(&run(home, &[&"info", &path, &"--json"]).code(0).stdout).unwrap()
}

fn convert(home: &Path, from: &Path, to: &Path, more: &[&str]) -> Ended {
    ended(sulcus(home).arg("convert").arg(from).arg(to).args(more).output().unwrap())
}

/// 2 × 3 × 4 voxels of int16, with slope 0.5 and intercept −10, on an oblique grid.
fn scaled(home: &Path) -> std::path::PathBuf {
    let rows = [[-0.9, 0.1, 0.2, 12.0], [0.15, 1.1, -0.3, -7.5], [0.05, 0.25, 2.4, 31.0]];
    let mut bytes = nifti(&[2, 3, 4], &[], Some(rows));
    bytes[70..72].copy_from_slice(&4_i16.to_le_bytes());
    bytes[72..74].copy_from_slice(&16_i16.to_le_bytes());
    bytes[112..116].copy_from_slice(&0.5_f32.to_le_bytes());
    bytes[116..120].copy_from_slice(&(-10.0_f32).to_le_bytes());
    bytes.extend((0..24_i16).flat_map(|i| (i * 100 - 300).to_le_bytes()));
    file(home, "scaled.nii", &bytes)
}

#[test]
fn reorientation_keeps_type_scale_and_values_and_is_reversible() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let source = scaled(home);
    let before = info(home, &source);
    assert_eq!(
        (&before["dtype"], &before["min"], &before["orientation"]),
        (&"int16".into(), &(-160.0).into(), &"LAS".into())
    );
    let original = std::fs::read(&source).unwrap();
    for orientation in Orientation::all() {
        let code = orientation.to_string();
        let (turned, back) = (home.join(format!("{code}.nii.gz")), home.join("back.nii"));
        convert(home, &source, &turned, &["--orient", &code]).code(0).says(&code);
        let after = info(home, &turned);
        assert_eq!(after["orientation"], code.as_str());
        for same in ["dtype", "min", "max", "mean"] {
            assert_eq!(after[same], before[same], "{code}: {same}");
        }
        convert(home, &turned, &back, &["--orient", "LAS"]).code(0);
        let bytes = std::fs::read(&back).unwrap();
        let start = f32::from_le_bytes(bytes[108..112].try_into().unwrap()) as usize;
        assert_eq!(bytes[start..], original[352..], "{code}");
        let returned = info(home, &back);
        for (row, expected) in [0, 1, 2].map(|r| (&returned["ras_from_voxel"][r], &before["ras_from_voxel"][r])) {
            for (a, b) in [0, 1, 2, 3].map(|c| (row[c].as_f64().unwrap(), expected[c].as_f64().unwrap())) {
                // The header is single precision, the offset some ten millimetres.
                assert!((a - b).abs() < 1e-5, "{code}: {a} {b}");
            }
        }
    }
}

#[test]
fn new_spacing_interpolates_images_and_keeps_label_values() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (image, mask) = (home.join("image.nii.gz"), home.join("mask.nii.gz"));
    convert(home, &scan(), &image, &["--spacing", "0.8,1,2"])
        .code(0)
        .says("image (it is not a label map): linear");
    let found = info(home, &image);
    assert_eq!(found["dtype"], "float32");
    let spacing: Vec<f64> = found["spacing_mm"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert!(spacing.iter().zip([0.8, 1.0, 2.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{spacing:?}");
    let own = info(home, &scan());
    assert!(found["min"].as_f64() >= own["min"].as_f64() && found["max"].as_f64() <= own["max"].as_f64());
    convert(home, &truth(), &mask, &["--spacing", "0.8,1,2"]).code(0).says("label map").says("nearest");
    let found = info(home, &mask);
    assert_eq!((&found["dtype"], &found["min"], &found["max"]), (&"uint8".into(), &0.0.into(), &2.0.into()));
    assert_eq!(found["shape"], info(home, &image)["shape"]);
    convert(home, &truth(), &mask, &["--spacing", "0.8,1,2", "--interpolation", "linear"])
        .code(0)
        .says("one by one");
    assert_eq!(info(home, &mask)["max"], 2.0);
    convert(home, &truth(), &mask, &["--spacing", "0.8,1,2", "--interpolation", "cubic"])
        .code(2)
        .says("label map");
    convert(home, &scan(), &image, &["--spacing", "0.8,1,2", "--interpolation", "cubic"]).code(0).says("cubic");
}

/// A whole-body segmentation has a hundred labels, between which there is nothing.
#[test]
fn labels_are_not_interpolated_however_many_there_are() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let at = |i: usize| [i % 24, i / 24 % 20, i / 480];
    let labels: Vec<f32> =
        (0..24 * 20 * 16).map(at).map(|[x, y, z]| (3 + x / 4 + 6 * (y / 4 + 5 * (z / 4))) as f32).collect();
    let mask = file(home, "mask.nii", &nifti(&[24, 20, 16], &labels, Some(RAS)));
    let out = home.join("out.nii");
    convert(home, &mask, &out, &["--spacing", "0.7,0.7,0.7"]).code(0).says("whole numbers that form regions");
    let values = |path: &Path| sulcus_io::read_labels(path).unwrap().0.counts().into_keys().collect::<Vec<_>>();
    assert_eq!(values(&out), values(&mask));
    // Few grey values are still intensities.
    let noise: Vec<f32> = (0..24 * 20 * 16).map(|i| (1 + i * 7919 % 29) as f32).collect();
    let scan = file(home, "scan.nii", &nifti(&[24, 20, 16], &noise, Some(RAS)));
    convert(home, &scan, &out, &["--spacing", "0.7,0.7,0.7"])
        .code(0)
        .says("image (it is not a label map): linear");
    assert_eq!(info(home, &out)["dtype"], "float32");
}

#[test]
fn resampling_like_another_scan_fills_the_outside_with_the_minimum() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let mut shifted = RAS;
    shifted[0] = [0.0, -0.5, 0.0, 4.0];
    shifted[1] = [0.5, 0.0, 0.0, 1.0];
    let reference = file(home, "reference.nii", &nifti(&[6, 20, 4], &vec![0.0; 480], Some(shifted)));
    let values: Vec<f32> = (0..6 * 5 * 4).map(|i| i as f32 + 100.25).collect();
    let source = file(home, "source.nii", &nifti(&[6, 5, 4], &values, Some(RAS)));
    let out = home.join("out.nii");
    convert(home, &source, &out, &["--like", reference.to_str().unwrap()]).code(0).says("linear");
    let (found, expected) = (info(home, &out), info(home, &reference));
    for same in ["shape", "ras_from_voxel", "orientation"] {
        assert_eq!(found[same], expected[same], "{same}");
    }
    let voxels = |path: &Path| -> Vec<f32> {
        let bytes = std::fs::read(path).unwrap();
        let start = f32::from_le_bytes(bytes[108..112].try_into().unwrap()) as usize;
        bytes[start..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    // Voxel (x, y, z) lies at R = 4 − y / 2, A = 1 + x / 2, S = z; there the source has R + 6 A + 30 S + 100.25.
    let found = voxels(&out);
    assert!((found[0] - (4.0 + 6.0 + 100.25)).abs() < 1e-4, "{}", found[0]);
    assert!((found[6 + 1] - (3.5 + 9.0 + 100.25)).abs() < 1e-4, "{}", found[7]);
    // R = −5.5 is outside the source and gets its minimum.
    assert_eq!(found[19 * 6], 100.25);
    convert(home, &source, &out, &["--like", reference.to_str().unwrap(), "--outside", "-7"]).code(0);
    assert_eq!(voxels(&out)[19 * 6], -7.0);
    // On its own grid nothing changes.
    convert(home, &source, &out, &["--like", source.to_str().unwrap()]).code(0);
    assert_eq!(voxels(&out), values);
}

#[test]
fn channels_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let values: Vec<f32> = (0..3 * 4 * 5 * 2).map(|i| i as f32 * 1.5).collect();
    let source = file(home, "two.nii", &nifti(&[3, 4, 5, 2], &values, Some(RAS)));
    let (turned, fine) = (home.join("turned.nii"), home.join("fine.nii"));
    convert(home, &source, &turned, &["--orient", "PIR"]).code(0);
    assert_eq!(info(home, &turned)["shape"], serde_json::json!([4, 5, 3, 2]));
    convert(home, &source, &fine, &["--spacing", "0.5,0.5,0.5"]).code(0);
    assert_eq!(info(home, &fine)["shape"], serde_json::json!([6, 8, 10, 2]));
    for (path, same) in [(&turned, "mean"), (&turned, "max"), (&fine, "max")] {
        assert_eq!(info(home, path)[same], info(home, &source)[same]);
    }
}

#[test]
fn grid_that_exceeds_the_memory_of_the_machine_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let out = home.join("out.nii.gz");
    // 6.7e11 voxels.
    for input in [scan(), truth()] {
        convert(home, &input, &out, &["--spacing", "0.0046,0.0046,0.0046"]).code(1).says("do not fit in memory");
        // Too many to be counted.
        convert(home, &input, &out, &["--spacing", "0.0001,0.0001,0.0001"])
            .code(1)
            .says("resampling 35 × 53 × 36 voxels of 1 × 1 × 1 mm to 0.0001 × 0.0001 × 0.0001 mm")
            .says("choose larger voxels with --spacing");
    }
    assert!(!out.exists());
}

#[test]
fn inputs_are_not_overwritten_and_wrong_options_are_named() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let source = scaled(home);
    let before = std::fs::read(&source).unwrap();
    convert(home, &source, &source, &["--orient", "RAS"]).code(2).says("overwrite the input");
    convert(home, &scan(), &source, &["--like", source.to_str().unwrap()]).code(2).says("the reference");
    convert(home, &source, &home.join("x.bmp"), &[]).code(2).says(".nii.gz");
    convert(home, &source, &home.join("x.nii"), &["--spacing", "1,1"]).code(2).says("three sizes");
    convert(home, &source, &home.join("x.nii"), &["--spacing", "1,0,1"]).code(2).says("greater than 0");
    assert_eq!(std::fs::read(&source).unwrap(), before);
    assert!(!home.join("x.nii").exists());
}

/// Programs differ in whether they scale sizes in metres, so that the result could be read with a wrong size.
#[test]
fn units_other_than_millimetres_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut bytes = nifti(&[4, 5, 6], &[1.0; 120], Some(RAS));
    bytes[123] = 1;
    let metres = file(home.path(), "metres.nii", &bytes);
    for (to, more) in [
        ("a.nrrd", &[][..]),
        ("a.mha", &[]),
        ("a.nii.gz", &["--orient", "LPS"]),
        ("b.nii", &["--spacing", "2,2,2"]),
    ] {
        let to = home.path().join(to);
        convert(home.path(), &metres, &to, more).code(1).says("metre");
        assert!(!to.exists(), "{}", to.display());
    }
    // On the same grid, the header is copied.
    let same = home.path().join("same.nii.gz");
    convert(home.path(), &metres, &same, &[]).code(0);
    predict(home.path(), &[&same], &home.path().join("mask.nii"), &[]).code(1).says("metre");
}

#[test]
fn reorienting_a_file_without_orientation_warns() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let lost = file(home, "lost.nii", &nifti(&[2, 3, 4], &[1.5; 24], None));
    let (plain, turned) = (home.join("plain.nii"), home.join("turned.nii"));
    let ended = convert(home, &lost, &plain, &[]).code(0);
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    assert_eq!(info(home, &plain)["orientation_source"], "none");
    convert(home, &lost, &turned, &["--orient", "RAS"]).code(0).says("left and right are a guess");
    // MetaImage cannot record that the orientation is unknown.
    convert(home, &lost, &home.join("lost.mha"), &[]).code(0).says("left and right are a guess");
}
