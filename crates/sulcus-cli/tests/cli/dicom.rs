//! DICOM on the command line: series in, masks and segmentations out.

use std::path::{Path, PathBuf};

use super::support::{predict, run, scan};

/// A folder with one slice of a bundled scan as DICOM, from the reader's own tests.
fn series(home: &Path, name: &str, fixture: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sulcus-io/tests/dicom").join(fixture);
    let folder = home.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(from, folder.join("IM0001")).unwrap();
    folder
}

#[test]
fn info_describes_a_series_and_lists_them_all() {
    let home = tempfile::tempdir().unwrap();
    let folder = series(home.path(), "series", "i16_j2k.dcm");
    std::fs::write(folder.join("README"), "no DICOM").unwrap();
    let info = &run(home.path(), &[&"info", &folder, &"--json"]).code(0).json_lines()[0];
    assert_eq!(
        (&info["kind"], &info["format"], &info["dtype"]),
        (&"volume".into(), &"dicom".into(), &"int16".into())
    );
    assert_eq!(info["shape"].as_array().unwrap().len(), 3);
    assert_eq!(info["orientation"], "LPS");
    assert_eq!((&info["series_uid"], &info["other_files"]), (&"1.2.3.4.1".into(), &1.into()));
    assert_eq!(info["series"][0]["slices"], 1);
    run(home.path(), &[&"info", &folder, &"--series", &"1.2.3"]).code(1).says("series 1.2.3.4.1  MR  ");
}

#[test]
fn a_folder_of_series_is_a_folder_of_cases() {
    let home = tempfile::tempdir().unwrap();
    let all = home.path().join("all");
    series(&all, "first", "u12_jpegls.dcm");
    series(&all, "second", "u16_rle.dcm");
    let out = home.path().join("out");
    let ended = predict(home.path(), &[&all], &out, &["--json"]).code(0);
    assert_eq!(ended.json_lines().len(), 2);
    assert!(out.join("first.nii.gz").is_file() && out.join("second.nii.gz").is_file());
}

#[test]
fn a_segmentation_has_the_labels_of_the_mask() {
    let home = tempfile::tempdir().unwrap();
    let folder = series(home.path(), "series", "u12.dcm");
    let (dicom, nifti) = (home.path().join("mask.dcm"), home.path().join("mask.nii.gz"));
    predict(home.path(), &[&folder], &dicom, &[]).code(0);
    predict(home.path(), &[&folder], &nifti, &[]).code(0);
    let (segmented, names) = sulcus_io::dicom::read_segmentation(&dicom).unwrap();
    let (mask, source) = sulcus_io::read_labels(&nifti).unwrap();
    segmented.geometry().check_same_grid(mask.geometry()).unwrap();
    assert_eq!(segmented.data(), mask.data());
    let name = |table: &sulcus_volume::LabelTable| table.entries()[0].name.clone();
    assert_eq!(name(&names), name(source.label_table().unwrap()));
    predict(home.path(), &[&scan()], &dicom, &[]).code(1).says("the scan is no DICOM series");

    let again = home.path().join("again.dcm");
    run(home.path(), &[&"convert", &nifti, &again, &"--like", &folder]).code(0);
    assert_eq!(sulcus_io::dicom::read_segmentation(&again).unwrap().0.data(), mask.data());
    let back = home.path().join("back.nii.gz");
    run(home.path(), &[&"convert", &again, &back]).code(0);
    assert_eq!(sulcus_io::read_labels(&back).unwrap().0.data(), mask.data());
    run(home.path(), &[&"convert", &nifti, &again]).code(2).says("--like names none");
}
